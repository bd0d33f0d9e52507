"""How a process ended, asked of the kernel."""

import errno
import os
import resource
import select
import signal

import pytest
from programs.handshake import until
from support.childprograms import Program
from support.descriptors import held

from Products.StabilityMonitor.system import processend
from Products.StabilityMonitor.system.processend import CannotTell
from Products.StabilityMonitor.system.processend import ProcessDescriptor
from Products.StabilityMonitor.system.processend import ProcessEnd
from Products.StabilityMonitor.system.processidentity import identity

pytestmark = pytest.mark.skipif(not processend.is_possible(), reason='no pidfd here')


def told_by_this_kernel():
    """Whether this kernel tells the status of a process that its parent has waited for."""
    if not processend.is_possible():
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    process = ProcessDescriptor(os.pidfd_open(pid))
    os.waitpid(pid, 0)
    try:
        return process.end() is not None
    except CannotTell:
        return False
    finally:
        process.close()


new_kernel = pytest.mark.skipif(not told_by_this_kernel(), reason='before Linux 6.15')


class Child:
    """A child that ends as `source` says once `go` is called, and is not reaped before `reap`."""

    def __init__(self, source='pass', **how):
        self.program = Program('-c', f'print(1, flush=True); input(); {source}', **how)
        self.pid = self.program.pid
        self.program.hear()
        self.process = processend.opened(identity(self.pid), identity())

    def go(self):
        self.program.process.stdin.write(b'\n')
        return self

    def is_seen(self):
        poll = select.poll()
        poll.register(self.process.number, select.POLLIN)
        return bool(poll.poll(0))

    def end(self):
        until(self.is_seen, 'its end')
        self.program.process.wait()
        return self.process.end()


@pytest.fixture
def child():
    made = []

    def child(*words, **how):
        made.append(Child(*words, **how))
        return made[-1]

    yield child
    for each in made:
        each.program.clean_up()
        each.process.close()


WAYS = {
    'raise SystemExit(3)': ProcessEnd(exit_code=3),
    'import os; os._exit(7)': ProcessEnd(exit_code=7),
    'import ctypes; ctypes.CDLL(None).exit(5)': ProcessEnd(exit_code=5),
    'import signal; signal.raise_signal(9)': ProcessEnd(signal='SIGKILL'),
    'import signal; signal.raise_signal(15)': ProcessEnd(signal='SIGTERM'),
}


@new_kernel
@pytest.mark.parametrize('way', WAYS)
def test_the_status_is_told_after_the_end(child, way):
    it = child(way)
    assert it.process.end() is None and not it.is_seen()
    assert it.go().end() == WAYS[way]


@new_kernel
@pytest.mark.parametrize('core', [False, True])
def test_a_crash_is_told_with_its_core_file(child, tmp_path, core):
    soft = 1 << 26 if core else 0
    if core and resource.getrlimit(resource.RLIMIT_CORE)[1] in range(soft):
        pytest.skip('no core files here')

    def limit():
        resource.setrlimit(
            resource.RLIMIT_CORE, (soft, resource.getrlimit(resource.RLIMIT_CORE)[1])
        )

    it = child('import ctypes; ctypes.string_at(0)', cwd=tmp_path, preexec_fn=limit)
    it.go()
    until(it.is_seen, 'its end')
    _, status = os.waitpid(it.pid, 0)
    assert it.process.end() == ProcessEnd(signal='SIGSEGV', core_dumped=os.WCOREDUMP(status))
    assert processend.decoded(status) == it.process.end()


@new_kernel
def test_a_zombie_tells_nothing_until_its_parent_has_waited(child):
    it = child('raise SystemExit(3)').go()
    until(it.is_seen, 'its end')
    assert it.process.end() is None
    it.program.process.wait()
    assert it.process.end() == ProcessEnd(exit_code=3)


def test_the_status_of_a_signal_without_a_name_is_its_number():
    assert processend.decoded(signal.SIGRTMIN + 3).signal == 'SIGRTMIN+3'


def test_the_flag_of_a_core_file_is_told():
    assert processend.decoded(0x8B) == ProcessEnd(signal='SIGSEGV', core_dumped=True)
    assert processend.decoded(0x300) == ProcessEnd(exit_code=3)


@pytest.mark.parametrize('number', ['ENOTTY', 'EINVAL', 'EREMOTE', 'ESRCH'])
def test_a_kernel_that_cannot_tell_says_so(child, monkeypatch, number):
    def ioctl(*words):
        raise OSError(getattr(errno, number), 'a reason')

    monkeypatch.setattr(processend.fcntl, 'ioctl', ioctl)
    with pytest.raises(CannotTell, match='a reason'):
        child().process.end()


STRANGE = [
    {'start_ticks': 5},
    {'start_ticks': 0},
    {'boot_id': 'another'},
    {'boot_id': ''},
    {'pid_namespace': 'pid:[1]'},
    {'pid': 0},
    {'pid': -1},
    {'pid': '1'},
    {'pid': True},
    {'pid': 1 << 40},
]


@pytest.mark.parametrize('strange', STRANGE, ids=str)
def test_another_process_than_the_known_one_is_not_opened(child, strange):
    known = identity(child().pid)
    before = held()
    with pytest.raises(ProcessLookupError):
        processend.opened(known | strange, identity())
    assert not held() - before


def test_a_process_that_is_gone_is_not_opened(child):
    it = child()
    known = identity(it.pid)
    it.go().program.process.wait()
    with pytest.raises(OSError, match='.'):
        processend.opened(known, identity())


def test_without_proc_no_descriptor_stays_open(monkeypatch):
    def readlink(path):
        raise FileNotFoundError(path)

    before = held()
    with monkeypatch.context() as patch:
        patch.setattr(processend.os, 'readlink', readlink)
        with pytest.raises(FileNotFoundError):
            ProcessDescriptor(os.pidfd_open(os.getpid()))
    assert not held() - before


def test_a_descriptor_that_other_code_has_taken_is_left_alone():
    process = ProcessDescriptor(os.pidfd_open(os.getpid()))
    number = process.number
    file = os.open(os.devnull, os.O_RDONLY)
    os.dup2(file, number)
    os.close(file)
    assert not process.is_intact
    process.close()
    assert os.path.samestat(os.fstat(number), os.stat(os.devnull)) and process.number == -1
    os.close(number)
    assert not process.is_intact


def test_a_started_program_does_not_inherit_the_descriptor():
    process = ProcessDescriptor(os.pidfd_open(os.getpid()))
    assert not os.get_inheritable(process.number)
    process.close()


def test_a_system_without_these_descriptors_cannot_open_a_process(monkeypatch):
    monkeypatch.setattr(processend, 'fcntl', None)
    assert not processend.is_possible()
    with pytest.raises(OSError, match='no descriptors of processes'):
        processend.opened(identity(), identity())
