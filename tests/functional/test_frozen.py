"""A real Zope that is frozen by SIGSTOP for several times `stall`: it has not hung.

What is measured is told in docs/facts.rst.
"""

import time

import pytest
from support.deaths import PATIENCE
from support.standstills import STANDING
from support.standstills import StandingSite
from support.zopekit import wait_for

from Products.StabilityMonitor.postmortem import hangnotes

pytestmark = [pytest.mark.zope, pytest.mark.thorough]
#: Seconds: three times the option "stall" of STANDING.
FROZEN = 6.5


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    site = StandingSite(tmp_path_factory.mktemp('site')).create()
    yield site
    site.destroy()


def freeze(site, path=''):
    """Let it serve a request, and stop it for FROZEN seconds; return its run."""
    site.stop()
    site.run_as(STANDING)
    wait_for(lambda: site.recording().samples, PATIENCE, 'the heartbeat')
    if path:
        site.background(path)
        wait_for(lambda: site.recording().in_flight, PATIENCE, 'the request')
    site.signal('SIGSTOP')
    time.sleep(FROZEN)
    return site.run_directory.name


def beats_on(site):
    """Wait for some beats after SIGCONT, until the watchdog's mark counts as survived."""
    before = site.recording().last_sample.monotonic
    wait_for(lambda: site.recording().last_sample.monotonic > before + 1, PATIENCE, 'beats')


@pytest.mark.parametrize('path', ['', '/sleep_long'], ids=['idle', 'busy'])
def test_a_process_that_was_frozen_has_not_hung(site, path):
    run = freeze(site, path)
    site.signal('SIGCONT')
    wait_for(
        lambda: [note for note in site.recording().notes if note.kind == 'frozen-ended'],
        PATIENCE,
        'the note',
    )
    notes = site.recording().notes
    assert hangnotes.lasting(notes) is None
    slow = [note.seconds for note in notes if note.kind == 'slow']
    assert not slow or min(slow) < FROZEN - 2, 'the request is slow only by its own time'
    assert site.recording().survived['watchdog'] > 0, 'the timer had expired meanwhile'
    beats_on(site)
    site.end('SIGKILL')
    site.run_as(STANDING)
    previous = site.previous()
    assert (previous['run'], previous['verdict']) == (run, 'vanished'), previous['evidence']
    assert [hang['kind'] for hang in previous['hangs']] == ['frozen']
    (hang,) = previous['hangs']
    assert FROZEN - 2 < hang['seconds'] < FROZEN + PATIENCE
    assert 'The process was frozen for ' in str(previous['evidence'])


@pytest.mark.parametrize('path', ['', '/sleep_long'], ids=['idle', 'busy'])
def test_a_process_that_is_killed_while_it_is_frozen_has_not_hung(site, path):
    run = freeze(site, path)
    site.end('SIGKILL')
    site.run_as(STANDING)
    previous = site.previous()
    assert (previous['run'], previous['verdict']) == (run, 'vanished'), previous['evidence']
    assert previous['hangs'] == []
    assert 'Whether it was frozen then (SIGSTOP' in str(previous['evidence'])


@pytest.mark.parametrize('path', ['', '/sleep_long'], ids=['idle', 'busy'])
def test_a_frozen_process_that_was_asked_to_stop_was_stopped(site, path):
    """Its watchdog has expired, and SIGTERM waits: both come when it goes on."""
    run = freeze(site, path)
    site.signal('SIGTERM')
    site.end('SIGCONT')
    site.run_as(STANDING)
    previous = site.previous()
    assert previous['run'] == run
    if not (site.stability / 'archive' / run / 'SIGTERM.mark').exists():
        # faulthandler was just writing the stack for the watchdog, and so SIGTERM left no mark
        assert previous['verdict'] == 'vanished'
        return
    assert previous['verdict'] == 'stopped', previous['evidence']
    assert 'the process was frozen (SIGSTOP' in str(previous['evidence'])


def test_status_and_stacks_say_that_it_is_stopped(site):
    freeze(site, '/sleep_long')
    shown = site.tell('status').stdout
    assert 'STOPPED: ' in shown and 'HANGS' not in shown
    shown = site.tell('stacks').stdout
    assert 'All its threads are stopped' in shown
    site.signal('SIGCONT')
    beats_on(site)
    shown = site.tell('status').stdout
    assert 'STOPPED' not in shown and 'HANGS' not in shown
