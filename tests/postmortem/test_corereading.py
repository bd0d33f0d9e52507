"""The core file of a run is read, written down once, and testifies; old ones are removed."""

import gzip
import json
import os
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from programs.handshake import until
from support import corefiles as invented
from support.corefiles import Crash
from support.corefiles import why_no_core
from support.fakelife import FakeLife
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world

from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import BY_NAME
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.postmortem import corereading
from Products.StabilityMonitor.postmortem import corestacks
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.postmortem.corereading import Reading
from Products.StabilityMonitor.postmortem.manualtriage import by_hand
from Products.StabilityMonitor.store import corerecords
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

INSTALLED = corestacks.find_readers()
needs_core = pytest.mark.skipif(bool(why_no_core()), reason=why_no_core())


def only(name):
    if name not in INSTALLED:
        pytest.skip(f'{name} is not installed here')
    return Reading(readers={name: INSTALLED[name]})


@pytest.fixture(scope='module')
def crash(tmp_path_factory):
    """A process that crashed in a request, judged; copies of it are read in each test."""
    crash = Crash(tmp_path_factory.mktemp('crash'))
    crash.judged()
    return crash


@pytest.fixture
def read(crash, request):
    """Read the core file of that crash anew, and return the record."""

    def read(reading):
        errors = []
        for name in ('core.json', 'witness-core.json'):
            (crash.base.archive / crash.run / name).unlink(missing_ok=True)
        corereading.read_now(crash.base, [crash.run], lambda *error: errors.append(error), reading)
        assert errors == []
        return crash.record()

    return read


def test_of_two_libraries_with_one_name_that_of_the_callee_is_meant():
    mapped = [SimpleNamespace(path=f'/{folder}/_pickle.so', start=0) for folder in 'ab']
    core = SimpleNamespace(files=mapped, file_at=lambda address: mapped[1])
    frames = [MergedFrame(library='_pickle.so', address=address) for address in (0, 5, 0)]
    placed = corereading.Libraries(core).placed(frames)
    assert [frame.library for frame in placed] == ['_pickle.so', '/b/_pickle.so', '/b/_pickle.so']


@needs_core
class TestReal:
    def test_pystack_shows_native_and_python_frames(self, crash, read):
        core = read(only('pystack')).core
        assert (core.path, core.match) == (str(crash.core), BY_CONTENT)
        assert (core.signal, core.code, core.address) == ('SIGSEGV', 'SEGV_MAPERR', 0)
        assert core.sender is None and core.data_at is None
        assert core.reader == 'pystack' and core.incomplete == ()
        top, *below = core.crashed.frames
        assert core.crashed.holds_gil and core.crashed.native_id == core.thread
        assert top.address == core.program_counter and top.library.endswith('libc.so.6')
        assert 0 < top.offset < core.program_counter
        python = [frame.function for frame in below if not frame.native]
        assert python[:2] == ['string_at', 'do_segv']
        assert all(os.path.isabs(frame.library) for frame in core.crashed.frames if frame.library)
        assert core.code_at.permissions == 'r-x' and core.stack_at.permissions == 'rw-'
        assert core.registers['rip' if 'rip' in core.registers else 'pc'] == core.program_counter
        assert len(core.threads) > 1

    def test_gdb_shows_native_frames(self, read):
        core = read(only('gdb')).core
        assert core.reader == 'gdb' and 'no Python frames' in core.incomplete[0]
        assert core.crashed.frames[0].address == core.program_counter
        # A stripped Python has no names of its own functions.
        assert 'ffi_call' in [frame.function for frame in core.crashed.frames]

    def test_without_a_reader_the_rest_is_told_with_the_command(self, crash, read):
        core = read(Reading(readers={})).core
        assert (core.signal, core.code) == ('SIGSEGV', 'SEGV_MAPERR') and core.thread
        assert core.threads == () and core.reader == ''
        assert 'pip install' in core.incomplete[0]
        assert core.command.endswith('--native-all') and str(crash.core) in core.command

    def test_it_is_evidence_and_makes_the_verdict_certain(self, read):
        record = read(Reading(readers={}))
        assert (record.verdict, record.confidence) == ('crashed', 'certain')
        (fact,) = [item.fact for item in record.evidence if item.source == 'core file']
        assert 'SEGV_MAPERR) at address 0x0' in fact

    def test_it_is_written_once(self, crash, read):
        first = read(Reading(readers={})).core
        corereading.read_now(crash.base, [crash.run], print, only('pystack'))
        assert crash.record().core == first

    def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(self, crash, read):
        whole = crash.core.read_bytes()
        status = crash.core.stat()
        try:
            os.truncate(crash.core, len(whole) // 3)
            core = read(Reading()).core
        finally:
            crash.core.write_bytes(whole)
            os.utime(crash.core, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert core.match == BY_CONTENT and core.signal == 'SIGSEGV'
        assert 'cut off' in core.incomplete[0]

    def test_a_file_that_is_gone_before_it_is_read_leaves_the_testimony(self, crash, read):
        found = corereading.corefinding.find(crash.record(), Reading().world)
        aside = crash.core.with_name('aside')
        crash.core.rename(aside)
        try:
            (crash.base.archive / crash.run / 'core.json').unlink(missing_ok=True)
            corereading.read_and_keep(crash.base, crash.run, found, Reading())
            assert not corerecords.has(crash.base, crash.run)
            shutil.copy(aside, crash.core)  # another file of that name
            corereading.read_and_keep(crash.base, crash.run, found, Reading())
            assert not corerecords.has(crash.base, crash.run)
        finally:
            aside.replace(crash.core)

    def test_of_another_user_nothing_is_read(self, crash, read, monkeypatch):
        monkeypatch.setattr(corereading, 'own_user', lambda: 4711)
        monkeypatch.setattr(corereading, '_ROOT', 4712)
        core = read(only('pystack')).core
        assert core.signal == '' and core.threads == ()
        assert 'belongs to another user' in core.incomplete[0]


@needs_core
@pytest.mark.parametrize(
    ('way', 'verdict', 'code', 'message'),
    [
        ('abort', 'aborted', 'SI_TKILL', ''),
        ('double_free', 'aborted', 'SI_TKILL', 'free(): double free detected'),
        ('dive', 'stack-overflow', 'SEGV_MAPERR', ''),
        ('sent_segv', 'crashed', 'SI_USER', ''),
    ],
)
def test_ways_to_die(tmp_path, way, verdict, code, message):
    crash = Crash(tmp_path, way)
    crash.judged()
    corereading.read_now(crash.base, [crash.run], print, Reading())
    record = crash.record()
    assert record.verdict == verdict and record.core.code == code
    assert message in record.core.abort_message and bool(message) == bool(record.core.abort_message)
    if way == 'dive':
        # Just below the stack; the stack pointer may be in its last page.
        assert record.core.data_at is None and len(record.core.crashed.frames) <= 350
        assert abs(record.core.address - record.core.stack_pointer) < 65536


@needs_core
def test_a_signal_that_was_sent_is_no_division_by_zero(tmp_path):
    """The trap of a division has the number 0, and so has none."""
    crash = Crash(tmp_path, 'sent_fpe')
    crash.judged()
    corereading.read_now(crash.base, [crash.run], print, Reading(readers={}))
    assert crash.record().core.signal == 'SIGFPE'
    assert crash.record().core.code in ('', 'SI_USER')


@needs_core
def test_a_core_file_decides_where_the_run_left_no_trace(tmp_path):
    crash = Crash(tmp_path)
    for mark in (crash.base.runs / crash.run).glob('*.mark'):
        mark.write_bytes(b'')
    assert crash.judged().verdict == 'vanished'
    corereading.read_now(crash.base, [crash.run], print, Reading(readers={}))
    record = crash.record()
    assert (record.verdict, record.confidence, record.signal) == ('crashed', 'certain', 'SIGSEGV')


@needs_core
def test_a_core_file_that_the_next_crash_has_replaced_is_not_that_of_the_first(tmp_path):
    first, second = Crash(tmp_path), Crash(tmp_path, 'abort')
    second.judged()
    replaced = len(second.cores) == 1  # the system may put the pid into the name
    corereading.read_now(first.base, [first.run, second.run], print, Reading(readers={}))
    assert second.record().core.signal == 'SIGABRT'
    assert (first.record().core is None) == replaced


@needs_core
def test_a_process_that_is_killed_leaves_no_core_file(tmp_path):
    crash = Crash(tmp_path, 'kill_self', 'SIGKILL')
    assert crash.cores == []
    crash.judged()
    corereading.read_now(crash.base, [crash.run], print, Reading())
    assert crash.record().core is None and crash.record().verdict == 'vanished'


@needs_core
@pytest.mark.thorough
def test_a_core_file_of_2_gib_is_read_within_the_limits(tmp_path):
    if shutil.disk_usage(tmp_path).free < 6 << 30:
        pytest.skip('the disk is too full')
    crash = Crash(tmp_path, 'map_much', 2 << 30)
    assert crash.core.stat().st_size > 2 << 30
    crash.judged()
    corereading.read_now(crash.base, [crash.run], print, Reading())
    core = crash.record().core
    assert core.signal == 'SIGSEGV' and core.crashed.frames
    python = [frame.function for frame in core.crashed.frames if not frame.native]
    assert python[:3] == ['string_at', 'do_segv', 'do_map_much'] or core.reader == 'gdb'
    crash.core.unlink()


# -- invented core files ---------------------------------------------------------------------------


class Dead:
    """Runs that vanished, and core files in their working directory."""

    def __init__(self, tmp_path, count=1):
        self.base = Base(tmp_path / 'stability')
        self.cwd = tmp_path / 'cwd'
        self.cwd.mkdir()
        self.world = quiet_world(tmp_path)
        for number in range(count):
            DeadRun(
                tmp_path / 'stability',
                number,
                cwd=str(self.cwd),
                core_pattern='core.%p',
            ).served()
        records = triage.triage(self.base, world=self.world)
        self.runs = [record.run for record in sorted(records, key=lambda each: each.started)]

    def put(self, name, content):
        path = self.cwd / name
        path.write_bytes(content)
        return path

    def read(self):
        errors = []
        reading = Reading(self.world, {})
        corereading.read_now(self.base, self.runs, lambda *error: errors.append(error), reading)
        assert errors == []
        return [Archive(self.base).record(run) for run in self.runs]


@pytest.fixture
def dead(tmp_path):
    return Dead(tmp_path)


def test_a_name_alone_is_evidence_and_decides_nothing(dead):
    before = Archive(dead.base).record(dead.runs[0])
    pid = before.pid
    path = dead.put(f'core.{pid}', gzip.compress(b'core'))
    os.utime(path, (before.ended + 1, before.ended + 1))
    (record,) = dead.read()
    assert (record.verdict, record.confidence) == (before.verdict, before.confidence)
    assert record.core.match == BY_NAME and 'compressed' in record.core.incomplete[0]
    assert record.core.command
    assert 'likely' in record.evidence[-1].fact


def test_a_signal_that_a_process_sent_is_told_with_its_sender(dead):
    run = dead.runs[0]
    pid = Archive(dead.base).record(run).pid
    notes = invented.prstatus(pid) + invented.prpsinfo(pid)
    notes += invented.siginfo(11, 0, (4321).to_bytes(4, 'little') + (1000).to_bytes(4, 'little'))
    notes += invented.mapped((0, 4096, 0, f'/x/runs/{run}/blackbox.sbr'))
    dead.put('core.1', invented.core(notes))
    (record,) = dead.read()
    assert (record.verdict, record.confidence, record.signal) == ('signalled', 'certain', 'SIGSEGV')
    assert (record.core.code, record.core.sender, record.core.sender_uid) == ('SI_USER', 4321, 1000)


def test_what_is_no_path_is_not_given_to_the_reader_as_the_program(dead):
    option = '--eval-command=shell date'
    dead.put('core.1', invented.of_run(dead.runs[0]))
    record = replace(Archive(dead.base).record(dead.runs[0]), context={'executable': option})
    found = corereading.corefinding.FoundCore(
        str(dead.cwd / 'core.1'), BY_CONTENT, os.stat(dead.cwd / 'core.1')
    )
    reading = Reading(dead.world, {'gdb': ('/nowhere/gdb',)})
    assert option not in corereading.read(record, found, reading).command


def test_a_lean_record_does_without_the_core_file(dead):
    dead.put('core.1', invented.of_run(dead.runs[0]))
    (whole,) = dead.read()
    lean = Archive(dead.base).record(dead.runs[0], is_lean=True)
    assert whole.core and lean == replace(whole, core=None)


def test_a_damaged_core_json_counts_as_missing(dead):
    run = dead.runs[0]
    path = dead.base.archive / run / 'core.json'
    dead.put('core.1', invented.of_run(run))
    assert dead.read()[0].core.signal == 'SIGSEGV'
    document = json.loads(path.read_text())
    for change in ({'path': 7}, {'path': 'relative'}, {'match': 'x'}, {'threads': 7}):
        path.write_text(json.dumps(document | change))
        assert Archive(dead.base).record(run).core is None, change
    for content in (b'', b'[]', b'\xff', b'{' * 9999):
        path.write_bytes(content)
        assert Archive(dead.base).record(run).core is None
    path.write_text(json.dumps(document | {'file': {'inode': 'x'}, 'unknown': 1}))
    assert Archive(dead.base).record(run).core.signal == 'SIGSEGV'
    assert corerecords.kept(dead.base, run)[1] == corerecords.Stamp()


def test_the_command_goes_on_if_a_core_file_cannot_be_read(tmp_path, monkeypatch, caplog):
    def fail(*words):
        raise ValueError('the reason')

    monkeypatch.setattr(corereading, 'find_and_testify', fail)
    dead = DeadRun(tmp_path).served()
    done, _ = by_hand(Base(tmp_path), print)
    assert [record.run for record in done] == [dead.name] and 'the reason' in caplog.text


class TestKeepCores:
    @pytest.fixture
    def dead(self, tmp_path):
        dead = Dead(tmp_path, 5)
        for number, run in enumerate(dead.runs):
            dead.put(f'core.{number}', invented.of_run(run))
        dead.read()
        return dead

    def left(self, dead):
        return sorted(path.name for path in dead.cwd.iterdir())

    def test_the_newest_are_kept(self, dead):
        removed = corereading.remove_old(dead.base, 2)
        assert self.left(dead) == ['core.3', 'core.4'] and len(removed) == 3

    def test_0_removes_none(self, dead):
        assert corereading.remove_old(dead.base, 0) == [] and len(self.left(dead)) == 5

    def test_what_was_changed_replaced_or_linked_stays(self, dead):
        dead.put('core.0', b'another')
        other = dead.put('other', (dead.cwd / 'core.1').read_bytes())
        other.replace(dead.cwd / 'core.1')
        (dead.cwd / 'core.2').rename(dead.cwd / 'moved')
        os.symlink('moved', dead.cwd / 'core.2')
        assert corereading.remove_old(dead.base, 1) == [str(dead.cwd / 'core.3')]
        assert self.left(dead) == ['core.0', 'core.1', 'core.2', 'core.4', 'moved']

    def test_of_another_user_none_is_removed(self, dead, monkeypatch):
        monkeypatch.setattr(corereading, 'own_user', lambda: 4711)
        assert corereading.remove_old(dead.base, 1) == [] and len(self.left(dead)) == 5

    def test_what_only_the_name_fits_stays(self, dead):
        path = dead.base.archive / dead.runs[0] / 'core.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | {'match': BY_NAME}))
        corereading.remove_old(dead.base, 1)
        assert self.left(dead) == ['core.0', 'core.4']

    def test_what_a_forged_record_names_stays(self, dead):
        data = dead.put('Data.fs', b'all that the site has')
        path = dead.base.archive / dead.runs[0] / 'core.json'
        stamp = vars(corerecords.Stamp.of(data.stat()))
        forged = json.loads(path.read_text()) | {'path': str(data), 'file': stamp}
        path.write_text(json.dumps(forged))
        corereading.remove_old(dead.base, 1)
        assert 'Data.fs' in self.left(dead)

    def test_a_core_file_of_no_run_stays(self, dead):
        dead.put('core.99', invented.of_run('20260921T160000Z-100-ffff'))
        corereading.remove_old(dead.base, 1)
        assert self.left(dead) == ['core.4', 'core.99']


class TestLater:
    @pytest.fixture
    def life(self, dead):
        dead.put('core.1', invented.of_run(dead.runs[0]))
        return FakeLife(dead.base.path, errands=[], is_serving=False)

    def begin(self, life, dead):
        records = [Archive(dead.base).record(run) for run in dead.runs]
        corereading.read_later(life, records)

    def do_errands(self, life):
        while life.errands:
            life.errands.pop(0)()

    def round(self, life):
        for duty in life.rounds:
            duty()
        self.do_errands(life)

    def test_it_is_found_at_once_and_read_when_zope_serves(self, life, dead):
        self.begin(life, dead)
        self.do_errands(life)
        assert Archive(dead.base).record(dead.runs[0]).signal == 'SIGSEGV'
        self.round(life)
        assert not corerecords.has(dead.base, dead.runs[0])
        life.is_serving = True
        self.round(life)
        until(lambda: corerecords.has(dead.base, dead.runs[0]))
        until(lambda: corereading.progress() == '')

    def test_a_core_file_that_comes_late_is_found(self, life, dead):
        content = (dead.cwd / 'core.1').read_bytes()
        (dead.cwd / 'core.1').unlink()
        life.is_serving = True
        self.begin(life, dead)
        self.do_errands(life)
        self.round(life)
        dead.put('core.1', content)
        self.round(life)
        self.round(life)
        until(lambda: corerecords.has(dead.base, dead.runs[0]))

    @pytest.mark.parametrize('core_files, keep', [(True, 3), (False, None)])
    def test_old_ones_go_only_if_this_product_wanted_them(
        self, life, dead, monkeypatch, core_files, keep
    ):
        kept = []
        monkeypatch.setattr(corereading, 'remove_old', lambda base, keep: kept.append(keep))
        life.options.core_files = core_files
        life.is_serving = True
        self.begin(life, dead)
        self.do_errands(life)
        self.round(life)
        until(lambda: corerecords.has(dead.base, dead.runs[0]))
        until(lambda: corereading.progress() == '')
        assert kept == ([] if keep is None else [keep])

    def test_progress_is_told(self, life, dead, monkeypatch):
        go_on = threading.Event()

        def read(core, executable, size, readers, seconds, memory, tell):
            tell('pystack')
            go_on.wait(60)
            return corestacks.Stacks('pystack')

        monkeypatch.setattr(corereading.corestacks, 'read', read)
        life.is_serving = True
        self.begin(life, dead)
        self.do_errands(life)
        self.round(life)
        words = f'reading the core file of run {dead.runs[0]}: pystack, 0 s of at most 120 s'
        until(lambda: corereading.progress().startswith(words[:-20]))
        go_on.set()
        until(lambda: corereading.progress() == '')

    def test_an_error_is_a_finding(self, life, dead, monkeypatch):
        def fail(*words):
            raise ValueError('the reason')

        monkeypatch.setattr(corereading, 'find_and_testify', fail)
        self.begin(life, dead)
        self.do_errands(life)
        (finding,) = life.findings
        assert finding.id == f'core-{dead.runs[0]}' and 'the reason' in finding.detail

    @pytest.mark.parametrize('how', [{'role': 'script'}, {'is_watched': False}])
    def test_a_script_reads_none(self, life, dead, how):
        vars(life).update(how)
        self.begin(life, dead)
        assert life.errands == [] and life.rounds == []
