"""A data directory that was copied from another machine: its runs are shown, and left alone."""

import json
import os
import shutil

import pytest
from support.commandline import archived
from support.syntheticruns import FATAL_ERROR
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import record

from Products.StabilityMonitor.model.records import clocktime
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import is_copy
from Products.StabilityMonitor.store.rundirectory import may_live
from Products.StabilityMonitor.system.processidentity import identity

#: What identifies a process of another machine.
ELSEWHERE = identity() | {'pid': 107, 'host': 'elsewhere', 'boot_id': 'another', 'start_ticks': 1}
#: When the files in the copies changed last.
COPIED = STARTED + 9000.0


@pytest.fixture
def original(tmp_path):
    return tmp_path / 'original'


def copy(run, base):
    """Copy a run into the data directory, as `cp -a` does; return its directory there."""
    path = base.runs / run.name
    shutil.copytree(run.path, path)
    for file in path.iterdir():
        os.utime(file, (COPIED - 60, COPIED - 60))
    os.utime(path / 'context.json', (COPIED, COPIED))
    return path


@pytest.fixture
def living(original, base):
    """The copy of a run that was alive on the other machine."""
    return copy(DeadRun(original, 7, identity=ELSEWHERE).served(), base)


@pytest.fixture
def crashed(original, base):
    """The copy of a run that had crashed on the other machine."""
    return copy(DeadRun(original, 8, identity=ELSEWHERE | {'pid': 108}).crashed(), base)


def files(path):
    return {file.name: file.stat().st_mtime_ns for file in path.iterdir()}


def test_only_a_copy_of_another_machine_is_one(original, base, living):
    assert is_copy(living) and not may_live(living)
    assert not is_copy(original / 'runs' / living.name)  # its volume has moved
    here = DeadRun(original, 9)
    assert not is_copy(copy(here, base))
    older = DeadRun(original, 10, identity=ELSEWHERE | {'pid': 110}).change(lock_inode=None)
    assert not is_copy(copy(older, base))


def test_a_copy_without_the_lock_is_one(living):
    (living / 'lock').unlink()
    assert is_copy(living)


@pytest.mark.parametrize('lost', ['lock', 'blackbox.sbr', 'nothing'])
def test_neither_a_start_of_zope_nor_the_command_touches_it(base, command, living, crashed, lost):
    (living / lost).unlink(missing_ok=True)
    before = files(living), files(crashed)
    assert triage(base) == []
    status, output, _ = command('triage')
    assert (status, output) == (
        0,
        'There was nothing to judge.\n'
        'Copied from another machine, and therefore left as it is: 2 runs.\n',
    )
    assert (files(living), files(crashed)) == before
    assert Archive(base).summaries() == ()


def test_a_run_that_has_moved_with_its_volume_is_judged(original):
    """As when a container is started on another machine: its files are the ones of the run."""
    run = DeadRun(original, 7, identity=ELSEWHERE).served()
    assert [each.run for each in triage(Base(original))] == [run.name]


def test_status_says_that_it_was_alive_when_the_copy_was_made(command, living):
    status, output, _ = command('status')
    words = f'It was alive when this copy was made, at {clocktime(COPIED)}.'
    assert status == 0
    assert f'of another machine: {living.name}: {words} (it stays where it is)' in output
    assert 'No process is running here.' in output and 'not yet archived' not in output
    document = json.loads(command('status', '--format', 'json')[1])
    assert (document['living'], document['waiting'], document['clean_scripts_waiting']) == (
        [],
        [],
        [],
    )
    (copied,) = document['copied']
    assert (copied['run'], copied['verdict'], copied['is_incident']) == (
        living.name,
        'running',
        False,
    )
    assert copied['copied'] == isotime(COPIED)


def test_history_and_show_have_it(base, command, living):
    archived(base, record(0, 'crashed'))
    _, output, _ = command('history')
    _, first, second = output.splitlines()
    assert living.name in first and first.endswith('(copied from another machine)')
    assert 'running' in first and second.split()[3] == 'crashed'
    rows = json.loads(command('history', '--format', 'json')[1])['runs']
    assert [(row['archived'], bool(row['copied'])) for row in rows] == [
        (False, True),
        (True, False),
    ]
    status, output, _ = command('show', living.name)
    assert status == 0
    assert output.startswith(f'It was alive when this copy was made, at {clocktime(COPIED)}.\n')
    assert 'ended              not known' in output
    assert 'uptime             at least ' in output


def test_the_report_of_it_is_about_its_instance(command, living):
    document = json.loads(command('report', living.name, '--format', 'json')[1])
    incident = document['incident']
    assert document['instance']['host'] == HERE.host
    assert (incident['verdict'], incident['copied']) == ('running', isotime(COPIED))
    assert [each['path'] for each in incident['recent']] == ['/served']


def test_an_end_that_its_own_files_tell_is_told(command, crashed):
    status, output, _ = command('show', crashed.name)
    assert status == 1 and 'verdict            crashed' in output
    rows = json.loads(command('history', '--format', 'json')[1])['runs']
    assert [(row['archived'], row['is_incident'], row['copied']) for row in rows] == [
        (False, True, isotime(COPIED))
    ]


def test_nothing_of_this_machine_counts_for_it(original, base, command, tmp_path):
    """Here, standard error holds a fatal error of another process."""
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR)
    status = log.stat()
    output = {'kind': 'file', 'path': str(log), 'size': 0}
    output |= {'device': status.st_dev, 'inode': status.st_ino}
    run = DeadRun(original, 7, identity=ELSEWHERE, outputs={'2': output}).served()
    path = copy(run, base)
    assert command('show', path.name)[1].startswith('It was alive when this copy was made')
    moved = DeadRun(original, 8, outputs={'2': output}).served()
    assert command('--directory', str(original), 'show', moved.name)[0] == 1  # as a dead run here


@pytest.mark.parametrize('file', ['context.json', 'blackbox.sbr'])
def test_damaged_files_raise_nothing(command, living, file):
    (living / file).write_bytes(b'\xff{]')
    for words in (('status',), ('history',), ('show', living.name), ('report', living.name)):
        assert command(*words)[0] in (0, 1), words
