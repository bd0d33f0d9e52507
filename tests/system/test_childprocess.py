"""A child process has default signals and nothing open, is heard, and never outlives its
purpose.
"""

import contextlib
import gc
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from programs.handshake import until
from support.childprograms import run_python

from Products.StabilityMonitor.system import signalmask
from Products.StabilityMonitor.system.childprocess import ChildProcess
from Products.StabilityMonitor.system.childprocess import python_command

resource = pytest.importorskip('resource')
pytestmark = pytest.mark.skipif(
    not hasattr(os, 'posix_spawn') or not os.path.exists('/proc/self/status'),
    reason='needs posix_spawn and /proc',
)

SHELL = '/bin/sh'
#: Signals 32 and 33, which glibc keeps for itself and leaves ignored in what it spawns.
INTERNAL = 1 << 31 | 1 << 32


def soon():
    return time.monotonic() + 60


def heard(*words, **how):
    """(what a child says, whether that is all, how it ended)"""
    with ChildProcess(words, **how) as child:
        said, is_all = child.read(soon())
        child.end(60)
    return said.decode(), is_all, child.code


def signal_lines(status):
    return dict(re.findall(r'^(Sig(?:Blk|Ign)):\s*0*(\w*)$', status, re.M))


def from_a_thread_of_ours(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    signalmask.start(thread)
    thread.join()
    return found[0]


def test_a_child_of_a_thread_that_takes_no_signal_takes_them_all():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        said, _, _ = from_a_thread_of_ours(lambda: heard('/bin/cat', '/proc/self/status'))
    finally:
        signal.signal(signal.SIGHUP, before)
    found = signal_lines(said)
    assert not found['SigBlk'] and not int(found['SigIgn'] or '0', 16) & ~INTERNAL


def test_a_program_of_ours_has_no_trace_of_glibc_either(tmp_path):
    """It hands on what it has to the tools that it starts, and a tool should start as from a
    shell.
    """
    program = tmp_path / 'program.py'
    # As the warden starts its tool; subprocess of 3.13 uses posix_spawn without a new session.
    program.write_text(
        'import subprocess\n'
        'subprocess.run(["/bin/cat", "/proc/self/status"], start_new_session=True)\n'
    )
    said, _, _ = heard(*python_command(sys.executable, program))
    assert signal_lines(said) == {'SigBlk': '', 'SigIgn': ''}


def test_it_says_how_it_ended():
    assert heard(SHELL, '-c', 'echo word; exit 3') == ('word\n', True, 3)
    assert heard(SHELL, '-c', 'kill -SEGV $$') == ('', True, -signal.SIGSEGV)


def test_much_is_heard():
    said, is_all, _ = heard(sys.executable, '-c', 'print("x" * 1000000)')
    assert (len(said), is_all) == (1000001, True)


def test_a_program_of_ours_has_no_descriptor_of_the_process(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text('import subprocess; subprocess.run(["/bin/ls", "-l", "/proc/self/fd"])')
    file = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(file, True)  # as of a careless C library
    try:
        said, _, _ = heard(*python_command(sys.executable, program))
    finally:
        os.close(file)
    found = {int(number): target for number, target in re.findall(r' (\d+) -> (\S+)', said)}
    assert str(tmp_path) not in found.values()
    assert (found[0], found[2]) == ('/dev/null', '/dev/null')
    assert found[1].startswith('pipe:')


def test_a_descriptor_above_the_limit_keeps_no_child_from_starting():
    """The site may have lowered its limit after it had opened many files."""
    script = (
        'import os, resource\n'
        'from Products.StabilityMonitor.system.childprocess import ChildProcess\n'
        'os.set_inheritable(os.dup2(1, 300), True)\n'
        'resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n'
        'with ChildProcess(["/bin/echo", "word"]) as child:\n'
        '    print(child.read(1e9))\n'
    )
    done = run_python('-c', script)
    assert (done.stdout, done.stderr) == ("(b'word\\n', True)\n", '')


@pytest.mark.parametrize('free', range(1, 5))
@pytest.mark.parametrize('listens', [False, True])
def test_nothing_is_left_open_when_descriptors_run_out(free, listens):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what an earlier test has left must not be closed meanwhile
    open_now = {int(name) for name in os.listdir('/proc/self/fd')}
    lowest = [number for number in range(3, 1000) if number not in open_now][:free]
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest[-1] + 1, hard))
    try:
        for _ in range(3):
            with contextlib.suppress(OSError):
                ChildProcess(['/bin/true'], listens=listens).end(60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    after = {int(name) for name in os.listdir('/proc/self/fd')}
    assert after <= open_now


def test_it_can_be_told_something():
    with ChildProcess([SHELL, '-c', 'read word; echo "heard $word"'], listens=True) as child:
        child.write(b'go\n')
        assert child.read(soon()) == (b'heard go\n', True)


def test_it_is_killed_when_nobody_waits_any_more():
    with ChildProcess(['/bin/sleep', '1000']) as child:
        assert child.read(time.monotonic() + 0.2) == (b'', False)
    assert child.code == -signal.SIGKILL
    assert not Path(f'/proc/{child.pid}').exists()


def test_it_is_not_heard_any_more_when_it_is_not_wanted():
    with ChildProcess(['/bin/sleep', '1000']) as child:
        assert child.read(soon(), is_wanted=lambda: False) == (b'', False)


def test_it_ends_by_itself_without_standard_input():
    with ChildProcess(['/bin/cat'], listens=True) as child:
        child.end(60)
    assert child.code == 0


def test_a_child_that_other_code_has_reaped():
    with ChildProcess(['/bin/true']) as child:
        until(lambda: child.read(soon())[1])
        os.waitpid(child.pid, 0)
    assert child.code == 0


def test_a_program_that_cannot_be_started_leaves_nothing_open():
    gc.collect()  # what an earlier test has left must not be closed meanwhile
    before = set(os.listdir('/proc/self/fd'))
    with pytest.raises(OSError):
        ChildProcess(['/nowhere/program'])
    assert set(os.listdir('/proc/self/fd')) <= before


def test_it_does_without_the_three_standard_descriptors():
    """A daemon may have closed them; then a pipe would get their numbers."""
    parent = os.fork()
    if not parent:
        try:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            with ChildProcess([SHELL, '-c', 'read word; echo "$word"'], listens=True) as child:
                child.write(b'go\n')
                os._exit(0 if child.read(soon()) == (b'go\n', True) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == 0
