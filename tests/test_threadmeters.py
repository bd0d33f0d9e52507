"""Files of threads that stay open: every thread is read, none that has ended, and nothing is left open."""
import os
import sys
import threading

import pytest
from programs.handshake import until

from Products.StabilityMonitor.recording import procfiles
from Products.StabilityMonitor.recording import threadmeters
from Products.StabilityMonitor.recording.kernelthreads import KernelThreads
from Products.StabilityMonitor.recording.threadmeters import Meters

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the kernel of Linux is asked')


def descriptors():
    return len(os.listdir('/proc/self/fd'))


@pytest.fixture
def meters():
    meters = Meters(KernelThreads())
    yield meters
    meters.close()


class Idler:
    """A thread that waits until it is told to end."""

    def __init__(self):
        self._go, self._end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.tid = self.thread.native_id

    def _run(self):
        self._go.wait()
        sum(range(10_000))
        self._end.wait()

    def work(self):
        self._go.set()

    def end(self):
        self._go.set()
        self._end.set()
        self.thread.join()
        until(lambda: self.tid not in KernelThreads().ids(), 'the kernel to forget it')


@pytest.fixture
def idler():
    idler = Idler()
    yield idler
    idler.end()


class Counted(KernelThreads):
    """Counts what is dear."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.listed = self.opened = 0

    def ids(self):
        self.listed += 1
        return super().ids()

    def schedstat(self, tid):
        self.opened += 1
        return super().schedstat(tid)


def test_it_reads_what_the_kernel_tells(meters, idler):
    found = meters.read()
    assert set(found) == set(KernelThreads().ids())
    assert found[idler.tid] == KernelThreads().reading(idler.tid)


def test_it_reads_anew_each_time(meters, idler):
    before = meters.read()[idler.tid]
    assert meters.read()[idler.tid] == before, 'it has not run'
    idler.work()
    until(lambda: meters.read()[idler.tid].turns > before.turns)
    assert meters.read()[idler.tid].cpu > before.cpu


def test_while_the_threads_are_the_same_nothing_is_listed_and_nothing_opened(idler):
    kernel = Counted()
    meters = Meters(kernel)
    meters.read()
    first = kernel.listed, kernel.opened
    for _ in range(10):
        meters.read()
    assert (kernel.listed, kernel.opened) == first and first[0] == 1
    meters.close()


def test_threads_that_begin_and_end(meters):
    meters.read()
    before = descriptors()
    for _ in range(20):
        idler = Idler()
        assert idler.tid in meters.read() and descriptors() == before + 1
        idler.end()
        assert idler.tid not in meters.read() and descriptors() == before


def test_one_that_ends_where_another_one_begins(meters):
    """There are as many as before."""
    one = Idler()
    meters.read()
    before = descriptors()
    one.end()
    other = Idler()
    found = meters.read()
    assert other.tid in found and one.tid not in found and descriptors() == before
    other.end()


def test_nothing_stays_open(idler):
    before = descriptors()
    meters = Meters(KernelThreads())
    meters.read()
    assert descriptors() > before
    meters.close()
    assert descriptors() == before
    assert set(meters.read()) == set(KernelThreads().ids()), 'it can still be asked'
    meters.close()


def test_more_threads_than_descriptors_that_are_kept(monkeypatch, idler):
    monkeypatch.setattr(threadmeters, 'MOST', 1)
    before = descriptors()
    meters = Meters(KernelThreads())
    for _ in range(2):
        assert set(meters.read()) == set(KernelThreads().ids()) and descriptors() == before + 1
    meters.close()


def test_a_descriptor_that_other_code_has_closed_and_somebody_else_has_now(meters, idler, tmp_path):
    meters.read()
    stolen, _ = meters._files[idler.tid]
    other = os.open(tmp_path / 'precious', os.O_RDWR | os.O_CREAT)
    os.write(other, b'1 2 3 4 precious')
    os.dup2(other, stolen)
    assert meters.read()[idler.tid] == KernelThreads().reading(idler.tid)
    meters.close()
    assert os.pread(stolen, 99, 0) == b'1 2 3 4 precious', 'it is not closed'
    os.close(stolen)
    os.close(other)


def test_who_comes_while_another_one_reads_opens_files_of_his_own(meters, idler):
    seen = []

    class Slow(KernelThreads):
        def ids(self):
            if not seen:
                seen.append(None)
                other = threading.Thread(target=lambda: seen.append(meters.read()))
                other.start()
                other.join(10)
            return super().ids()
    meters._kernel = Slow()
    mine = meters.read()
    assert idler.tid in mine and idler.tid in seen[1]


def test_where_there_is_no_proc(tmp_path):
    meters = Meters(KernelThreads(tmp_path / 'none'))
    assert meters.read() == {}
    meters.close()


def test_a_kernel_that_keeps_no_schedstat(tmp_path):
    """The file is missing, or holds zeros: the ticks of `stat` are taken."""
    for tid, schedstat in ((101, None), (102, '0 0 0\n')):
        task = tmp_path / 'self' / 'task' / str(tid)
        task.mkdir(parents=True)
        (task / 'stat').write_text(f'{tid} (python) S ' + '0 ' * 10 + '30 20 ' + '0 ' * 30)
        if schedstat:
            (task / 'schedstat').write_text(schedstat)
    meters = Meters(KernelThreads(tmp_path))
    for _ in range(2):
        assert {tid: reading.cpu for tid, reading in meters.read().items()} == {
            tid: 50 / os.sysconf('SC_CLK_TCK') for tid in (101, 102)}
    meters.close()


def test_a_line_that_is_read_again_is_the_new_one(tmp_path):
    path = tmp_path / 'line'
    path.write_text('1 2 3\n')
    file = os.open(path, os.O_RDONLY)
    assert procfiles.reread(file) == b'1 2 3\n'
    path.write_text('44 5 6\n')
    assert procfiles.reread(file) == b'44 5 6\n'
    os.close(file)
    assert procfiles.reread(file) == b''
