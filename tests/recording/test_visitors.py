"""Whether visitors are answered, and whether busy workers progress."""

import dataclasses
import socket

import pytest
from support.zopekit import wait_for

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.recording import visitors
from Products.StabilityMonitor.recording.visitors import Progress
from Products.StabilityMonitor.recording.visitors import Visitors
from Products.StabilityMonitor.recording.waitressserver import Load

WORKERS = {1: 11, 2: 12}
IDLE = Load(workers=2, busy=0, queue=0, waited=0.0, connections=3, limit=9, unsent=0, newest=1000.0)


class World:
    """A server with two workers, a clock, and the stacks and the CPU time of the workers."""

    def __init__(self, load=IDLE):
        self.now = 100.0
        self.load = load
        self.is_found = True
        self.people = frozenset()
        self.stacks = {1: 'a', 2: 'b'}
        self.used = {11: 0.0, 12: 0.0}
        self.open = 10
        self.listening = socket.create_server(('127.0.0.1', 0))
        self.clients = []
        self.visitors = Visitors(lambda: self.open, self.stacks_of, lambda: self.now, self)
        self.visitors.progress.clock_of = self.used.get

    # as a WaitressServer

    def look(self):
        return self.load

    def sockets(self):
        return (self.listening.fileno(),)

    def connected(self):
        return self.people

    # for the tests

    def stacks_of(self, idents):
        return {ident: (Frame('/a.py', 1, self.stacks[ident]),) for ident in idents}

    def set(self, **values):
        self.load = dataclasses.replace(self.load, **values)

    def after(self, seconds, in_flight=0, serving=2, youngest=0.0):
        self.now += seconds
        return self.visitors.look(in_flight, serving, youngest, lambda: WORKERS)

    def connect(self):
        """Let one more visitor wait in the kernel."""
        self.clients.append(socket.create_connection(self.listening.getsockname()))

    def close(self):
        self.visitors.detach()
        for each in (*self.clients, self.listening):
            each.close()


@pytest.fixture
def world():
    world = World()
    world.visitors.open()
    world.visitors.find()
    yield world
    world.close()


def test_an_idle_server_answers(world):
    now = world.after(1)
    assert (now.busy, now.serving, now.all_busy, now.stood, now.refused) == (0, 2, 0.0, 0.0, 0.0)
    assert (now.queue, now.connections, now.limit, now.accept_queue) == (0, 3, 9, 0)
    assert not now.needs_a_look


def test_workers_are_all_busy_from_the_first_look_that_finds_them_so(world):
    world.set(busy=1)
    assert world.after(1).all_busy == 0
    world.set(busy=2)
    assert world.after(1).all_busy == 0
    assert (world.after(5).all_busy, world.after(5).all_busy) == (5, 10)
    world.set(busy=1)
    assert world.after(1).all_busy == 0
    world.set(busy=2)
    assert (world.after(1).all_busy, world.after(2).all_busy) == (0, 2)


def test_without_a_known_server_the_requests_of_zope_count(world):
    world.load = None
    assert world.after(1, in_flight=1, serving=2, youngest=30.0).all_busy == 0
    assert world.after(1, in_flight=2, serving=2, youngest=30.0).all_busy == 30
    now = world.after(1, in_flight=2, serving=2, youngest=31.0)
    assert (now.all_busy, now.stood) == (31, 1)  # nobody has looked at the stacks before
    assert (now.queue, now.waited, now.connections, now.refused) == (-1, -1.0, -1, 0.0)
    assert world.after(1, in_flight=0, serving=0).all_busy == 0


@pytest.mark.parametrize(
    'change, progresses',
    [
        ({}, False),
        ({'stacks': {1: 'a', 2: 'c'}}, True),
        ({'used': {11: 0.05}}, False),  # it looks again and again whether it may go on
        ({'used': {11: 0.5}}, True),
        ({'unsent': 5}, True),
    ],
)
def test_a_worker_progresses_by_its_frames_its_cpu_time_or_the_bytes_of_its_answer(
    world, change, progresses
):
    world.set(busy=2)
    world.after(1)
    assert world.after(10).stood == 10
    world.stacks.update(change.get('stacks', {}))
    world.used.update(change.get('used', {}))
    world.set(unsent=change.get('unsent', 0))
    assert world.after(10).stood == (0 if progresses else 20)
    assert world.after(10).stood == (10 if progresses else 30)


def test_a_worker_that_waits_at_the_same_place_in_its_next_request_has_progressed(world):
    world.set(busy=2, newest=4.0)
    world.after(1)
    assert world.after(10).stood == 4
    world.load = None
    assert world.after(10, in_flight=2, youngest=3.0).stood == 3


def test_progress_from_before_all_were_busy_does_not_count(world):
    world.set(busy=2)
    world.after(1)
    world.after(50)
    world.set(busy=1)
    world.after(1)
    world.set(busy=2)
    world.after(1)
    assert world.after(3).stood == 3


def test_a_thread_whose_cpu_time_is_not_known_is_judged_by_its_frames():
    clock = iter([0.0, 10.0, 20.0])
    progress = Progress(lambda: next(clock), lambda tid: None, lambda idents: {})
    assert [progress.look(WORKERS, 0) for _ in range(3)] == [0, 10, 20]
    assert Progress(lambda: 5.0).look({}, 0) == 0


@pytest.mark.parametrize('reason', ['connections', 'descriptors'])
def test_nobody_can_connect(world, monkeypatch, reason):
    monkeypatch.setattr(visitors, 'descriptor_limit', lambda: 80)
    if reason == 'connections':
        world.set(connections=9)
    else:
        world.open = 80
    assert world.after(1).refused == 0
    assert world.after(5).refused == 0  # nobody wants to
    world.connect()
    wait_for(lambda: world.after(0).accept_queue == 1, 5, 'the visitor')
    now = world.after(1)
    assert (now.refused, now.reason, now.needs_a_look) == (6, reason, True)
    world.people = frozenset({7})
    assert (world.after(1).refused, world.after(4).refused) == (0, 4)  # one was let in
    world.set(connections=3)
    world.open = 10
    now = world.after(1)
    assert (now.refused, now.reason) == (0, '')


def test_the_tables_of_the_kernel_are_not_held_where_descriptors_are_few(world):
    world.connect()
    few = Visitors(lambda: 10, world.stacks_of, lambda: 0.0, world)
    few.find()
    assert few.look(0, 2, 0.0, lambda: WORKERS).accept_queue == -1


def test_each_round_counts_the_visitors_in_the_kernel(world):
    world.connect()
    world.visitors.find()
    wait_for(lambda: (world.visitors.find(), world.after(1).accept_queue)[1] == 1, 5, 'a visitor')


# -- errors of accept() ----------------------------------------------------------------------------


class Log:
    """A log handler that has seen three errors of accept()."""

    accept_errors = 3
    sees_accept_errors = True


@pytest.mark.parametrize(
    'load, log, known',
    [(IDLE, Log(), 3), (None, Log(), -1), (IDLE, None, -1)],
    ids=['waitress', 'another server', 'no log lines are recorded'],
)
def test_errors_of_accept_are_counted_where_they_are_logged(load, log, known):
    world = World(load)
    world.visitors.log = log
    world.visitors.find()
    assert world.after(1).accept_errors == known


def test_errors_of_accept_that_are_not_logged_are_not_known():
    world = World(dataclasses.replace(IDLE, logs_errors=False))
    world.visitors.log = Log()
    world.visitors.find()
    assert world.after(1).accept_errors == -1
    world.set(logs_errors=True)
    assert world.after(1).accept_errors == 3
    world.visitors.log.sees_accept_errors = False
    assert world.after(1).accept_errors == 3, 'it is looked at in each round only'
    world.visitors.find()
    assert world.after(1).accept_errors == -1
