"""What the kernel knows about threads: a recorded /proc, none, a damaged one, and that of this
process.
"""

import errno
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs.handshake import until
from support.childprograms import run_python
from support.descriptors import held

from Products.StabilityMonitor.system import tasks as kernelthreads
from Products.StabilityMonitor.system.systemcalls import CALLS
from Products.StabilityMonitor.system.tasks import KernelThreads
from Products.StabilityMonitor.system.tasks import Reading
from Products.StabilityMonitor.system.tasks import address_of
from Products.StabilityMonitor.system.tasks import native_id_of

PROC = Path(__file__).parents[1] / 'data' / 'threads'
HEADERS = {
    'x86_64': ('/usr/include/x86_64-linux-gnu/asm/unistd_64.h', 0),
    'aarch64': ('/usr/include/asm-generic/unistd.h', 1),
}
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc')


def no_descriptor(*args):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def recorded():
    return KernelThreads(PROC, 'x86_64', peer=lambda number: '')


def test_all_fields_of_a_recorded_thread_are_read(recorded):
    task = recorded.task(101)
    assert (task.comm, task.state, task.call) == ('a (strange) name', 'S', 'futex')
    assert task.reading == Reading(12.5, 340, 7e-07)
    assert task.arguments[:2] == (0x7FB2D6C56204, 0x89) and task.stack_pointer == 0x7FB2D6096AC0


def test_a_thread_on_a_cpu_has_the_call_running(recorded):
    task = recorded.task(102)
    assert (task.call, task.state, task.arguments) == ('running', 'R', ())


def test_without_schedstat_the_clock_ticks_count(recorded):
    assert recorded.reading(102) == Reading(350 / os.sysconf('SC_CLK_TCK'))


def test_without_a_c_library_no_reading_is_known(monkeypatch):
    kernel = KernelThreads()
    monkeypatch.setattr(kernelthreads.procfiles, 'LIBC', None)
    assert kernel.reading(os.getpid()) is None


def test_without_thread_clocks_no_cpu_time_is_known(monkeypatch):
    def refuse(number):
        raise OSError

    monkeypatch.setattr(time, 'clock_gettime', refuse)
    assert KernelThreads().clocks() == {} and kernelthreads.clock(os.getpid()) is None


@pytest.mark.parametrize('tid', [1, 1 << 28, 1 << 40])
def test_thread_clocks_are_read_on_linux_only(monkeypatch, tid):
    """Native ids of other systems may be larger than any of Linux."""
    monkeypatch.setattr(kernelthreads, '_IS_LINUX', False)
    assert kernelthreads.clock(tid) is None


def test_without_a_native_id_there_is_no_clock():
    assert kernelthreads.clock(None) is kernelthreads.clock(0) is None


def test_a_thread_outside_of_calls_or_with_an_unreadable_call_has_none(recorded):
    assert (recorded.task(103).call, recorded.task(103).stack_pointer) == ('', 0x7FFD00001000)
    assert recorded.task(104).call == '' and recorded.task(104).state == 'D'


def test_a_call_that_is_not_in_the_table_is_shown_by_its_number(recorded):
    assert recorded.task(105).call == 'call 9999'
    assert KernelThreads(PROC, 'riscv64').task(101).call == 'call 202'


def test_ids_are_those_of_all_threads(recorded):
    assert sorted(recorded.ids()) == [101, 102, 103, 104, 105]


def test_without_proc_nothing_is_known(tmp_path):
    kernel = KernelThreads(tmp_path)
    assert (kernel.ids(), kernel.task(1), kernel.reading(1), kernel.descriptor(1)) == (
        [],
        None,
        None,
        None,
    )
    assert kernel.clocks() == {}
    assert (
        kernel.memory(4096, 8),
        kernel.polled(4096, 2),
        kernel.text(4096),
        kernel.process_name(1),
    ) == (b'', (), '', '')


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=100))
def test_damaged_files_never_raise(tmp_path_factory, status, call, reading):
    folder = tmp_path_factory.getbasetemp() / 'self/task/1'
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (('stat', status), ('syscall', call), ('schedstat', reading)):
        (folder / name).write_bytes(content)
    KernelThreads(folder.parents[2], 'x86_64').task(1)


@pytest.mark.parametrize('machine', HEADERS)
def test_call_numbers_are_those_of_the_kernel_headers(machine):
    header, column = HEADERS[machine]
    if not os.path.exists(header):
        pytest.skip(f'no {header} here')
    numbers = dict(re.findall(r'#define __NR(?:3264)?_(\w+)\s+(\d+)', Path(header).read_text()))
    numbers |= {
        'newfstatat': numbers.get('newfstatat') or numbers.get('fstatat'),
        'renameat2': numbers.get('renameat2'),
    }
    wrong = {
        name: (both[column], numbers.get(name))
        for name, both in CALLS.items()
        if both[column] >= 0 and str(both[column]) != numbers.get(name)
    }
    assert wrong == {}


class TestDescriptors:
    @pytest.fixture
    def kernel(self, tmp_path):
        folder = tmp_path / 'self/fd'
        folder.mkdir(parents=True)
        links = (
            '/dev/null',
            'pipe:[11]',
            '/dev/pts/3',
            'pipe:[11]',
            'socket:[77]',
            '/var/log/event.log',
            'anon_inode:[eventfd]',
            'anon_inode:[eventpoll]',
            'pipe:[12]',
            '/dev/pts/3',
        )
        for number, link in enumerate(links):
            (folder / str(number)).symlink_to(link)
        (tmp_path / 'self/net').mkdir()
        (tmp_path / 'self/net/tcp').write_text(
            '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  '
            'timeout inode\n'
            '   0: 0100007F:8A2C 0500000A:1538 02 00000001:00000000 01:000002B4 00000003     0   '
            '     0 77 2 0 10 -1\n'
        )
        return KernelThreads(tmp_path, 'x86_64', peer=lambda number: '')

    @pytest.mark.parametrize(
        'number, kind, standard',
        [
            (0, 'device', 'stdin'),
            (1, 'pipe', 'stdout'),
            (2, 'terminal', 'stderr'),
            (3, 'pipe', 'stdout'),
            (4, 'socket', ''),
            (5, 'file', ''),
            (6, 'eventfd', ''),
            (7, 'epoll', ''),
            (8, 'pipe', ''),
            (9, 'terminal', 'stderr'),
        ],
    )
    def test_the_link_decides_kind_and_standard_stream(self, kernel, number, kind, standard):
        found = kernel.descriptor(number)
        assert (found.kind, found.standard) == (kind, standard)

    @pytest.mark.skipif(
        sys.byteorder != 'little', reason='the recorded table is of a little-endian kernel'
    )
    def test_a_socket_that_is_still_connecting_has_a_peer(self, kernel):
        assert kernel.descriptor(4).peer == '10.0.0.5:5432'

    @pytest.mark.parametrize('number', [99, -1, 1 << 70])
    def test_a_descriptor_that_does_not_exist_is_none(self, kernel, number):
        assert kernel.descriptor(number) is None


@pytest.mark.parametrize(
    'raw, text',
    [
        (struct.pack('=H', socket.AF_INET) + b'\x15\x38\x0a\0\0\x05' + bytes(8), '10.0.0.5:5432'),
        (struct.pack('=H', socket.AF_INET6) + b'\0\x50' + bytes(4) + bytes(15) + b'\1', '[::1]:80'),
        (struct.pack('=H', socket.AF_UNIX) + b'/run/db.sock\0rubbish', '/run/db.sock'),
        (struct.pack('=H', socket.AF_UNIX) + b'\0abstract', 'abstract'),
        (b'', ''),
        (b'\2', ''),
        (b'\2\0\1', ''),
    ],
)
def test_a_socket_address_is_shown_as_text(raw, text):
    assert address_of(raw) == text


class Idler:
    """A thread that waits for `go`, runs for a moment, and waits for `end`."""

    def __init__(self):
        self.go, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.tid = self._thread.native_id
        until(lambda: KernelThreads().task(self.tid).call == 'futex')

    def _run(self):
        self.go.wait()
        sum(range(10_000))
        self._over.wait()

    def end(self):
        self.go.set()
        self._over.set()
        self._thread.join()
        until(lambda: self.tid not in KernelThreads().ids(), 'the kernel to forget it')


@linux
class TestThisProcess:
    def test_a_waiting_thread_is_in_the_call_futex(self):
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait)
        thread.start()
        kernel = KernelThreads()
        assert until(lambda: kernel.task(thread.native_id).call == 'futex')
        task = kernel.task(thread.native_id)
        assert task.state == 'S' and not kernelthreads.waits_for_interpreter(task)
        assert kernel.by_stack([thread.ident], [task]) == {thread.ident: thread.native_id}
        assert kernel.by_stack([threading.main_thread().ident], [task]) == {}
        gate.set()
        thread.join()
        assert until(lambda: kernel.task(thread.native_id) is None)
        assert kernel.reading(thread.native_id) is kernelthreads.clock(thread.native_id) is None

    def test_threads_whose_stacks_are_one_mapping_are_distinguished(self, tmp_path):
        """glibc 2.42 and later make such mappings.  Threads 4 and 5 have no ident in Python."""
        (tmp_path / 'self').mkdir()
        (tmp_path / 'self/maps').write_text('1000-9000 rw-p 0 0 0\na000-b000 rw-p 0 0 0\n')
        tasks = [
            kernelthreads.Task(tid, stack_pointer=pointer)
            for tid, pointer in ((1, 0x2E00), (2, 0x8E00), (3, 0x6E00), (4, 0x4E00), (5, 0xAE00))
        ]
        kernel = KernelThreads(proc=tmp_path)
        idents = [0x6F00, 0x2F00, 0x8F00]
        assert kernel.by_stack(idents, tasks) == {0x2F00: 1, 0x8F00: 2, 0x6F00: 3}

    def test_each_call_of_clocks_reads_all_clocks_again(self):
        kernel, idler = KernelThreads(), Idler()
        before = kernel.clocks()
        assert set(before) == set(kernel.ids())
        assert before[idler.tid] == kernel.clocks()[idler.tid], (
            'the clock of a thread that waits has changed'
        )
        assert before[idler.tid] == pytest.approx(kernel.reading(idler.tid).cpu, abs=1e-8)
        idler.go.set()
        until(lambda: kernel.clocks()[idler.tid] > before[idler.tid])
        idler.end()

    def test_the_clock_of_the_calling_thread_is_its_thread_time(self):
        before = time.thread_time()
        assert before <= kernelthreads.clock(threading.get_native_id()) <= time.thread_time()

    def test_no_clock_of_another_process_is_read(self):
        with subprocess.Popen(['sleep', '60']) as other:
            assert kernelthreads.clock(other.pid) is None
            other.kill()

    def test_threads_are_listed_again_only_when_one_starts_or_ends(self, monkeypatch):
        kernel, listed = KernelThreads(), []
        monkeypatch.setattr(kernel, 'ids', lambda: listed.append(1) or KernelThreads().ids())
        idler = Idler()
        for _ in range(10):
            assert idler.tid in kernel.clocks()
        assert len(listed) == 1
        idler.end()
        for _ in range(10):
            assert idler.tid not in kernel.clocks()
        assert len(listed) == 2

    def test_without_a_descriptor_the_clocks_of_the_known_threads_are_read(self, monkeypatch):
        kernel, one, other = KernelThreads(), Idler(), Idler()
        before = kernel.clocks()
        one.end()
        monkeypatch.setattr(os, 'listdir', no_descriptor)
        assert set(kernel.clocks()) == set(before) - {one.tid}
        other.end()

    def test_threads_are_listed_again_when_one_replaces_another(self):
        """The number of threads is the same as before."""
        kernel, one = KernelThreads(), Idler()
        kernel.clocks()
        one.end()
        other = Idler()
        assert {one.tid, other.tid} & set(kernel.clocks()) == {other.tid}
        other.end()

    def test_unmapped_memory_reads_as_empty(self):
        assert KernelThreads().memory(8, 64) == b'' and KernelThreads().memory(1 << 63, 8) == b''

    def test_reading_the_peer_leaves_the_descriptor_blocking(self):
        """With `setdefaulttimeout`, `socket.socket(fileno=)` would make it non-blocking."""
        socket.setdefaulttimeout(5)
        try:
            with socket.create_server(('127.0.0.1', 0)) as listener:
                with socket.create_connection(listener.getsockname()) as client:
                    os.set_blocking(client.fileno(), True)
                    found = KernelThreads().descriptor(client.fileno())
                    assert found.peer == '{}:{}'.format(
                        *listener.getsockname()
                    ) and os.get_blocking(client.fileno())
        finally:
            socket.setdefaulttimeout(None)

    def test_no_descriptor_stays_open(self):
        before = held()
        kernel = KernelThreads()
        kernel.clocks()
        for tid in kernel.ids():
            kernel.task(tid)
        kernel.memory(id(kernel), 16)
        kernel.by_stack([1], [kernel.task(os.getpid())])
        until(lambda: not held() - before)


# -- the numbers of threads ------------------------------------------------------------------------


def test_the_number_of_a_thread_is_that_of_the_kernel():
    assert native_id_of(threading.current_thread()) == threading.get_native_id()
    assert native_id_of(threading.Thread()) == 0


@linux
def test_in_a_forked_process_the_main_thread_has_the_number_of_the_process():
    """Python 3.11 to 3.13 keep the number that it had in the parent."""
    program = """
import os, sys, threading
from Products.StabilityMonitor.system.tasks import native_id_of
if not os.fork():
    print(native_id_of(threading.main_thread()) == threading.get_native_id() == os.getpid())
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
    done = run_python('-c', program)
    assert done.stdout == 'True\n', done.stderr


@linux
def test_the_main_thread_of_python_need_not_be_that_of_the_process(monkeypatch):
    found = []
    thread = threading.Thread(target=lambda: found.append(native_id_of(thread)))
    monkeypatch.setattr(threading, 'main_thread', lambda: thread)
    thread.start()
    thread.join()
    assert found == [thread.native_id] != [os.getpid()]
