"""Native stacks of living processes: real processes, real tools, and tools that misbehave."""

import contextlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import Program
from support.childprograms import run_python
from support.descriptors import held

from Products.StabilityMonitor.inspection import nativestacks
from Products.StabilityMonitor.inspection.nativestacks import NativeStacks
from Products.StabilityMonitor.system import stacktools
from Products.StabilityMonitor.system.stacktools import parse

FOUND = nativestacks.find_tools()
needs_linux = pytest.mark.skipif(
    sys.platform != 'linux', reason='native stacks are read only on Linux'
)
needs_pystack = pytest.mark.skipif('pystack' not in FOUND, reason='pystack is not installed here')
needs_py_spy = pytest.mark.skipif('py-spy' not in FOUND, reason='py-spy is not installed here')
pytestmark = needs_linux


def state(pid):
    """The state letter of a process; '' if it does not exist or is a zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0].strip('ZX')
    except OSError:
        return ''


def wardens(parent):
    """The pids of its children that are wardens."""
    found = []
    for folder in Path('/proc').iterdir():
        try:
            if (
                folder.name.isdigit()
                and int((folder / 'stat').read_text().rpartition(')')[2].split()[1]) == parent
                and b'toolwarden.py' in (folder / 'cmdline').read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def readers(pid):
    """The pids of the tools that are reading that process."""
    return [
        folder.name
        for folder in Path('/proc').iterdir()
        if folder.name.isdigit() and f'\0remote\0{pid}\0' in _command_line(folder)
    ]


def _command_line(folder):
    try:
        return (folder / 'cmdline').read_text()
    except OSError:
        return ''


class Target(Program):
    """A process with eight threads; `ticks()` increases while the process is not stopped."""

    def __init__(self, what, folder):
        self.file = folder / 'ticks'
        self.file.write_bytes(bytes(8))
        arguments = [self.file] if what == 'tick' else []
        super().__init__(PROGRAMS / 'native_target.py', what, *arguments)
        self.expect('ready')

    def ticks(self):
        return struct.unpack('=Q', self.file.read_bytes())[0]

    def goes_on(self):
        before = self.ticks()
        return (
            until(lambda: self.ticks() > before + 3, 'that the process continues')
            and state(self.pid) != 'T'
        )


@pytest.fixture
def make_target(tmp_path):
    made = []

    def make(what='tick'):
        made.append(Target(what, tmp_path))
        return made[-1]

    yield make
    for target in made:
        target.clean_up()


@pytest.fixture
def fake(tmp_path):
    """A tool that is a shell script with the arguments of pystack: $2 is the process."""

    def make(script, name='pystack'):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        return {name: (str(path),)}

    return make


def take(pid, tools=None, seconds=20.0, **named):
    stacks = NativeStacks(pid, tools=tools, seconds=seconds, **named)
    assert stacks.start(), stacks.error
    assert stacks.wait(60) and not stacks.running
    return stacks


THREAD = (
    'echo "Traceback for thread 12 (python) [Has the GIL] (most recent call last):"\n'
    'echo \'    (Python) File "/a.py", line 3, in f\''
)


@needs_pystack
class TestRealTool:
    def test_stacks_from_outside_show_the_c_frame_that_holds_the_gil(self, make_target):
        target = make_target('hold_the_gil')
        stacks = until(lambda: self._in_usleep(target), 'usleep on a stack')
        assert stacks.error == '' and 0 < stacks.ended <= time.time()
        threads = parse(stacks.result)
        (holder,) = (thread for thread in threads if thread['holds_gil'])
        assert len(threads) == 8 and str(holder['native_id']) in os.listdir(
            f'/proc/{target.pid}/task'
        )
        native = [frame['function'] for frame in holder['frames'] if frame['native']]
        python = [frame['function'] for frame in holder['frames'] if not frame['native']]
        assert 'usleep' in native and python[0] == 'hold_the_gil' and python[-1] == '_bootstrap'
        assert native.index('usleep') < 4 and holder['frames'][0]['native'], 'innermost first'
        assert 'libc' in next(f['library'] for f in holder['frames'] if f['function'] == 'usleep')

    def _in_usleep(self, target):
        stacks = take(target.pid)
        return stacks if 'usleep' in stacks.result else None

    def test_stacks_of_the_own_process_show_all_threads(self):
        done = run_python(PROGRAMS / 'native_asker.py', '20')
        said = json.loads(done.stdout.splitlines()[-1])
        functions = {
            thread['native_id']: [frame['function'] for frame in thread['frames']]
            for thread in said['threads']
        }
        assert said['error'] == '' and len(functions) == 6
        assert 'main' in functions[said['native_id']]
        assert sum('_ask' in names for names in functions.values()) == 1, 'the thread that asks'
        assert (
            sum('pause' in names and '_bootstrap' not in names for names in functions.values()) == 1
        ), 'a C thread'

    def test_a_process_that_does_not_exist_is_an_error(self):
        gone = Program('-c', '')
        gone.end()
        stacks = take(gone.pid, {'pystack': FOUND['pystack']})
        assert stacks.error.startswith('pystack ended with exit status ') and stacks.error.endswith(
            'the command line of gdb.'
        )

    def test_a_process_that_was_stopped_before_stays_stopped(self, make_target):
        target = make_target()
        os.kill(target.pid, signal.SIGSTOP)
        until(lambda: state(target.pid) == 'T')
        take(target.pid, seconds=0.1)
        until(lambda: state(target.pid) == 'T', 'the process to be stopped again')

    @pytest.mark.thorough
    @pytest.mark.slow(15)
    def test_the_process_continues_after_the_tool_is_killed_many_times(self, make_target):
        """Killed while it reads, pystack leaves a SIGSTOP behind in about one case of thirty."""
        target, in_time = make_target(), 0
        for _ in range(40):
            stacks = take(target.pid, seconds=random.uniform(0.02, 0.3))
            in_time += not stacks.error
            assert target.goes_on()
            assert not stacks.error or 'was ended after' in stacks.error
        assert in_time < 35, 'the tool was almost never killed while it read'

    @pytest.mark.thorough
    @pytest.mark.slow(15)
    def test_the_process_continues_after_the_warden_is_killed_many_times(self, make_target):
        target, killed = make_target(), 0
        for _ in range(15):
            stacks = NativeStacks(target.pid)
            stacks.start()
            (warden,) = until(lambda: wardens(os.getpid()))
            stacks.wait(random.uniform(0.0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(warden, signal.SIGKILL)
            assert stacks.wait(30) and (not stacks.error or 'was ended. Try again.' in stacks.error)
            killed += bool(stacks.error)
            until(lambda: not readers(target.pid), 'that a tool without a warden ends by itself')
            assert target.goes_on()
        assert killed > 1


@needs_py_spy
class TestSecondChoice:
    """py-spy, where pystack is not installed."""

    def take(self, pid):
        return take(pid, {'py-spy': FOUND['py-spy']})

    def in_usleep(self, target):
        stacks = self.take(target.pid)
        return stacks if 'usleep' in stacks.result else None

    def test_the_c_frame_that_holds_the_gil_is_shown(self, make_target):
        target = make_target('hold_the_gil')
        stacks = until(lambda: self.in_usleep(target), 'usleep on a stack')
        threads = parse(stacks.result)
        assert stacks.error == '' and len(threads) == 8
        assert {str(thread['native_id']) for thread in threads} == set(
            os.listdir(f'/proc/{target.pid}/task')
        )
        frames = {frame['function']: frame for thread in threads for frame in thread['frames']}
        assert frames['usleep']['native'] and 'libc' in frames['usleep']['library']
        assert (
            frames['hold_the_gil']['file'] == 'native_target.py'
            and not frames['hold_the_gil']['native']
        )
        (holder,) = (
            thread for thread in threads if any(f['function'] == 'usleep' for f in thread['frames'])
        )
        functions = [frame['function'] for frame in holder['frames']]
        assert functions.index('usleep') < functions.index('hold_the_gil'), 'innermost first'

    def test_the_process_continues_afterwards(self, make_target):
        target = make_target()
        assert self.take(target.pid).error == '' and target.goes_on()

    def test_a_process_that_does_not_exist_is_an_error(self, monkeypatch):
        """The last line is the reason, not a line of the backtrace of the tool."""
        monkeypatch.setenv('RUST_BACKTRACE', '1')
        gone = Program('-c', '')
        gone.end()
        error = self.take(gone.pid).error
        assert error.startswith(
            'py-spy ended with exit status 1 and showed no threads; its last line: '
        )
        assert 'No such file or directory' in error


class TestLimits:
    def test_a_tool_that_hangs_is_ended(self, fake):
        stacks = take(os.getpid(), fake('echo some words; sleep 600'), seconds=3)
        assert stacks.error.startswith('pystack was ended after 3 s') and 'gdb' in stacks.error
        assert stacks.result == 'some words\n'

    def test_the_process_continues_after_a_tool_that_stops_it_and_hangs(self, fake, make_target):
        target = make_target()
        stacks = NativeStacks(target.pid, tools=fake('kill -STOP $2; sleep 600'), seconds=3)
        stacks.start()
        until(lambda: state(target.pid) == 'T')
        assert stacks.wait(30) and target.goes_on()

    def test_the_asking_process_continues_after_a_tool_that_stops_it(self, fake, tmp_path):
        tool = fake('kill -STOP $2; sleep 600')['pystack'][0]
        with Program(PROGRAMS / 'native_asker.py', '3', tool) as asker:
            until(lambda: state(asker.pid) == 'T')
            asker.end()
        said = json.loads(asker.said.splitlines()[-1])
        assert said['error'].startswith('pystack was ended after')

    def test_the_process_continues_after_a_tool_that_leaves_it_stopped(self, fake, make_target):
        target = make_target()
        take(target.pid, fake(f'kill -STOP $2; {THREAD}'))
        assert target.goes_on()

    def test_a_tool_that_closes_its_output_and_hangs_is_ended(self, fake):
        assert (
            'was ended after'
            in take(os.getpid(), fake('exec >&- 2>&-; sleep 600'), seconds=0.3).error
        )

    def test_a_child_of_the_tool_that_keeps_the_output_open_is_not_waited_for(self, fake, tmp_path):
        stacks = take(os.getpid(), fake(f'sleep 600 & echo $! > {tmp_path}/child\n{THREAD}'))
        assert stacks.error == '' and len(parse(stacks.result)) == 1
        until(lambda: not state(int((tmp_path / 'child').read_text())))

    def test_long_output_is_cut(self, fake):
        stacks = take(
            os.getpid(), fake(f'{THREAD}; head -c 3000000 /dev/zero | tr "\\0" x'), most=1000
        )
        assert len(stacks.result) == 1000 and len(parse(stacks.result)) == 1 and stacks.error == ''

    def test_endless_output_is_cut(self, fake):
        stacks = take(os.getpid(), fake('yes'), seconds=3, most=5000)
        assert 'was ended after' in stacks.error and len(stacks.result) == 5000

    def test_words_say_not_started_then_reads_then_finished(self, fake, tmp_path):
        stacks = NativeStacks(
            1,
            tools=fake(f'touch {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep .01; done'),
        )
        assert stacks.words == 'not started' and stacks.progress is None
        stacks.start()
        until((tmp_path / 'runs').exists)
        assert stacks.running and stacks.words.startswith('pystack reads process 1, ')
        (tmp_path / 'go').touch()
        assert stacks.wait(20) and stacks.words == 'finished' and not stacks.running


class TestFailures:
    def test_without_a_tool_the_error_says_what_to_install(self):
        stacks = take(os.getpid(), {})
        assert (
            stacks.error.startswith('pystack is not installed.') and 'command lines' in stacks.error
        )

    @pytest.mark.parametrize(
        'script, code, last',
        [
            ('printf "\\377\\376 garbage \\033[2J\\n"', 0, '\ufffd\ufffd garbage \x1b[2J'),
            ('exit 1', 1, 'nothing'),
            ('echo a; echo b >&2; exit 3', 3, 'b'),
            ('kill -SEGV $$', -11, 'nothing'),
        ],
    )
    def test_the_error_of_a_failed_tool_has_its_exit_status_and_last_line(
        self, fake, script, code, last
    ):
        assert take(os.getpid(), fake(script)).error == (
            f'pystack ended with exit status {code} and showed no threads; its last line: {last}. '
            'Use the command line of gdb.'
        )

    @pytest.mark.parametrize('program', ['/nowhere/pystack', '/etc/passwd'])
    def test_a_tool_that_cannot_be_started_has_exit_status_127(self, program):
        assert 'ended with exit status 127' in take(os.getpid(), {'pystack': (program,)}).error

    def test_the_second_tool_is_used_when_the_first_fails(self, fake):
        stacks = take(os.getpid(), fake('exit 1') | fake(THREAD, 'py-spy'))
        assert stacks.error == '' and len(parse(stacks.result)) == 1

    @pytest.mark.parametrize(
        'scope, who',
        [
            ('0', 'root, or the user that the process runs as (kernel.yama.ptrace_scope is 0)'),
            ('1', 'root; other users only with the button in the Control Panel'),
            ('2', 'root (kernel.yama.ptrace_scope is 2)'),
            ('3', 'no user, until the machine is booted'),
            (None, '(kernel.yama.ptrace_scope is not available)'),
        ],
    )
    def test_a_refused_attach_says_who_may(self, fake, yama, scope, who):
        stacks = take(
            os.getpid(), fake('echo "Operation not permitted" >&2; exit 1'), proc=yama(scope)
        )
        assert (
            stacks.error.startswith(f'pystack may not attach to process {os.getpid()}, ')
            and who in stacks.error
        )

    def test_only_root_may_attach_to_a_process_that_has_changed_its_user(self, yama):
        proc = Path(yama('0'))
        (proc / '7').mkdir()
        (proc / '7' / 'status').write_text('Name:\tpython\nUid:\t33\t33\t33\t33\n')
        assert 'root, because the process has changed its user' in nativestacks.what_is_needed(
            7, str(proc)
        ) or (os.geteuid() != 0)

    def test_a_second_reading_is_refused_while_one_runs(self, fake, tmp_path):
        hanging = fake(f'while [ ! -e {tmp_path}/go ]; do sleep .01; done; {THREAD}')
        first, second = NativeStacks(1, tools=hanging), NativeStacks(1, tools=hanging)
        assert first.start() and not second.start() and not first.start()
        assert second.error == 'Native stacks are being read already. Wait until that has finished.'
        pid = os.fork()
        if pid == 0:  # the running job belongs to the parent
            os._exit(not NativeStacks(1, tools={}).start())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        (tmp_path / 'go').touch()
        assert first.wait(20) and first.error == ''
        assert take(1, hanging).error == ''

    def test_a_thread_that_cannot_start_is_an_error(self, monkeypatch):
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, 'start', refuse)
        stacks = NativeStacks(1, tools={})
        assert not stacks.start() and "can't start new thread" in stacks.error and stacks.wait(0)
        monkeypatch.undo()
        assert take(1, {}).error


class TestTheChild:
    def test_the_child_inherits_no_descriptor(self, fake, tmp_path):
        with open(tmp_path / 'database', 'w') as file:
            os.set_inheritable(file.fileno(), True)
            stacks = take(os.getpid(), fake('ls -l /proc/self/fd'))
        assert 'database' not in stacks.result and '/dev/null' in stacks.result

    def test_the_child_loads_no_symbols_from_the_network(self, fake, monkeypatch):
        monkeypatch.setenv('DEBUGINFOD_URLS', 'https://symbols.invalid/')
        assert 'DEBUGINFOD' not in take(os.getpid(), fake('env')).result

    def test_stacks_are_taken_in_a_process_with_many_descriptors(self, fake):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2000:
            pytest.skip('this system does not allow 2000 descriptors')
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
        many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            assert take(os.getpid(), fake(THREAD)).error == ''
        finally:
            for descriptor in many:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_no_process_thread_or_descriptor_is_left(self, fake):
        take(os.getpid(), fake(THREAD))
        before, threads = held(), threading.active_count()
        for _ in range(5):
            take(os.getpid(), fake(THREAD))
        until(lambda: not held() - before and threading.active_count() <= threads)
        assert wardens(os.getpid()) == []

    @pytest.mark.parametrize('end', ['SIGKILL', 'SIGTERM'])
    def test_the_child_does_not_outlive_the_server(self, fake, tmp_path, end):
        tool = fake(f'echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/tool; sleep 600')[
            'pystack'
        ][0]
        with Program(PROGRAMS / 'native_asker.py', '600', tool) as asker:
            until((tmp_path / 'tool').exists)
            child, (warden,) = int((tmp_path / 'tool').read_text()), wardens(asker.pid)
            asker.signal(end)
            asker.end()
        until(
            lambda: not state(child) and not state(warden), 'the end of the tool and of its warden'
        )


@pytest.fixture
def yama(tmp_path):
    """The folder of a fake /proc with this ptrace_scope; None is a kernel without Yama."""

    def make(scope):
        folder = tmp_path / 'proc' / 'sys' / 'kernel' / 'yama'
        folder.mkdir(parents=True)
        if scope is not None:
            (folder / 'ptrace_scope').write_text(f'{scope}\n')
        return str(tmp_path / 'proc')

    return make


class TestYama:
    def take(self, fake, proc, pid):
        calls = []

        def prctl(option, value):
            calls.append((option, value, nativestacks._prctl(option, value)))

        return calls, take(pid, fake(f'cat /proc/$PPID/stat\n{THREAD}'), proc=proc, prctl=prctl)

    def test_the_child_may_trace_only_while_it_runs(self, fake, yama):
        calls, stacks = self.take(fake, yama('1'), os.getpid())
        warden = int(stacks.result.split()[0])
        assert [call[:2] for call in calls] == [(0x59616D61, warden), (0x59616D61, 0)]
        real = nativestacks.ptrace_scope()
        assert {call[2] for call in calls} == ({-1} if real is None else {0}), (
            'what this kernel answers'
        )

    def test_the_permission_is_withdrawn_after_a_failure(self, fake, yama):
        calls = []
        take(
            os.getpid(),
            fake('sleep 600'),
            0.2,
            proc=yama('1'),
            prctl=lambda *call: calls.append(call),
        )
        assert len(calls) == 2 and calls[-1][1] == 0

    @pytest.mark.parametrize('scope', ['0', '2', '3', None])
    def test_no_permission_is_given_if_yama_does_not_need_it(self, fake, yama, scope):
        assert self.take(fake, yama(scope), os.getpid())[0] == []

    def test_no_permission_is_given_for_another_process(self, fake, yama):
        assert self.take(fake, yama('1'), 1)[0] == []


class TestTools:
    def test_tools_next_to_the_executable_come_first(self, fake, tmp_path):
        (tmp_path / 'bin').mkdir()
        fake('exit 0'), fake('exit 0', 'py-spy')
        shutil.copy(tmp_path / 'pystack', tmp_path / 'bin')
        assert nativestacks.find_tools(f'{tmp_path}/bin/python', str(tmp_path)) == {
            'pystack': (f'{tmp_path}/bin/pystack',),
            'py-spy': (f'{tmp_path}/py-spy',),
        }

    @needs_pystack
    def test_a_tool_that_is_only_importable_is_found(self, make_target):
        """As in a buildout, where a package is only on sys.path of the server."""
        pytest.importorskip('pystack')
        tools = nativestacks.find_tools('/nowhere/python', '')
        assert set(tools) == {'pystack'} and tools['pystack'][0] == '/usr/bin/env'
        started = tuple(
            sys.executable if word == '/nowhere/python' else word for word in tools['pystack']
        )
        assert take(make_target().pid, {'pystack': started}).error == ''

    def test_a_module_in_the_working_directory_is_not_run(self, tmp_path, monkeypatch):
        (tmp_path / 'site').mkdir()
        (tmp_path / 'site/pystack.py').write_text('print("of the site")')
        (tmp_path / 'lib/pystack').mkdir(parents=True)
        (tmp_path / 'lib/pystack/__init__.py').touch()
        (tmp_path / 'lib/pystack/__main__.py').write_text('print("the tool")')
        monkeypatch.syspath_prepend(tmp_path / 'lib')
        monkeypatch.delitem(sys.modules, 'pystack', raising=False)
        python = tmp_path / 'bin/python'
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        command = nativestacks.find_tools(str(python), '')['pystack']
        ran = subprocess.run(command, cwd=tmp_path / 'site', capture_output=True, text=True)
        assert ran.stdout == 'the tool\n', ran.stderr

    def test_without_an_installed_tool_none_is_found(self, monkeypatch):
        monkeypatch.setattr(stacktools.importlib.util, 'find_spec', lambda name: None)
        assert nativestacks.find_tools('/nowhere/python', '') == {}

    def test_other_systems_have_no_tools(self, monkeypatch):
        monkeypatch.setattr(sys, 'platform', 'freebsd14')
        assert nativestacks.find_tools() == {}

    def test_command_lines_name_each_tool(self, monkeypatch):
        monkeypatch.setattr(nativestacks, 'find_tools', dict)
        lines = dict(nativestacks.command_lines(4711, '/opt/my zope/bin/python'))
        assert list(lines.values()) == [
            "gdb -p 4711 -batch -ex 'set pagination off' -ex 'thread apply all bt' '/opt/my "
            "zope/bin/python'",
            'pystack remote 4711 --native-all',
            'py-spy dump --native --pid 4711',
        ]
        assert all("'/opt/my zope/bin/python' -m pip install" in title for title in list(lines)[1:])

    @pytest.mark.parametrize('tool', ['gdb', 'pystack', 'py-spy'])
    def test_the_command_lines_work(self, make_target, tool):
        target = make_target()
        line = next(
            line
            for title, line in nativestacks.command_lines(target.pid, sys.executable)
            if title.startswith(tool)
        )
        if not shutil.which(shlex.split(line)[0]):
            pytest.skip(f'{tool} is not installed here')
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120)
        assert 'nanosleep' in done.stdout and done.returncode == 0 and target.goes_on()


PYSTACK = """\
Traceback for thread 13 (waitress (1)) [Has the GIL,Garbage collecting] (most recent call last):
    (C) File "???", line 0, in _start (/usr/bin/python3)
    (Python) File "/site/a b.py", line 6, in <module>
        return f(x)
    (C) File "x.cpp", line 12, in ns::f(int, char*) (/site/x.so)
    (C) File "/lib/libffi.so.8", line 0, in ??? (/lib/libffi.so.8)

Traceback for thread 14 [] (most recent call last):
* - Unable to merge native stack due to insufficient native information - *
    (Python) File "Script (Python)", line 3, in page
"""
#: The output of py-spy 0.4.3, shortened: a thread that computes, and a thread that holds the
#: interpreter lock in C.
PYSPY = """\
Process 9: /srv/zope/bin/python t.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 13 (active+gil): "Thread-1 (w)"
    w (t.py:3)
    Thread.run (threading.py:982)
    Thread._bootstrap_inner (threading.py:1045)
    Thread._bootstrap (threading.py:1002)
    thread_run (libpython3.11.so.1.0)
    0x7fe7f6aa71f5 (libc.so.6)
Thread 14 (idle): "Thread-7 (hold_the_gil)"
    clock_nanosleep (libc.so.6)
    usleep (libc.so.6)
    0x7fc008640f7a (libffi.so.8.1.2)
    ffi_call (libffi.so.8.1.2)
    _call_function_pointer (callproc.c:943)
    hold_the_gil (native_target.py:21)
    <module> (native_target.py:41)
"""


class TestParse:
    def test_parse_reads_the_output_of_pystack(self):
        first, second = parse(PYSTACK)
        assert (first['native_id'], first['name'], first['holds_gil']) == (13, 'waitress (1)', True)
        assert first['frames'] == [
            {
                'file': '',
                'line': None,
                'function': '',
                'native': True,
                'library': '/lib/libffi.so.8',
            },
            {
                'file': 'x.cpp',
                'line': 12,
                'function': 'ns::f(int, char*)',
                'native': True,
                'library': '/site/x.so',
            },
            {
                'file': '/site/a b.py',
                'line': 6,
                'function': '<module>',
                'native': False,
                'library': '',
            },
            {
                'file': '',
                'line': None,
                'function': '_start',
                'native': True,
                'library': '/usr/bin/python3',
            },
        ]
        assert (second['native_id'], second['name'], second['holds_gil']) == (14, '', False)
        assert [(f['file'], f['function']) for f in second['frames']] == [
            ('Script (Python)', 'page')
        ]

    def test_parse_reads_the_output_of_py_spy(self):
        first, second = parse(PYSPY)
        assert (first['native_id'], first['name'], first['holds_gil']) == (13, 'Thread-1 (w)', True)
        assert (second['native_id'], second['name'], second['holds_gil']) == (
            14,
            'Thread-7 (hold_the_gil)',
            False,
        )
        assert [
            (f['file'], f['line'], f['function'], f['native'], f['library'])
            for f in first['frames'][::3]
        ] == [('t.py', 3, 'w', False, ''), ('threading.py', 1002, 'Thread._bootstrap', False, '')]
        assert [
            (f['file'], f['line'], f['function'], f['native'], f['library'])
            for f in second['frames'][1:]
        ] == [
            ('', None, 'usleep', True, 'libc.so.6'),
            ('', None, '0x7fc008640f7a', True, 'libffi.so.8.1.2'),
            ('', None, 'ffi_call', True, 'libffi.so.8.1.2'),
            ('callproc.c', 943, '_call_function_pointer', True, ''),
            ('native_target.py', 21, 'hold_the_gil', False, ''),
            ('native_target.py', 41, '<module>', False, ''),
        ]

    @pytest.mark.parametrize('text', ['', '\x00', 'Thread', '    (C) File', 'a\n' * 1000])
    def test_parse_ignores_other_text(self, text):
        assert parse(text) == []

    @pytest.mark.parametrize('text', [PYSTACK, PYSPY])
    def test_parse_accepts_text_that_is_cut_anywhere(self, text):
        for length in range(len(text)):
            assert len(parse(text[:length])) <= 2
