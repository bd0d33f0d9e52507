"""CPU shares, from readings of clocks that a test sets."""

import math

import pytest

from Products.StabilityMonitor.system.cpushares import Load
from Products.StabilityMonitor.system.cpushares import Loads
from Products.StabilityMonitor.system.cpushares import is_busy
from Products.StabilityMonitor.system.tasks import Reading


class Kernel:
    """Thread 1 spins and thread 2 sleeps.  `asked` has the arguments of all calls of `reading`."""

    def __init__(self):
        self.time, self.used, self.asked = 100.0, {1: 50.0, 2: 7.0}, []
        self.turns, self.waited = {1: 1000, 2: 1000}, {1: 9.0, 2: 9.0}

    def clocks(self):
        return dict(self.used)

    def clocks_of(self, tids):
        return {tid: self.used[tid] for tid in tids if tid in self.used}

    def reading(self, tid):
        self.asked.append(tid)
        return (
            Reading(self.used[tid], self.turns[tid], self.waited[tid]) if tid in self.used else None
        )

    def go_on(self, seconds, share=1.0, waits=0.0):
        self.time += seconds
        self.used[1] += share * seconds
        self.waited[1] += waits * seconds
        for tid in self.turns:
            self.turns[tid] += round(200 * seconds)


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def loads(kernel):
    return Loads(kernel, lambda: kernel.time, kernel.go_on)


def test_without_two_readings_no_share_is_known(loads, kernel):
    assert (loads.now(), loads.busiest(), loads.fresh) == ({}, {}, {})
    loads.look()
    assert (loads.now(), loads.busiest(), loads.fresh) == ({}, {}, kernel.used)


def test_the_share_is_since_the_last_reading_that_is_a_second_old(loads, kernel):
    loads.look()
    kernel.go_on(10, 0.5)
    loads.look()
    kernel.go_on(0.5)
    assert loads.now() == {1: Load(pytest.approx(5.5 / 10.5), 10.5), 2: Load(0.0, 10.5)}
    kernel.go_on(1.5)
    assert loads.now()[1] == Load(1.0, 2.0)


def test_a_reading_is_fresh_for_a_second(loads, kernel):
    loads.look()
    kernel.go_on(0.9)
    assert loads.fresh == {1: 50.0, 2: 7.0}
    kernel.go_on(0.2)
    assert loads.fresh == {}


def test_run_queue_wait_counts_as_busy(loads, kernel):
    """For example, a thread that spins on a busy machine."""
    for _ in range(4):
        loads.look()
        kernel.go_on(10, 0.3, 0.6)
    loads.look()
    assert loads.busiest() == {1: pytest.approx(0.9), 2: 0.0}


def test_a_thread_with_much_run_queue_wait_and_little_cpu_counts_as_busy(loads, kernel):
    for _ in range(4):
        loads.look()
        kernel.go_on(10, 0.06, 0.9)
    loads.look()
    assert loads.busiest()[1] == pytest.approx(0.96)


def test_a_thread_with_a_reused_id_has_no_share(loads, kernel):
    loads.look()
    kernel.go_on(10)
    kernel.used[2] = 0.001
    assert set(loads.now()) == {1}
    loads.look()
    assert set(loads.busiest()) == {1}


def test_run_queue_wait_is_read_only_above_a_cpu_share(loads, kernel):
    loads.look()
    kernel.go_on(10, 0.01)
    loads.look()
    assert kernel.asked == []
    kernel.go_on(10, 0.3, 0.6)
    loads.look()
    assert kernel.asked == [1]
    assert loads.busiest()[1] == pytest.approx(0.3), (
        'the run-queue wait is known only from the next reading on'
    )


def test_a_thread_that_starts_or_ends_between_readings_has_no_share(loads, kernel):
    loads.look()
    kernel.go_on(10)
    del kernel.used[2]
    kernel.used[3] = 5.0
    loads.look()
    assert loads.busiest() == {1: 1.0}
    kernel.go_on(2)
    assert set(loads.now()) == {1, 3}


def test_the_next_moment_shows_how_often_a_thread_wakes(loads, kernel):
    found = loads.of_next_moment([1, 2, 99])
    assert found == {
        1: Load(pytest.approx(1.0), pytest.approx(0.1), pytest.approx(200)),
        2: Load(0.0, pytest.approx(0.1), pytest.approx(200)),
    }


def test_a_thread_that_ends_in_the_next_moment_is_left_out(loads, kernel):
    def end(seconds):
        kernel.go_on(seconds)
        del kernel.used[2]

    loads.sleep = end
    assert set(loads.of_next_moment([1, 2])) == {1}


def test_turns_are_0_if_the_kernel_does_not_count_them(loads, kernel):
    """Without schedstat in the kernel, turns are -1 before and after."""
    kernel.turns = {1: -1}
    loads.sleep = lambda seconds: setattr(kernel, 'time', kernel.time + seconds)
    assert loads.of_next_moment([1])[1].turns == 0


@pytest.mark.parametrize(
    'cpu, busiest, busy',
    [
        (0.05, 0.05, False),
        (0.1, 0.1, True),
        (0.5, 1.0, True),
        (0.4, 1.0, False),
        (math.inf, 1.0, True),
    ],
)
def test_a_thread_with_half_of_the_largest_share_is_busy(cpu, busiest, busy):
    assert is_busy(cpu, busiest) == busy
