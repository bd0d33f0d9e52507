"""A process that replaces itself by another program (os.execv) keeps pid and start time, but its
run is over.
"""

import json
import sys

import pytest
from support.deaths import PATIENCE
from support.deaths import Site
from support.zopekit import listens
from support.zopekit import wait_for

from Products.StabilityMonitor.postmortem.allruns import AllRuns
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import is_alive
from Products.StabilityMonitor.store.rundirectory import may_live
from Products.StabilityMonitor.system.processidentity import process_is_there

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc')


def context(victim):
    return json.loads((victim.path / CONTEXT).read_text())


def test_a_run_whose_process_replaced_itself_is_judged(start):
    victim = start('exec_in_place').go('replaced')
    assert process_is_there(context(victim)['identity']) is True
    assert not may_live(victim.path)
    assert AllRuns(victim.base).living == []
    (record,) = triage(victim.base)
    assert victim.lives
    assert (record.verdict, record.confidence) == ('vanished', 'strong')
    assert 'replaced itself by another program' in record.summary
    assert [cause.partition(':')[0] for cause in record.candidates] == [
        'os.execv or a function like it'
    ]
    assert f'process {victim.pid} still exists' in record.ruled_out[0]
    assert [request.path for request in record.requests] == ['/the/request']


def test_after_the_end_of_that_process_exec_is_one_of_the_causes(start):
    victim = start('exec_in_place').go('replaced')
    victim.clean_up()
    (record,) = triage(victim.base)
    assert record.verdict == 'vanished'
    assert len([cause for cause in record.candidates if 'os.execv' in cause]) == 1
    assert len(record.candidates) > 1


def test_without_a_lock_a_process_that_exists_counts_as_the_run(start):
    victim = start('exec_in_place').go('replaced')
    (victim.path / CONTEXT).write_text(json.dumps(context(victim) | {'locked': False}))
    assert is_alive(victim.path) is True
    assert may_live(victim.path)
    assert triage(victim.base) == []


def test_a_run_that_lost_its_lock_to_other_code_still_lives(start):
    """Code that closes all descriptors frees the lock, but the black box stays mapped."""
    victim = start('close_descriptors').go('closed')
    assert is_alive(victim.path) is True
    assert may_live(victim.path)
    assert triage(victim.base) == []
    assert victim.base.waiting() == [victim.path.name]


@pytest.mark.zope
def test_a_zope_that_restarts_in_place_judges_its_last_run(tmp_path):
    site = Site(tmp_path / 'site').create()
    try:
        site.start()
        run, pid = site.run_directory.name, site.pid
        site.background('/restart_in_place')
        wait_for(lambda: run in site.archived(), PATIENCE, 'the end of the first run is archived')
        wait_for(lambda: listens(site.port), PATIENCE, 'the second run answers')
        assert site.get('/clock').status == 200
        assert site.pid == pid and site.running
        previous = site.previous()
        assert (previous['run'], previous['verdict']) == (run, 'vanished')
        assert [request['path'] for request in previous['requests']] == ['/restart_in_place']
        assert 'replaced itself by another program' in site.event_log.read_text()
        assert site.run_directory.name != run
    finally:
        site.destroy()
