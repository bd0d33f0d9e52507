"""The clock that stands while the process is frozen."""

import pytest

from Products.StabilityMonitor.recording.runclock import Freeze
from Products.StabilityMonitor.recording.runclock import RunClock

#: What a thread uses in a second while it waits for the GIL, see docs/facts.rst.
WAITING = 200


class World:
    """The clocks and counters of a process whose heartbeat looks each second."""

    def __init__(self):
        self.now = 1000.0
        self.suspended = 5.0
        self.switched = 100
        self.worked = 10.0
        self.clock = RunClock(
            lambda: self.now,
            lambda: self.now + self.suspended,
            lambda: self.switched,
            lambda: self.worked,
        )
        self.clock.look(1.0)

    def beat(self, seconds=1.0, switched=2, worked=0.001, suspended=0.0):
        self.now += seconds
        self.switched += switched
        self.worked += worked
        self.suspended += suspended
        return self.clock.look(1.0)


@pytest.fixture
def world():
    return World()


def test_a_process_that_runs_was_not_frozen(world):
    assert [world.beat() for _ in range(5)] == [None] * 5
    assert world.clock() == world.now and world.clock.at(1001.0) == 1001.0


def test_while_the_process_is_frozen_the_clock_stands(world):
    before = world.clock()
    assert world.beat(41.0) == Freeze(40.0)
    assert world.clock() == before + 1.0


def test_what_began_before_a_freeze_is_younger_by_it(world):
    world.beat()
    began = world.now - 0.5
    world.beat(41.0)
    after = world.now + 0.5
    world.beat()
    world.beat(11.0)
    assert world.clock() - world.clock.at(began) == pytest.approx(0.5 + 1 + 1 + 1)
    assert world.clock() - world.clock.at(after) == pytest.approx(0.5 + 1)
    assert world.clock.frozen == 50.0


def test_a_held_gil_is_no_freeze(world):
    """The heartbeat wakes up again and again, and asks for the GIL."""
    assert world.beat(41.0, switched=40 * WAITING) is None
    assert world.clock() == world.now


def test_a_held_gil_on_a_busy_machine_is_no_freeze(world):
    assert world.beat(41.0, switched=40 * WAITING // 10) is None


def test_a_heartbeat_that_gets_no_cpu_while_other_threads_run_is_no_freeze(world):
    assert world.beat(41.0, worked=20.0) is None


def test_a_thread_that_was_busy_before_the_freeze_does_not_hide_it(world):
    assert world.beat(41.0, worked=0.9) == Freeze(40.0)


@pytest.mark.parametrize('seconds', [1.5, 2.9])
def test_a_beat_that_is_a_little_late_is_no_freeze(world, seconds):
    assert world.beat(seconds) is None


def test_a_freeze_in_the_midst_of_a_beat_makes_nothing_older(world):
    """What this beat still decides must not take the freeze for time that passed."""
    before = world.clock()
    world.now += 0.5
    assert world.clock() == before + 0.5
    world.now += 40.0
    assert world.clock() == before + 0.5, 'it stands until the next look'
    assert world.beat(0.5) == Freeze(40.0)
    assert world.clock() == before + 1.0


def test_a_long_beat_without_a_freeze_is_counted_at_the_next_look(world):
    before = world.clock()
    world.now += 40.0
    assert world.clock() == before
    assert world.beat(1.0, switched=40 * WAITING) is None
    assert world.clock() == before + 41.0


def test_a_suspended_machine_is_told_and_takes_no_time(world):
    """CLOCK_MONOTONIC stands by itself meanwhile, CLOCK_BOOTTIME does not."""
    assert world.beat(1.0, suspended=3600.0) == Freeze(3600.0, of_machine=True)
    assert world.clock() == world.now and world.beat() is None


def test_without_counters_of_the_kernel_nothing_is_recognised():
    now = 1.0
    clock = RunClock(lambda: now, lambda: 0.0, lambda: None, lambda: 0.0)
    clock.look(1.0)
    now = 100.0
    assert clock.look(1.0) is None and clock() == now


def test_two_hundred_freezes_and_more_keep_the_time_right(world):
    for _ in range(250):
        world.beat(11.0)
    began = world.now
    world.beat(11.0)
    assert world.clock() - world.clock.at(began) == pytest.approx(1.0)
    assert world.clock.frozen == 2510.0
