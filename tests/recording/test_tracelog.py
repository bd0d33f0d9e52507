"""The trace log on disk: each line is written once, despite rotation, full disks, forks and
logrotate.
"""

import os
import resource
import shutil
import signal
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from support.childprograms import Program
from support.childprograms import environment
from support.childprograms import run_python
from support.hostiledirectory import HostileDirectory
from support.tracelogs import GRAMMAR
from support.tracelogs import profile
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.interfaces import IRecorder
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.tracelog import TraceLog
from Products.StabilityMonitor.recording.tracelog import TracingRecorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

MEGABYTE = 1 << 20


def tracing(**named):
    buffer = bytearray(blackbox.SIZE)
    recorder = TracingRecorder(buffer, **named)
    blackbox.lay_out(buffer)
    blackbox.seal(buffer)
    return recorder


#: Arguments of `run_python` for programs that import this module.
HERE = {'cwd': Path(__file__).parent, 'env': environment(PYTHONHASHSEED='0')}


def serve(recorder, *paths, status=200, retry=0):
    for path in paths:
        recorder.begin('GET', path, retry, 7)
        recorder.end(status, 7)


def lines_of(path):
    text = path.read_text('utf-8')
    assert text == '' or text.endswith('\n')
    made = text.splitlines()
    assert [line for line in made if not GRAMMAR.fullmatch(line)] == []
    return made


def paths_in(made):
    return [line.split()[4] for line in made if line[0] == 'B']


class Traced:
    """A recorder and its trace log in a folder.  `files()` returns the oldest file first."""

    def __init__(self, folder, size=MEGABYTE, keep=5, **named):
        self.folder, self.path = folder, folder / 'trace.log'
        self.recorder, self.findings = tracing(**named), Findings()
        self.log = TraceLog(self.path, size, keep, self.recorder, self.findings, label='the-run')

    def serve(self, *paths, **named):
        serve(self.recorder, *paths, **named)
        self.log.write()

    def files(self):
        old = [self.folder / f'trace.log.{n}' for n in range(99, 0, -1)]
        return [path for path in old if path.exists()] + [self.path]

    def lines(self):
        return [line for path in self.files() for line in lines_of(path)]

    def found(self):
        return [finding.id for finding in self.findings]


@pytest.fixture
def traced(tmp_path):
    made = Traced(tmp_path)
    yield made
    made.log.detach()


@pytest.fixture
def limit_of_files():
    """A function that limits the size in bytes of the files of this process; None removes the
    limit.  This simulates a full disk.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(
        resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestRecorder:
    def test_the_recorder_implements_its_interface(self, traced):
        assert verifyObject(IRecorder, traced.recorder)

    def test_the_black_box_is_the_same_as_without_a_trace_log(self, traced):
        serve(traced.recorder, '/a', '/b', '/b')
        traced.recorder.begin('POST', '/c', 1, 8)
        box = blackboxreader.read(bytes(traced.recorder.buffer))
        assert [(r.path, r.count) for r in box.finished] == [('/a', 1), ('/b', 2)]
        assert [(r.path, r.retry) for r in box.in_flight] == [('/c', 1)]

    def test_an_end_with_another_token_writes_nothing(self, traced):
        traced.recorder.begin('GET', '/a', 0, 7)
        traced.recorder.end(200, 8)
        traced.recorder.end(200, 7)
        traced.recorder.end(200, 7)
        traced.log.write()
        assert [line[0] for line in traced.lines()] == ['U', 'B', 'A', 'E']

    def test_an_end_without_a_begin_writes_nothing(self, traced):
        traced.recorder.end(200)
        traced.log.write()
        assert [line[0] for line in traced.lines()] == ['U']

    def test_a_request_makes_no_system_call(self, tmp_path):
        """A process that serves 1,000 requests and one that serves 31,000 make about the same
        number of system calls; the few more are for a growing heap.
        """
        if not shutil.which('strace'):
            pytest.skip('strace is not installed here')
        few, many = (_system_calls(tmp_path / 'calls', number) for number in (1000, 31000))
        if few is None or many is None:
            pytest.skip('strace has no permission to trace here')
        assert few > 100 and many - few < 1000


def _system_calls(file, times):
    code = (
        f'from test_tracelog import *\nrecorder = tracing()\nfor _ in range({times}): '
        'serve(recorder, "/a", "/b")'
    )
    done = run_python('-c', code, prefix=('strace', '-f', '-o', file), **HERE)
    return None if done.returncode else file.read_text().count('\n')


class TestLines:
    def test_a_start_and_a_request_are_four_lines(self, traced):
        traced.serve('/a b', status=404, retry=2)
        start, begin, answer, end = traced.lines()
        assert start.endswith(f' pid {os.getpid()} the-run')
        id = f'1@0x{threading.get_ident():016x}'
        assert begin.split()[1] == answer.split()[1] == end.split()[1] == id
        assert begin.endswith(r'GET /a\x20b') and answer.endswith('404 -')
        assert end.endswith(f' native={threading.get_native_id()} retry=2')

    def test_old_readers_can_read_it(self, traced):
        traced.serve(*(f'/p{number}' for number in range(50)))
        traced.recorder.begin('GET', '/last')
        traced.log.write()
        requests, complaints = profile(traced.lines())
        assert [r['url'] for r in requests] == [f'/p{number}' for number in range(50)] + [
            '/last'
        ] and not complaints
        assert [r['url'] for r in requests if r['end'] is None] == ['/last']

    def test_a_request_over_several_beats_has_its_time(self, traced):
        traced.recorder.begin('GET', '/slow', 0, 7)
        traced.log.write()
        began = lines_of(traced.path)[-1]
        traced.recorder.end(200, 7)
        traced.log.write()
        assert began[0] == 'B' and 'seconds=0.' in lines_of(traced.path)[-1]

    def test_a_long_path_is_cut_and_does_not_stay_in_memory(self, traced):
        traced.recorder.begin('GET', '/' + 'x' * 319, 0, 7)
        traced.recorder.begin('GET', '/' + 'x' * 100_000, 0, 7)
        assert len(traced.recorder.events[-1][4]) < 400
        traced.log.write()
        assert paths_in(traced.lines()) == ['/' + 'x' * 319, '/' + 'x' * 319 + r'\...']

    def test_without_events_nothing_is_written(self, traced):
        traced.serve('/a')
        before = traced.path.stat()
        traced.log.write()
        assert (
            traced.path.stat().st_mtime_ns == before.st_mtime_ns
            and traced.path.stat().st_size == before.st_size
        )

    def test_only_the_owner_may_read_the_file(self, traced):
        traced.serve('/a')
        assert traced.path.stat().st_mode & 0o777 == 0o600

    def test_a_cut_line_of_a_killed_process_gets_a_newline(self, traced):
        traced.path.write_bytes(b'B 1@0x0')
        traced.serve('/a')
        assert traced.path.read_bytes().startswith(b'B 1@0x0\nU - ')


class TestLosses:
    def test_events_beyond_the_limit_are_counted(self, tmp_path):
        traced = Traced(tmp_path, most=5)
        traced.serve(*'abcdef')
        traced.serve('g')
        made = traced.lines()
        assert paths_in(made) == ['a', 'b', 'c', 'g']
        (note,) = (line for line in made if line[0] == 'N')
        assert '7 lines before this one are lost: more than 5 events waited' in note.replace(
            r'\x2d', '-'
        )
        assert made.index(note) < made.index(next(line for line in made if line.endswith(' g')))

    def test_an_end_whose_start_was_lost_has_no_seconds(self, tmp_path):
        traced = Traced(tmp_path, most=1)
        traced.recorder.begin('GET', '/a', 0, 7)
        traced.recorder.begin('GET', '/b', 0, 7)
        traced.log.write()
        traced.recorder.end(200, 7)
        traced.log.write()
        assert traced.lines()[-1].split()[3] == 'seconds=?'

    def test_requests_of_a_thread_without_a_slot_are_counted_as_lost(self, traced):
        gate, ready = threading.Event(), threading.Semaphore(0)

        def hold():
            serve(traced.recorder, '/held')
            ready.release()
            gate.wait(20)

        threads = [threading.Thread(target=hold) for _ in range(blackbox.SLOT_COUNT)]
        for thread in threads:
            thread.start()
        assert all(ready.acquire(timeout=20) for _ in threads)
        try:
            traced.serve('/one', '/two')
        finally:
            gate.set()
        assert paths_in(traced.lines()) == ['/held'] * blackbox.SLOT_COUNT
        assert ' 2 lines before this one are lost' in traced.lines()[-1]
        for thread in threads:
            thread.join(20)

    def test_on_a_full_disk_lost_lines_are_counted(self, tmp_path, limit_of_files):
        traced = Traced(tmp_path, size=MEGABYTE)
        traced.serve('/before')
        limit_of_files(2000)
        for beat in range(20):
            traced.serve(*(f'/full{beat}-{number}' for number in range(10)))
        assert traced.found() == ['trace-log'] and traced.path.stat().st_size <= 2000
        torn = traced.path.read_text().rpartition('\n')[2]
        limit_of_files(None)
        traced.serve('/after')
        assert traced.found() == []
        made = [line for line in traced.path.read_text().splitlines() if GRAMMAR.fullmatch(line)]
        if torn in made:  # a line that the full disk has cut may be cut in its last number
            made.remove(torn)
        lost = int(next(line for line in made if line[0] == 'N').split()[3])
        assert paths_in(made)[0] == '/before' and paths_in(made)[-1] == '/after'
        assert sum(line[0] in 'BAE' for line in made) + lost == 3 + 20 * 10 * 3 + 3
        assert len(traced.path.read_text().splitlines()) - len(made) <= 1, (
            'more than one line is cut'
        )

    def test_a_missing_folder_is_a_finding_until_it_exists(self, tmp_path):
        traced = Traced(tmp_path / 'later')
        traced.serve('/a')
        (finding,) = traced.findings
        assert finding.id == 'trace-log' and 'later' in finding.detail and finding.action
        (tmp_path / 'later').mkdir()
        traced.serve('/b')
        made = traced.lines()
        assert traced.found() == [] and [line[0] for line in made] == ['U', 'B', 'A', 'E', 'N']
        assert '3 lines before this one are lost: FileNotFoundError:' in made[-1]

    def test_a_pipe_is_refused_and_does_not_block(self, traced):
        os.mkfifo(traced.path)
        traced.serve('/a')
        (finding,) = traced.findings
        assert 'is not a regular file' in finding.detail

    def test_an_unwritable_trace_log_is_logged_once(self, tmp_path, caplog):
        traced = Traced(tmp_path / 'never')
        for _ in range(5):
            traced.serve('/a')
        assert len([r for r in caplog.records if 'trace log' in r.getMessage()]) == 1


class TestRotation:
    def test_rotation_keeps_old_files_and_loses_no_line(self, tmp_path):
        traced = Traced(tmp_path, size=4096, keep=99)
        for beat in range(20):
            traced.serve(*(f'/{beat}/{number}' for number in range(10)))
        assert paths_in(traced.lines()) == [
            f'/{beat}/{number}' for beat in range(20) for number in range(10)
        ]
        assert (
            len(traced.files()) > 5 and max(path.stat().st_size for path in traced.files()) <= 4096
        )
        assert not [path for path in traced.files() if path.stat().st_size == 0]

    def test_no_more_old_files_than_wanted_are_kept(self, tmp_path):
        traced = Traced(tmp_path, size=4096, keep=2)
        traced.serve(*(f'/{number}' for number in range(500)))
        assert [path.name for path in traced.files()] == ['trace.log.2', 'trace.log.1', 'trace.log']
        assert paths_in(traced.lines())[-1] == '/499'

    def test_with_keep_0_no_old_file_is_kept(self, tmp_path):
        traced = Traced(tmp_path, size=4096, keep=0)
        traced.serve(*(f'/{number}' for number in range(500)))
        assert traced.files() == [traced.path] and traced.path.stat().st_size <= 4096
        assert paths_in(traced.lines())[-1] == '/499'

    def test_a_line_longer_than_the_largest_file_is_written(self, tmp_path):
        traced = Traced(tmp_path, size=100, keep=9)
        traced.serve('/' + 'x' * 300, '/b')
        assert [path[:2] for path in paths_in(traced.lines())] == ['/x', '/b']

    def test_after_a_rename_by_logrotate_a_new_file_is_written(self, traced):
        traced.serve('/a')
        traced.path.rename(traced.folder / 'moved')
        traced.serve('/b')
        assert paths_in(lines_of(traced.folder / 'moved')) == ['/a'] and paths_in(
            lines_of(traced.path)
        ) == ['/b']

    def test_after_a_deletion_a_new_file_is_written(self, traced):
        traced.serve('/a')
        traced.path.unlink()
        traced.serve('/b')
        assert paths_in(lines_of(traced.path)) == ['/b']

    def test_after_a_truncation_by_logrotate_writing_continues(self, traced):
        traced.serve('/a')
        os.truncate(traced.path, 0)
        traced.serve('/b')
        assert paths_in(lines_of(traced.path)) == ['/b']


class TestLinks:
    """Below the data directory the log follows no link; elsewhere it does."""

    @pytest.fixture
    def hostile(self, tmp_path):
        hostile = HostileDirectory(tmp_path)
        hostile.hand_over()
        return hostile.fill_victim('trace.log', 'trace.log.lock', 'trace.log.1')

    @pytest.mark.parametrize('name', ['trace.log', 'trace.log.lock'])
    def test_a_link_below_the_data_directory_is_not_followed(self, hostile, name):
        hostile.plant(hostile.path / name, hostile.victim / name)
        traced = Traced(hostile.path)
        traced.serve('/a')
        traced.log.detach()
        if name == 'trace.log':
            assert traced.found() == ['trace-log']
        hostile.check()

    def test_a_file_that_becomes_a_link_is_not_written(self, hostile):
        traced = Traced(hostile.path)
        traced.serve('/a')
        hostile.plant(traced.path, hostile.victim / 'trace.log')
        traced.serve('/b')
        traced.log.detach()
        assert traced.found() == ['trace-log']
        hostile.check()

    def test_nothing_is_rotated_through_a_folder_that_becomes_a_link(self, hostile):
        (hostile.path / 'logs').mkdir()
        traced = Traced(hostile.path / 'logs', size=300)
        traced.serve('/a')
        hostile.exchange(hostile.path / 'logs')
        with pytest.raises(NotADirectoryError):
            traced.log.file.rotate_now()
        traced.log.detach()
        hostile.check()

    def test_a_link_elsewhere_is_followed(self, tmp_path):
        """It belongs to the administrator, who named it in zope.conf."""
        (tmp_path / 'volume').mkdir()
        (tmp_path / 'logs').mkdir()
        (tmp_path / 'logs' / 'trace.log').symlink_to(tmp_path / 'volume' / 'file')
        traced = Traced(tmp_path / 'logs')
        traced.serve('/a')
        traced.log.detach()
        assert traced.found() == [] and (tmp_path / 'volume' / 'file').stat().st_size


class TestManyThreads:
    THREADS, REQUESTS = 10, 10_000

    @pytest.mark.slow
    def test_each_line_of_many_threads_is_written_once_and_in_order(self, tmp_path):
        traced, over = Traced(tmp_path, size=MEGABYTE, keep=99, most=10**7), threading.Event()

        def work(name):
            for number in range(self.REQUESTS):
                serve(traced.recorder, f'/{name}/{number}')

        def beat():
            while not over.is_set():
                traced.log.write()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(self.THREADS)]
        heartbeat = threading.Thread(target=beat)
        for thread in (heartbeat, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        heartbeat.join()
        traced.log.finish()
        self.check(traced.lines())

    def check(self, made):
        assert len(made) == 1 + 3 * self.THREADS * self.REQUESTS
        served, states = defaultdict(list), {}
        for line in made[1:]:
            code, id, *rest = line.split()
            if code == 'B':
                _, name, number = rest[2].split('/')
                served[name].append(int(number))
            assert (states.get(id), code) in ((None, 'B'), ('B', 'A'), ('A', 'E'))
            states[id] = code
        assert set(states.values()) == {'E'}
        assert (
            all(numbers == list(range(self.REQUESTS)) for numbers in served.values())
            and len(served) == self.THREADS
        )

    def test_several_writers_at_once_write_each_line_once(self, tmp_path):
        """As when the heartbeat and the end of the process write together."""
        traced = Traced(tmp_path)
        serve(traced.recorder, *(f'/{number}' for number in range(20_000)))
        writers = [threading.Thread(target=traced.log.write) for _ in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        traced.log.finish()
        assert paths_in(traced.lines()) == [f'/{number}' for number in range(20_000)]


class TestProcesses:
    def test_a_forked_child_writes_nothing_of_the_parent(self, traced):
        traced.serve('/before')
        serve(traced.recorder, '/waiting')
        pid = os.fork()
        if pid == 0:
            try:
                traced.log.write()  # before anything is detached
                traced.recorder.detach()
                traced.log.detach()
                traced.log.write()
                traced.log.finish()
                os._exit(len(traced.recorder.events))
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert paths_in(traced.lines()) == ['/before']
        traced.log.write()
        assert paths_in(traced.lines()) == ['/before', '/waiting']

    def test_each_process_has_its_own_file_and_a_fork_keeps_the_lock(self, traced):
        traced.serve('/parent')
        code = (
            'import sys\nfrom pathlib import Path\nfrom test_tracelog import *\n'
            'other = Traced(Path(sys.argv[1]))\nother.serve("/other")\nprint(other.log.path)'
        )

        def another():
            return run_python('-c', code, traced.folder, check=True, **HERE).stdout.strip()

        assert another() == f'{traced.path}-2'
        pid = os.fork()
        if pid == 0:
            traced.log.detach()
            os._exit(0)
        os.waitpid(pid, 0)
        assert another() == f'{traced.path}-2', 'a forked child has freed the lock of its parent'
        traced.log.detach()
        assert another() == str(traced.path)
        assert paths_in(lines_of(traced.path)) == ['/parent', '/other']
        assert paths_in(lines_of(traced.folder / 'trace.log-2')) == ['/other'] * 2

    def test_a_lock_file_that_cannot_be_opened_does_not_prevent_writing(
        self, tmp_path, monkeypatch
    ):
        really_open = os.open

        def blocked(path, *args, **named):
            if str(path).endswith('.lock'):
                raise BlockingIOError('another process has a lease on the file')
            return really_open(path, *args, **named)

        monkeypatch.setattr(os, 'open', blocked)
        traced = Traced(tmp_path)
        traced.serve('/a')
        assert paths_in(lines_of(traced.path)) == ['/a'] and traced.found() == []
        traced.log.detach()

    def test_sigkill_loses_the_last_beat_of_the_trace_log_and_nothing_of_the_black_box(
        self, tmp_path
    ):
        code = (
            'import mmap, sys, time\nfrom test_tracelog import *\nfolder = sys.argv[1]\n'
            'file = open(folder + "/box", "w+b")\nfile.truncate(blackbox.SIZE)\n'
            'buffer = mmap.mmap(file.fileno(), blackbox.SIZE)\nrecorder = TracingRecorder(buffer)\n'
            'blackbox.lay_out(buffer), blackbox.seal(buffer)\n'
            'log = TraceLog(folder + "/trace.log", 1 << 20, 5, recorder, Findings())\n'
            'serve(recorder, "/a", "/b")\nlog.write()\nserve(recorder, '
            '"/c")\nrecorder.begin("GET", "/d")\n'
            'print("ready", flush=True)\ntime.sleep(60)'
        )
        with Program('-c', code, tmp_path, **HERE) as program:
            assert program.expect('ready').signal('SIGKILL').end() == -signal.SIGKILL
        assert paths_in(lines_of(tmp_path / 'trace.log')) == ['/a', '/b']
        box = blackboxreader.read((tmp_path / 'box').read_bytes())
        assert [r.path for r in (*box.finished, *box.in_flight)] == ['/a', '/b', '/c', '/d']

    def test_nothing_is_written_after_finish(self, traced):
        traced.log.finish()
        traced.serve('/late')
        assert [line[0] for line in traced.lines()] == ['U']
