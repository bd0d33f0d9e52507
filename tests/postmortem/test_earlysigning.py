"""The incidents that a start has found are signed once Zope serves, and when more is known."""

import pytest
from programs.handshake import until
from support.fakelife import FakeLife
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge import signedruns
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.postmortem import earlysigning
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.store import corerecords
from Products.StabilityMonitor.store.archive import Archive

CRASH = record(1, 'crashed', signal='SIGSEGV', requests=(request(path='/a'),))


@pytest.fixture
def life(tmp_path):
    life = FakeLife(tmp_path / 'stability')
    life.base.prepare()
    return life


@pytest.fixture
def kept(life):
    """The file of the signature of a crash that was just judged."""
    folder = life.base.runs / CRASH.run
    folder.mkdir()
    Archive(life.base).add(folder, CRASH)
    return life.base.archive / CRASH.run / 'signature.json'


def next_round(life):
    for duty in life.rounds:
        duty()
    until(lambda: not signedruns._TURNS)


def test_an_incident_is_signed_when_zope_serves(life, kept):
    life.is_serving = False
    earlysigning.sign_later(life, [CRASH])
    next_round(life)
    assert not kept.exists()
    life.is_serving = True
    next_round(life)
    assert kept.exists()


def test_it_is_signed_once(life, kept):
    earlysigning.sign_later(life, [CRASH])
    next_round(life)
    kept.unlink()
    next_round(life)
    assert not kept.exists()


def test_it_is_signed_again_when_its_core_file_was_read(life, kept):
    earlysigning.sign_later(life, [CRASH])
    next_round(life)
    core = CoreFile('/core', 10, 1.0, 'content')
    corerecords.add(life.base, CRASH.run, core, corerecords.Stamp())
    next_round(life)
    assert 'core.json' in kept.read_text()


@pytest.mark.parametrize(('verdict', 'signed'), [('crashed', 1), ('stopped', 0)])
def test_a_start_signs_only_incidents(life, monkeypatch, verdict, signed):
    begun = []
    monkeypatch.setattr(earlysigning, 'sign_later', lambda life, runs: begun.append(runs))
    monkeypatch.setattr(triage, 'triage', lambda *arguments, **more: [record(1, verdict)])
    life.errands = []
    triage.at_start(life)
    assert len(begun) == signed


@pytest.mark.parametrize('values', [{'role': 'script'}, {'is_watched': False}])
def test_a_script_or_a_process_without_a_heartbeat_signs_nothing(life, values):
    vars(life).update(values)
    earlysigning.sign_later(life, [CRASH])
    assert life.rounds == []
