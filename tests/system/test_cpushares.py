"""Shares of one CPU, from looks at clocks that a test sets."""

import math

import pytest

from Products.StabilityMonitor.system.cpushares import Load
from Products.StabilityMonitor.system.cpushares import Loads
from Products.StabilityMonitor.system.cpushares import is_busy
from Products.StabilityMonitor.system.tasks import Reading


class Kernel:
    """Threads 1 (spins) and 2 (dozes); `reading` tells of turns and waits, and counts who asks."""

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


def test_nothing_is_known_without_two_looks(loads, kernel):
    assert (loads.now(), loads.busiest(), loads.fresh) == ({}, {}, {})
    loads.look()
    assert (loads.now(), loads.busiest(), loads.fresh) == ({}, {}, kernel.used)


def test_the_share_is_since_the_last_look_that_is_a_second_old(loads, kernel):
    loads.look()
    kernel.go_on(10, 0.5)
    loads.look()
    kernel.go_on(0.5)
    assert loads.now() == {1: Load(pytest.approx(5.5 / 10.5), 10.5), 2: Load(0.0, 10.5)}
    kernel.go_on(1.5)
    assert loads.now()[1] == Load(1.0, 2.0)


def test_a_look_is_fresh_for_a_second(loads, kernel):
    loads.look()
    kernel.go_on(0.9)
    assert loads.fresh == {1: 50.0, 2: 7.0}
    kernel.go_on(0.2)
    assert loads.fresh == {}


def test_who_is_kept_from_a_processor_by_others_counts_as_busy(loads, kernel):
    """As a thread that spins on a machine that has much else to do."""
    for _ in range(4):
        loads.look()
        kernel.go_on(10, 0.3, 0.6)
    loads.look()
    assert loads.busiest() == {1: pytest.approx(0.9), 2: 0.0}


def test_a_crowded_cpu(loads, kernel):
    """Of which a thread gets little, and waits for it all the time."""
    for _ in range(4):
        loads.look()
        kernel.go_on(10, 0.06, 0.9)
    loads.look()
    assert loads.busiest()[1] == pytest.approx(0.96)


def test_a_thread_that_has_got_the_id_of_another_one_has_no_share(loads, kernel):
    loads.look()
    kernel.go_on(10)
    kernel.used[2] = 0.001
    assert set(loads.now()) == {1}
    loads.look()
    assert set(loads.busiest()) == {1}


def test_waits_are_read_only_of_who_has_much_of_a_cpu(loads, kernel):
    loads.look()
    kernel.go_on(10, 0.01)
    loads.look()
    assert kernel.asked == []
    kernel.go_on(10, 0.3, 0.6)
    loads.look()
    assert kernel.asked == [1]
    assert loads.busiest()[1] == pytest.approx(0.3), (
        'for how long it has waited is known from the next look on'
    )


def test_a_thread_that_begins_or_ends_in_between_has_no_share(loads, kernel):
    loads.look()
    kernel.go_on(10)
    del kernel.used[2]
    kernel.used[3] = 5.0
    loads.look()
    assert loads.busiest() == {1: 1.0}
    kernel.go_on(2)
    assert set(loads.now()) == {1, 3}


def test_the_next_moment_tells_how_often_a_thread_wakes(loads, kernel):
    found = loads.of_next_moment([1, 2, 99])
    assert found == {
        1: Load(pytest.approx(1.0), pytest.approx(0.1), pytest.approx(200)),
        2: Load(0.0, pytest.approx(0.1), pytest.approx(200)),
    }


def test_who_ends_in_the_next_moment_is_left_out(loads, kernel):
    def end(seconds):
        kernel.go_on(seconds)
        del kernel.used[2]

    loads.sleep = end
    assert set(loads.of_next_moment([1, 2])) == {1}


def test_without_turns_none_are_told(loads, kernel):
    """As where the kernel has no schedstat: -1 before and after."""
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
def test_busy_is_who_has_his_part(cpu, busiest, busy):
    assert is_busy(cpu, busiest) == busy
