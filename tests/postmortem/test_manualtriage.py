"""Triage by the command does what a start of Zope does, with its group and its limits."""

import grp
import json
import os
import stat

import pytest
from support.syntheticruns import DeadRun
from support.syntheticruns import record

from Products.StabilityMonitor.cli import command
from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.postmortem import manualtriage
from Products.StabilityMonitor.postmortem.manualtriage import by_hand
from Products.StabilityMonitor.postmortem.manualtriage import recorded_options
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

LIMITS = {'keep-runs': 200, 'keep-days': 100_000, 'keep-bytes': 200 << 20}


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def never(name, error):
    raise error


def archived(base, *records, **context):
    for each in records:
        path = base.runs / each.run
        path.mkdir()
        (path / 'context.json').write_text(json.dumps({'role': each.role, **context}))
        Archive(base).add(path, each)
    return [each.run for each in records]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# -- what is recorded ------------------------------------------------------------------------------


def test_a_run_records_the_options_that_the_command_needs():
    values, _ = options.load(
        {'group': 'staff', 'keep-runs': '7', 'keep-days': '8', 'keep-bytes': '9MB', 'stall': '5s'},
        {},
    )
    recorded = json.loads(json.dumps(options.for_record(values)))
    assert recorded == options.from_record(recorded)
    assert recorded == {
        'group': 'staff',
        'keep-runs': 7,
        'keep-days': 8,
        'keep-bytes': 9 << 20,
        'stall': 5.0,
        'sample-interval': 1.0,
        'redact': 'all',
        'redact-pattern': '',
        'supervisor-log': '',
    }


@pytest.mark.parametrize('value', [0, -1, 1e15, 10**15, True, None, '7', [], {}, float('nan'), 2.5])
def test_a_recorded_number_outside_its_bounds_is_ignored(value):
    assert options.from_record({'keep-runs': value}) == {}


@pytest.mark.parametrize('document', [None, [], 'x', 7, {'group': 7}, {'stall': True}, {'x': 1}])
def test_invalid_recorded_options_are_ignored(document):
    assert options.from_record(document) == {}


def test_the_options_of_a_living_server_come_first(base):
    archived(base, record(0), options=LIMITS | {'keep-runs': 1})
    assert recorded_options(base)['keep-runs'] == 1
    DeadRun(base.path, 1, options=LIMITS | {'keep-runs': 2})
    assert recorded_options(base)['keep-runs'] == 2
    DeadRun(base.path, 2)
    DeadRun(base.path, 3, role='script', options=LIMITS | {'keep-runs': 3})
    assert recorded_options(base)['keep-runs'] == 2, (
        'options of scripts, and runs without options, must not count'
    )
    context = {'identity': identity(), 'role': 'server', 'options': {'keep-runs': 4}}
    living = base.create(new_name(1e9, os.getpid()), context)
    assert recorded_options(base) == {'keep-runs': 4}, (
        'a living server comes first although it began earlier'
    )
    living.abandon()


# -- pruning ---------------------------------------------------------------------------------------


def test_the_command_prunes_like_a_start_of_zope(base, capsys):
    archived(base, *(record(n) for n in range(4)))
    DeadRun(base.path, 9, options=LIMITS | {'keep-runs': 2}).crashed()
    assert command.main(['--directory', str(base.path), 'triage']) == 1
    assert 'Old runs removed because of the options "keep-..." of the site: 3.' in (
        capsys.readouterr().out
    )
    assert [each.verdict for each in Archive(base).summaries()] == ['crashed', 'stopped']


@pytest.mark.parametrize('missing', sorted(LIMITS))
def test_without_all_limits_recorded_nothing_is_removed(base, missing):
    archived(base, *(record(n) for n in range(3)))
    known = LIMITS | {'keep-runs': 1, 'keep-days': 1}
    DeadRun(base.path, 9, options={name: known[name] for name in known if name != missing})
    done, removed = by_hand(base, never)
    assert (len(done), removed) == (1, 0) and len(Archive(base).summaries()) == 4


def test_without_recorded_options_files_are_for_their_owner_alone(base):
    run = DeadRun(base.path, 9).crashed()
    archived(base, *(record(n) for n in range(3)))
    assert by_hand(base, never)[1] == 0
    assert mode(base.archive / run.name / 'incident.json') == 0o600


# -- the group -------------------------------------------------------------------------------------


def some_group():
    return next(each for each in grp.getgrall() if each.gr_gid not in (0, 65534))


@pytest.mark.root
def test_the_recorded_group_may_read_what_the_command_archives(tmp_path):
    group = some_group()
    base = Base(tmp_path / 'stability', group.gr_name)
    base.prepare()
    run = dead_run_of(base, group.gr_name)
    plain = Base(base.path)  # the command does not know the group
    done, _ = by_hand(plain, never)
    assert [each.run for each in done] == [run.name]
    for name in ('incident.json', 'summary.json', 'blackbox.sbr.gz'):
        path = base.archive / run.name / name
        assert (mode(path) & 0o077, path.stat().st_gid) == (0o040, group.gr_gid), name


def dead_run_of(base, group):
    """Make a dead run whose process ran with the option "group"."""
    run = DeadRun(base.path, options={'group': group}).crashed()
    base.make(run.path)
    for file in run.path.iterdir():
        file.chmod(0o640)
        os.chown(file, -1, run.path.stat().st_gid)
    return run


@pytest.mark.root
@pytest.mark.parametrize('name', ['no-such-group', 'a\0b', '', 'x' * 70_000])
def test_an_unknown_group_is_ignored(base, name):
    run = DeadRun(base.path, options={'group': name}).crashed()
    by_hand(base, never)
    assert mode(base.archive / run.name / 'incident.json') == 0o600


@pytest.mark.root
def test_a_group_that_may_not_read_the_directory_is_ignored(base):
    """A user who can write a context must not make root open files to any group."""
    group, before = some_group(), base.path.stat()
    run = DeadRun(base.path, options={'group': group.gr_name}).crashed()
    by_hand(base, never)
    assert mode(base.archive / run.name / 'incident.json') == 0o600
    for folder in (base.path, base.archive, base.archive / run.name):
        assert folder.stat().st_gid == before.st_gid and mode(folder) == 0o700


def test_a_system_without_groups_archives_too(base, monkeypatch):
    monkeypatch.setattr(manualtriage, 'grp', None)
    run = DeadRun(base.path, options={'group': 'staff'}).crashed()
    by_hand(base, never)
    assert (base.archive / run.name / 'incident.json').exists()


@pytest.mark.root
@pytest.mark.zope
def test_a_real_zope_and_the_command_archive_alike(make_zope, capsys):
    group = some_group().gr_name
    zope = make_zope(options={'group': group, 'keep-runs': '2'})
    for _ in range(3):
        zope.start().kill()
        zope.wait_exit()
    assert command.main(['--client-home', str(zope.client_home), 'triage']) == 1
    assert (
        'Old runs removed because of the options "keep-..." of the site: 1.'
        in capsys.readouterr().out
    )
    by_start, by_command = sorted((zope.stability / 'archive').glob('2*/'))
    assert facts(by_start) == facts(by_command)
    assert facts(by_start)['incident.json'][0] == 0o640


def facts(folder):
    return {
        name: (mode(folder / name), (folder / name).stat().st_gid)
        for name in ('incident.json', 'summary.json', 'blackbox.sbr.gz', '.')
    }
