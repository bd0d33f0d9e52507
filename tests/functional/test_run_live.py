"""`stabilitymonitor run` before a real Zope and a real gunicorn, also as pid 1 of a container."""

import os
import signal
from pathlib import Path

import pytest
from programs.handshake import until
from support import zopekit
from support.deaths import PID_1
from support.runcommand import RUN

from Products.StabilityMonitor.postmortem.allruns import AllRuns
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.processidentity import start_ticks

pytestmark = pytest.mark.zope

PAGES = '''
def leave(self, code='7'):
    import os
    os._exit(int(code))

def crash(self):
    import ctypes
    ctypes.string_at(0)

def whoami(self):
    import os
    return str(os.getpid())

def pipes_of_child(self):
    """Return what a program that Zope starts has inherited of the pipe of `run`."""
    import os, subprocess
    number = os.environ['STABILITYMONITOR_RUN_PIPE'].split(':')[0]
    command = ['ls', f'/proc/self/fd/{number}']
    return str(subprocess.run(command, close_fds=False, capture_output=True).returncode)
'''


def only_child(pid):
    return int(Path(f'/proc/{pid}/task/{pid}/children').read_text())


class Site(zopekit.ZopeInstance):
    """A Zope under `run`; its `pid` is that of `run`, or of `unshare` before it."""

    prefix = RUN

    def command(self):
        return [*self.prefix, *super().command()]

    @property
    def zope(self):
        return only_child(self.pid)

    @property
    def record(self):
        """The record of the newest run."""
        return AllRuns(Base(self.stability)).summaries()[0]

    def decided(self):
        record = self.record
        return record.verdict, record.confidence, record.signal, record.exit_code


class Pid1(Site):
    prefix = (*PID_1.prefix, *RUN)

    @property
    def runner(self):
        return only_child(self.pid)


@pytest.fixture
def make(tmp_path):
    made = []

    def make(kind=Site, **how):
        made.append(kind(tmp_path / 'site', **how).publish(PAGES).create())
        return made[-1].start()

    yield make
    for site in made:
        site.destroy()


def test_ends_of_zope_without_a_trace_are_certain(make):
    site = make()
    assert site.get('/pipes_of_child').text != '0'
    assert site.crash('/leave') == 7
    assert site.decided() == ('exited', 'certain', None, 7)
    site.start()
    os.kill(site.zope, signal.SIGKILL)
    assert site.wait_exit() == -signal.SIGKILL
    assert site.decided() == ('killed', 'certain', 'SIGKILL', None)
    assert '[killed, certain] Next: ' in site.stderr_text()
    site.start()
    assert site.crash('/crash') == -signal.SIGSEGV
    assert site.decided()[::2] == ('crashed', 'SIGSEGV')


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGQUIT'])
def test_a_signal_ends_both_in_the_same_way(make, name):
    site = make()
    code = site.kill(getattr(signal, name)).wait_exit()
    verdict = 'stopped' if name in ('SIGTERM', 'SIGINT') else 'signalled'
    assert site.decided()[:3] == (verdict, 'certain', name)
    assert code == (0 if name == 'SIGINT' else -getattr(signal, name))


def test_zope_does_not_outlive_a_run_that_is_killed(make):
    site = make()
    zope = site.zope
    site.kill(signal.SIGKILL)
    until(lambda: not start_ticks(zope), 'Zope is gone')
    site.wait_exit()
    site.start()  # the port is free


class Gunicorn(Site):
    words = ('--workers', '2', '--preload')

    def command(self):
        where = ('--bind', f'127.0.0.1:{self.port}', '--paste', str(self.home / 'etc/zope.ini'))
        return [*self.prefix, self.python, '-m', 'gunicorn', *where, *self.words]


def test_gunicorn_is_passed_its_signals_and_ends_as_before(make):
    pytest.importorskip('gunicorn', reason='gunicorn is not installed')
    site = make(Gunicorn)
    worker = int(site.get('/whoami').text)
    site.kill(signal.SIGHUP)  # it replaces its workers
    until(lambda: not start_ticks(worker), 'the worker has ended')
    site.wait_ready()
    site.kill(signal.SIGTERM)
    assert site.wait_exit() == 0


@pytest.mark.root
class TestPid1:
    def test_docker_stop_is_a_certain_stop(self, make):
        """Docker sends SIGTERM to pid 1, and SIGKILL if that does not help in time."""
        site = make(Pid1)
        os.kill(site.runner, signal.SIGTERM)
        assert site.wait_exit() == 128 + signal.SIGTERM
        assert site.decided()[:3] == ('stopped', 'certain', 'SIGTERM')

    def test_a_worker_that_becomes_an_orphan_has_a_witness(self, make):
        """A master of gunicorn that a shell has started dies; its workers are left to pid 1."""
        pytest.importorskip('gunicorn', reason='gunicorn is not installed')

        class Shell(Pid1):
            def command(self):
                gunicorn = Gunicorn.command(self)[len(self.prefix) :]
                return [*self.prefix, 'sh', '-c', '"$@" & wait; sleep 600', 'sh', *gunicorn]

            words = ('--workers', '1')

        site = make(Shell)
        shell = only_child(site.runner)
        os.kill(only_child(shell), signal.SIGKILL)
        runs = site.stability / 'runs'
        until(lambda: list(runs.glob('2*/witness-run.json')), 'the witness of an orphan')
        (path,) = (each.parent for each in runs.glob('2*/witness-run.json'))
        (seen,) = witnessfiles.of_run(path)
        assert 'orphan' in seen.fact and seen.knows_status
        os.kill(shell, signal.SIGKILL)
        assert site.wait_exit() == 128 + signal.SIGKILL
