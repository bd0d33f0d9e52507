"""The recursion probe, compared with real threads, and with children that die, hang or lie."""

import ast
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from programs.handshake import until
from support.childprograms import Program
from support.childprograms import run_python

from Products.StabilityMonitor.inspection import recursionexperiment
from Products.StabilityMonitor.inspection import recursionresult
from Products.StabilityMonitor.inspection.recursionexperiment import PROGRAM
from Products.StabilityMonitor.inspection.recursionexperiment import STEP
from Products.StabilityMonitor.inspection.recursionexperiment import probe
from Products.StabilityMonitor.inspection.recursionprobe import Probe
from Products.StabilityMonitor.inspection.recursionprogram import WAYS
from Products.StabilityMonitor.inspection.recursionresult import LARGEST
from Products.StabilityMonitor.inspection.recursionresult import ProbeResult
from Products.StabilityMonitor.inspection.recursionresult import finding
from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.system.childprocess import python_command

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the children need POSIX')
linux = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux has prctl and /proc'
)
watched_by_python = sys.version_info >= (3, 14)
small_stacks_die = pytest.mark.skipif(
    watched_by_python, reason='Python 3.14 watches the end of the stack itself'
)


def program(stack, limit=1000, *names, seconds=20, **how):
    return Program('-I', '-S', PROGRAM, stack, limit, seconds, os.getpid(), *names, **how)


def said(child):
    status = child.end()
    return child.said.splitlines(), status


@pytest.fixture
def stub(tmp_path):
    """`stub(script)` makes an executable that is not a Python; $5 is the requested stack size."""

    def make(script):
        path = tmp_path / 'python-stub'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o700)
        return str(path)

    return make


# -- compared with reality -------------------------------------------------------------------------

THREAD = """
import os, sys, threading
def key(item=None):
    return sorted([item, item], key=key)
def run():
    try:
        key()
    except RecursionError:
        os.write(1, b'RecursionError')
sys.setrecursionlimit(int(sys.argv[2]))
threading.stack_size(int(sys.argv[1]))
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def real_thread(size, limit):
    done = run_python('-c', THREAD, size, limit)
    return done.stdout, done.returncode


@small_stacks_die
@pytest.mark.parametrize('limit', [500, 1000, 2000])
def test_the_result_agrees_with_a_real_thread(limit):
    result = probe(16 << 20, limit)
    assert result.error == '' and result.survives and STEP < result.smallest <= 16 << 20
    assert (result.ways, result.signal) == (('sorted with a key',), 'SIGSEGV')
    assert result.python == ' '.join(sys.version.split()) and result.took > 0
    assert real_thread(result.smallest + STEP, limit) == ('RecursionError', 0)
    assert real_thread(result.smallest - 2 * STEP, limit) == ('', -signal.SIGSEGV)


@small_stacks_die
def test_a_stack_that_is_too_small_dies_and_the_smallest_one_survives():
    result = probe(2 * STEP, 1000)
    assert not result.survives and result.error == ''
    assert result.ways[0] == 'sorted with a key' and len(result.ways) > 5
    assert result.signal == 'SIGSEGV'
    again = probe(result.smallest, 1000)
    assert again.survives and abs(again.smallest - result.smallest) <= STEP


def test_every_way_recurses_to_the_limit():
    """A way that ended differently would prove nothing.

    In Python 3.14 the only limit is the end of the stack, so the nesting must reach it.
    """
    lines, status = said(program(2 << 20 if watched_by_python else LARGEST))
    assert status == 0 and lines[-1] == 'survived'
    ends = [line for line in lines if line.startswith('end ')]
    assert ends == [f'end {name} RecursionError' for name in WAYS]


@small_stacks_die
def test_the_default_limit_is_the_limit_of_this_process():
    assert probe(16 << 20).recursion_limit == sys.getrecursionlimit()


# -- the search, with children that are not started ------------------------------------------------


class Children:
    """A child dies with less stack than `enough`; the way `weak` with less than `weak_enough`."""

    python = ''

    def __init__(self, enough, refused=0):
        self.enough, self.refused, self.tried = enough, refused, []

    def die(self, size, names, refusal=False):
        self.tried.append(size)
        if size < self.refused:
            assert refusal
            return '', ''
        return None if size >= self.enough else (names[-1], 'SIGSEGV')


@pytest.mark.parametrize(
    'enough', [1, STEP, STEP + 1, 7 * STEP, 8 * STEP - 5, 39 * STEP, 100 * STEP, LARGEST]
)
@pytest.mark.parametrize('size', [STEP, STEP + 4096, 3 * STEP, 128 * STEP, LARGEST, 4 * LARGEST])
def test_the_smallest_size_that_survives_is_found(enough, size):
    children, progress = Children(enough), []
    found = recursionexperiment._look(children, size, lambda *word: progress.append(word))
    least = max(STEP, -(-enough // STEP) * STEP)
    assert found['survives'] == (size >= enough)
    assert found['smallest'] == (min(least, size) if size >= enough else least)
    assert found['ways'] == ((list(WAYS)[-1],) if size < enough or least > STEP else ())
    fractions = [fraction for fraction, _ in progress]
    assert fractions == sorted(fractions) and all(0 <= fraction < 1 for fraction in fractions)
    assert len(children.tried) < 24


def test_smallest_is_0_if_no_size_is_enough():
    found = recursionexperiment._look(Children(LARGEST + 1), 8 << 20, lambda *word: None)
    assert (found['survives'], found['smallest']) == (False, 0)
    found = recursionexperiment._look(Children(10 * LARGEST), 4 * LARGEST, lambda *word: None)
    assert (found['survives'], found['smallest']) == (False, 0)


def test_a_size_that_the_system_refuses_counts_as_too_small():
    found = recursionexperiment._look(Children(1, refused=2 * STEP), 8 << 20, lambda *word: None)
    assert found == {'survives': True, 'smallest': 2 * STEP, 'ways': (), 'signal': ''}


def test_all_ways_that_kill_are_named():
    class Weak(Children):
        def die(self, size, names, refusal=False):
            return next(((name, 'SIGSEGV') for name in names if 'json' in name), None)

    found = recursionexperiment._look(Weak(0), 8 << 20, lambda *word: None)
    assert found['ways'] == tuple(name for name in WAYS if 'json' in name)


# -- children that die in other ways, lie, hang ----------------------------------------------------


@pytest.mark.parametrize(
    'script, words',
    [
        ('echo "python 1"; echo "error MemoryError: "; exit 1', 'MemoryError'),
        ('echo "python 1"; echo "refused size not valid"; exit 1', 'size not valid'),
        ('echo "python 1"; kill -9 $$', 'status -9'),
        ('echo "python 1"; exit 3', 'status 3'),
        ('echo "python 1"; echo "way map"; exit 3', 'status 3'),
        ('exit 0', 'did not answer'),
        ('head -c 100000 /dev/urandom', 'did not answer'),
        ('kill -SEGV $$', 'did not answer'),
    ],
)
def test_an_unusable_answer_of_a_child_is_an_error(stub, script, words):
    result = probe(1 << 20, 1000, executable=stub(script))
    assert words in result.error and result.error.endswith('.')
    assert (result.survives, result.smallest, result.ways) == (False, 0, ())
    assert finding(result).severity.code == 'info' and words in finding(result).detail


def test_an_unknown_stack_size_is_an_error():
    assert 'not known' in probe(0, 1000).error


def test_a_death_is_recognised_without_its_exit_status(stub):
    """Other code has reaped the child: its last line shows what happened."""
    script = 'echo "python 1"; echo "way map"; [ $5 -lt 262144 ] || echo survived; exit 0'
    result = probe(8 << 20, 1000, executable=stub(script))
    assert (result.survives, result.smallest, result.ways, result.signal) == (
        True,
        262144,
        ('map',),
        '',
    )


@small_stacks_die
def test_the_probe_works_in_a_process_that_ignores_sigchld():
    code = (
        'import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n'
        'from Products.StabilityMonitor.inspection.recursionexperiment import probe\n'
        'r = probe(8 << 16, 1000)\nprint(r.survives, r.ways[0], r.smallest > 8 << 16, r.error)'
    )
    done = run_python('-c', code)
    assert done.stdout == 'False sorted with a key True \n', done.stderr


@pytest.mark.parametrize('name', ['httpd', 'uwsgi', '', None])
def test_an_executable_other_than_python_is_not_started(monkeypatch, tmp_path, name):
    started = tmp_path / 'started'
    path = name and tmp_path / name
    if path:
        path.write_text(f'#!/bin/sh\ntouch {started}\n')
        path.chmod(0o700)
    monkeypatch.setattr(sys, 'executable', name and str(path))
    assert 'not known' in probe(1 << 20, 1000).error
    assert not started.exists()


def test_the_answer_of_another_python_is_an_error(monkeypatch, stub):
    monkeypatch.setattr(sys, 'executable', stub('echo "python 2.3.5"; echo survived'))
    assert 'did not answer like this Python' in probe(1 << 20, 1000).error


def test_a_missing_executable_is_an_error(tmp_path):
    assert (
        'No child could be started'
        in probe(1 << 20, 1000, executable=str(tmp_path / 'python')).error
    )


def ended(pid):
    """Whether the process is gone, or a zombie that its new parent has not reaped."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except OSError:
        return True


@linux
def test_a_child_that_hangs_is_killed_in_time_and_reaped(stub, tmp_path):
    result = probe(
        1 << 20, 1000, executable=stub(f'echo $$ > {tmp_path}/pid; exec sleep 1000'), time_limit=3
    )
    assert 'took too long' in result.error
    assert not Path(f'/proc/{int((tmp_path / "pid").read_text())}').exists()


def made(size, limit=1000, **named):
    return Probe(lambda: size, limit, **named)


@linux
def test_stop_kills_the_child_at_once(stub, tmp_path):
    pid = tmp_path / 'pid'
    probe = made(
        1 << 20, executable=stub(f'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000')
    )
    assert probe.start() and probe.running
    until(pid.exists, 'the start of a child')
    assert not probe.start()  # one at a time
    probe.stop()
    until(lambda: not probe.running, 'the end of the probe')
    assert probe.error == 'The probe was stopped.' and probe.result.error == probe.error
    assert not Path(f'/proc/{int(pid.read_text())}').exists()


# -- what a child inherits and leaves --------------------------------------------------------------


@pytest.fixture
def full_pipe():
    """A full pipe that is never read: a child blocks when it writes its first line."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@linux
@pytest.mark.parametrize('signals', ['usual', 'blocked', 'ignored'])
def test_the_kernel_ends_a_child_that_takes_too_long(full_pipe, signals):
    """This does not depend on the signals of the server, nor on whether it is dead or stuck."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGALRM] if signals == 'blocked' else []
    )
    handler = signal.signal(
        signal.SIGALRM, signal.SIG_IGN if signals == 'ignored' else signal.SIG_DFL
    )
    try:
        child = program(1 << 20, 1000, seconds=1, stdout=full_pipe)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGALRM, handler)
    assert child.process.wait(20) == -signal.SIGALRM


@linux
def test_a_child_ends_with_the_server(full_pipe):
    """The server is killed; the child is blocked in a pipe and has an hour left."""
    read, write = os.pipe()
    server = os.fork()
    if not server:
        os.write(write, b'%d' % program(1 << 20, 1000, seconds=3600, stdout=full_pipe).pid)
        signal.pause()
    child = int(os.read(read, 100))
    until(lambda: ') S ' in Path(f'/proc/{child}/stat').read_text(), 'the child at the full pipe')
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    until(lambda: ended(child), 'the end of the child')
    os.close(read)
    os.close(write)


@linux
def test_a_child_with_another_parent_ends_itself():
    child = run_python('-I', '-S', PROGRAM, 1 << 20, 1000, 20, 1)
    assert (child.returncode, child.stdout) == (1, '')


@linux
@pytest.mark.root
def test_a_child_runs_in_the_root_directory(full_pipe, tmp_path):
    """Only root can read its directory, because the child forbids core dumps (PR_SET_DUMPABLE)."""
    command = python_command(sys.executable, PROGRAM, 1 << 20, 1000, 3600, os.getpid())
    child = subprocess.Popen(list(map(str, command)), stdout=full_pipe, cwd=tmp_path)
    try:
        until(
            lambda: ') S ' in Path(f'/proc/{child.pid}/stat').read_text(),
            'the child at the full pipe',
        )
        assert os.readlink(f'/proc/{child.pid}/cwd') == '/'
    finally:
        child.kill()
        child.wait()


@linux
@small_stacks_die
def test_a_death_leaves_no_core_file(tmp_path):
    resource = pytest.importorskip('resource')
    (tmp_path / 'ours').mkdir()
    (tmp_path / 'other').mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        lines, status = said(program(STEP, 1000, cwd=tmp_path / 'ours'))
        other = run_python('-c', 'import ctypes; ctypes.string_at(0)', cwd=tmp_path / 'other')
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert status == other.returncode == -signal.SIGSEGV
    assert list((tmp_path / 'ours').iterdir()) == []
    if not list((tmp_path / 'other').iterdir()):
        pytest.skip('this system writes no core files into the working directory')


def kernel_log():
    done = subprocess.run(['dmesg'], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ''


@linux
@small_stacks_die
@pytest.mark.root
def test_a_death_leaves_no_line_in_the_kernel_log(tmp_path, monkeypatch):
    ours, other = (tmp_path / f'{kind}{os.getpid()}' for kind in ('ours', 'other'))
    for name in (
        ours,
        other,
    ):  # the log has the name of the executable and the number of the thread
        name.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(sys, 'executable', str(ours))
    assert said(program(STEP))[1] == -signal.SIGSEGV
    monkeypatch.setattr(sys, 'executable', str(other))
    assert real_thread(STEP, 1000) == ('', -signal.SIGSEGV)
    log = kernel_log()
    assert f'{ours.name}[' not in log
    if f'{other.name}[' not in log:
        pytest.skip('this kernel logs no faults, or too many came at once')


def test_the_program_imports_only_the_standard_library():
    tree = ast.parse(PROGRAM.read_text('utf-8'))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_importing_the_probe_starts_and_changes_nothing():
    code = (
        'import sys, threading, faulthandler, subprocess\n'
        'limit = sys.getrecursionlimit()\nsubprocess.Popen = threading.Thread.start = None\n'
        'import Products.StabilityMonitor.inspection.recursionprobe\n'
        'assert sys.getrecursionlimit() == limit and threading.stack_size() == 0\n'
        'assert not faulthandler.is_enabled() and threading.active_count() == 1'
    )
    done = run_python('-c', code)
    assert (done.returncode, done.stdout + done.stderr) == (0, '')


# -- in the background, and kept -------------------------------------------------------------------

THRESHOLD = 'echo "python 1"; echo "way map"; [ $5 -lt 1000000 ] || echo survived'


def finished(probe):
    until(lambda: not probe.running, 'the end of the probe')
    return probe.result


def test_the_background_probe_shows_its_progress(stub, tmp_path):
    go = tmp_path / 'go'
    probe = made(8 << 20, executable=stub(f'while [ ! -e {go} ]; do sleep 0.01; done; {THRESHOLD}'))
    assert probe.progress is None and probe.result is None and not probe.running
    assert probe.start()
    until(lambda: probe.progress[1] == 'trying 8192 KiB', 'the first child')
    assert probe.running and probe.result is None
    go.touch()
    assert finished(probe).survives and probe.result.smallest == 1 << 20
    assert probe.progress is None and probe.error == ''
    assert probe.start(), 'it can be started again'
    assert finished(probe).survives


def test_only_one_of_many_simultaneous_starts_succeeds(stub):
    probe = made(1 << 20, executable=stub('exec sleep 1000'))
    answers, gate = [], threading.Barrier(8)
    threads = [
        threading.Thread(target=lambda: (gate.wait(), answers.append(probe.start())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    probe.stop()
    finished(probe)
    assert sorted(answers) == [False] * 7 + [True]


def test_a_failure_of_the_probe_itself_is_an_error(monkeypatch):
    monkeypatch.setattr(recursionexperiment, 'probe', lambda *args, **how: 1 / 0)
    probe = made(1 << 20)
    assert probe.start()
    assert finished(probe) is None and probe.progress is None
    assert probe.error == 'The probe itself failed: ZeroDivisionError: division by zero.'


def test_a_probe_whose_thread_cannot_start_is_an_error(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', start)
    probe = made(1 << 20)
    assert not probe.start() and "can't start" in probe.error and not probe.running


def test_a_result_is_kept_only_for_the_same_python_stack_and_limit(stub, tmp_path, monkeypatch):
    file = tmp_path / 'probe.json'
    probe = made(8 << 20, file=file, executable=stub(THRESHOLD))
    assert probe.load() is None
    probe.start()
    result = finished(probe)
    assert result == made(8 << 20, file=file).load() and result.smallest == 1 << 20
    assert json.loads(file.read_text())['result']['ways'] == ['map']
    assert made(4 << 20, file=file).load() is made(8 << 20, 2000, file=file).load() is None
    default = made(8 << 20, 0, file=file).load()
    assert default == (result if sys.getrecursionlimit() == 1000 else None)
    monkeypatch.setattr(sys, 'version', '4.0.0')
    assert probe.load() is None


@pytest.mark.parametrize(
    'damage',
    [
        b'',
        b'[]',
        b'\xff',
        {'result': 3},
        {'result': {}},
        {'key': 3},
        {'result': {'smallest': '1'}},
        {'result': {'ways': 'map'}},
        {'result': {'survives': 1}},
    ],
)
def test_a_damaged_file_counts_as_no_result(tmp_path, damage):
    file = tmp_path / 'probe.json'
    recursionresult.keep(
        file, ProbeResult(8 << 20, 1000, True, ('map',), 'SIGSEGV', 1 << 20, 'x', 1.5)
    )
    assert recursionresult.read(file, 8 << 20, 1000).took == 1.5
    document = json.loads(file.read_text())
    if isinstance(damage, dict):
        for key, value in damage.items():
            document[key] = (
                document[key] | value if key == 'result' and value and value != 3 else value
            )
        damage = json.dumps(document).encode()
    file.write_bytes(damage)
    assert recursionresult.read(file, 8 << 20, 1000) is None


def test_errors_are_not_kept_and_a_full_disk_is_not_an_error(stub, tmp_path):
    probe = made(1 << 20, file=tmp_path / 'probe.json', executable=stub('exit 1'))
    probe.start()
    assert finished(probe).error and not (tmp_path / 'probe.json').exists()
    probe = made(8 << 20, file=tmp_path / 'none' / 'probe.json', executable=stub(THRESHOLD))
    probe.start()
    assert finished(probe).survives and probe.error == ''


# -- the finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'survives, smallest, severity',
    [
        (True, 6 << 20, 'ok'),
        (True, (6 << 20) + STEP, 'warning'),
        (True, 8 << 20, 'warning'),
        (False, 12 << 20, 'critical'),
        (False, 0, 'critical'),
    ],
)
def test_the_severity_follows_from_the_spare_stack(survives, smallest, severity):
    found = finding(ProbeResult(8 << 20, 1000, survives, ('map',), 'SIGSEGV', smallest))
    assert (found.id, found.severity.code) == ('recursion-probe', severity)
    assert bool(found.action) == (severity != 'ok')
    assert '8192 KiB' in found.detail and 'limit of 1000' in found.detail
    assert survives or 'dies by SIGSEGV in 1 of' in found.detail and '(map)' in found.detail


@pytest.mark.parametrize('smallest', [STEP, 3 << 20, 5 << 20, LARGEST])
def test_the_advised_option_is_valid_and_large_enough(smallest):
    action = str(finding(ProbeResult(STEP, 1000, False, ('map',), '', smallest)).action)
    advised = options.bytecount(re.search(r'"thread-stack-size (\w+)"', action)[1])
    assert finding(ProbeResult(advised, 1000, True, (), '', smallest)).severity.code == 'ok'


def test_if_no_stack_is_large_enough_the_advice_is_a_lower_limit():
    assert 'setrecursionlimit' in str(
        finding(ProbeResult(8 << 20, 10**6, False, ('map',) * 5, '', 0)).action
    )
