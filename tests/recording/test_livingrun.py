"""What other parts add to a living run: work for its heartbeat, and answers for its mailbox."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.hostiledirectory import NOBODY
from support.hostiledirectory import in_child
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.interfaces import ILivingRun
from Products.StabilityMonitor.model.options import load
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording import livingrun
from Products.StabilityMonitor.recording.heartbeat import ROUND
from Products.StabilityMonitor.recording.heartbeat import Heartbeat
from Products.StabilityMonitor.recording.livingrun import LivingRun
from Products.StabilityMonitor.store.rundirectory import Base


@pytest.fixture
def life():
    """A living run without a heartbeat."""
    return LivingRun(SimpleNamespace(directory='x', group=''), Instance(), 'server', {})


@pytest.fixture
def beating(life):
    """A living run whose heartbeat beats only when a test calls `beat`."""
    heartbeat = Heartbeat(0.01, [], life.findings)
    life.rounds = SimpleNamespace(heartbeat=heartbeat, answers={})
    return life


def beat(life, times):
    for _ in range(times):
        life.rounds.heartbeat.beat()


def test_a_living_run_implements_its_interface(life):
    assert verifyObject(ILivingRun, life)
    assert life.path.is_absolute()


# -- whose directory -------------------------------------------------------------------------------


@pytest.fixture
def place():
    """A folder that every user can write to."""
    path = Path(tempfile.mkdtemp(prefix='owners-'))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def recording(path, group=''):
    """Return a living run with a run directory, if that is possible."""
    options, _ = load({'directory': str(path), 'group': group}, {})
    life = LivingRun(options, Instance('here', str(path.parent), ''), 'server', {})
    with life.findings.guarded('run-directory', 'Nothing is kept on disk.'):
        life._run_directory()
    return life


@pytest.mark.root
class TestOwners:
    UID = 54321

    @pytest.mark.parametrize('is_of_root', [False, True])
    def test_in_a_directory_of_another_user_an_own_one_is_made(self, place, is_of_root):
        """As with a random user id in a container, on a volume that stays; the directory itself may
        belong to root, and what earlier containers made there to others.
        """
        base = Base(place / 'stability')
        base.prepare()
        (base.path / 'token.key').write_bytes(b'k' * 32)
        for path in (base.path, *base.path.rglob('*')):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o777)
        if is_of_root:
            os.chown(base.path, 0, 0)

        def start():
            life = recording(base.path)
            own = place / f'stability-{self.UID}'
            assert life.path == own == life.base.path
            assert life.directory.path.parent == own / 'runs'
            assert stat.S_IMODE(own.stat().st_mode) == 0o700
            (finding,) = life.findings
            assert finding.id == 'foreign-directory'
            assert f'uid {NOBODY}' in finding.title and str(own) in finding.title
            assert f'chown -R {self.UID} {base.path}' in str(finding.action)

        assert in_child(self.UID, start)
        assert in_child(self.UID, start)  # the second start finds its own directory
        assert sorted(os.listdir(base.path)) == ['archive', 'runs', 'token.key']
        assert os.listdir(base.runs) == []

    @pytest.mark.parametrize('obstacle', ['planted', 'a link', 'no room'])
    def test_without_an_own_directory_nothing_is_kept(self, place, obstacle):
        base = Base(place / 'stability')
        base.prepare()
        beside = place / f'stability-{self.UID}'
        if obstacle == 'planted':
            Base(beside).prepare()
            os.chown(beside, NOBODY, NOBODY)
            beside.chmod(0o777)
        elif obstacle == 'a link':
            (place / 'target').mkdir()
            os.chown(place / 'target', NOBODY, NOBODY)
            (place / 'target').chmod(0o777)
            beside.symlink_to('target')
        else:
            place.chmod(0o755)
        for path in (base.path, base.runs, base.archive):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o777)

        def start():
            life = recording(base.path)
            assert life.directory is None
            (finding,) = life.findings
            assert finding.id == 'run-directory'
            assert f'belongs to another user (uid {NOBODY})' in finding.detail
            assert str(beside) in finding.detail
            assert life.base.waiting() == []

        assert in_child(self.UID, start)
        assert os.listdir(base.runs) == []

    def test_a_directory_of_root_is_used(self, place):
        """As when a volume is mounted there, with the group of Zope."""
        base = Base(place / 'stability')
        base.prepare()
        for path in (base.path, base.runs, base.archive):
            os.chown(path, 0, self.UID)
            path.chmod(0o2770)

        def start():
            life = recording(base.path)
            assert life.directory.path.parent == base.runs and not list(life.findings)

        assert in_child(self.UID, start)


def test_a_loose_directory_is_closed_with_a_finding(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    base.path.chmod(0o777)
    life = recording(base.path)
    (finding,) = life.findings
    assert finding.id == 'loose-directory'
    assert f'{base.path} drwx------' in finding.detail
    assert stat.S_IMODE(base.path.stat().st_mode) == 0o700
    life.directory.abandon()
    life = recording(base.path)
    assert not list(life.findings)
    life.directory.abandon()


# -- duties and answers ----------------------------------------------------------------------------


def test_a_duty_is_called_at_each_beat_or_in_each_round(beating):
    beats, rounds = [], []
    beating.every_beat(lambda: beats.append(1))
    beating.every_round(lambda: rounds.append(1))
    beat(beating, ROUND + 1)
    assert (len(beats), len(rounds)) == (ROUND + 1, 2)


@pytest.mark.parametrize('when', ['every_beat', 'every_round'])
def test_a_duty_that_is_there_already_is_not_added_again(beating, when):
    calls = []

    def duty():
        calls.append(1)

    getattr(beating, when)(duty)
    getattr(beating, when)(duty)
    beat(beating, 1)
    assert calls == [1]


@pytest.mark.parametrize('when', ['every_beat', 'every_round'])
def test_a_duty_that_raises_is_removed_with_a_finding(beating, when):
    calls = []

    def broken():
        calls.append(1)
        raise ValueError('the reason')

    getattr(beating, when)(broken)
    beat(beating, 2 * ROUND)
    (finding,) = beating.findings
    assert calls == [1]
    assert finding.id == 'heartbeat-broken' and 'the reason' in finding.detail


def test_an_answer_is_added_for_its_subject(beating):
    beating.answer('weather', lambda: {'sky': 'blue'})
    assert beating.rounds.answers['weather']() == {'sky': 'blue'}


def test_without_a_heartbeat_an_errand_runs_at_once_and_nothing_else_happens(life):
    done = []
    for register in (life.in_background, life.every_beat, life.every_round):
        register(lambda name=register.__name__: done.append(name))
    life.answer('weather', dict)
    assert done == ['in_background'] and not list(life.findings)


# -- when no descriptor is left --------------------------------------------------------------------


def test_breadcrumbs_that_cannot_be_looked_at_are_not_called_deleted(life, tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    life.directory = SimpleNamespace(path=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(livingrun, 'opened', refused)
        life._check_directory()
    assert list(life.findings) == []
    life._check_directory()
    assert [finding.id for finding in life.findings] == ['breadcrumbs-gone']
