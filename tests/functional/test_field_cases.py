"""Deaths of real Zopes as people reported them, and others of the same kinds.

The files ``test_long_stops``, ``test_life_ends``, ``test_visitors_wait``, ``test_real_locks`` and
``test_forked_workers`` have the other real cases, ``tests/postmortem/test_fieldcases.py`` those of
which only a fault log is known.
"""

import signal

import pytest
from support import standstills
from support.standstills import PATIENCE
from support.zopekit import wait_for

pytestmark = pytest.mark.zope
QUICK = {'sample-interval': '100ms', 'stall': '2s', 'slow-request': '1s'}
PAGES = """
import atexit, ctypes, threading, time

_libc = ctypes.PyDLL(None)  # keeps the GIL: the dump reads the frames of threads that wait
_libc.malloc.restype = ctypes.c_void_p
_libc.free.argtypes = [ctypes.c_void_p]
_libc.__assert_fail.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p]

def match_long(self):
    import re
    re.match(r'([a-z]+)+$', 'a' * 60 + '!')

def free_what_is_none(self):
    block = _libc.malloc(64)
    _libc.free(block + 8)

def fail_an_assertion(self):
    _libc.__assert_fail(b'queue != NULL', b'driver.c', 77, b'driver_poll')

def _wait_at_exit():
    time.sleep(600)

def exit_slowly(self):
    atexit.register(_wait_at_exit)

def crash_at_exit(self):
    atexit.register(ctypes.string_at, 0)

def overflow(self):
    ctypes.pythonapi.Py_FatalError(b'Unrecoverable stack overflow (used 1 kB) while normalizing')

def _work_on():
    time.sleep(600)

def leave_a_thread(self):
    threading.Thread(target=_work_on, name='TestWorker', daemon=False).start()
"""
CRASHING = """
import os, signal

def _start():
    os.kill(os.getpid(), signal.{signal})

_start()
"""
HANDLING = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
"""
#: Waits for an answer of a server that accepts no connection.
WAITING = """
import socket

def _fetch_settings():
    socket.create_connection(('127.0.0.1', {port})).recv(1)

_fetch_settings()
"""


class FieldSite(standstills.StandingSite):
    """One instance with the pages of the cases."""

    def create(self):
        self.publish(PAGES, 'TestCases')
        super().create()
        return self.configure(**QUICK)

    def product(self, source, name='TestCompiled'):
        """Add a product that imports a module with this source in its line 3."""
        folder = self.products_dir / 'Products' / name
        folder.mkdir(parents=True)
        (folder / '__init__.py').write_text(f'# a product\n\nfrom Products.{name} import _c\n')
        (folder / '_c.py').write_text(source)

    def judged(self):
        self.wait_exit()
        self.tell('triage')
        return self.archive()[0]


@pytest.fixture
def site(tmp_path):
    site = FieldSite(tmp_path / 'site').create()
    yield site
    site.destroy()


def facts(record):
    return ' '.join(each['fact'] for each in record['evidence'])


def test_a_regular_expression_that_keeps_the_gil_in_the_first_request_of_a_thread(site):
    site.start()
    wait_for(lambda: len(marks(site.run_directory)) == site.threads, PATIENCE, 'the timers')
    site.background('/match_long')
    wait_for(lambda: 'HANGS' in site.tell('status').stdout, PATIENCE, 'the hang')
    wait_for(
        lambda: b' in match_long' in b''.join(marks(site.run_directory)), PATIENCE, 'the stack'
    )
    site.kill(signal.SIGTERM)
    record = site.judged()
    assert (record['verdict'], record['signal']) == ('hung', 'SIGTERM')
    assert 'GET /match_long was in match ' in record['summary']


def test_a_crash_at_the_end_lost_no_request(site):
    site.start()
    site.get('/crash_at_exit')
    site.kill(signal.SIGINT)
    record = site.judged()
    assert (record['verdict'], record['confidence']) == ('crashed', 'certain')
    assert 'while it was ending already' in record['summary']
    assert 'so no request was lost' in record['summary']


def test_a_fatal_error_that_says_stack_overflow(site):
    site.start()
    assert site.crash('/overflow') == -signal.SIGABRT
    record = site.judged()
    assert (record['verdict'], record['confidence']) == ('stack-overflow', 'certain')
    assert 'in overflow, while serving GET /overflow' in record['summary']


def marks(run):
    return [path.read_bytes() for path in run.glob('watchdog-*.mark')]


@pytest.mark.parametrize(
    'page, words',
    [
        ('/free_what_is_none', '(): invalid pointer'),
        ('/fail_an_assertion', "driver.c:77: driver_poll: Assertion `queue != NULL' failed"),
    ],
)
def test_the_last_words_of_the_c_library(site, page, words):
    site.start()
    assert site.crash(page) == -signal.SIGABRT
    record = site.judged()
    assert (record['verdict'], record['confidence']) == ('aborted', 'certain')
    assert f'while serving GET {page}' in record['summary']
    assert words in facts(record), facts(record)


@pytest.mark.parametrize('name', ['SIGILL', 'SIGBUS', 'SIGABRT'])
def test_a_module_that_dies_of_a_signal_while_it_is_imported(site, name):
    site.product(CRASHING.format(signal=name))
    site.start(wait=False)
    record = site.judged()
    verdict = 'aborted' if name == 'SIGABRT' else 'crashed'
    assert (record['verdict'], record['confidence']) == (verdict, 'certain')
    assert 'while it started' in record['summary'], record['summary']
    assert '_call_with_frames_removed' not in record['summary']
    assert '_start' in record['summary'], record['summary']


@pytest.mark.parametrize('name', ['SIGRTMAX', 'SIGVTALRM', 'SIGPWR'])
def test_a_signal_that_leaves_no_mark_is_one_of_the_causes(site, name):
    # A machine that stood still for longer than "stall" just before the signal would be a hang.
    site.configure(**{**QUICK, 'stall': '30s'}).start()
    site.kill(getattr(signal, name))
    record = site.judged()
    assert (record['verdict'], record['confidence']) == ('vanished', 'weak'), record
    assert any('signal that leaves no mark' in cause for cause in record['candidates'])


@pytest.mark.parametrize(
    'page, place',
    [
        ('/exit_slowly', '_wait_at_exit'),
        ('/leave_a_thread', 'waits for other threads to end: TestWorker'),
    ],
)
def test_a_stop_that_does_not_end_is_placed(site, page, place):
    site.start()
    site.get(page)
    before = site.recording().last_sample.monotonic
    wait_for(  # the heartbeat has seen MainThread in the server's loop
        lambda: site.recording().last_sample.monotonic > before + 0.5, PATIENCE, 'some beats'
    )
    site.kill(signal.SIGINT)
    wait_for(lambda: 'STOPS SLOWLY' in site.tell('status').stdout, PATIENCE, 'the slow stop')
    assert place in site.tell('status').stdout
    site.kill(signal.SIGKILL)
    record = site.judged()
    assert (record['verdict'], record['signal']) == ('stopped', 'SIGINT')
    assert place in facts(record)
    assert not record['hangs'] or {hang['kind'] for hang in record['hangs']} == {'slow-stop'}


def test_a_stop_by_a_handler_of_the_site_that_does_not_end(site):
    """Its signal leaves no mark, because the handler was set after the start of the recording."""
    site.publish(HANDLING, 'ZlateHandler')
    site.start()
    site.get('/exit_slowly')
    before = site.recording().last_sample.monotonic
    wait_for(lambda: site.recording().last_sample.monotonic > before + 0.5, PATIENCE, 'some beats')
    site.kill(signal.SIGTERM)
    wait_for(
        lambda: '_wait_at_exit' in site.tell('status').stdout,
        PATIENCE,
        'the place of the slow stop',
    )
    site.kill(signal.SIGKILL)
    record = site.judged()
    assert (record['verdict'], record['confidence'], record['signal']) == (
        'stopped',
        'likely',
        None,
    )
    assert 'MainThread was in _wait_at_exit' in record['summary']


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGKILL'])
def test_a_start_that_waits_is_placed(site, name):
    site.product(WAITING.format(port=site.silent.getsockname()[1]))
    site.start(wait=False)
    told = []

    def is_told():
        told[:] = [site.tell('status')]
        return 'STARTS SLOWLY' in told[0].stdout

    wait_for(is_told, PATIENCE, 'the slow start')
    assert told[0].returncode == 0 and '_fetch_settings' in told[0].stdout
    assert '_fetch_settings' in site.tell('checks').stdout
    site.kill(getattr(signal, name))
    record = site.judged()
    verdict = 'startup-failed' if name == 'SIGKILL' else 'stopped'
    assert record['verdict'] == verdict, record['summary']
    assert 'did not get ready in ' in record['summary'] and '_fetch_settings' in record['summary']
