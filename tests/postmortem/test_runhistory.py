"""The last run and a crash loop among the past runs of one instance."""

import pytest
from support.syntheticruns import HERE
from support.syntheticruns import record

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.postmortem.runhistory import LOOP_INCIDENTS
from Products.StabilityMonitor.postmortem.runhistory import LOOP_SECONDS
from Products.StabilityMonitor.postmortem.runhistory import crash_loop
from Products.StabilityMonitor.postmortem.runhistory import last_server_run
from Products.StabilityMonitor.postmortem.runhistory import of_instance


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
