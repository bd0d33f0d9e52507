"""A child process has default signals and inherits no descriptors.  Its output is read, and it
never outlives its `with` block.
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
#: Signals 32 and 33, which glibc uses itself; its posix_spawn leaves them ignored.
INTERNAL = 1 << 31 | 1 << 32


def soon():
    return time.monotonic() + 60


def run_child(*words, **how):
    """Return (output of a child, whether that is all, exit status)."""
    with ChildProcess(words, **how) as child:
        output, is_all = child.read(soon())
        child.end(60)
    return output.decode(), is_all, child.code


def signal_lines(status):
    return dict(re.findall(r'^(Sig(?:Blk|Ign)):\s*0*(\w*)$', status, re.M))


def from_a_thread_of_ours(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    signalmask.start(thread)
    thread.join()
    return found[0]


def test_a_child_of_a_thread_that_blocks_all_signals_blocks_none():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        output, _, _ = from_a_thread_of_ours(lambda: run_child('/bin/cat', '/proc/self/status'))
    finally:
        signal.signal(signal.SIGHUP, before)
    found = signal_lines(output)
    assert not found['SigBlk'] and not int(found['SigIgn'] or '0', 16) & ~INTERNAL


def test_a_python_command_resets_the_internal_signals_of_glibc(tmp_path):
    """The program starts tools that inherit its signals.  A tool should start as from a shell."""
    program = tmp_path / 'program.py'
    # With a new session, as the warden starts its tool; without one, subprocess of Python 3.13
    # uses posix_spawn.
    program.write_text(
        'import subprocess\n'
        'subprocess.run(["/bin/cat", "/proc/self/status"], start_new_session=True)\n'
    )
    output, _, _ = run_child(*python_command(sys.executable, program))
    assert signal_lines(output) == {'SigBlk': '', 'SigIgn': ''}


def test_output_and_exit_status_are_returned():
    assert run_child(SHELL, '-c', 'echo word; exit 3') == ('word\n', True, 3)
    assert run_child(SHELL, '-c', 'kill -SEGV $$') == ('', True, -signal.SIGSEGV)


def test_a_megabyte_of_output_is_read():
    output, is_all, _ = run_child(sys.executable, '-c', 'print("x" * 1000000)')
    assert (len(output), is_all) == (1000001, True)


def test_a_python_command_inherits_no_descriptor(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text('import subprocess; subprocess.run(["/bin/ls", "-l", "/proc/self/fd"])')
    file = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(file, True)  # as if a C library had opened it without O_CLOEXEC
    try:
        output, _, _ = run_child(*python_command(sys.executable, program))
    finally:
        os.close(file)
    found = {int(number): target for number, target in re.findall(r' (\d+) -> (\S+)', output)}
    assert str(tmp_path) not in found.values()
    assert (found[0], found[2]) == ('/dev/null', '/dev/null')
    assert found[1].startswith('pipe:')


def test_a_child_starts_despite_a_descriptor_above_the_limit():
    """The site may lower its limit after it has opened many files."""
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


def test_a_child_reads_what_is_written_to_it():
    with ChildProcess([SHELL, '-c', 'read word; echo "heard $word"'], listens=True) as child:
        child.write(b'go\n')
        assert child.read(soon()) == (b'heard go\n', True)


def test_a_child_is_killed_at_the_end_of_the_with_block():
    with ChildProcess(['/bin/sleep', '1000']) as child:
        assert child.read(time.monotonic() + 0.2) == (b'', False)
    assert child.code == -signal.SIGKILL
    assert not Path(f'/proc/{child.pid}').exists()


def test_reading_stops_when_the_output_is_not_wanted():
    with ChildProcess(['/bin/sleep', '1000']) as child:
        assert child.read(soon(), is_wanted=lambda: False) == (b'', False)


def test_a_child_can_end_by_itself_when_its_input_is_closed():
    with ChildProcess(['/bin/cat'], listens=True) as child:
        child.end(60)
    assert child.code == 0


def test_a_child_that_other_code_has_reaped_has_code_0():
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


def test_a_child_starts_when_the_standard_descriptors_are_closed():
    """A daemon may have closed them.  Then a new pipe gets their numbers."""
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
