"""Real preforking servers: each worker of gunicorn has its own run, and the master does not count
as a failed start.
"""

import http.client
import signal

import pytest
from support import zopekit

pytestmark = pytest.mark.zope
pytest.importorskip('gunicorn', reason='gunicorn is not installed')

CRASH = '''
def whoami(self):
    import os
    return str(os.getpid())

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
