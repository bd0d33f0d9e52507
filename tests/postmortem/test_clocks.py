"""A clock that is set during a run: durations are those that passed, and none is negative."""

from dataclasses import replace

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.postmortem import hangsummary
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import judge
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

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
    assert hangsummary.how_long(found) == 'had not been answering for at least 50 s'
    (event,) = hangsummary.lasting_events(found)
    assert event.fact.endswith('or later, for at least 50 s.')


def test_a_hang_that_ended_lasted_as_long_as_the_run_measured():
    """The clock was set back by a day during the hang."""
    ended = note('hang-ended', 30 - DAY, title='All workers are busy.', request=1, seconds=20.0)
    box = recording(notes=(note('hang', 10, title='All workers are busy.', number=1), ended))
    (hang,) = record(traces(recording=box)).hangs
    assert hang.seconds == 20.0


def test_a_clock_that_is_slewed_changes_nothing():
    found = run(0.5)
    assert not found.clock.was_set
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


# -- a clock that was set in the middle of a long run ----------------------------------------------

HOUR = 3600
#: By how much the clock was set after one hour of a run of two hours.
IN_THE_MIDDLE = {'+1 h': HOUR, '-1 h': -HOUR, '+3 days': 3 * DAY}


def long_run(step, hours=2, **values):
    """Return the traces of such a run, with a sample each ten seconds."""
    samples = []
    for second in range(0, hours * HOUR + 1, 10):
        after = second + (step if second > HOUR else 0)
        samples.append(sample(after, monotonic=BEGAN + second))
    box = recording(
        **{
            'words': {'armed': STARTED + 1, 'serving': STARTED + 2},
            'samples': tuple(samples),
            **values,
        }
    )
    return traces(context={'role': 'server', 'monotonic': BEGAN}, recording=box)


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
def test_the_record_says_that_the_clock_was_set(step):
    found = record(long_run(step))
    assert found.uptime_seconds == pytest.approx(7200)
    (fact,) = [each.fact for each in found.evidence if each.source == 'samples']
    how = {HOUR: 'forward by 1 hour', -HOUR: 'back by 1 hour', 3 * DAY: 'forward by 3 days'}[step]
    assert fact.startswith(f'The clock was set {how} while this run lived; then it showed 2026-')
    assert fact.endswith('as it was; durations are those that passed.')


def test_a_clock_that_was_not_set_is_not_mentioned():
    assert not [each for each in record(long_run(0)).evidence if each.source == 'samples']


def test_a_suspended_machine_is_no_clock_that_was_set():
    """CLOCK_MONOTONIC stood meanwhile, the wall clock did not."""
    told = note(
        'frozen-ended',
        2 * HOUR + 10,
        seconds=HOUR,
        title='The machine was suspended for 1 hour.',
        detail='suspended',
    )
    found = record(long_run(HOUR, notes=(told,)))
    assert 'samples' not in [each.source for each in found.evidence]
    assert told.title in str(found.evidence)


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
@pytest.mark.parametrize('before', [True, False], ids=['before', 'after'])
def test_an_event_before_or_after_the_setting_lasted_as_long_as_it_did(step, before):
    """A moment that the clock showed twice, as it was set back, is left out: see WallClock."""
    began = 1 if before else 7100
    shown = began + (0 if before else step)
    found = record(long_run(step, notes=(note('hang', shown, title='All hang.', number=1),)))
    (hang,) = found.hangs
    assert hang.seconds == pytest.approx(7200 - began)


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
@pytest.mark.parametrize('began', [60, 3500, 7100])
def test_a_request_in_progress_has_its_own_monotonic_start(step, began):
    """Whatever the clock showed, even an hour twice."""
    shown = STARTED + began + (step if began > HOUR else 0)
    found = record(long_run(step, in_flight=(request(2, started=shown),), began={2: BEGAN + began}))
    assert [each.seconds for each in found.requests] == [pytest.approx(7200 - began)]


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
def test_a_finished_request_took_as_long_as_it_did(step):
    """It lasted for 20 s, and the clock was set meanwhile."""
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    for second in range(0, 61):
        after = second + (step if second > 30 else 0)
        recorder.sample(sample(after, monotonic=BEGAN + second))
    recorder.begin('GET', '/', _now=lambda: STARTED + 20, _monotonic=lambda: BEGAN + 20)
    recorder.end(200, _now=lambda: STARTED + 40 + step)
    (finished,) = blackboxreader.read(recorder.buffer).finished
    assert finished.seconds == pytest.approx(20)


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
@pytest.mark.parametrize(
    'minutes, verdict, confidence',
    [(1, 'stopped', 'likely'), (10, 'stopped', 'weak'), (60, 'vanished', 'weak')],
)
def test_a_stop_that_was_outlived_goes_by_the_time_that_passed(step, minutes, verdict, confidence):
    """SIGTERM came so many minutes before the end, after the clock was set."""
    shown = 3 * HOUR - 60 * minutes + step
    found = replace(
        long_run(step, hours=3),
        asked={'SIGTERM': STARTED + shown},
        survived_marks={'SIGTERM': mark(shown)},
    )
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence) == (verdict, confidence)
    lived_on = '1 hour' if minutes == 60 else f'{minutes} min'
    assert f'lived on for {lived_on}' in f'{judgement.summary} {judgement.evidence}'


@pytest.mark.parametrize('step', [HOUR, 3 * DAY], ids=['+1 h', '+3 days'])
def test_a_stop_that_was_outlived_before_the_clock_was_set(step):
    """SIGTERM came two minutes before that, an hour before the end."""
    shown = HOUR - 120
    found = replace(
        long_run(step),
        asked={'SIGTERM': STARTED + shown},
        survived_marks={'SIGTERM': mark(shown)},
    )
    judgement = judge(found)
    assert judgement.verdict == 'vanished'
    assert 'lived on for 1 hour 2 min' in str(judgement.evidence)


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
def test_a_clock_that_is_set_at_the_start_changes_no_duration(step):
    """A machine without a battery gets its time while Zope starts, before the first sample."""
    box = recording(
        words={'armed': STARTED + step + 1, 'serving': STARTED + step + 2},
        samples=(sample(step + 10, monotonic=BEGAN + 10), sample(step + 60, monotonic=BEGAN + 60)),
        in_flight=(request(2, started=STARTED + step + 20),),
        began={2: BEGAN + 20},
    )
    found = record(traces(context={'role': 'server', 'monotonic': BEGAN}, recording=box))
    assert found.uptime_seconds == pytest.approx(60)
    assert [each.seconds for each in found.requests] == [pytest.approx(40)]
    assert [each.source for each in found.evidence if each.source == 'samples'] == ['samples']


@pytest.mark.parametrize('step', IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
@pytest.mark.parametrize('began', [60, 1800, 3500, 7100])
def test_a_hang_that_lasted_has_its_own_monotonic_start(step, began):
    """Whatever the clock showed, even an hour twice."""
    shown = began + (step if began > HOUR else 0)
    words = {
        'serving': STARTED + 2,
        'hung_since': STARTED + shown,
        'hung_monotonic': BEGAN + began,
    }
    found = record(
        long_run(step, words=words, notes=(note('hang', shown, title='All hang.', number=1),))
    )
    assert found.verdict == 'hung'
    (hang,) = found.hangs
    assert hang.seconds == pytest.approx(7200 - began)
