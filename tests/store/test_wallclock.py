"""What the wall clock of a run showed, and when it was set."""

import pytest

from Products.StabilityMonitor.store.wallclock import Setting
from Products.StabilityMonitor.store.wallclock import WallClock

HOUR = 3600
STEPS = {'+1 h': HOUR, '-1 h': -HOUR, '+3 days': 72 * HOUR}
START = 1_790_000_000.0


def clock(*steps, seconds=7200, slew=0.0):
    """Return the clock of a run of that length that was set by each step, at equal distances."""
    moments = []
    for second in range(seconds + 1):
        done = second * (len(steps) + 1) // (seconds + 1)
        wall = START + second + sum(steps[:done]) + slew * second
        moments.append((wall, 1000.0 + second))
    return WallClock(moments)


@pytest.mark.parametrize('step', STEPS.values(), ids=list(STEPS))
def test_moments_before_and_after_a_setting_are_told_apart(step):
    found = clock(step)
    assert found.was_set
    for second in (0, 10, 3600, 7200, 7205):
        step_then = step if second > 3600 else 0
        shown = START + second + step_then
        if step < 0 and 0 < second <= 3600:
            continue  # shown twice, see below
        assert found.monotonic(shown) == 1000.0 + second
        assert found.by_last(shown) == START + second + step
    assert found.settings() == [Setting(START + 3601 + step, step)]


def test_of_a_moment_that_was_shown_twice_the_later_counts():
    found = clock(-HOUR)
    assert found.monotonic(START + 1800) == 1000.0 + 1800 + HOUR


def test_a_moment_that_the_last_clock_cannot_have_shown_is_an_early_one():
    """The run ended ten minutes after the clock was set back by an hour."""
    moments = [(START + second, 1000.0 + second) for second in range(3600)]
    moments += [(START + second - HOUR, 1000.0 + second) for second in range(3600, 4200)]
    found = WallClock(moments)
    assert found.monotonic(START + 3000) == 1000.0 + 3000
    assert found.monotonic(START + 300) == 1000.0 + 3900


def test_a_clock_that_was_set_and_set_right_again_is_followed():
    found = clock(HOUR, -HOUR, seconds=9000)
    assert [setting.seconds for setting in found.settings()] == [HOUR, -HOUR]
    assert found.monotonic(START + 5900 + HOUR) == 1000.0 + 5900
    assert found.by_last(START + 5900 + HOUR) == START + 5900
    assert found.by_last(START + 8000) == START + 8000


def test_a_clock_that_is_slewed_was_not_set():
    assert not clock(slew=0.0005).was_set
    late = WallClock([(START, 1000.0), (START + 100_050.0, 101_000.0)])
    assert not late.was_set, 'the samples of a long run begin late'


def test_a_clock_that_was_set_between_the_start_and_the_first_sample():
    found = WallClock([(START, 1000.0), (START + HOUR + 1, 1001.0)])
    assert found.settings() == [Setting(START + HOUR + 1, HOUR)]


def test_without_moments_the_clock_was_not_set():
    assert WallClock([]).by_last(START) == START and WallClock([]).settings() == []
