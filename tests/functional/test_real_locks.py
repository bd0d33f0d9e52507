"""Locks in a real Zope: deadlocks through locks without a plain name, and the lock of Data.fs."""

import os
import signal

import pytest
from support.aftermath import command
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

pytestmark = [pytest.mark.zope, pytest.mark.thorough]

EXTENSION = """
import threading
A, B, MEET = threading.Lock(), threading.Lock(), threading.Barrier(2)

def a_then_b():
    with A:
        MEET.wait()
        with B:
            return 'both'

def b_then_a():
    with B:
        MEET.wait()
        with A:
            return 'both'
"""
SOURCE = """
import threading
LOCKS = {'left': threading.Lock(), 'right': threading.Lock()}
MEET = threading.Barrier(2)

def get_lock(name):
    return LOCKS[name]

def left(self):
    return take('left', 'right')

def right(self):
    return take('right', 'left')

def take(first, second):
    with get_lock(first):
        MEET.wait()
        with get_lock(second):
            return 'both'

def external(self, name):
    from App.Extensions import getObject
    return getObject('pair', name)()

def leave_a_child(self):
    import os, time
    child = os.fork()
    if not child:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    return str(child)
"""
QUICK = {'slow-request': '1s', 'stall': '60s'}


@pytest.fixture
def site(tmp_path):
    site = ZopeInstance(tmp_path, options=QUICK).publish(SOURCE).create()
    folder = site.home / 'Extensions'
    folder.mkdir(exist_ok=True)
    (folder / 'pair.py').write_text(EXTENSION)
    yield site
    site.destroy()


def deadlock_of(site, *paths):
    """Return the event of the deadlock in which these requests are, once it is recorded."""
    for path in paths:
        site.background(path)

    def lasting():
        events = [hang for hang in site.report()['hangs'] if hang['kind'] == 'deadlock']
        return [event for event in events if event['number']]

    return wait_for(lasting, 60, 'the deadlock')[0]


def test_a_deadlock_between_two_external_methods_names_both_holders(site):
    site.start()
    site.get('/external?name=ready')  # two requests at once might load the file twice
    event = deadlock_of(site, '/external?name=a_then_b', '/external?name=b_then_a')
    assert event['summary'].startswith('Deadlock (inferred from the code): ')
    assert event['summary'].count(' waits for a lock: lock ') == 2
    assert event['summary'].count(', held by waitress-') == 2
    assert not event['possible'] and event['seconds'] > 0


def test_a_deadlock_through_locks_of_a_call_is_only_possible(site):
    site.start()
    event = deadlock_of(site, '/left', '/right')
    assert event['summary'].startswith('Possible deadlock (inferred): ')
    assert event['summary'].count(' waits for a lock taken by `get_lock(second)` in line ') == 2
    assert 'C code' not in event['summary']
    assert event['possible'] and event['known'] is False and event['severity'] == 'warning'
    site.kill()
    site.wait_exit()
    command(site, 'triage')
    (record,) = site.archive()
    facts = [item['fact'] for item in record['evidence']]
    assert any(fact.startswith('Possible deadlock (inferred): ') for fact in facts)
    assert not any('waits in C code' in fact for fact in facts)


def test_after_a_lock_error_the_child_that_was_left_behind_is_named(site):
    site.start()
    (run,) = [path.name for path in (site.stability / 'runs').iterdir()]
    parent, child = site.pid, int(site.get('/leave_a_child').text)
    try:
        site.kill()
        site.wait_exit()
        site.start(wait=False)
        assert site.wait_exit() == 1
        command(site, 'triage')
    finally:
        os.kill(child, signal.SIGKILL)
    record, _ = site.archive()
    (fact,) = [item['fact'] for item in record['evidence'] if item['source'] == 'lock file']
    assert record['verdict'] == 'startup-failed'
    assert fact.startswith(f'When the run was judged, process {child} (')
    assert fact.endswith(
        f'Data.fs.lock; process {parent} (run {run}), which took the lock, had left it behind.'
    )
