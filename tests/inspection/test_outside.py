"""What can be seen of another process without its answer."""

import os
import subprocess
import sys

import pytest
from programs.handshake import until

from Products.StabilityMonitor.inspection import outside
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.model.threadstates import ThreadState


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has /proc')
def test_program_and_users_of_a_process_are_found():
    assert outside.executable(os.getpid()) == os.path.realpath(sys.executable)
    assert {os.getuid(), os.geteuid()} <= outside.users(os.getpid())


@pytest.mark.parametrize('status', [None, '', 'Name:\tpython\n'])
def test_program_and_users_are_empty_if_they_are_not_known(tmp_path, status):
    (tmp_path / '7').mkdir()
    if status is not None:
        (tmp_path / '7' / 'status').write_text(status)
    assert outside.users(7, tmp_path) == set()
    assert outside.executable(7, tmp_path) == ''


def test_all_four_user_ids_are_returned(tmp_path):
    (tmp_path / '7').mkdir()
    (tmp_path / '7' / 'status').write_text('Name:\tpython\nUid:\t0\t33\t33\t1000\n')
    assert outside.users(7, tmp_path) == {0, 33, 1000}


# -- a process that has no descriptor left ---------------------------------------------------------

#: It waits in a read of its standard input.
READER = 'import os; os.read(0, 1)'


@pytest.fixture
def reader():
    with subprocess.Popen([sys.executable, '-c', READER], stdin=subprocess.PIPE) as child:
        until(lambda: outside.KernelThreads(pid=child.pid).task(child.pid).call == 'read')
        yield child.pid
        child.kill()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has /proc')
def test_what_a_process_does_not_know_of_its_threads_is_read_from_outside(reader):
    frames = (Frame('/site/a.py', 7, 'wait'),)
    unknown = ThreadState(1, 'MainThread', frames=frames, native_id=reader, activity='unknown')
    known = ThreadState(2, 'worker', native_id=reader, activity='lock', detail='of its own')
    gone = ThreadState(3, 'gone', native_id=2**30, activity='unknown')
    told = Stacks(threads=(unknown, known, gone), without_kernel=True)
    main, worker, ended = outside.completed(told, reader).threads
    assert (main.name, main.frames, main.activity) == ('MainThread', frames, 'pipe')
    assert (worker, ended) == (known, gone)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has /proc')
def test_threads_that_the_process_could_not_list_are_added(reader):
    (found,) = outside.completed(Stacks(without_kernel=True), reader).threads
    assert found.native_id == reader and found.name.startswith('python')


def test_the_descriptors_of_another_process_are_counted(tmp_path):
    assert outside.descriptors(7, tmp_path) is None
    (tmp_path / '7' / 'fd').mkdir(parents=True)
    for number in range(3):
        (tmp_path / '7' / 'fd' / str(number)).touch()
    limits = 'Limit                     Soft Limit           Hard Limit           Units\n'
    for soft, wanted in (('80', (3, 80)), ('unlimited', None)):
        line = f'Max open files            {soft}                   80                   files\n'
        (tmp_path / '7' / 'limits').write_text(limits + line)
        assert outside.descriptors(7, tmp_path) == wanted
