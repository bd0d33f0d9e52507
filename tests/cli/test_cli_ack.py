"""The command "ack", and what acknowledged incidents and drills count for."""

import json
import time

from support.commandline import archived
from support.syntheticruns import record

from Products.StabilityMonitor.store.acknowledged import Acknowledgements


def crashes(base, count, verdict='crashed', **values):
    """Archive runs that all ended within the last hour; return their names, oldest first."""
    now = time.time()
    records = []
    for number in range(count):
        started = now - 3600 + 60 * number
        times = {'started': started, 'ended': started + 30}
        records.append(record(number, verdict, **times, **values))
    return archived(base, *records)


def status(command):
    exit_status, output, _ = command('status', '--format', 'json')
    (instance,) = json.loads(output)['instances']
    return exit_status, instance


def test_an_acknowledged_incident_counts_for_no_exit_status(base, command):
    (name,) = crashes(base, 1)
    assert command('status')[0] == command('show', name)[0] == 1
    done = command('ack', name, '--name', 'ada', '--note', 'the disk was full')
    assert done[:2] == (0, 'Acknowledged: 1 incident.\n')
    assert command('status')[0] == 0
    exit_status, output, _ = command('show', name)
    assert exit_status == 0 and 'Acknowledged by ada, ' in output
    assert output.rstrip().endswith(': the disk was full')
    _, instance = status(command)
    last = instance['last_run']
    assert (last['is_open'], last['is_incident']) == (False, True)
    assert (last['acknowledged']['who'], last['acknowledged']['note']) == (
        'ada',
        'the disk was full',
    )


def test_a_drill_counts_for_no_exit_status_and_no_crash_loop(base, command):
    crashes(base, 3, drill='kill')
    exit_status, instance = status(command)
    assert (exit_status, instance['crash_loop'], instance['open_incidents']) == (0, [], [])


def test_the_incidents_before_an_orderly_stop_are_told_until_they_are_acknowledged(base, command):
    names = crashes(base, 3)
    archived(base, record(9, started=time.time() - 60, ended=time.time() - 30))
    exit_status, instance = status(command)
    assert (exit_status, instance['open_incidents']) == (0, names[::-1])
    assert 'Before that: 3 incidents in 24 h, the last: crashed, ' in command('status')[1]
    assert command('ack', '--all')[1] == 'Acknowledged: 3 incidents.\n'
    assert 'Before that' not in command('status')[1]
    assert status(command)[1]['before_that'] is None


def test_an_acknowledged_crash_loop_is_none(base, command):
    names = crashes(base, 4)
    assert status(command)[1]['crash_loop'] == names[::-1]
    command('ack', '-1')
    assert status(command)[1]['crash_loop'] == names[-2::-1]
    command('ack', '--all')
    assert status(command) == (0, status(command)[1] | {'crash_loop': []})


def test_old_incidents_are_not_recent(base, command):
    archived(base, record(0, 'crashed'), record(1))
    assert status(command)[1]['open_incidents'] == []


def test_what_is_no_incident_is_not_acknowledged(base, command):
    (name,) = archived(base, record(0))
    for words in ((name,), (), (name, '--all'), ('20200101T000000Z-1-abcd',)):
        assert command('ack', *words)[0] == 2
    assert Acknowledgements(base).read() == ({}, None)


def test_a_name_is_found_without_the_option(base, command, monkeypatch):
    (name,) = crashes(base, 1)
    monkeypatch.setenv('SUDO_USER', 'grace')
    command('ack', name)
    assert Acknowledgements(base).read()[0][name].who == 'grace'


def test_an_acknowledgement_can_be_taken_back(base, command):
    names = crashes(base, 3)
    command('ack', '--all')
    assert command('ack', '-1', '--undo')[:2] == (0, 'No longer acknowledged: 1 incident.\n')
    assert status(command)[1]['open_incidents'] == [names[-1]]
    assert command('ack', '-1', '--undo')[1] == 'No longer acknowledged: 0 incidents.\n'
    assert command('ack', '--all', '--undo')[1] == 'No longer acknowledged: 2 incidents.\n'
    assert Acknowledgements(base).read() == ({}, None)


def test_the_history_marks_what_is_acknowledged(base, command):
    first, second = crashes(base, 2)
    command('ack', second)
    _, output, _ = command('history')
    (line,) = (line for line in output.splitlines() if line.endswith('(acknowledged)'))
    assert second in line
    _, output, _ = command('history', '--format', 'json')
    rows = {row['run']: row['acknowledged'] for row in json.loads(output)['runs']}
    assert rows == {first: False, second: True}
