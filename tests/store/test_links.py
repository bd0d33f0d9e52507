"""Links in a data directory lead nowhere, and files of other users there are not used.

The owner of the directory plants the links.  As root, that is `nobody`, and the files that the
links lead to belong to root.
"""

import contextlib
import functools
import itertools
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from support.hostiledirectory import NOBODY
from support.hostiledirectory import HostileDirectory
from support.hostiledirectory import Steps
from support.hostiledirectory import in_child
from support.syntheticruns import DeadRun

from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.model.errors import NoAnswer
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.recording.safemode import ArmingMarker
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store import regularfiles
from Products.StabilityMonitor.store.acknowledged import Acknowledgements
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.regularfiles import NotARegularFile
from Products.StabilityMonitor.store.regularfiles import OfAnotherUser
from Products.StabilityMonitor.store.regularfiles import open_regular
from Products.StabilityMonitor.store.regularfiles import opened
from Products.StabilityMonitor.store.regularfiles import read_whole
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import LOCK
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import preallocate
from Products.StabilityMonitor.store.rundirectory import read_json
from Products.StabilityMonitor.store.rundirectory import write_whole
from Products.StabilityMonitor.store.runmailbox import BELL
from Products.StabilityMonitor.store.runmailbox import FOLDER
from Products.StabilityMonitor.store.runmailbox import ask

OLD = 1_000_000_000
DIGEST = '0123456789abcdef' * 2


@pytest.fixture
def hostile(tmp_path):
    return HostileDirectory(tmp_path)


def dead_run(hostile, **context):
    run = DeadRun(hostile.path, **context).crashed()
    hostile.hand_over()
    return run


def run_triage(hostile):
    """Triage as a start does it: an error of one run ends nothing."""
    triage(hostile.base, on_error=lambda name, error, record: None)


# -- links -----------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_an_evidence_file_changes_no_file(hostile):
    run = dead_run(hostile)
    names = ['blackbox.sbr.gz', 'evil.mark', 'incident.json', 'summary.json', 'claim', BELL]
    hostile.fill_victim(*names, 'lock')
    for name in names:
        hostile.plant(run.path / name, hostile.victim / name)
    run_triage(hostile)
    assert (hostile.base.archive / run.name / 'incident.json').is_file()
    hostile.check()


@pytest.mark.root
@pytest.mark.parametrize('name', ['evil.mark', 'lock', 'context.json', 'blackbox.sbr'])
def test_a_hard_link_to_a_file_of_root_is_not_used(hostile, name):
    """Where fs.protected_hardlinks is off, every user can make one."""
    run = dead_run(hostile)
    hostile.fill_victim(name)
    hostile.plant(run.path / name, hostile.victim / name, hard=True)
    with pytest.raises(OfAnotherUser):
        open_regular(run.path / name, os.O_RDWR)
    run_triage(hostile)
    Archive(hostile.base).prune(0, 0, 0)
    hostile.check()


def test_the_count_of_scripts_is_written_through_no_link(hostile):
    hostile.fill_victim('clean-scripts')
    hostile.plant(hostile.base.archive / 'clean-scripts', hostile.victim / 'clean-scripts')
    record = _clean_script(hostile)
    with pytest.raises(NotARegularFile):
        Archive(hostile.base).add(*record)
    assert Archive(hostile.base).clean_scripts == 0
    hostile.check()


@pytest.mark.root
def test_the_count_of_scripts_is_written_through_no_hard_link(hostile):
    record = _clean_script(hostile)
    hostile.fill_victim('clean-scripts')
    path = hostile.base.archive / 'clean-scripts'
    hostile.plant(path, hostile.victim / 'clean-scripts', hard=True)
    with pytest.raises(OfAnotherUser):
        Archive(hostile.base).add(*record)
    hostile.check()


def _clean_script(hostile):
    """Return (directory, record) of a clean run of a script."""
    run = dead_run(hostile, number=5)
    return run.path, RunRecord(run=run.name, role='script', verdict='stopped')


@pytest.mark.parametrize('above', ['runs', 'archive'])
def test_a_folder_that_is_a_link_is_neither_read_nor_written(hostile, above):
    run = dead_run(hostile)
    inside = f'{run.name}/incident.json' if above == 'archive' else f'{run.name}/{CONTEXT}'
    hostile.fill_victim(inside, f'{run.name}/faults.mark', '.new-x/lock', 'clean-scripts')
    hostile.plant(hostile.path / above)
    run_triage(hostile)
    archive = Archive(hostile.base)
    archive.prune(0, 0, 0)
    assert archive.clean_scripts == 0 and archive.summaries() == ()
    assert read_json(hostile.path / above / inside) == {}
    hostile.base.sweep()
    hostile.check()


def test_a_run_that_is_a_link_is_not_claimed(hostile):
    run = dead_run(hostile)
    hostile.fill_victim(CONTEXT, 'faults.mark')
    hostile.plant(run.path)
    with pytest.raises(NotADirectoryError):
        hostile.base.claim(run.name)
    run_triage(hostile)
    hostile.check()


@pytest.mark.parametrize('place', ['run', 'mailbox', 'bell'])
def test_a_request_is_left_through_no_link(hostile, place):
    run = dead_run(hostile)
    (run.path / FOLDER).mkdir()
    (run.path / BELL).touch()
    hostile.hand_over()
    hostile.fill_victim(f'{FOLDER}/x', BELL)
    planted = {'run': run.path, 'mailbox': run.path / FOLDER, 'bell': run.path / BELL}[place]
    hostile.plant(planted, hostile.victim / BELL if place == 'bell' else hostile.victim)
    with pytest.raises((NoAnswer, OSError)):
        ask(run.path, 'stacks', patience=0.1)
    hostile.check()


@pytest.mark.root
@pytest.mark.parametrize('folder', ['runs', 'archive', 'installed'])
def test_no_link_is_opened_to_the_group(hostile, folder):
    import grp

    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, NOBODY))
    hostile.hand_over()
    hostile.fill_victim()
    hostile.plant(hostile.path / folder)
    base = Base(hostile.path, group.gr_name)
    with pytest.raises(NotADirectoryError):
        base.make(hostile.path / folder)
    hostile.check()


def test_a_set_of_distributions_is_written_and_pruned_through_no_link(hostile):
    run = dead_run(hostile)
    hostile.fill_victim(f'{DIGEST}.json')
    hostile.plant(hostile.path / distributionsets.FOLDER)
    with pytest.raises(NotADirectoryError):
        distributionsets.keep(hostile.base, run.path, {'Zope': '5'}, {})
    assert distributionsets.prune(hostile.base) == 0
    hostile.check()


def test_a_set_that_is_a_link_gets_no_new_time(hostile):
    run = dead_run(hostile)
    digest = distributionsets.keep(hostile.base, run.path, {'Zope': '5'}, {})
    path = hostile.path / distributionsets.FOLDER / f'{digest}.json'
    content = path.read_text()
    hostile.fill_victim(path.name)
    (hostile.victim / path.name).write_text(content)
    hostile.fill_victim()
    hostile.plant(path, hostile.victim / path.name)
    with contextlib.suppress(OSError):
        distributionsets.SETS._ensure(hostile.base, digest, content)
    hostile.check()


def test_no_marker_is_set_or_removed_through_a_link(hostile):
    hostile.fill_victim('1-1.json')
    hostile.plant(hostile.path / 'arming')
    marker = ArmingMarker(hostile.base.path, Instance())
    with pytest.raises(NotADirectoryError):
        marker.set()
    assert not marker.is_safe_mode()
    marker.clear(also_failed=True)
    hostile.check()


@pytest.mark.parametrize('name', ['muted.json', 'muted.json.lock', 'hushed.json'])
def test_a_finding_is_muted_through_no_link(hostile, name):
    hostile.fill_victim(name)
    hostile.plant(hostile.path / name, hostile.victim / name)
    with contextlib.suppress(OSError):
        MuteList(hostile.base.path).mute('x', 'A test.', '2026-12-01', 'ada')
    hostile.check()


@pytest.mark.parametrize('name', ['acknowledged.json', 'acknowledged.json.lock'])
def test_an_incident_is_acknowledged_through_no_link(hostile, name):
    hostile.fill_victim(name)
    hostile.plant(hostile.path / name, hostile.victim / name)
    with contextlib.suppress(OSError):
        Acknowledgements(hostile.base).acknowledge(['20261123T020000Z-1-aaaa'], 'ada', '')
    hostile.check()


def test_a_file_is_written_and_reserved_through_no_folder_that_is_a_link(hostile):
    """The results of the checks, the mark files and the black box are made so."""
    run = dead_run(hostile)
    hostile.fill_victim('checks.json', 'blackbox.sbr')
    hostile.plant(run.path)
    with pytest.raises(NotADirectoryError):
        write_whole(run.path / 'checks.json', '{}')
    with pytest.raises(NotADirectoryError):
        preallocate(run.path / 'new.mark', 100)
    hostile.check()


def test_nothing_is_removed_through_a_link_in_a_folder(hostile):
    run = dead_run(hostile)
    hostile.fill_victim('deep/file')
    hostile.plant(run.path / 'in')
    (run.path / FOLDER).mkdir()
    hostile.plant(run.path / FOLDER / 'in')
    with opened(hostile.base.runs) as runs:
        runs.remove(run.name)
    assert not run.path.exists()
    hostile.check()


def test_a_deep_tree_and_a_fifo_do_not_stop_the_removal_of_the_rest(hostile):
    deep = hostile.path / 'runs' / 'tree'
    deep.mkdir()
    os.mkfifo(deep / 'fifo')
    deep.joinpath(*['d'] * 200).mkdir(parents=True)
    with opened(hostile.base.runs) as runs:
        runs.remove('tree')
    assert os.listdir(deep) == ['d']
    shutil.rmtree(deep)


def test_the_data_directory_itself_may_be_reached_through_links(tmp_path):
    """People move it to another volume."""
    (tmp_path / 'volume').mkdir()
    (tmp_path / 'var').symlink_to('volume')
    (tmp_path / 'volume' / 'stability').symlink_to('elsewhere')
    base = Base(tmp_path / 'var' / 'stability')
    run = DeadRun(base.path).crashed()
    triage(base)
    assert base.path == tmp_path / 'volume' / 'elsewhere'
    assert os.listdir(base.path / 'archive') == [run.name]


def test_a_folder_above_that_becomes_a_link_is_not_followed(tmp_path):
    """The path was resolved before."""
    base = Base(tmp_path / 'var' / 'stability')
    DeadRun(base.path).crashed()
    (tmp_path / 'var').rename(tmp_path / 'other')
    (tmp_path / 'var').symlink_to('other')
    assert base.waiting() == []
    with pytest.raises(NotADirectoryError):
        write_whole(base.path / 'file', '')


# -- a folder is exchanged between two steps -------------------------------------------------------


#: At each step, or only at each tenth one.
strides = pytest.mark.parametrize('stride', [10, pytest.param(1, marks=pytest.mark.sweep)])


def _at_steps(monkeypatch, place, stride, exchanged, act):
    """Do `act(hostile)` many times; each time another step finds a folder exchanged for a link.

    `exchanged(hostile)` names the folder.  Returns how many steps there were.
    """
    for step in itertools.count(1, stride):
        hostile = HostileDirectory(place / str(step))
        dead_run(hostile)
        hostile.fill_victim(
            CONTEXT, LOCK, 'faults.mark', 'incident.json', 'summary.json', 'blackbox.sbr', BELL
        )
        folder = exchanged(hostile)
        steps = Steps(step, functools.partial(hostile.exchange, folder))
        with monkeypatch.context() as patch:
            patch.setattr(regularfiles, 'os', steps)
            with contextlib.suppress(OSError, NoAnswer):
                act(hostile)
        hostile.check()
        if steps.number < step:
            return steps.number


def _run(hostile):
    moved = [path for path in hostile.base.runs.iterdir() if not path.is_symlink()]
    return moved[0]


EXCHANGED = {
    'the run': _run,
    'runs': lambda hostile: hostile.base.runs,
    'archive': lambda hostile: hostile.base.archive,
    'the data directory': lambda hostile: hostile.path,
}


@strides
@pytest.mark.parametrize('exchanged', EXCHANGED)
def test_triage_follows_no_link_that_appears_between_two_steps(
    monkeypatch, tmp_path, exchanged, stride
):
    steps = _at_steps(monkeypatch, tmp_path, stride, EXCHANGED[exchanged], run_triage)
    assert steps > 50


@strides
@pytest.mark.parametrize('exchanged', ['the run', 'runs'])
def test_a_request_follows_no_link_that_appears_between_two_steps(
    monkeypatch, tmp_path, exchanged, stride
):
    def leave(hostile):
        run = _run(hostile)
        (run / FOLDER).mkdir()
        hostile.hand_over(run / FOLDER)
        ask(run, 'stacks', patience=0)

    assert _at_steps(monkeypatch, tmp_path, stride, EXCHANGED[exchanged], leave) > 10


@strides
def test_pruning_follows_no_link_that_appears_between_two_steps(monkeypatch, tmp_path, stride):
    def prune(hostile):
        run_triage(hostile)
        Archive(hostile.base).prune(0, 0, 0)

    assert _at_steps(monkeypatch, tmp_path, stride, EXCHANGED['archive'], prune) > 50


# -- owners ----------------------------------------------------------------------------------------


@pytest.fixture
def place():
    """A folder that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix='owners-'))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


THIRD = 54321


@pytest.mark.root
class TestOwners:
    def test_a_file_of_a_third_user_counts_as_damaged(self, hostile):
        """Neither of this user, nor of root, nor of the owner of the data directory."""
        run = dead_run(hostile)
        assert read_json(run.path / CONTEXT)
        os.chown(run.path / CONTEXT, THIRD, THIRD)
        assert read_json(run.path / CONTEXT) == {}
        with pytest.raises(OfAnotherUser, match=f'uid {THIRD}'):
            read_whole(run.path / CONTEXT, 1 << 20)

    def test_a_folder_of_a_third_user_is_not_entered(self, hostile):
        run = dead_run(hostile)
        os.chown(run.path, THIRD, THIRD)
        with pytest.raises(OfAnotherUser, match=run.name):
            read_whole(run.path / CONTEXT, 1 << 20)
        run_triage(hostile)
        assert os.listdir(hostile.base.archive) == [] and run.path.is_dir()

    def test_a_reader_trusts_the_owner_of_the_directory(self, hostile):
        run = dead_run(hostile)
        run_triage(hostile)
        assert [record.run for record in Archive(hostile.base).summaries()] == [run.name]

    def test_a_writer_uses_nothing_in_a_directory_of_another_user(self, hostile):
        run = dead_run(hostile)
        base = Base(hostile.path, is_ours=True)
        assert base.foreign_owner == NOBODY
        assert base.waiting() == [] and read_json(run.path / CONTEXT) == {}
        with pytest.raises(OfAnotherUser):
            base.prepare()

    def test_files_of_root_are_used_by_another_user(self, place):
        base = Base(place / 'stability')
        run = DeadRun(base.path).crashed()
        for path in (base.path, base.runs, base.archive, run.path):
            os.chown(path, NOBODY, NOBODY)
        (run.path / CONTEXT).chmod(0o644)
        assert (run.path / CONTEXT).stat().st_uid == 0
        assert in_child(NOBODY, lambda: read_json(run.path / CONTEXT)['role'] == 'server')

    def test_another_ordinary_user_only_reads(self, place):
        base = Base(place / 'stability')
        run = DeadRun(base.path).crashed()
        for path in (base.path, *base.path.rglob('*')):
            path.chmod(0o755 if path.is_dir() else 0o644)

        def reads():
            other = Base(base.path)
            refused = []
            triage(other, on_error=lambda name, error, record: refused.append(name))
            return bool(read_json(run.path / CONTEXT)) and refused == [run.name]

        assert in_child(NOBODY, reads)
        assert os.listdir(base.archive) == [] and not (run.path / 'claim').exists()


@pytest.mark.parametrize('mode', [0o777, 0o1777, 0o775, 0o720])
def test_a_loose_folder_of_ours_is_closed(tmp_path, mode):
    base = Base(tmp_path / 'stability')
    base.prepare()
    base.path.chmod(mode)
    base.runs.chmod(mode)
    base.prepare()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (base.path, base.runs)} == {0o700}
    assert base.loose == [base.path, base.runs]


def test_a_folder_that_others_may_only_read_stays(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    base.path.chmod(0o755)
    base.prepare()
    assert stat.S_IMODE(base.path.stat().st_mode) == 0o755 and base.loose == []


# -- the only door ---------------------------------------------------------------------------------

ROOMS = ('store', 'recording', 'zmi', 'checks', 'postmortem', 'reporting')
#: Calls that open, make, move or remove something by its path.
BY_PATH = re.compile(
    r'\bos\.(open|mkdir|makedirs|rename|replace|unlink|remove|rmdir|link|listdir|scandir|utime)\('
    r'|\bshutil\.(rmtree|move)|\.(read|write)_(text|bytes)\(|\.(glob|iterdir)\('
)
#: These files may make such calls, because they do not concern the data directory.
ELSEWHERE = {
    'store/regularfiles.py',
    'checks/corefiles.py',  # the folder of core files, and /etc
    'checks/installedonpath.py',  # metadata of distributions
    'checks/limits.py',  # /proc
    'checks/rotation.py',  # recipes of logrotate
    'checks/software.py',  # metadata of distributions
    'checks/supervision.py',  # units of systemd
    'checks/sitewitnesses.py',  # the journal of systemd
    'reporting/logportions.py',  # the journal of systemd
}


def test_no_room_opens_or_changes_the_data_directory_by_a_path():
    package = Path(regularfiles.__file__).parent.parent
    found = set()
    for room in ROOMS:
        for path in (package / room).glob('*.py'):
            text = path.read_text('utf-8')
            for other in ('faultlines.read_text(', 'box.write_text('):
                text = text.replace(other, '')
            if BY_PATH.search(text):
                found.add(str(path.relative_to(package)))
    assert 'store/regularfiles.py' in found and found <= ELSEWHERE
