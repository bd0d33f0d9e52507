"""Real preforking servers: each worker of gunicorn has its own run, and the master does not count
as a failed start.
"""

import http.client
import os
import signal
import time
from pathlib import Path

import pytest
from support import zopekit
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.zopekit import CHECKOUT

from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import name_facts
from Products.StabilityMonitor.system import processend

pytestmark = pytest.mark.zope
pytest.importorskip('gunicorn', reason='gunicorn is not installed')

CRASH = '''
def whoami(self):
    import os
    return str(os.getpid())

def sleep(self):
    import time
    time.sleep(60)

def crash(self):
    import ctypes
    ctypes.string_at(0)

def forked_helper(self):
    """Fork a child that dies of a signal, as code of a site might."""
    import os
    child = os.fork()
    if child == 0:
        os.abort()
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
'''


class Gunicorn(zopekit.ZopeInstance):
    words = ('--workers', '2', '--preload')

    def command(self):
        return [
            self.python,
            '-m',
            'gunicorn',
            '--paste',
            str(self.home / 'etc' / 'zope.ini'),
            '--bind',
            f'127.0.0.1:{self.port}',
            *self.words,
        ]


class GunicornWithoutPreload(Gunicorn):
    words = ('--workers', '1')  # each worker opens the FileStorage, which allows only one process


@pytest.fixture(params=[Gunicorn, GunicornWithoutPreload])
def gunicorn(request, tmp_path):
    server = request.param(tmp_path)
    server.create()
    server.publish(CRASH)
    try:
        yield server.start()
    finally:
        server.destroy()


class ImpatientGunicorn(Gunicorn):
    words = ('--workers', '1', '--timeout', '3')


def test_a_worker_that_gunicorn_ends_for_being_too_slow_was_not_aborted(tmp_path):
    """The master sends SIGABRT; faulthandler dumps, and the handler of gunicorn exits."""
    server = ImpatientGunicorn(tmp_path)
    server.create()
    server.publish(CRASH)
    try:
        server.start()
        server.background('/sleep')
        zopekit.wait_for(server.archive, 60)
        (record,) = server.archive()
    finally:
        server.destroy()
    assert (record['verdict'], record['confidence']) == ('signalled', 'strong')
    assert 'GET /sleep had taken' in record['summary'] and 'no answer' in record['summary']
    (slow,) = [request for request in record['recent'] if request['path'] == '/sleep']
    assert slow['status'] == 0


def living(server):
    """Return the pids of the runs that are not judged yet."""
    return {name_facts(run.name)[1] for run in (server.stability / 'runs').glob('2*')}


def pidfds(pid):
    links = [os.readlink(link) for link in Path(f'/proc/{pid}/fd').iterdir() if link.is_symlink()]
    return links.count('anon_inode:[pidfd]')


@pytest.mark.skipif(not processend.is_possible(), reason='no pidfd here')
def test_workers_and_master_see_each_others_end(tmp_path):
    """After the fork a worker keeps none of the descriptors of its master: it has its own."""
    server = Gunicorn(tmp_path, options={'sample-interval': '100ms'})
    server.create()
    try:
        server.start()

        def all_watch_all():
            server.get('/')  # a worker arms at its first request
            return [pidfds(pid) for pid in living(server)] == [2, 2, 2]

        zopekit.wait_for(all_watch_all, 60, 'two workers and their master')
        killed = max(living(server) - {server.pid})
        os.kill(killed, signal.SIGKILL)
        archive = Archive(Base(server.stability))

        def judged():
            server.get('/')
            return [run for run in archive.summaries() if run.pid == killed and run.amendments]

        (run,) = zopekit.wait_for(judged, 60, 'the witness')
        assert (run.verdict, run.confidence, run.signal) == ('killed', 'certain', 'SIGKILL')
        zopekit.wait_for(all_watch_all, 60, 'the next worker')
    finally:
        server.destroy()


class ThreadedGunicorn(Gunicorn):
    words = ('--workers', '1', '--worker-class', 'gthread', '--threads', '4')

    def tell(self, *words):
        where = ('--client-home', self.client_home)
        return run_python(*COMMAND, *where, *words, timeout=120, cwd=CHECKOUT)


def test_a_thread_of_gunicorn_that_is_busy_is_no_hang(tmp_path):
    """gunicorn starts the other threads when it needs them; its loop runs in MainThread."""
    options = {'stall': '2s', 'slow-request': '1s', 'sample-interval': '100ms'}
    server = ThreadedGunicorn(tmp_path, options=options)
    server.publish(CRASH).create()
    try:
        server.start()
        server.background('/sleep')
        zopekit.wait_for(lambda: 'serves GET /sleep' in server.tell('stacks').stdout)
        time.sleep(3 * 2)
        told = server.tell('status')
        assert (told.returncode, 'HANGS' in told.stdout) == (0, False), told.stdout
        assert 'waits for connections: the loop of gunicorn' in server.tell('stacks').stdout
        for _ in range(3):
            server.background('/sleep')
        words = 'All 4 workers have been busy'
        zopekit.wait_for(lambda: words in server.tell('status').stdout, what=words)
        (run,) = (server.stability / 'runs').glob('2*')
        os.kill(name_facts(run.name)[1], signal.SIGKILL)  # its successor judges it
        zopekit.wait_for(server.archive, 120)
        (record,) = server.archive()
    finally:
        server.destroy()
    assert (record['verdict'], record['hangs'][0]['reason']) == ('hung', 'workers')


def by_pid(server):
    return {record['pid']: record for record in server.archive()}


def test_a_crashed_worker_is_judged_while_its_server_lives(gunicorn):
    gunicorn.get('/whoami')
    with pytest.raises((OSError, http.client.HTTPException)):
        gunicorn.get('/crash')
    zopekit.wait_for(
        lambda: (
            gunicorn.get('/whoami').status == 200
            and any(r['verdict'] == 'crashed' for r in gunicorn.archive())
        )
    )
    crashed = [r for r in gunicorn.archive() if r['verdict'] == 'crashed']
    assert len(crashed) == 1
    assert [r['path'] for r in crashed[0]['requests'] if r['crashed']] == ['/crash']
    assert crashed[0]['pid'] != gunicorn.pid


def test_the_master_is_not_a_failed_start(gunicorn):
    gunicorn.get('/whoami')
    gunicorn.kill(signal.SIGTERM)
    gunicorn.wait_exit()
    gunicorn.start()
    gunicorn.get('/whoami')
    zopekit.wait_for(gunicorn.archive)
    assert {r['verdict'] for r in gunicorn.archive()} == {'stopped'}


def test_the_death_of_a_forked_child_is_not_the_end_of_the_worker(gunicorn):
    assert gunicorn.get('/forked_helper').text == str(-signal.SIGABRT)
    gunicorn.kill(signal.SIGTERM)
    gunicorn.wait_exit()
    gunicorn.start()
    gunicorn.get('/whoami')
    zopekit.wait_for(gunicorn.archive)
    assert {r['verdict'] for r in gunicorn.archive()} == {'stopped'}
