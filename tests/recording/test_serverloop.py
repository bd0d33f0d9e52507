"""Whether MainThread is blocked outside the server's loop.  A MainThread that waits for
connections, or that was never seen in the loop, does not count as blocked.
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
    """MainThread with a stack and a CPU time that a test sets.

    `looks` calls `look` as the heartbeat does, and returns `stood`.
    """

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
def test_main_thread_that_waits_elsewhere_is_blocked(world, doing):
    assert world.looks(doing) == 0, 'one look is not enough'
    assert world.looks(doing, 6) == 60 and world.loop.place == doing


def test_main_thread_that_waits_for_connections_is_not_blocked(world):
    assert world.looks(LISTENS, 9) == 0 and world.loop.place == ()
    world.looks(BLOCKED, 3)
    assert world.looks(LISTENS) == 0 and world.loop.place == ()


def test_main_thread_that_has_used_cpu_time_is_not_blocked(world):
    world.looks(BLOCKED, 6)
    world.had += 1e-9
    assert world.looks(BLOCKED) == 0 and world.looks(BLOCKED) == 10


def test_main_thread_whose_stack_has_changed_is_not_blocked(world):
    world.looks(BLOCKED, 6)
    assert world.looks((FLUSH._replace(offset=4), *LISTENS)) == 0
    assert world.looks(LOCKED) == 0


def test_if_the_cpu_time_is_not_known_the_stack_counts(world):
    world.had = None
    assert world.looks(BLOCKED, 7) == 60


def test_the_time_in_a_place_counts_from_the_first_look_at_it(world):
    """The CPU time may not have changed between the two looks: its clock may be too coarse for a
    request at the moment of the look, or may be read just before that request.
    """
    world.looks(LISTENS, 9)
    world.doing = BLOCKED
    assert world.looks(BLOCKED) == 0 and world.loop.place == BLOCKED
    assert world.looks(BLOCKED, 6) == 60


def test_main_thread_need_not_have_been_seen_waiting_for_connections():
    """As on a busy site, or soon after the start."""
    assert World().looks(BLOCKED, 7) == 60


@pytest.mark.parametrize('doing', [(FLUSH, RUN, MAIN), (FLUSH, LOOP, RUN, MAIN), (MAIN,), ()])
def test_main_thread_that_was_never_seen_in_a_loop_is_not_judged(doing):
    """As with another server, or during a start."""
    world = World()
    assert world.looks(doing, 99) == 0 and world.loop.place == ()


@pytest.mark.parametrize('doing', [(SHUTDOWN, RUN, MAIN), (MAIN,), (FLUSH, MAIN), ()])
def test_a_shutdown_is_not_judged(world, doing):
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
def test_the_server_shuts_down_when_main_thread_has_left_the_loop(world, doing, left):
    world.doing = doing
    assert world.loop.is_left() == left


def test_a_server_that_was_never_seen_in_a_loop_has_not_left_it():
    world = World()
    world.doing = (SHUTDOWN, RUN, MAIN)
    assert not world.loop.is_left()


def test_a_server_that_is_stopped_before_the_first_round_has_left_its_loop():
    world = World()
    assert not world.loop.is_left()
    world.doing = (SHUTDOWN, RUN, MAIN)
    assert world.loop.is_left()


def test_after_a_suspension_the_time_starts_again_at_zero(world):
    world.looks(BLOCKED, 3)
    assert world.looks(BLOCKED, 1, pause=3600) == 0
    assert world.looks(BLOCKED, 2) == 20 and world.loop.place == BLOCKED


def test_looks_that_a_busy_machine_delays_do_not_count_as_a_suspension(world):
    assert world.looks(BLOCKED, 4, pause=25) == 75


def test_a_request_that_main_thread_serves_is_not_a_blocked_loop(world):
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


def test_the_stack_is_not_read_while_the_cpu_time_grows(world):
    stacks = []
    world.loop.stack = lambda ident: stacks.append(1) or LISTENS
    for used in range(60, 70):
        world.now += PAUSE
        world.loop.look(used)
    assert stacks == [] and world.loop.place == ()
    world.now += PAUSE
    world.loop.look(69)
    assert stacks == [1] and world.loop.stood == 0


def test_a_deep_stack_is_read_completely():
    def deep(depth):
        return deep(depth - 1) if depth else stack_of(threading.get_ident())

    functions = [place.code.co_name for place in deep(300)]
    assert functions.count('deep') == 301 and 'test_a_deep_stack_is_read_completely' in functions
    assert stack_of(0) == ()
