"""Whether MainThread stands still outside the loop of its server: never said of one that only
waits.
"""

import threading

import pytest

from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.serverloop import ServerLoop
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.threads.codeplaces import CodePlace
from Products.StabilityMonitor.threads.snapshot import stack_of

PAUSE = 10.0


def place(file, function, offset=2):
    code = (lambda: None).__code__.replace(co_filename=file, co_name=function)
    return CodePlace(code, offset, 7, file)


MAIN, RUN = place('/bin/runwsgi', '<module>'), place('/env/waitress/server.py', 'run')
LOOP, POLL = (
    place('/env/waitress/wasyncore.py', 'loop'),
    place('/env/waitress/wasyncore.py', 'poll'),
)
FLUSH, LOCK = place('/lib/logging/__init__.py', 'flush'), place('/env/waitress/task.py', 'add_task')
SHUTDOWN = place('/env/waitress/task.py', 'shutdown')
LISTENS = (POLL, LOOP, RUN, MAIN)
BLOCKED, LOCKED = (FLUSH, *LISTENS), (LOCK, *LISTENS)


class World:
    """What MainThread does, and how often it has had a CPU; `looks` as the heartbeat does."""

    def __init__(self):
        buffer = bytearray(box.SIZE)
        self.recorder = Recorder(buffer)
        self.now, self.doing, self.had = 1000.0, LISTENS, 1.0
        self.loop = ServerLoop(
            self.recorder, PAUSE, lambda: self.now, self.clock_of, lambda ident: self.doing
        )

    def clock_of(self, tid):
        assert tid == threading.main_thread().native_id
        return self.had

    def looks(self, doing, count=1, pause=PAUSE):
        if doing != self.doing:
            self.had = self.had and self.had + 0.001
        self.doing = doing
        for _ in range(count):
            self.now += pause
            self.loop.look()
        return self.loop.stood


@pytest.fixture
def world():
    world = World()
    world.looks(LISTENS)
    return world


@pytest.mark.parametrize('doing', [BLOCKED, LOCKED, (FLUSH, LOOP, RUN, MAIN)])
def test_who_stands_elsewhere_in_the_loop_stands_still(world, doing):
    assert world.looks(doing) == 0, 'one look tells nothing'
    assert world.looks(doing, 6) == 60 and world.loop.place == doing


def test_in_the_loop_it_waits_for_connections(world):
    assert world.looks(LISTENS, 9) == 0 and world.loop.place == ()
    world.looks(BLOCKED, 3)
    assert world.looks(LISTENS) == 0 and world.loop.place == ()


def test_who_has_had_a_processor_does_not_stand_still(world):
    world.looks(BLOCKED, 6)
    world.had += 1e-9
    assert world.looks(BLOCKED) == 0 and world.looks(BLOCKED) == 10


def test_nor_does_who_has_gone_on(world):
    world.looks(BLOCKED, 6)
    assert world.looks((FLUSH._replace(offset=4), *LISTENS)) == 0
    assert world.looks(LOCKED) == 0


def test_without_a_kernel_that_tells_the_stack_counts(world):
    world.had = None
    assert world.looks(BLOCKED, 7) == 60


def test_who_was_seen_in_the_loop_has_not_stood_elsewhere_since(world):
    """A clock may be too coarse for a request that comes at the moment of the look, or be read
    before that.
    """
    world.looks(LISTENS, 9)
    world.doing = BLOCKED
    assert world.looks(BLOCKED) == 0 and world.loop.place == BLOCKED
    assert world.looks(BLOCKED, 6) == 60


def test_it_need_not_have_been_seen_at_rest():
    """On a busy site, or soon after the start."""
    assert World().looks(BLOCKED, 7) == 60


@pytest.mark.parametrize('doing', [(FLUSH, RUN, MAIN), (FLUSH, LOOP, RUN, MAIN), (MAIN,), ()])
def test_who_was_never_seen_in_a_loop_may_wait(doing):
    """As another server's MainThread, or one that starts."""
    world = World()
    assert world.looks(doing, 99) == 0 and world.loop.place == ()


@pytest.mark.parametrize('doing', [(SHUTDOWN, RUN, MAIN), (MAIN,), (FLUSH, MAIN), ()])
def test_a_shut_down_may_take_its_time(world, doing):
    world.looks(BLOCKED, 3)
    assert world.looks(doing, 99) == 0 and world.loop.place == ()


@pytest.mark.parametrize(
    'doing, left',
    [
        (LISTENS, False),
        (BLOCKED, False),
        ((LOCK, LOOP, RUN, MAIN), False),
        ((SHUTDOWN, RUN, MAIN), True),
        ((MAIN,), True),
    ],
)
def test_a_server_shuts_down_that_has_left_its_loop(world, doing, left):
    world.doing = doing
    assert world.loop.is_left() == left
    assert not World().loop.is_left(), 'another server, for all that is known'


def test_a_suspended_process_is_measured_anew(world):
    world.looks(BLOCKED, 3)
    assert world.looks(BLOCKED, 1, pause=3600) == 0
    assert world.looks(BLOCKED, 2) == 20 and world.loop.place == BLOCKED


def test_a_busy_machine_delays_looks(world):
    assert world.looks(BLOCKED, 4, pause=25) == 75


def test_one_that_serves_requests_itself(world):
    world.recorder.begin('GET', '/takes/long')
    assert world.looks(BLOCKED, 9) == 0 and world.loop.place == ()
    world.recorder.end(200)
    world.had = 2.0
    assert world.looks(BLOCKED, 9) == 80


def test_a_request_of_another_thread_does_not_matter(world):
    thread = threading.Thread(target=world.recorder.begin, args=('GET', '/'))
    thread.start()
    thread.join()
    assert world.looks(BLOCKED, 7) == 60


def test_whose_clock_has_gone_on_need_not_be_looked_at(world):
    stacks = []
    world.loop.stack = lambda ident: stacks.append(1) or LISTENS
    for used in range(60, 70):
        world.now += PAUSE
        world.loop.look(used)
    assert stacks == [] and world.loop.place == ()
    world.now += PAUSE
    world.loop.look(69)
    assert stacks == [1] and world.loop.stood == 0


def test_the_stack_of_one_thread_is_whole():
    def deep(depth):
        return deep(depth - 1) if depth else stack_of(threading.get_ident())

    functions = [place.code.co_name for place in deep(300)]
    assert functions.count('deep') == 301 and 'test_the_stack_of_one_thread_is_whole' in functions
    assert stack_of(0) == ()
