"""The command "snapshot", and what the other commands show of snapshots."""

import json
import os

import pytest
from support.commandline import archived
from support.livingruns import Living
from support.snapshots import snapshot
from support.stacksdocuments import document
from support.stacksdocuments import thread
from support.syntheticruns import record

from Products.StabilityMonitor.cli import stacks as clistacks
from Products.StabilityMonitor.store.snapshotfiles import Snapshots


@pytest.fixture
def living(base):
    made = []

    def make(told, **context):
        made.append(Living(base, told, **context))
        return made[-1]

    yield make
    for run in made:
        run.end()


@pytest.fixture
def kept(base):
    """Two snapshots, the newer one first."""
    for number in (1, 2):
        Snapshots(base).add(snapshot(number, note='the search is slow'))
    return Snapshots(base).names()


def test_a_snapshot_keeps_what_the_process_tells(living, command, base):
    run = living(document(), options={'stall': 20})
    status, output, errors = command('snapshot', '--note', 'slow', '--name', 'ada')
    assert (status, errors) == (0, '')
    (found,) = map(Snapshots(base).record, Snapshots(base).names())
    assert (found.run, found.pid, found.who, found.note) == (run.name, os.getpid(), 'ada', 'slow')
    assert found.told_by == 'process' and found.threads and found.slow_requests and found.hangs
    assert output.startswith(f'Kept as snapshot {found.id}: {found.summary}\n')


def test_a_process_that_does_not_answer_is_kept_as_it_is_seen(living, command, base, monkeypatch):
    monkeypatch.setattr(clistacks, '_LEAST_PATIENCE', 0.05)
    living(None)
    status, output, _ = command('snapshot')
    (found,) = map(Snapshots(base).record, Snapshots(base).names())
    assert status == 0 and 'The process did not answer.' in output
    assert found.told_by == 'kernel' and found.reason and found.seen
    assert os.getpid() in [thread.native_id for thread in found.threads]
    _, output, _ = command('show', found.id)
    assert f'No answer from process {os.getpid()}: {found.reason}' in output


def test_only_servers_are_kept_unless_a_run_is_named(living, command, base):
    quiet = {'time': 1.0, 'threads': [thread(2)], 'slow': [], 'hangs': []}
    server = living(quiet)
    script = living(quiet, role='script')
    assert command('snapshot')[0] == 0
    assert [each.run for each in Snapshots(base).summaries()] == [server.name]
    assert command('snapshot', script.name)[0] == 0
    assert {each.role for each in Snapshots(base).summaries()} == {'server', 'script'}


def test_without_a_living_process_there_is_nothing_to_keep(command, base):
    status, _, errors = command('snapshot')
    assert status == 2 and 'No living process uses this data directory.' in errors
    assert Snapshots(base).names() == []


def test_native_stacks_that_cannot_be_read_are_said_to_be_missing(
    living, command, base, monkeypatch
):
    monkeypatch.setattr('Products.StabilityMonitor.inspection.nativestacks._TOOLS', {})
    living(document())
    status, _, errors = command('snapshot', '--native')
    (found,) = map(Snapshots(base).record, Snapshots(base).names())
    assert status == 0 and found.native_state == 'failed'
    assert 'pystack is not installed' in found.native_error and found.native_error in errors


def test_history_lists_snapshots_behind_the_runs(command, base, kept):
    archived(base, record(1, 'crashed'))
    lines = command('history')[1].splitlines()
    assert [line for line in lines if kept[0] in line][0].endswith(' (the search is slow)')
    assert lines.index('') < [kept[0] in line for line in lines].index(True)
    document = json.loads(command('history', '--format', 'json')[1])
    assert [each['id'] for each in document['snapshots']] == kept and len(document['runs']) == 1


def test_a_snapshot_is_shown_by_the_beginning_of_its_name(command, kept):
    status, output, _ = command('show', kept[0][:17])
    assert status == 0 and 'note               the search is slow' in output
    for words in ('waitress-', 'Native: waitress-0 (holds the GIL):', 'The disk is slow.'):
        assert words in output
    assert '[warning] Zope was swapped out.' in output and '1 check found nothing.' in output
    document = json.loads(command('show', kept[0], '--format', 'json')[1])
    assert document == json.loads(json.dumps(snapshot(2, note='the search is slow').to_json()))


def test_a_beginning_that_fits_several_is_refused(command, base, kept):
    status, _, errors = command('show', kept[0][:8])
    assert status == 2 and f'fits 2 runs: {kept[0]}, {kept[1]}' in errors


def test_a_snapshot_is_no_incident(command, base, kept):
    status, _, errors = command('show')
    assert status == 2 and 'No incident has been recorded here.' in errors
    archived(base, record(1))
    assert command('status')[0] == 0 and command('triage')[0] == 0
    assert Snapshots(base).names() == kept


def test_the_report_of_a_snapshot_leaves_without_names_of_users(command, base, kept):
    status, text, _ = command('report', kept[0])
    assert status == 0 and 'Snapshot of' in text and 'the search is slow' in text
    assert 'GET /slow' in text and '9.000' in text and 'ada' not in text
    report = json.loads(command('report', kept[0], '--format', 'json')[1])
    assert report['snapshot']['id'] == kept[0] and report['snapshot']['who'] == 'user-1'
    assert report['process']['zope'] == '6.3' and report['in_flight'][0]['path'] == '/slow'
    assert [check['id'] for check in report['checks']] == ['swap', 'clock']
    assert report['threads'] and report['slow_requests'] and report['hangs']
    assert report['inventory']['distributions'] == [{'name': 'Zope', 'version': '6.3'}]
    for part in ('process', 'checks', 'inventory', 'in_flight'):
        assert report['sources'][part]['source'] == 'snapshot', part
    assert 'incident' not in report
