"""A hundred thousand threads start, serve a request each and end: nothing leaks, and no slot is
lost.
"""

import json
import sys

import pytest
from support.childprograms import PROGRAMS
from support.childprograms import run_python

THREADS = 100_000
#: What so many lives may leave in allocators and caches; a leak of 40 bytes each would be more.
MEMORY, OBJECTS, MAPPINGS = 3 << 20, 2000, 16

pytestmark = [
    pytest.mark.slow(100),
    pytest.mark.xdist_group('churn'),
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='counts in /proc what is held'),
]


@pytest.fixture(scope='module')
def churn(tmp_path_factory):
    """What the program says, once."""
    done = run_python(
        PROGRAMS / 'thread_churn.py', tmp_path_factory.mktemp('churn'), THREADS, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def growth(churn, what):
    return churn['end'][what] - churn['warm'][what]


def test_each_thread_served_its_request(churn):
    assert (churn['odd'], churn['findings'], churn['lives']) == ([], [], True)
    assert churn['threads'] >= THREADS and churn['beats'] > 100


def test_no_request_is_lost(churn):
    """Each is recorded, or counted as one for which there was no slot, which happens to crowds
    only.
    """
    assert (churn['numbers'], churn['overflow']) == (churn['done']['slot'], churn['done']['none'])
    assert churn['numbers'] + churn['overflow'] == churn['threads']
    assert 0 < churn['overflow'] < churn['threads'] / 20
    assert (churn['in_flight'], churn['last']) == (0, churn['numbers'])


def test_no_slot_is_lost(churn):
    """The program waits before each batch until all are free, and fails when they never are."""
    assert churn['done']['slot'] > 0.9 * THREADS


@pytest.mark.parametrize('what', ['descriptors', 'tasks', 'timers'])
def test_nothing_is_left_over(churn, what):
    assert growth(churn, what) == 0


@pytest.mark.parametrize(
    'what, most', [('resident', MEMORY), ('objects', OBJECTS), ('mappings', MAPPINGS)]
)
def test_nothing_grows(churn, what, most):
    assert growth(churn, what) < most


def test_slow_requests_were_seen_and_let_go(churn):
    assert churn['slow'] > 10


def test_no_hang_is_seen_in_health(churn):
    assert churn['hangs'] == []
