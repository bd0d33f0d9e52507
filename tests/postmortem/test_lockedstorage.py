"""After a LockError of a database, the process that holds the lock is named."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from programs.handshake import until
from support.childprograms import run_python
from support.syntheticruns import recording
from support.syntheticruns import traces

from Products.StabilityMonitor.postmortem import lockedstorage
from Products.StabilityMonitor.postmortem.lockholder import lock_holder
from Products.StabilityMonitor.postmortem.verdict import judge
from Products.StabilityMonitor.system import filelocks

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc of Linux')

#: Locks the file and writes its pid into it, as zc.lockfile does; then forks a child that stays.
LEAVES_A_CHILD = """
import fcntl, os, sys, time
file = open(sys.argv[1], 'a+')
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
file.write(f' {os.getpid()}\\n')
file.flush()
child = os.fork()
if not child:
    os.close(0), os.close(1), os.close(2)
    time.sleep(60)
    os._exit(0)
print(os.getpid(), child)
"""
#: Says whether a lock is held that a process left behind, and by how many processes.
LOOK = """
import subprocess, sys
from pathlib import Path
from Products.StabilityMonitor.system import filelocks
subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]], check=True, stdout=subprocess.PIPE)
held = filelocks.held(Path(sys.argv[2]))
print(held.is_locked, len(held.holders))
"""
ERROR = (
    'Traceback (most recent call last):\n'
    '  File "/site/zc/lockfile/__init__.py", line 52, in _lock_file\n'
    '    raise LockError("Couldn\'t lock %r" % file.name)\n'
    "zc.lockfile.LockError: Couldn't lock {!r}\n"
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'Data.fs.lock'


@pytest.fixture
def run(tmp_path):
    """The directory of the run that could not start."""
    path = tmp_path / 'stability' / 'runs' / '20260921T133320Z-4711-abcd'
    path.mkdir(parents=True)
    return path


@pytest.fixture
def left(file):
    """Return (pid of the parent, pid of the child that it left behind and that has the lock)."""
    done = run_python('-c', LEAVES_A_CHILD, str(file))
    assert done.stdout, done.stderr
    parent, child = map(int, done.stdout.split())
    yield parent, child
    os.kill(child, signal.SIGKILL)


def said(locked):
    found = traces(recording=recording(), locked_file=locked)
    (evidence,) = lock_holder(found)
    assert evidence in judge(found).evidence and evidence.source == 'lock file'
    return evidence.fact


def test_a_child_that_was_left_behind_is_named_with_its_parent_run(file, run, left):
    parent, child = left
    archive = run.parent.parent / 'archive'
    for name in (f'20260920T000000Z-{parent}-0001', f'20260921T120000Z-{parent}-0002'):
        (archive / name).mkdir(parents=True)
    (run.parent / f'20260922T000000Z-{parent}-0003').mkdir()  # it began later
    (archive / f'20260921T130000Z-{parent + 1}-0004').mkdir()
    locked = lockedstorage.look(ERROR.format(str(file)), run, Path('/proc'))
    assert locked.run == f'20260921T120000Z-{parent}-0002'
    name = Path(f'/proc/{child}/comm').read_text().strip()
    assert said(locked) == (
        f'When the run was judged, process {child} ({name}) held the lock of {file}; process '
        f'{parent} (run 20260921T120000Z-{parent}-0002), which took the lock, had left it behind.'
    )


def test_a_process_that_took_the_lock_itself_is_named_once(file, run):
    with open(file, 'a+') as opened:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.write(f' {os.getpid()}\n')
        opened.flush()
        locked = lockedstorage.look(ERROR.format(str(file)), run, Path('/proc'))
        assert said(locked) == (
            f'When the run was judged, process {os.getpid()} held the lock of {file}.'
        )


def test_a_lock_that_nobody_holds_any_more_is_said(file, run):
    file.write_text(' 4242\n')
    locked = lockedstorage.look(ERROR.format(str(file)), run, Path('/proc'))
    assert said(locked) == (
        f'When the run was judged, nobody held the lock of {file} any more; process 4242 was the '
        'last that took it.'
    )


@pytest.mark.parametrize('content', ['', 'a host\n', ' \n', 'x' * 999])
def test_a_file_without_a_pid_names_no_parent(file, run, content):
    file.write_text(content)
    locked = lockedstorage.look(ERROR.format(str(file)), run, Path('/proc'))
    assert said(locked).endswith(f'{file} any more.')


def test_without_proc_it_is_said_that_the_holder_is_not_known(file, run, tmp_path):
    file.write_text(' 4242\n')
    locked = lockedstorage.look(ERROR.format(str(file)), run, tmp_path / 'no proc')
    assert said(locked) == (
        f'Which process held the lock of {file} could not be read; process 4242 has taken it.'
    )


def test_open_files_of_other_users_cannot_be_read(file, run, tmp_path):
    file.write_text('')
    proc = tmp_path / 'proc'
    proc.mkdir()
    number = file.stat().st_ino
    (proc / 'locks').write_text(f'1: FLOCK  ADVISORY  WRITE 77 fe:00:{number} 0 EOF\n')
    (proc / '77').mkdir()
    assert filelocks.held(file, proc) == filelocks.Held(True)
    locked = lockedstorage.look(ERROR.format(str(file)), run, proc)
    assert said(locked) == f'Which process held the lock of {file} could not be read.'
    (proc / 'locks').write_text(f'1: POSIX  ADVISORY  WRITE 77 fe:00:{number} 0 EOF\n')
    assert filelocks.held(file, proc) == filelocks.Held(False), 'it is no flock'


@pytest.mark.parametrize(
    'exception',
    [
        '',
        'ValueError: x',
        "LockError: Couldn't lock '/nowhere/Data.fs.lock'",
        "LockError: Couldn't lock '/etc/passwd'",
        "LockError: Couldn't lock '\\0.lock'",
        "LockError: Couldn't lock ''.lock'",
        "my.LockError: Couldn't lock '/x.lock'",
        "LockError: Couldn't lock '/x.lock' and more",
    ],
)
def test_other_exceptions_have_no_lock_file(exception, run):
    assert lockedstorage.look(exception, run, Path('/proc')) is None
    assert list(lock_holder(traces())) == []


def test_a_lock_is_found_as_soon_as_it_is_taken(file, left):
    """`left` has been waited for, but its child may not have closed its output yet."""
    _, child = left
    held = until(lambda: filelocks.held(file))
    assert held.is_locked and [holder.pid for holder in held.holders] == [child]


def test_a_process_that_only_has_the_file_open_does_not_hold_the_lock(file, left):
    _, child = left
    with file.open('a+'):
        held = until(lambda: filelocks.held(file))
    assert [holder.pid for holder in held.holders] == [child]


@pytest.mark.skipif(not shutil.which('unshare'), reason='not installed here: unshare')
@pytest.mark.root
def test_the_holder_is_found_in_a_pid_namespace(file):
    """There, /proc/locks leaves out a lock whose process has ended."""
    done = run_python(
        '-c',
        LOOK,
        LEAVES_A_CHILD,
        str(file),
        prefix=('unshare', '--pid', '--fork', '--kill-child', '--mount-proc'),
    )
    assert done.stdout.split() == ['True', '1'], done.stderr
