"""Vital signs: from a recorded /proc, without /proc, and of this process."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
from programs.handshake import until
from support.childprograms import CHECKOUT
from support.childprograms import run_python
from support.descriptors import held

from Products.StabilityMonitor.system import vitalsigns
from Products.StabilityMonitor.system.vitalsigns import Vitals
from Products.StabilityMonitor.system.vitalsigns import counter

PROC = CHECKOUT / 'tests' / 'data' / 'proc_v1'
GROUP = PROC / 'fs/memory/system.slice/zope.service'
CGROUP = {
    'counter_file': str(GROUP / 'memory.oom_control'),
    'current_file': str(GROUP / 'memory.usage_in_bytes'),
    'limit': 1073741824,
}
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc')


def test_a_sample_has_the_values_of_a_recorded_proc():
    vitals = Vitals(CGROUP, PROC)
    before = time.time()
    vitals.look()
    vitals.look_at_host()
    sample = vitals.sample(3, 2, 4)
    vitals.detach()
    assert sample.rss == 25600 * os.sysconf('SC_PAGESIZE')
    assert sample.threads == 11  # the field is after a name with blanks and parentheses
    assert sample.descriptors == 3
    assert sample.host_kills == 42
    assert (sample.cgroup_current, sample.cgroup_limit, sample.cgroup_kills) == (
        734003200,
        1073741824,
        2,
    )
    assert (sample.in_flight, sample.overdue, sample.workers) == (3, 2, 4)
    assert before <= sample.time <= time.time() and sample.cpu > 0


def test_a_counter_that_rises_is_seen(tmp_path):
    file = tmp_path / 'memory.events'
    file.write_text('oom 0\noom_kill 0\n')
    vitals = Vitals({'counter_file': str(file)}, PROC)
    vitals.look()
    assert vitals.sample(0, 0, 0).cgroup_kills == 0
    file.write_text('oom 1\noom_kill 12\n')
    vitals.look()
    assert vitals.sample(0, 0, 0).cgroup_kills == 12
    vitals.detach()


def test_without_proc_and_psutil_values_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'psutil', None)
    vitals = Vitals({}, tmp_path)
    vitals.look()
    sample = vitals.sample(0, 0, 1)
    assert (sample.rss, sample.threads, sample.descriptors, sample.host_kills) == (-1, -1, -1, -1)
    assert (sample.cgroup_current, sample.cgroup_limit, sample.cgroup_kills) == (-1, -1, -1)


def test_without_proc_the_values_come_from_psutil(tmp_path):
    psutil = pytest.importorskip('psutil')
    vitals = Vitals({}, tmp_path)
    with open(os.devnull), open(os.devnull):
        vitals.look()
        many = vitals.sample(0, 0, 1)
    assert abs(many.rss - psutil.Process().memory_info().rss) < 64 << 20
    assert many.threads >= threading.active_count() and many.cpu > 0
    vitals.look()
    assert vitals.sample(0, 0, 1).descriptors == many.descriptors - 2
    vitals.detach()
    vitals.look()
    assert (
        vitals.sample(0, 0, 1).rss == -1
    )  # detached, as in a forked child: psutil is not called any more


def test_values_that_the_system_refuses_psutil_are_unknown(tmp_path, monkeypatch):
    psutil = pytest.importorskip('psutil')

    def refused(process):
        raise psutil.AccessDenied(process.pid)

    for name in ('memory_info', 'num_threads', 'num_fds'):
        monkeypatch.setattr(psutil.Process, name, refused)
    vitals = Vitals({}, tmp_path)
    vitals.look()
    sample = vitals.sample(0, 0, 1)
    assert (sample.rss, sample.threads, sample.descriptors) == (-1, -1, -1)


def test_unreadable_content_of_files_is_unknown(tmp_path):
    (tmp_path / 'self').mkdir()
    for name in ('statm', 'stat'):
        (tmp_path / 'self' / name).write_bytes(b'')
    (tmp_path / 'vmstat').write_bytes(b'oom_kill many\n')
    (tmp_path / 'counter').write_bytes(b'\xff')
    vitals = Vitals(
        {'counter_file': tmp_path / 'counter', 'current_file': tmp_path / 'none'}, tmp_path
    )
    vitals.look()
    vitals.look_at_host()
    sample = vitals.sample(0, 0, 0)
    vitals.detach()
    assert (sample.rss, sample.threads, sample.host_kills, sample.cgroup_kills) == (-1, -1, -1, -1)


def test_samples_open_no_descriptor_and_detach_closes_all():
    before = held()
    vitals = Vitals(CGROUP, PROC)
    during = held()
    for _ in range(5):
        vitals.look()
        vitals.sample(0, 0, 0)
    until(lambda: not held() - during)
    vitals.detach()
    until(lambda: not held() - before)
    vitals.look()
    assert vitals.sample(0, 0, 0).rss == -1  # after detach, a sample is not an error


def test_a_descriptor_closed_by_other_code_is_not_an_error():
    vitals = Vitals(CGROUP, PROC)
    for descriptor in vitals._files.values():
        os.close(descriptor)
    vitals.look()
    assert vitals.sample(0, 0, 0).rss == -1
    vitals.detach()


@linux
def test_new_threads_and_descriptors_of_this_process_are_counted():
    vitals = Vitals({})
    vitals.look()
    one = vitals.sample(0, 0, 0)
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    with open(os.devnull), open(os.devnull):
        vitals.look()
        two = vitals.sample(0, 0, 0)
    gate.set()
    thread.join()
    vitals.detach()
    assert two.threads == one.threads + 1 and two.descriptors == one.descriptors + 2
    assert 1 << 20 < two.rss < 1 << 36 and two.cpu >= one.cpu and two.monotonic >= one.monotonic


@pytest.mark.parametrize(
    'text, value',
    [
        (b'oom_kill 7\n', 7),
        (b'a 1\noom_kill 7', 7),
        (b'oom_kill_disable 1\noom_kill 0\n', 0),
        (b'x_oom_kill 5\n', -1),
        (b'', -1),
        (b'oom_kill\n', -1),
        (b'oom_kill x\n', -1),
        (b'oom_kill -1\n', -1),
    ],
)
def test_a_counter_is_the_number_after_exactly_its_name(text, value):
    assert counter(text, b'oom_kill') == value


@pytest.mark.parametrize('limit', [1 << 30, -1])
def test_each_sample_reads_the_memory_of_a_cgroup_with_a_limit(tmp_path, limit):
    file = tmp_path / 'memory.current'
    file.write_text('1000')
    vitals = Vitals({'current_file': file, 'limit': limit}, PROC)
    vitals.look()
    file.write_text('2000')
    assert vitals.sample(0, 0, 0).cgroup_current == (2000 if limit > 0 else 1000)
    vitals.look()
    assert vitals.sample(0, 0, 0).cgroup_current == 2000
    vitals.detach()


@linux
@pytest.mark.parametrize(
    'counts, most, is_fresh', [(True, 0, True), (False, 1 << 20, True), (False, 0, False)]
)
def test_threads_and_descriptors_of_a_sample_belong_to_its_time(
    monkeypatch, counts, most, is_fresh
):
    """But for many descriptors on a kernel that does not count them."""
    monkeypatch.setattr(vitalsigns, '_MOST_LISTED', most)
    vitals = Vitals({})
    vitals._counts = vitals._counts and counts
    vitals.look()
    one = vitals.sample(0, 0, 0)
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    with open(os.devnull), open(os.devnull):
        two = vitals.sample(0, 0, 0)
    gate.set()
    thread.join()
    vitals.detach()
    assert two.threads == one.threads + 1
    assert two.descriptors == one.descriptors + 2 * is_fresh


@pytest.fixture
def without_descriptor(monkeypatch):
    """This process cannot list its descriptors: the listing needs one itself."""

    def refused(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, 'listdir', refused)


@linux
def test_when_the_descriptors_cannot_be_listed_all_are_in_use(without_descriptor):
    vitals = Vitals({})
    vitals._counts = False
    vitals.look()
    assert vitals.descriptors == vitalsigns.descriptor_limit()
    vitals.detach()


@linux
def test_the_open_descriptors_are_counted_now():
    before = vitalsigns.descriptors_now()
    with open(os.devnull), open(os.devnull):
        assert vitalsigns.descriptors_now() == before + 2


def test_on_a_kernel_that_does_not_count_descriptors_they_are_listed(tmp_path, monkeypatch):
    folder = tmp_path / 'self' / 'fd'
    folder.mkdir(parents=True)
    status = os.stat(folder)
    monkeypatch.setattr(os, 'stat', lambda path: os.stat_result([*status[:6], 0, *status[7:]]))
    for number in range(4):
        (folder / str(number)).touch()
    assert vitalsigns.descriptors_now(tmp_path) == 3  # but for that of the listing itself


def test_without_a_descriptor_for_the_listing_all_are_in_use(without_descriptor, monkeypatch):
    status = os.stat('/')
    monkeypatch.setattr(os, 'stat', lambda path: os.stat_result([*status[:6], 0, *status[7:]]))
    assert vitalsigns.descriptors_now() == vitalsigns.descriptor_limit()


def test_without_proc_the_open_descriptors_are_not_known(tmp_path):
    assert vitalsigns.descriptors_now(tmp_path) == -1


@linux
@pytest.mark.parametrize('kind', ['file', 'pipe'])
def test_each_sample_reads_the_size_of_stderr_if_it_is_a_file(tmp_path, kind):
    program = """if True:
        import os, sys
        from Products.StabilityMonitor.system.vitalsigns import Vitals
        vitals = Vitals({})
        vitals.look()
        before = vitals.sample(0, 0, 0).stderr_size
        os.write(2, b'four')
        print(before, vitals.sample(0, 0, 0).stderr_size)
    """
    with open(tmp_path / 'stderr', 'w') as file:
        done = run_python('-c', program, stderr=file if kind == 'file' else subprocess.PIPE)
    assert done.stdout.split() == ['0', '4' if kind == 'file' else '0']


def test_the_limits_are_in_each_sample(monkeypatch):
    vitals = Vitals({}, PROC)
    monkeypatch.setattr(vitalsigns, 'descriptor_limit', lambda: 4711)
    vitals.look()  # it may be raised while the process runs
    sample = vitals.sample(0, 0, 1, accept_errors=3, connection_limit=100)
    vitals.detach()
    assert (sample.descriptor_limit, sample.connection_limit) == (4711, 100)
    assert sample.accept_errors == 3
    assert Vitals({}, PROC).sample(0, 0, 1).connection_limit == -1
