"""The process that starts a child, passes signals on to it and ends as it does: through the command
`stabilitymonitor run`, because it blocks all signals and ends itself.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs.handshake import PATIENCE
from support.childprograms import CHECKOUT
from support.childprograms import PROGRAMS
from support.childprograms import Program
from support.childprograms import run_python
from support.deaths import PID_1
from support.runcommand import RUN

from Products.StabilityMonitor.system import parentprocess

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs Linux')

CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})
STATUS = ('grep', '-E', 'SigBlk|SigIgn', '/proc/self/status')


def number_of(name):
    return str(int(getattr(signal, name)))


def ended(*command, prefix=(), **how):
    """Run a command under `run`, and return a CompletedProcess."""
    usual = {'capture_output': True, 'text': True, 'timeout': PATIENCE}
    return subprocess.run([*prefix, *RUN, *command], **usual | how)


class Job(Program):
    """A command in a terminal; the program that plays the shell does not kill its child."""

    def clean_up(self):
        with contextlib.suppress(OSError, ValueError):
            children = Path(f'/proc/{self.pid}/task/{self.pid}/children').read_text()
            os.kill(int(children), signal.SIGKILL)
        super().clean_up()


@pytest.fixture
def teller():
    with Program(PROGRAMS / 'signal_teller.py', prefix=RUN) as program:
        yield program.expect('ready')


@pytest.mark.parametrize('code', [0, 3, 255])
def test_it_exits_as_the_command_does(code):
    assert ended('sh', '-c', f'exit {code}').returncode == code


@pytest.mark.parametrize('name', ['TERM', 'KILL', 'SEGV', 'HUP', 'PIPE', 'RTMIN+3'])
def test_it_ends_by_the_same_signal(name):
    number = signal.SIGRTMIN + 3 if name == 'RTMIN+3' else getattr(signal, f'SIG{name}')
    assert ended('sh', '-c', f'kill -{number} $$').returncode == -number


def test_it_leaves_no_second_core_file(tmp_path):
    def allow():
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    source = 'import os; pid = os.fork(); pid or os.abort(); print(os.wait()[1])'
    alone = run_python('-c', source, cwd=tmp_path, preexec_fn=allow)
    if not os.WCOREDUMP(int(alone.stdout)):
        pytest.skip('this system makes no core file here')
    source = (
        'import os, sys; pid = os.fork();'
        'pid or os.execvp(sys.argv[1], sys.argv[1:]); print(os.wait()[1])'
    )
    words = (*RUN, 'sh', '-c', 'kill -ABRT $$')
    done = run_python('-c', source, *words, cwd=tmp_path, preexec_fn=allow)
    status = int(done.stdout)
    assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)


@pytest.mark.parametrize(
    'command, code, sentence',
    [
        ('nonexistent-program', 127, 'No such file or directory'),
        ('/etc/passwd', 126, 'Permission denied'),
    ],
)
def test_what_cannot_be_started_is_told_in_one_sentence(command, code, sentence):
    done = ended(command)
    assert done.returncode == code
    assert done.stderr == f'stabilitymonitor: {command} cannot be started: {sentence}.\n'


def test_each_signal_is_passed_on(teller):
    for number in CATCHABLE:
        if number != signal.SIGUSR2:
            os.kill(teller.pid, number)
            teller.expect(str(int(number)))
    teller.signal('SIGUSR2')
    assert teller.end() == 4


def masks(status):
    """{name of a mask: its signals}, without the two that libc keeps for itself: it ignores them in
    what it starts, or not.
    """
    found = {}
    for line in status.splitlines():
        name, mask = line.split()
        found[name] = {n for n in signal.valid_signals() if int(mask, 16) >> (n - 1) & 1}
    return found


def test_the_child_begins_as_without_run():
    alone = subprocess.run(STATUS, capture_output=True, text=True)
    assert masks(ended(*STATUS).stdout) == masks(alone.stdout)


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path):
    importable = os.environ | {'PYTHONPATH': str(CHECKOUT)}
    done = ended(*STATUS, prefix=('nohup',), cwd=tmp_path, stdin=subprocess.DEVNULL, env=importable)
    assert signal.SIGHUP in masks(done.stdout)['SigIgn:'], done


def test_the_child_has_the_same_group_and_open_files():
    reader, writer = os.pipe()
    source = f'import os; print(os.getpgrp() == os.getpgid(os.getppid())); os.fstat({reader})'
    done = ended(sys.executable, '-c', source, pass_fds=(reader,))
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, 'True\n'), done.stderr


def test_when_it_is_killed_the_child_dies(teller):
    teller.kill()
    assert teller.process.stdout.read() == b''  # the child has closed it


class TestTerminal:
    @pytest.fixture
    def terminal(self):
        master, slave = os.openpty()
        yield master, os.ttyname(slave)
        os.close(master)
        os.close(slave)

    @pytest.fixture
    def job(self, terminal):
        words = PROGRAMS / 'terminal_job.py', terminal[1], *RUN, sys.executable
        with Job(*words, PROGRAMS / 'signal_teller.py') as program:
            yield program.expect('ready')

    def test_what_is_typed_there_comes_once(self, job, terminal):
        for _ in range(5):
            os.write(terminal[0], b'\x03')
            job.expect(number_of('SIGINT'))
        os.write(terminal[0], b'\x1c')
        job.expect(number_of('SIGQUIT'))

    def test_control_z_stops_both_and_the_shell_continues_both(self, job, terminal):
        os.write(terminal[0], b'\x1a')
        assert {job.hear(), job.hear()} == {number_of('SIGTSTP'), 'stopped'}
        job.tell('go on', number_of('SIGCONT'))
        os.write(terminal[0], b'\x1c')
        while (heard := job.hear()) == number_of('SIGCONT'):  # `run` passes its own on, too
            pass
        assert heard == number_of('SIGQUIT')


@pytest.mark.root
class TestPid1:
    @pytest.fixture
    def teller(self):
        words = PROGRAMS / 'signal_teller.py'
        with Program(words, prefix=(*PID_1.prefix, *RUN)) as program:
            yield program.expect('ready')

    def test_signals_from_outside_are_passed_on(self, teller):
        with open(f'/proc/{teller.pid}/task/{teller.pid}/children') as file:
            pid_1 = int(file.read())
        for name in ('SIGTERM', 'SIGINT', 'SIGHUP'):
            os.kill(pid_1, getattr(signal, name))
            teller.expect(number_of(name))
        os.kill(pid_1, signal.SIGUSR2)
        assert teller.end() == 4

    @pytest.mark.parametrize('name', ['TERM', 'KILL', 'SEGV'])
    def test_it_exits_as_a_shell_does_after_a_signal(self, name):
        done = ended('sh', '-c', f'kill -{name} $$', prefix=PID_1.prefix)
        assert done.returncode == 128 + getattr(signal, f'SIG{name}')

    def test_it_reaps_orphans(self):
        with Program(PROGRAMS / 'orphan_maker.py', prefix=(*PID_1.prefix, *RUN)) as program:
            program.expect('reaped')
            assert program.end() == 0


def test_a_status_is_taken_apart():
    class Usage:
        ru_maxrss, ru_utime, ru_stime = 1024, 1.5, 0.5

    exited = parentprocess.Ended(4711, 3 << 8, Usage, 99)
    assert (exited.code, exited.signal, exited.core_dumped) == (3, None, False)
    assert (exited.user, exited.system, exited.has_failed) == (1.5, 0.5, True)
    killed = parentprocess.Ended(4711, signal.SIGSEGV | 0x80, Usage, 99)
    assert (killed.code, killed.signal, killed.core_dumped) == (None, signal.SIGSEGV, True)
    assert killed.has_failed and not parentprocess.Ended(4711, 0, Usage, 99).has_failed
