"""A clock that is set during a run: durations are those that passed, and none is negative."""

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import note
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.postmortem import hangsummary
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import judge

DAY = 86400
BEGAN = 1000.0  # the monotonic clock at the start
#: By how much the clock was set 20 seconds after the start of a run of 60 seconds.
STEPS = {
    'back by 3 years': -1095 * DAY,
    'forward by 90 days': 90 * DAY,
    'from 1970 at boot': 56 * 365 * DAY,
    'back by a minute and a half': -90,
    'forward by a minute and a half': 90,
}


def run(step, **values):
    """Return the traces of a run whose clock was set by `step` seconds after 20 seconds."""
    box = recording(
        words={'armed': STARTED + 1, 'serving': STARTED + 2, 'hung_since': STARTED + 10},
        samples=(
            sample(10, monotonic=BEGAN + 10),
            sample(60 + step, monotonic=BEGAN + 60),
        ),
        in_flight=(request(2, started=STARTED + 15),),
        notes=(note('hang', 10, title='All workers are busy.', number=1),),
        **values,
    )
    return traces(context={'role': 'server', 'monotonic': BEGAN}, recording=box)


def record(found):
    return incident.record(found, judge(found))


@pytest.mark.parametrize('step', STEPS.values(), ids=list(STEPS))
def test_durations_of_a_run_whose_clock_was_set_are_those_that_passed(step):
    found = record(run(step))
    assert found.uptime_seconds == pytest.approx(60)
    (hang,) = found.hangs
    assert hang.seconds == pytest.approx(50)
    assert [each.seconds for each in found.requests] == [pytest.approx(45)]


@pytest.mark.parametrize('step', STEPS.values(), ids=list(STEPS))
def test_the_end_is_a_moment_of_the_clock_as_it_was_at_the_end(step):
    assert record(run(step)).ended == pytest.approx(STARTED + 60 + step)


@pytest.mark.parametrize('step', STEPS.values(), ids=list(STEPS))
def test_words_about_a_hang_count_the_time_that_passed(step):
    found = run(step)
    assert hangsummary.how_long(found) == 'had not been answering for 50 s'
    (event,) = hangsummary.lasting_events(found)
    assert event.fact.endswith('until the run ended, for 50 s.')


def test_a_hang_that_ended_lasted_as_long_as_the_run_measured():
    """The clock was set back by a day during the hang."""
    ended = note('hang-ended', 30 - DAY, title='All workers are busy.', request=1, seconds=20.0)
    box = recording(notes=(note('hang', 10, title='All workers are busy.', number=1), ended))
    (hang,) = record(traces(recording=box)).hangs
    assert hang.seconds == 20.0


def test_a_clock_that_is_slewed_changes_nothing():
    found = run(0.5)
    assert found.clock_step == 0.0
    assert record(found).uptime_seconds == pytest.approx(60.5)


@pytest.mark.parametrize(
    'monotonic', [None, 'x', -1, 0, True, float('nan'), float('inf'), -1e300, 1e300, 2000.0]
)
def test_without_a_usable_monotonic_clock_the_wall_clock_counts(monotonic):
    box = recording(samples=(sample(60, monotonic=BEGAN + 60),))
    context = {'role': 'server', 'monotonic': monotonic}
    found = record(traces(context=context, recording=box))
    assert found.uptime_seconds >= 0
    if monotonic is not True:  # which counts as a number nowhere
        assert found.uptime_seconds == pytest.approx(60)


def test_no_duration_is_negative_without_a_sample():
    box = recording(
        words={'armed': STARTED - DAY, 'serving': STARTED - DAY},
        samples=(),
        in_flight=(request(2, started=STARTED + DAY),),
        notes=(note('hang', DAY, title='All workers are busy.', number=1),),
    )
    found = record(traces(context={'role': 'server', 'monotonic': BEGAN}, recording=box))
    assert found.uptime_seconds >= 0
    assert [each.seconds >= 0 for each in (*found.requests, *found.hangs)] == [True, True]
