"""A real Zope that is asked to stop, does not end in time, and is killed: that is a stop.

`docker stop` asks by SIGTERM and kills 10 s later; a Zope that is pid 1 does not notice SIGTERM.  A
Zope that ends may also wait for something, here for a pipe that nobody reads.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.deaths import PATIENCE
from support.deaths import PID_1
from support.deaths import Setting
from support.deaths import Site
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

pytestmark = pytest.mark.zope

FULL = Setting(options=(('sample-interval', '100ms'), ('slow-request', '1s')))
#: The finding of the check "stop-signal".
IGNORED = 'SIGTERM does not end Zope, because it is pid 1 of its container.'
PAGES = """
import ctypes, threading

_never = threading.Lock()
_never.acquire()

def wait(self):
    _never.acquire()

def abort_at_exit(self):
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)

def chatter(self):
    while True:
        print('x' * 1000)
"""


class SlowSite(Site):
    """One instance; `tell` runs the command on its data directory."""

    def create(self):
        ZopeInstance.create(self)
        self.publish(PAGES)
        return self

    def tell(self, *words):
        """Return (exit status, standard output) of the command `stabilitymonitor`."""
        where = ('--client-home', self.client_home)
        done = run_python(*COMMAND, *where, *words, timeout=3 * PATIENCE, cwd=CHECKOUT)
        return done.returncode, done.stdout

    def outlives(self, name):
        """Send a signal, and wait until the heartbeat notes that the process has outlived it by two
        seconds.
        """
        self.signal(name)
        wait_for(lambda: self.recording().survived[name], PATIENCE, f'{name} survived')
        survived = self.recording().last_sample.time
        wait_for(
            lambda: self.recording().last_sample.time > survived + 2, PATIENCE, 'signs of life'
        )

    def newest(self):
        return self.archive()[0]


class SiteWithFullOutput(SlowSite):
    """Its standard output is a pipe that nobody reads."""

    def start(self, wait=True):
        self.unread, output = os.pipe()
        with open(self.stderr_path, 'ab') as stderr:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=stderr,
                start_new_session=True,
            )
        os.close(output)
        return self.wait_ready()


@pytest.fixture
def site(tmp_path):
    site = SlowSite(tmp_path / 'site').create()
    yield site
    site.destroy()


@pytest.mark.root
def test_three_deployments_of_a_container_whose_pid_1_is_zope(site):
    for number in range(3):
        site.run_as(PID_1)
        if not number:
            wait_for(lambda: IGNORED in site.tell('checks')[1], PATIENCE, IGNORED)
        site.outlives('SIGTERM')
        site.signal('SIGKILL')
        site.wait_exit()
    status, said = site.tell('triage')
    assert status == 0, said
    stopped = site.archive()
    assert [(run['verdict'], run['confidence'], run['signal']) for run in stopped] == [
        ('stopped', 'likely', 'SIGTERM')
    ] * 3
    assert 'as pid 1 of its container it ignores SIGTERM' in stopped[0]['summary']
    facts = ' '.join(each['fact'] for each in stopped[0]['evidence'])
    assert 'MainThread was in ' in facts and 'the process lived on for ' in facts
    status, said = site.tell('status')
    assert status == 0 and 'CRASH LOOP' not in said, said


@pytest.mark.root
def test_a_hang_that_began_before_sigterm_is_a_hang(site):
    site.run_as(Setting(prefix=PID_1.prefix, options=(*PID_1.options, ('stall', '1s'))))
    for _ in range(site.threads):
        site.background('/wait')
    wait_for(lambda: site.recording().words['hung_since'], PATIENCE, 'the hang')
    site.outlives('SIGTERM')
    site.signal('SIGKILL')
    site.wait_exit()
    status, said = site.tell('triage')
    assert status == 1, said
    run = site.newest()
    assert (run['verdict'], run['signal']) == ('hung', 'SIGTERM')
    assert 'when it was asked to stop by SIGTERM' in run['summary']
    assert 'SIGTERM arrived at ' in ' '.join(each['fact'] for each in run['evidence'])


@pytest.mark.root
def test_a_hang_that_begins_after_sigterm_is_part_of_the_stop(site):
    site.run_as(Setting(prefix=PID_1.prefix, options=(*PID_1.options, ('stall', '1s'))))
    site.outlives('SIGTERM')
    for _ in range(site.threads):
        site.background('/wait')
    wait_for(lambda: site.recording().words['hung_since'], PATIENCE, 'the hang')
    site.signal('SIGKILL')
    site.wait_exit()
    site.tell('triage')
    run = site.newest()
    assert (run['verdict'], run['confidence']) == ('stopped', 'likely')
    assert 'All 4 workers have been busy' in ' '.join(each['fact'] for each in run['evidence'])


@pytest.mark.root
@pytest.mark.parametrize('name', ['SIGTRAP', 'SIGSYS', 'SIGPROF', 'SIGVTALRM', 'SIGPWR', 'SIGIO'])
def test_pid_1_survives_a_signal_that_leaves_no_mark(name):
    """So such a signal is no possible cause where pid 1 of a container has vanished."""
    program = 'input(); print("alive", flush=True)'
    process = subprocess.Popen(
        [*PID_1.prefix, sys.executable, '-c', program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        wait_for(lambda: children.read_text(), PATIENCE, 'pid 1')
        os.kill(int(children.read_text()), getattr(signal, name))
        said, _ = process.communicate('go\n')
    assert (said, process.returncode) == ('alive\n', 0)


def test_a_stop_that_waits_for_a_full_pipe(tmp_path):
    site = SiteWithFullOutput(tmp_path / 'site').create()
    try:
        site.run_as(FULL)
        site.background('/chatter')
        wait_for(lambda: site.recording().in_flight, PATIENCE, 'the request')
        site.outlives('SIGINT')
        site.signal('SIGKILL')
        assert site.wait_exit() == -signal.SIGKILL
        os.close(site.unread)
        status, said = site.tell('triage')
        assert status == 0, said
        run = site.newest()
    finally:
        site.destroy()
    assert (run['verdict'], run['confidence'], run['signal']) == ('stopped', 'likely', 'SIGINT')
    facts = ' '.join(each['fact'] for each in run['evidence'])
    assert 'SIGINT arrived at ' in facts and 'GET /chatter for ' in facts
    assert not [words for words in run['ruled_out'] if words.startswith('Not SIGTERM, SIGINT')]


def test_a_library_that_aborts_after_the_end_of_python(site):
    """An exit handler in C runs after Python has ended, and faulthandler is off by then."""
    site.run_as(FULL)
    site.get('/abort_at_exit')
    site.signal('SIGINT')
    assert site.wait_exit() == -signal.SIGABRT
    site.tell('triage')
    run = site.newest()
    assert (run['verdict'], run['confidence'], run['signal']) == ('stopped', 'strong', 'SIGINT')
    facts = ' '.join(each['fact'] for each in run['evidence'])
    assert 'how the process ended after that is not known' in facts


def test_a_sigterm_that_a_handler_of_the_site_obeys_is_strong(site):
    """Its mark is missing, because the handler was set later: only the exit is recorded."""
    site.publish(
        """
import signal, sys
signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
""",
        'ZlateHandler',
    )
    site.run_as(FULL)
    site.get('/')
    wait_for(lambda: site.recording().words['unmarked'], PATIENCE, 'the next round')
    site.signal('SIGTERM')
    assert site.wait_exit() == 0
    site.tell('triage')
    run = site.newest()
    assert (run['verdict'], run['confidence'], run['signal']) == ('stopped', 'strong', None)
