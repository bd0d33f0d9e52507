"""One run's directory: who may claim it, when, and what is left on a disk that is full or
shared.
"""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import Program
from support.childprograms import run_python
from support.descriptors import held

from Products.StabilityMonitor.store import rundirectory
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import LOCK
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system import processidentity
from Products.StabilityMonitor.system.processidentity import identity
from Products.StabilityMonitor.system.processidentity import process_is_there

#: Names that look like those of runs, but no process can have them: {name: its facts}.
IMPOSSIBLE = {
    '99999999T999999Z-4242-abcd': (0.0, 4242),
    '20261323T074501Z-17-beef': (0.0, 17),
    '20260230T000000Z-17-beef': (0.0, 17),
    '00000000T000000Z-1-abcd': (0.0, 1),
    '00010101T000000Z-12-abcd': (0.0, 12),
    '19691231T235959Z-12-abcd': (0.0, 12),
    '20261123T074501Z-0-beef': (1795419901.0, 0),
    '20261123T074501Z-2147483648-beef': (1795419901.0, 1 << 31),
    '20261123T074501Z-9999999999-beef': (1795419901.0, 9_999_999_999),
}
NAME = f'20261123T074501Z-{os.getpid()}-beef'
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc')
#: An identity of this boot whose process is certainly gone.
GONE = identity() | {'pid': os.getpid(), 'start_ticks': 1}


@pytest.fixture
def base(tmp_path):
    return Base(tmp_path / 'stability')


@pytest.fixture
def start(base):
    """Starts programs/runs.py in a role; all of them are gone after the test."""
    started = []

    def start(role):
        started.append(Program(PROGRAMS / 'runs.py', role, base.path, NAME))
        return started[-1]

    yield start
    for program in started:
        program.clean_up()  # no more input: its children end too


def dead_run(base, context=None):
    """A run whose process has died."""
    run = base.create(NAME, {'identity': GONE} if context is None else context)
    run.abandon()
    return run


class TestNames:
    def test_a_name_holds_start_and_pid(self):
        name = rundirectory.new_name(1795419901.7, 17)
        assert rundirectory.is_possible(name) and name.startswith('20261123T074501Z-17-')
        assert rundirectory.name_facts(name) == (1795419901.0, 17)

    def test_names_of_one_second_and_pid_differ(self):
        assert len({rundirectory.new_name(0, 1) for _ in range(20)}) > 15

    @pytest.mark.parametrize(
        'name',
        [
            '',
            'x',
            'a-b-c',
            '20261123T074501Z-x-beef',
            '20261123T074501Z-17-beef\n',
            '20261123T074501Z-17-beef/..',
            '20261123T074501Z-17-BEEF',
            '٢٠٢٦١١٢٣T074501Z-17-beef',
            '20261123T074501Z-١٧-beef',
            f'20261123T074501Z-{"9" * 11}-beef',
            f'20261123T074501Z-{"9" * 5000}-beef',
            '20261123T074501Z--beef',
            '20261123T074501Z-17-bee\udcff',
            '20261123T074501Z-17-\0eef',
        ],
    )
    def test_other_names_raise_value_error(self, name):
        with pytest.raises(ValueError):
            rundirectory.name_facts(name)

    @pytest.mark.parametrize('name, facts', IMPOSSIBLE.items())
    def test_a_name_that_no_process_can_have_made_raises_nothing(self, name, facts):
        assert rundirectory.name_facts(name) == facts
        assert not rundirectory.is_possible(name)

    @pytest.mark.parametrize('name', IMPOSSIBLE)
    def test_a_folder_with_such_a_name_is_never_alive_and_can_be_claimed(self, base, name):
        """Not even if its context says that it is the run of this very process."""
        run = base.create(name, {'identity': identity()})
        run.abandon()
        assert rundirectory.is_alive(run.path) is False
        assert not rundirectory.may_live(run.path)
        claimed = base.claim(name)
        assert claimed and claimed.path == run.path
        claimed.abandon()

    def test_a_folder_without_a_lock_is_no_living_run(self, base):
        """A run has a lock before it has its name."""
        base.prepare()
        (base.runs / NAME).mkdir()
        assert not rundirectory.may_live(base.runs / NAME)


class TestCreating:
    def test_a_run_is_published_only_when_locked_and_complete(self, base, monkeypatch):
        seen = []
        rename = rundirectory.rename

        def watched(path, target):
            if target.name == NAME:
                seen.append(
                    (
                        base.waiting(),
                        rundirectory.read_json(path / CONTEXT)['identity'],
                        rundirectory._flock(os.open(path / LOCK, os.O_RDWR)),
                    )
                )
            return rename(path, target)

        monkeypatch.setattr(rundirectory, 'rename', watched)
        run = base.create(NAME, {'identity': identity()})
        assert seen == [([], identity(), False)]
        assert base.waiting() == [NAME] and run.path == base.runs / NAME and run.locked is True
        run.abandon()

    @pytest.mark.parametrize('umask', [0, 0o077])
    def test_without_a_group_only_the_owner_has_access(self, base, umask):
        before = os.umask(umask)
        try:
            run = base.create(NAME, {})
            os.close(rundirectory.preallocate(run.path / 'blackbox.sbr', 8192))
        finally:
            os.umask(before)
        run.abandon()
        for path in (base.path, base.runs, base.archive, run.path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for file in run.path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.root
    def test_the_group_may_read(self, base):
        dead_run(base)  # the directory exists before the option is set
        shutil.rmtree(base.runs / NAME)
        shared = Base(base.path, 'nogroup')
        run = shared.create(NAME, {})
        os.close(rundirectory.preallocate(run.path / 'x', 10, shared.file_mode))
        run.abandon()
        gid = rundirectory.grp.getgrnam('nogroup').gr_gid
        for path in (base.path, base.runs, base.archive, run.path):
            assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (gid, 0o750)
        for file in run.path.iterdir():
            assert (file.stat().st_gid, file.stat().st_mode & 0o777) == (gid, 0o640)

    def test_a_failure_leaves_neither_files_nor_descriptors(self, base, monkeypatch):
        base.prepare()
        before = held()

        def full(*args):
            raise OSError(errno.ENOSPC, 'No space left on device')

        monkeypatch.setattr(rundirectory, 'write_whole', full)
        with pytest.raises(OSError):
            base.create(NAME, {})
        until(lambda: not held() - before)
        assert list(base.runs.iterdir()) == []

    def test_the_lock_is_not_inherited_by_programs(self, base):
        run = base.create(NAME, {})
        assert not os.get_inheritable(run.descriptor)
        run.abandon()

    def test_waiting_lists_runs_oldest_first_and_nothing_else(self, base):
        assert base.waiting() == []
        base.prepare()
        for name in ('20261123T074502Z-1-beef', NAME, f'.new-{NAME}', 'lost+found', '.DS_Store'):
            (base.runs / name).mkdir()
        assert base.waiting() == [NAME, '20261123T074502Z-1-beef']


class TestWriteWhole:
    def test_a_reader_sees_the_old_or_the_new_file(self, tmp_path):
        path = tmp_path / 'file.json'
        rundirectory.write_whole(path, 'old')
        with pytest.raises(UnicodeEncodeError):
            rundirectory.write_whole(path, 'x' * 100000 + '\udcff')
        assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file.json']
        rundirectory.write_whole(path, 'nëw')
        assert path.read_text('utf-8') == 'nëw' and os.listdir(tmp_path) == ['file.json']

    @pytest.mark.parametrize(
        'content', [b'', b'\xff\xfe', b'[1]', b'7', b'{"a": ', b'[' * 100000, b'\0' * 100, None]
    )
    def test_read_json_never_raises(self, tmp_path, content):
        if content is not None:
            (tmp_path / 'x').write_bytes(content)
        assert rundirectory.read_json(tmp_path / 'x') == {}


class TestPreallocation:
    def test_preallocate_allocates_all_blocks(self, tmp_path):
        descriptor = rundirectory.preallocate(tmp_path / 'x', 100000)
        status = os.fstat(descriptor)
        assert status.st_size == 100000 and status.st_blocks * 512 >= 100000
        assert not os.get_inheritable(descriptor) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        os.close(descriptor)

    @pytest.mark.parametrize(
        'trouble', [OSError(errno.EOPNOTSUPP, ''), OSError(errno.EINVAL, ''), AttributeError()]
    )
    def test_without_fallocate_zeroes_are_written(self, tmp_path, monkeypatch, trouble):
        def fallocate(*args):
            raise trouble

        monkeypatch.setattr(os, 'posix_fallocate', fallocate, raising=False)
        descriptor = rundirectory.preallocate(tmp_path / 'x', 100000)
        assert os.fstat(descriptor).st_blocks * 512 >= 100000
        os.close(descriptor)

    @pytest.mark.parametrize('has_fallocate', [True, False])
    def test_on_a_full_disk_it_raises_and_leaves_no_file(self, tmp_path, has_fallocate):
        """It runs in another process, in which a limit on file sizes acts like a full disk."""
        code = f"""if True:
            import os, resource, signal
            from Products.StabilityMonitor.store import rundirectory
            if not {has_fallocate}:
                del os.posix_fallocate
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            before = os.listdir('/dev/fd')
            try:
                rundirectory.preallocate(rundirectory.Path({str(tmp_path / 'x')!r}), 100000)
            except OSError:
                print('refused', os.listdir('/dev/fd') == before)
        """
        assert run_python('-c', code, check=True).stdout == 'refused True\n'
        assert os.listdir(tmp_path) == []

    @pytest.mark.root
    @linux
    def test_on_a_real_full_disk_no_file_and_no_run_is_left(self, tmp_path):
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', tmp_path]).returncode:
            pytest.skip('no file system can be mounted here')
        try:
            with pytest.raises(OSError) as caught:
                rundirectory.preallocate(tmp_path / 'x', 100000)
            assert caught.value.errno == errno.ENOSPC
            assert os.listdir(tmp_path) == []
            base = Base(tmp_path / 'stability')
            base.prepare()
            (tmp_path / 'filler').write_bytes(bytes(os.statvfs(tmp_path).f_bavail * 4096))
            with pytest.raises(OSError):
                base.create(NAME, {'text': 'x' * 10000})
            assert list(base.runs.iterdir()) == []
        finally:
            subprocess.run(['umount', tmp_path], check=True)


class TestClaiming:
    def test_a_dead_run_is_claimed_once(self, base):
        dead_run(base)
        claimed = base.claim(NAME)
        assert claimed.path == base.runs / NAME and claimed.locked
        assert base.claim(NAME) is None  # this process holds it now
        claimed.abandon()

    def test_a_missing_run_is_not_claimed_and_not_made(self, base):
        assert base.claim(NAME) is None
        assert not (base.runs / NAME).exists()

    def test_a_living_run_is_not_claimed_and_a_killed_one_is(self, base, start):
        holder = start('hold').expect('created')
        assert base.claim(NAME) is None
        holder.kill()
        claimed = base.claim(NAME)
        assert claimed is not None
        claimed.abandon()

    def test_only_one_of_many_processes_claims_a_run(self, base, start):
        dead_run(base)
        claimers = [start('claim') for _ in range(8)]
        for claimer in claimers:
            claimer.expect('ready')
        for claimer in claimers:
            claimer.tell('go')
        answers = [claimer.hear() for claimer in claimers]
        assert sorted(answers) == ['claimed'] + ['refused'] * 7

    def test_after_the_death_of_a_claimer_another_process_can_claim(self, base, start):
        dead_run(base)
        claimer = start('claim').go('claimed')
        assert base.claim(NAME) is None
        claimer.kill()
        claimed = base.claim(NAME)
        assert claimed is not None
        claimed.abandon()

    def test_a_forked_child_that_abandons_does_not_hold_the_lock(self, base, start):
        holder = start('fork')
        child = int(holder.hear().split()[1])
        holder.kill()
        claimed = base.claim(NAME)
        assert claimed is not None
        os.kill(child, 0)  # it is still alive
        claimed.abandon()

    def test_a_forked_child_that_does_not_abandon_holds_the_lock(self, base, start):
        """The counterpart of the test above: it shows why `abandon` is needed."""
        holder = start('keep')
        assert holder.hear().startswith('child ')
        holder.kill()
        assert base.claim(NAME) is None

    def test_a_claim_that_is_refused_leaves_no_descriptor(self, base):
        run = base.create(NAME, {'identity': GONE})
        before = held()
        assert base.claim(NAME) is None
        until(lambda: not held() - before)
        run.abandon()

    def test_a_run_that_was_archived_meanwhile_is_not_claimed(self, base, monkeypatch):
        dead_run(base)
        real = rundirectory._flock

        def archived_meanwhile(descriptor):
            os.rename(base.runs / NAME, base.archive / NAME)
            return real(descriptor)

        monkeypatch.setattr(rundirectory, '_flock', archived_meanwhile)
        assert base.claim(NAME) is None
        assert (base.archive / NAME).is_dir() and base.waiting() == []

    @linux
    def test_a_living_process_without_its_lock_is_not_claimed(self, base):
        """This happens after code that closes all descriptors."""
        dead_run(base, {'identity': identity()})
        assert base.claim(NAME) is None

    def test_with_a_damaged_context_the_lock_decides(self, base):
        dead_run(base)
        (base.runs / NAME / CONTEXT).write_bytes(b'\xff\0{')
        (base.runs / NAME / LOCK).unlink()
        claimed = base.claim(NAME)
        assert claimed is not None
        claimed.abandon()

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(['pid', 'host', 'boot_id', 'pid_namespace', 'start_ticks']),
                    inner,
                )
            ),
            max_leaves=8,
        ),
        st.booleans(),
    )
    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_any_identity_is_judged_without_an_error(self, base, known, is_here):
        if isinstance(known, dict) and is_here:
            known = {key: identity()[key] for key in ('host', 'boot_id', 'pid_namespace')} | known
        assert process_is_there(known) in (True, False, None)
        base.prepare()
        (base.runs / NAME).mkdir(exist_ok=True)
        (base.runs / NAME / CONTEXT).write_text(json.dumps({'identity': known, 'locked': None}))
        claimed = base.claim(NAME)
        if claimed:
            claimed.abandon()


class TestAVolumeWithoutFlock:
    @pytest.fixture(autouse=True)
    def no_flock(self, monkeypatch):
        monkeypatch.setattr(rundirectory, '_flock', lambda descriptor: None)

    def test_a_run_knows_that_it_has_no_lock(self, base):
        run = base.create(NAME, {'identity': identity()})
        assert run.locked is None and rundirectory.read_json(run.path / CONTEXT)['locked'] is None
        run.abandon()

    @linux
    def test_one_process_claims_a_dead_run(self, base):
        dead_run(base)
        claims = [base.claim(NAME) for _ in range(3)]
        assert [claim is not None for claim in claims] == [True, False, False]
        claims[0].abandon()

    @linux
    def test_a_living_run_without_a_lock_is_not_claimed(self, base, start):
        dead_run(base, {'identity': identity()})
        assert base.claim(NAME) is None

    @pytest.mark.parametrize('more, is_claimed', [(-100, False), (100, True)])
    def test_a_run_of_another_host_is_dead_after_a_long_silence(self, base, more, is_claimed):
        run = dead_run(base, {'identity': GONE | {'host': 'elsewhere', 'boot_id': 'another'}})
        for file in run.path.iterdir():
            os.utime(file, (time.time() - rundirectory.SILENCE - more,) * 2)
        claimed = base.claim(NAME)
        assert (claimed is not None) == is_claimed
        if claimed:
            claimed.abandon()

    @linux
    def test_the_claim_of_a_claimer_that_died_expires(self, base):
        run = dead_run(base)
        base.claim(NAME).abandon()
        os.utime(run.path / rundirectory.CLAIM, (time.time() - rundirectory.SILENCE - 100,) * 2)
        claimed = base.claim(NAME)
        assert claimed is not None
        assert base.claim(NAME) is None
        claimed.abandon()

    @linux
    def test_a_free_lock_of_a_run_without_flock_is_no_proof(self, base, monkeypatch):
        """The writer had no flock, the reader has: the free lock says nothing."""
        dead_run(base, {'identity': GONE | {'host': 'elsewhere', 'boot_id': 'another'}})
        monkeypatch.undo()
        assert base.claim(NAME) is None


@pytest.mark.parametrize(
    'error, result',
    [
        (errno.EWOULDBLOCK, False),
        (errno.ENOLCK, None),
        (errno.EOPNOTSUPP, None),
        (errno.ENOSYS, None),
        (None, True),
    ],
)
def test_flock_errors_are_a_refusal_or_an_unlockable_volume(monkeypatch, error, result):
    def flock(descriptor, operation):
        if error:
            raise OSError(error, '')

    monkeypatch.setattr(rundirectory.fcntl, 'flock', flock)
    assert rundirectory._flock(0) is result


class TestSweep:
    def test_sweep_removes_old_unpublished_directories_of_dead_processes(self, base):
        base.prepare()
        for name, known, age in (
            ('old', GONE, 100),
            ('fresh', GONE, 0),
            ('lives', identity(), 100),
            ('empty', None, 100),
        ):
            folder = base.runs / f'.new-{name}'
            folder.mkdir()
            if known:
                (folder / CONTEXT).write_text(json.dumps({'identity': known}))
            os.utime(folder, (time.time() - age,) * 2)
        dead_run(base)
        base.sweep()
        assert sorted(os.listdir(base.runs)) == ['.new-fresh', '.new-lives', NAME]

    def test_sweep_without_a_directory_does_nothing(self, base):
        base.sweep()


class TestIdentity:
    """With a recorded /proc: pid 4711 lives, 4712 is a zombie, 4713's name holds blanks and
    parentheses.
    """

    PROC = Path(__file__).parents[1] / 'data' / 'proc_v1'

    @pytest.mark.parametrize(
        'pid, ticks', [(4711, 123456), (4712, 0), (4713, 987), (4714, 0), ('../4711', 0), ('\0', 0)]
    )
    def test_start_ticks_are_read_from_the_stat_of_a_process(self, pid, ticks):
        assert processidentity.start_ticks(pid, self.PROC) == ticks

    def known(self, **changes):
        return identity(4711, self.PROC) | changes

    def test_an_identity_has_pid_start_ticks_boot_and_namespace(self, monkeypatch):
        monkeypatch.setattr(os, 'readlink', lambda path: f'link {path.relative_to(self.PROC)}')
        known = self.known()
        assert known['pid'] == 4711 and known['start_ticks'] == 123456
        assert known['boot_id'] == '11111111-2222-3333-4444-555555555555'
        assert known['pid_namespace'] == 'link self/ns/pid'

    @pytest.mark.parametrize(
        'changes, there',
        [
            ({}, True),
            ({'start_ticks': 7}, False),  # its pid was given to another process
            ({'pid': 4714}, False),
            ({'pid': 4712}, False),
            ({'boot_id': 'an earlier boot'}, False),
            ({'boot_id': 'another machine', 'host': 'elsewhere'}, None),
            ({'pid_namespace': 'pid:[4026531999]'}, None),
        ],
    )
    def test_a_process_is_there_if_its_identity_matches(self, changes, there):
        assert process_is_there(self.known(**changes), self.PROC) is there

    @pytest.mark.parametrize(
        'known, machine, is_of_another',
        [
            ({'boot_id': 'another', 'host': 'elsewhere'}, 'here', True),
            ({'boot_id': 'another', 'host': 'elsewhere'}, '', True),
            ({'boot_id': '', 'host': 'elsewhere'}, 'here', True),  # a system without /proc
            ({'boot_id': 'another'}, 'there', True),  # two machines of one name
            ({'boot_id': 'another'}, 'here', False),  # it has been rebooted
            ({'boot_id': 'another'}, '', False),
            ({'host': 'elsewhere'}, 'there', False),  # another container of this machine
            ({}, 'there', False),
        ],
    )
    def test_another_machine_has_another_boot_and_another_name_or_id(
        self, tmp_path, known, machine, is_of_another
    ):
        (tmp_path / 'machine-id').write_text('here\n')
        context = {'identity': identity() | known, 'machine_id': machine}
        found = processidentity.is_of_another_machine(context, machine_id=tmp_path / 'machine-id')
        assert found is is_of_another

    @pytest.mark.parametrize('known', [None, [], 'x', 7])
    def test_a_damaged_identity_is_not_of_another_machine(self, known):
        assert not processidentity.is_of_another_machine({'identity': known, 'machine_id': 7})

    @pytest.mark.parametrize('known', [None, {}, [], 'x', 7, {'host': 'elsewhere'}])
    def test_without_an_identity_it_is_not_known_whether_a_process_is_there(self, known, tmp_path):
        assert process_is_there(known, self.PROC) is None
        assert process_is_there(known, tmp_path) is None

    def test_without_proc_the_pid_decides(self, tmp_path):
        """macOS and FreeBSD have no /proc."""
        child = Program('-c', '')
        child.end()
        mine = identity(proc=tmp_path)
        assert mine['boot_id'] == '' and mine['start_ticks'] == 0
        assert process_is_there(mine, tmp_path) is True
        assert process_is_there(mine | {'pid': child.pid}, tmp_path) is False
        assert process_is_there(mine | {'pid': 'x'}, tmp_path) is None
        assert process_is_there(mine | {'host': 'elsewhere'}, tmp_path) is None

    @linux
    def test_a_zombie_is_not_there(self):
        with Program('-c', 'input()') as child:
            known = identity(child.pid)
            assert process_is_there(known) is True
            child.signal('SIGKILL')
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert process_is_there(known) is False
