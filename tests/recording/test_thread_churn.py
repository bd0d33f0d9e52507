"""Many threads start, serve one request each and end: nothing leaks, and no slot is lost."""

import json
import sys

import pytest
from support.childprograms import PROGRAMS
from support.childprograms import run_python

#: The sweep finds leaks of 40 bytes for each thread, the other test leaks of 160 bytes.
THREADS = [
    pytest.param(10_000, marks=pytest.mark.slow(20)),
    pytest.param(100_000, marks=pytest.mark.sweep),
]
#: At most this much may stay in allocators and caches (bytes, objects, mappings).
MEMORY, OBJECTS, MAPPINGS = 3 << 20, 2000, 16

pytestmark = [
    pytest.mark.xdist_group('churn'),
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc'),
]


@pytest.fixture(scope='module', params=THREADS)
def churn(request, tmp_path_factory):
    """The output of the program, which runs once, and the number of threads."""
    done = run_python(
        PROGRAMS / 'thread_churn.py', tmp_path_factory.mktemp('churn'), request.param, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout) | {'wanted': request.param}


def growth(churn, what):
    return churn['end'][what] - churn['warm'][what]


def test_each_thread_serves_its_request(churn):
    assert (churn['odd'], churn['findings'], churn['lives']) == ([], [], True)
    assert churn['threads'] >= churn['wanted'] and churn['beats'] > 100


def test_no_request_is_lost(churn):
    """Each request is recorded, or counted as one without a slot, which happens only when too many
    threads serve at the same time.
    """
    assert (churn['numbers'], churn['overflow']) == (churn['done']['slot'], churn['done']['none'])
    assert churn['numbers'] + churn['overflow'] == churn['threads']
    assert 0 < churn['overflow'] < churn['threads'] / 20
    assert (churn['in_flight'], churn['last']) == (0, churn['numbers'])


def test_no_slot_is_lost(churn):
    """The program waits before each batch until all slots are free, and fails if this takes too
    long.
    """
    assert churn['done']['slot'] > 0.9 * churn['wanted']


@pytest.mark.parametrize('what', ['descriptors', 'tasks', 'timers'])
def test_no_descriptor_task_or_timer_leaks(churn, what):
    assert growth(churn, what) == 0


@pytest.mark.parametrize(
    'what, most', [('resident', MEMORY), ('objects', OBJECTS), ('mappings', MAPPINGS)]
)
def test_memory_objects_and_mappings_do_not_grow(churn, what, most):
    assert growth(churn, what) < most


def test_slow_requests_are_noticed(churn):
    assert churn['slow'] > 10


def test_no_hang_is_reported(churn):
    assert churn['hangs'] == []
