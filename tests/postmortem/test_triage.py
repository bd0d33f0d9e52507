"""Triage: each dead run is claimed, judged and archived, whatever goes wrong with one of them."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record

from Products.StabilityMonitor.model.options import load
from Products.StabilityMonitor.model.records import clocktime
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.postmortem import triage as module
from Products.StabilityMonitor.postmortem import verdict
from Products.StabilityMonitor.postmortem.triage import at_start
from Products.StabilityMonitor.postmortem.triage import remedy
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.regularfiles import Folder
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def archived(base):
    return {each.run: each.verdict for each in Archive(base).summaries()}


def test_all_dead_runs_are_archived_oldest_first(base, tmp_path):
    crashed, silent = DeadRun(base.path, 1).crashed(), DeadRun(base.path, 0).served()
    assert [each.run for each in triage(base, world=quiet_world(tmp_path))] == [
        silent.name,
        crashed.name,
    ]
    assert archived(base) == {crashed.name: 'crashed', silent.name: 'vanished'}
    assert triage(base) == [] and base.waiting() == []


def test_living_runs_are_left_alone(base):
    """One holds its lock, one has a living process, and one is this process's own run."""
    living = base.create(new_name(1e9, 1), {'identity': {}})
    unlocked = base.create(new_name(1e9, os.getpid()), {'identity': identity()})
    unlocked.abandon()
    own = DeadRun(base.path)
    assert triage(base, own.name) == []
    assert set(base.waiting()) == {living.path.name, unlocked.path.name, own.name}
    living.abandon()


def test_the_record_of_a_crash_is_complete(base, tmp_path):
    def write(recorder):
        recorder.stamp('serving', run.started + 1)
        recorder.begin('GET', '/before', _now=lambda: run.started + 2)
        recorder.end(200, _now=lambda: run.started + 3)
        recorder.begin('POST', '/fatal', _now=lambda: run.started + 50)
        recorder.log(40, 'site', 'something is wrong', run.started + 55)

    run = DeadRun(base.path)
    run.box(write).marked(
        'faults',
        b'Fatal Python error: Bus error\n\nCurrent thread 0x%016x (most recent call '
        b'first):\n  File "/x.py", line 1 in f\n\nExtension modules: lxml.etree (total: 1)\n'
        % get_ident(),
    )
    (found,) = triage(base, world=quiet_world(tmp_path))
    assert (found.verdict, found.signal, found.instance) == ('crashed', 'SIGBUS', HERE)
    assert [(r.path, r.crashed, r.seconds) for r in found.requests] == [('/fatal', True, 10.0)]
    assert [(r.path, r.status) for r in found.recent] == [('/before', 200)]
    assert found.log[0].message == 'something is wrong' and found.compiled_modules == (
        'lxml.etree',
    )
    assert found.threads[0].crashed and found.signature == ''
    assert found.uptime_seconds == 60.0 and found.phase == 'serving'


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_run_that_cannot_be_archived_does_not_stop_the_others(base, monkeypatch):
    first, second = DeadRun(base.path, 0).crashed(), DeadRun(base.path, 1).crashed()
    add, errors = Archive.add, []
    monkeypatch.setattr(
        Archive,
        'add',
        lambda self, path, record: (
            (_ for _ in ()).throw(OSError(28, 'full'))
            if path.name == first.name
            else add(self, path, record)
        ),
    )
    triage(base, on_error=lambda name, error, record: errors.append((name, error.errno)))
    assert errors == [(first.name, 28)] and list(archived(base)) == [second.name]
    monkeypatch.undo()
    triage(base)
    assert archived(base) == {first.name: 'crashed', second.name: 'crashed'}


def test_without_on_error_the_error_is_raised(base, monkeypatch):
    DeadRun(base.path)
    monkeypatch.setattr(Archive, 'add', lambda *args: (_ for _ in ()).throw(OSError(28, 'full')))
    with pytest.raises(OSError, match='full'):
        triage(base)


@pytest.mark.parametrize('is_gone', [False, True])
def test_an_unwritable_dead_run_is_an_error_unless_it_is_gone(base, monkeypatch, is_gone):
    run = DeadRun(base.path)
    errors = []

    def claim(self, name):
        if is_gone:
            shutil.rmtree(run.path)
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(Base, 'claim', claim)
    assert (
        triage(base, on_error=lambda name, error, record: errors.append((name, type(error)))) == []
    )
    assert errors == ([] if is_gone else [(run.name, PermissionError)])


@pytest.mark.parametrize('step', ['write_whole', '_shrink', 'rename'])
def test_after_an_interrupted_triage_the_next_one_archives_the_run(base, monkeypatch, step):
    """Wherever triage is interrupted, the run is archived once and no evidence is lost."""
    run = DeadRun(base.path).crashed()

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    if step == 'write_whole':
        monkeypatch.setattr(Folder, step, die)
    else:
        monkeypatch.setattr(f'{Archive.__module__}.{step}', die)
    with pytest.raises(KeyboardInterrupt):
        triage(base)
    monkeypatch.undo()
    triage(base)
    assert archived(base) == {run.name: 'crashed'}
    assert Archive(base).record(run.name).recent[0].path == '/served'


def test_a_run_that_cannot_be_judged_is_unreadable(base, monkeypatch, caplog):
    run = DeadRun(base.path).crashed()
    monkeypatch.setattr(verdict, 'judge', lambda traces: 1 / 0)
    triage(base)
    found = Archive(base).record(run.name)
    assert (found.verdict, found.instance) == (
        'unreadable',
        HERE,
    ) and 'ZeroDivisionError' in found.summary
    assert run.name in caplog.text


def test_a_folder_whose_day_does_not_exist_does_no_harm(base):
    (base.runs / '99999999T999999Z-1-abcd').mkdir()
    errors = []
    triage(base, on_error=lambda name, error, record: errors.append(name))
    assert errors in ([], ['99999999T999999Z-1-abcd'])


# -- at a start ------------------------------------------------------------------------------------


def life(base, role='server', **configured):
    options, problems = load(configured, {})
    assert not problems
    return FakeLife(
        base.path,
        base=base,
        name='',
        options=options,
        role=role,
        instance=HERE,
    )


@pytest.fixture
def start(caplog):
    """A function that calls at_start and returns the lines of the log, and the findings."""

    def start(life):
        caplog.clear()
        with caplog.at_level('INFO', 'StabilityMonitor'):
            at_start(life)
        lines = [(entry.levelname, entry.getMessage()) for entry in caplog.records]
        return lines, [finding.id for finding in life.findings]

    return start


def test_how_the_last_run_ended_is_one_line_in_the_log(base, start):
    DeadRun(base.path, 0).served()
    run = DeadRun(base.path, 1).crashed()
    lines, findings = start(life(base, keep_days='9999'))
    assert findings == [] and len(lines) == 1 and lines[0][0] == 'WARNING'
    assert run.name in lines[0][1] and 'Segmentation fault (SIGSEGV) in crash' in lines[0][1]
    assert f'started {clocktime(run.started)}, uptime ' in lines[0][1]


def test_a_wanted_stop_is_not_a_warning(base, start):
    DeadRun(base.path).served().marked('SIGTERM', b'Stack (most recent call first):\n')
    lines, _ = start(life(base, keep_days='9999'))
    assert [(level, 'SIGTERM' in text) for level, text in lines] == [('INFO', True)]


def test_scripts_and_other_instances_log_nothing(base, start):
    DeadRun(base.path).crashed()
    assert start(life(base, 'script', keep_days='9999')) == ([], [])
    stranger = life(base, keep_days='9999')
    stranger.instance = replace(HERE, listen='elsewhere')
    assert start(stranger) == ([], [])


SEEN = Witness('sibling', 1.8e9, 'It was seen.', signal='SIGKILL')


@pytest.fixture
def late(base, start, caplog):
    """A run that vanished and was told at a start, and the life of that start.

    `look()` looks for late witnesses and returns the new lines of the log.
    """
    run = DeadRun(base.path).served()
    late = SimpleNamespace(run=run.name, life=life(base, keep_days='9999'))
    lines, _ = start(late.life)
    assert 'vanished' in lines[0][1]

    def look():
        caplog.clear()
        with caplog.at_level('INFO', 'StabilityMonitor'):
            for duty in late.life.rounds:
                duty()
        return [(entry.levelname, entry.getMessage()) for entry in caplog.records]

    late.look = look
    return late


def test_what_a_witness_adds_after_the_start_is_told_once(base, late):
    assert late.look() == []
    witnessfiles.add(base, late.run, SEEN)
    ((level, line),) = late.look()
    assert level == 'WARNING' and line.startswith('The last run (pid 100, started ')
    assert 'has another verdict, by what was seen by another Zope: Zope was killed' in line
    assert line.endswith(f' [killed, certain] {late.run}')
    assert late.look() == []


def test_who_has_changed_the_verdict_is_named_and_not_who_came_last(base, late):
    witnessfiles.add(base, late.run, SEEN)
    witnessfiles.add(base, late.run, replace(SEEN, source='kernel', time=SEEN.time + 1))
    ((_, line),) = late.look()
    assert 'by what was seen by another Zope: ' in line


def test_a_witness_that_changes_no_verdict_is_not_told(base, late):
    witnessfiles.add(base, late.run, replace(SEEN, signal=None))
    assert late.look() == []
    witnessfiles.add(base, late.run, replace(SEEN, source='zdaemon'))
    assert len(late.look()) == 1


def test_witnesses_are_read_for_a_minute_only(base, late, monkeypatch):
    monkeypatch.setattr(module.time, 'monotonic', lambda: 1e12)
    assert late.look() == []  # the last time
    witnessfiles.add(base, late.run, SEEN)
    assert late.look() == []


def test_a_run_that_is_removed_has_no_late_witnesses(base, late):
    witnessfiles.add(base, late.run, SEEN)
    shutil.rmtree(base.archive / late.run)
    assert late.look() == []


def test_a_witness_before_the_start_is_in_the_first_line(base, start):
    run = DeadRun(base.path).served()
    witnessfiles.add(base, run.name, SEEN)
    lines, _ = start(life(base, keep_days='9999'))
    assert len(lines) == 1 and '[killed, certain]' in lines[0][1]


def test_a_failed_triage_is_a_finding(base, start, monkeypatch):
    run = DeadRun(base.path).crashed()
    monkeypatch.setattr(
        Archive, 'add', lambda *args: (_ for _ in ()).throw(OSError(28, 'No space left'))
    )
    lines, findings = start(life(base))
    assert findings == [f'triage-{run.name}']
    (line,) = [text for _, text in lines if 'The last run' in text]
    assert run.name in line and 'SIGSEGV' in line
    monkeypatch.setattr(module, 'triage', lambda *args, **kwargs: 1 / 0)
    _, findings = start(life(base))
    assert findings == ['triage']


@pytest.mark.parametrize(
    'number, word',
    [
        (errno.ENOSPC, 'Free space on the disk of /data'),
        (errno.EDQUOT, 'quota'),
        (errno.EROFS, 'Mount the volume of /data'),
        (errno.EACCES, 'permission to write to /data'),
        (errno.EPERM, 'permission to write to /data'),
        (errno.EMFILE, 'ulimit -n'),
        (errno.ENFILE, 'fs.file-max'),
        (errno.EIO, 'stabilitymonitor triage'),
    ],
)
def test_the_advice_fits_the_reason_of_the_system(number, word):
    assert word in str(remedy(OSError(number, os.strerror(number)), Path('/data')))


def test_an_error_that_is_not_of_the_system_has_an_advice(base):
    assert 'stabilitymonitor triage' in str(remedy(ValueError('x'), base.path))


def test_an_older_run_that_cannot_be_archived_is_not_the_last_one(base, start, monkeypatch):
    stays, last = DeadRun(base.path, 0).crashed(), DeadRun(base.path, 1).served()
    add = Archive.add

    def refuse(self, path, found):
        if path.name == stays.name:
            raise OSError(errno.EIO, 'Input/output error')
        add(self, path, found)

    monkeypatch.setattr(Archive, 'add', refuse)
    lines, _ = start(life(base, keep_days='9999'))
    (line,) = [text for _, text in lines if 'The last run' in text]
    assert last.name in line


def test_the_archive_is_pruned_at_each_start(base, start):
    for number in range(5):
        path = base.runs / record(number).run
        path.mkdir()
        Archive(base).add(path, record(number))
    start(life(base, keep_runs='2', keep_days='9999'))
    assert len(archived(base)) == 2
    assert (
        json.loads(next(base.archive.glob('*/incident.json')).read_text())['verdict'] == 'stopped'
    )
