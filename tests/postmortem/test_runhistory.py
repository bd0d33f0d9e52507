"""The last run and a crash loop among the past runs of one instance."""

from dataclasses import replace

import pytest
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import record

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.postmortem.runhistory import LOOP_INCIDENTS
from Products.StabilityMonitor.postmortem.runhistory import LOOP_SECONDS
from Products.StabilityMonitor.postmortem.runhistory import RECENT_SECONDS
from Products.StabilityMonitor.postmortem.runhistory import crash_loop
from Products.StabilityMonitor.postmortem.runhistory import last_server_run
from Products.StabilityMonitor.postmortem.runhistory import of_instance
from Products.StabilityMonitor.postmortem.runhistory import recent_incidents
from Products.StabilityMonitor.postmortem.runhistory import seconds_since_end


def runs(*verdicts, every=60, **values):
    """Archived runs, newest first.  The first verdict is that of the newest run."""
    count = len(verdicts)
    return tuple(
        record(count - n, verdict, after=(count - n) * every, **values)
        for n, verdict in enumerate(verdicts)
    )


def test_of_instance_returns_the_runs_of_one_instance():
    other = record(5, instance=Instance('here', '/elsewhere', HERE.listen))
    ours = runs('crashed', 'stopped')
    assert of_instance((other, *ours), HERE) == ours
    assert of_instance(ours, Instance()) == ()


def test_the_last_server_run_is_the_newest_one_of_a_server():
    script, server = record(2, role='script'), record(1)
    assert last_server_run((script, server, record(0))) == server
    assert last_server_run((script,)) is last_server_run(()) is None


@pytest.mark.parametrize(
    'verdicts, long',
    [
        (('crashed',) * 3, 3),
        (('crashed', 'vanished', 'startup-failed'), 3),
        (('startup-failed',) * 5, 5),
        (('crashed',) * 2, 0),
        ((), 0),
        (('stopped', 'crashed', 'crashed', 'crashed'), 0),
        (('crashed', 'crashed', 'stopped', 'crashed'), 0),
        (('crashed', 'crashed', 'crashed', 'stopped', 'crashed'), 3),
        (('host-restarted', 'crashed', 'crashed', 'crashed'), 0),
    ],
)
def test_three_incidents_in_a_row_are_a_crash_loop(verdicts, long):
    """Only incidents without a wanted stop in between, up to the last run, count."""
    past = runs(*verdicts)
    assert crash_loop(past) == past[:long]


def test_drills_and_acknowledged_incidents_count_for_no_crash_loop():
    past = runs(*['crashed'] * 4)
    assert crash_loop(past, {past[1].run}) == (past[0], *past[2:])
    assert crash_loop(past, {past[1].run, past[2].run}) == ()
    assert crash_loop(runs(*['crashed'] * 4, drill='kill')) == ()


def test_an_incident_is_recent_for_a_week_or_as_long_as_its_end_is_unknown():
    ages = {1: RECENT_SECONDS, 2: RECENT_SECONDS + 1, 3: None}
    past = tuple(record(number, 'crashed') for number in ages)
    found = recent_incidents(past, {}, lambda record: ages[record.number - 1])
    assert [each.number - 1 for each in found] == [1, 3]


def test_a_loop_has_only_runs_that_began_within_ten_minutes():
    assert len(crash_loop(runs(*['hung'] * 3, every=LOOP_SECONDS / 2))) == LOOP_INCIDENTS
    assert crash_loop(runs(*['hung'] * 3, every=LOOP_SECONDS / 2 + 1)) == ()
    assert len(crash_loop(runs(*['hung'] * 9, every=200))) == 4


def test_scripts_make_no_loop():
    assert crash_loop(runs(*['crashed'] * 5, role='script')) == ()
    servers = runs(*['crashed'] * 3)
    assert crash_loop((record(9, role='script'), *servers)) == servers


def test_runs_without_a_start_make_no_loop():
    assert crash_loop(runs(*['unreadable'] * 3, started=None)) == ()


BOOT = {'boot_id': 'a-boot'}


def under_a_clock_that_jumped(steps, every, **values):
    """Return three incidents, newest first; `every` seconds passed between their starts.

    `steps` is by how much the clock was wrong at the start of each, the oldest first.
    """
    found = [
        record(
            n,
            'crashed',
            started=STARTED + n * every + step,
            monotonic=500.0 + n * every,
            uptime_seconds=every - 1.0,
            **values,
        )
        for n, step in enumerate(steps)
    ]
    return tuple(reversed(found))


@pytest.mark.parametrize('step', [3600, -3600, 3 * 86400])
def test_a_clock_that_was_set_neither_makes_nor_hides_a_loop_in_one_boot(step):
    loop = under_a_clock_that_jumped((0, step, step), every=60.0, **BOOT)
    assert crash_loop(loop) == loop
    slow = under_a_clock_that_jumped((0, 0, -2 * LOOP_SECONDS), every=LOOP_SECONDS, **BOOT)
    assert crash_loop(slow) == ()


def test_in_other_boots_the_next_run_began_after_the_end_of_the_one_before():
    """Each boot begins in 1970, because the machine has no clock that goes on without power."""
    hours = under_a_clock_that_jumped((0, -3600, -7200), every=3600.0)
    assert crash_loop(hours) == ()
    minutes = under_a_clock_that_jumped((0, -60, -120), every=60.0)
    assert crash_loop(minutes) == minutes


@pytest.mark.parametrize('step', [0, 3600, -3600, 3 * 86400])
def test_how_long_ago_a_run_of_this_boot_ended_does_not_come_from_the_clock(step):
    run = record(0, monotonic=500.0, **BOOT)  # it ended a minute later
    now = STARTED + 60 + 90 + step
    assert seconds_since_end(run, 'a-boot', 650.0, now) == 90.0
    assert seconds_since_end(run, 'another', 20.0, now) == max(0.0, 90.0 + step)
    assert seconds_since_end(run, 'a-boot', 20.0, now) == max(0.0, 90.0 + step)
    assert seconds_since_end(record(0, ended=None), 'a-boot', 650.0, now) is None


def test_the_runs_of_an_instance_are_looked_for_again_only_in_other_summaries():
    other = replace(record(2), instance=Instance('elsewhere'))
    summaries = (record(1), other)
    first = of_instance(summaries, HERE)
    assert [run.run for run in first] == [summaries[0].run]
    assert of_instance(summaries, HERE) is first
    assert of_instance(summaries, Instance('elsewhere')) == (other,)
    third = record(3)
    assert of_instance((*summaries, third), HERE) == (summaries[0], third)
    assert of_instance(list(summaries), HERE) == first
