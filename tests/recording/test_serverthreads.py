"""How many threads gunicorn and uWSGI may use is read from their own objects."""

import concurrent.futures
import sys
import types

import pytest

from Products.StabilityMonitor.recording import serverthreads
from Products.StabilityMonitor.recording.serverthreads import most_threads

GTHREAD = '/env/gunicorn/workers/gthread.py'
LOOP = 'def run(self, call):\n    return call()\n'


def looping(worker, file=GTHREAD, function='run'):
    """Return what is read while this worker runs its loop."""
    names = {}
    exec(compile(LOOP.replace('run', function), file, 'exec'), names)
    return names[function](worker, most_threads)


def worker(**values):
    return types.SimpleNamespace(**values)


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        yield pool


def test_the_size_of_the_pool_is_read(pool):
    assert looping(worker(tpool=pool)) == 7


def test_without_a_loop_of_gunicorn_nothing_is_read(pool):
    assert most_threads() == 0
    assert looping(worker(tpool=pool), file='/env/other/workers/gthread.py') == 0
    assert looping(worker(tpool=pool), function='walk') == 0


@pytest.mark.parametrize(
    'unknown', [worker(), 5, worker(tpool=None), worker(tpool=worker(_max_workers='many'))]
)
def test_another_release_has_an_unknown_number(unknown):
    assert looping(unknown) == 0


@pytest.mark.parametrize(
    'options, most',
    [
        ({'threads': b'4'}, 4),
        ({}, 0),
        ({'threads': True}, 1),  # as uWSGI writes an option without a value
        ({'threads': b'many'}, 0),
        ({'threads': [b'1', b'2']}, 0),
        ({'threads': b'-1'}, 0),
        (None, 0),
    ],
)
def test_the_option_of_uwsgi_is_read(monkeypatch, options, most):
    module = types.ModuleType('uwsgi')
    module.opt = options
    monkeypatch.setitem(sys.modules, 'uwsgi', module)
    assert most_threads() == most


def test_the_installed_gunicorn_has_these_names():
    gthread = pytest.importorskip('gunicorn.workers.gthread')
    code = gthread.ThreadWorker.run.__code__
    name, file = serverthreads._LOOP
    assert code.co_name == name and code.co_filename.endswith(file)
