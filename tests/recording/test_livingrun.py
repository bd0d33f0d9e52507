"""What other parts add to a living run: work for its heartbeat, and answers for its mailbox."""

from types import SimpleNamespace

import pytest
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.interfaces import ILivingRun
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording.heartbeat import ROUND
from Products.StabilityMonitor.recording.heartbeat import Heartbeat
from Products.StabilityMonitor.recording.livingrun import LivingRun


@pytest.fixture
def life():
    """A living run without a heartbeat."""
    return LivingRun(SimpleNamespace(directory='x', group=''), Instance(), 'server', {})


@pytest.fixture
def beating(life):
    """A living run whose heartbeat beats only when a test calls `beat`."""
    heartbeat = Heartbeat(0.01, [], life.findings)
    life.rounds = SimpleNamespace(heartbeat=heartbeat, answers={})
    return life


def beat(life, times):
    for _ in range(times):
        life.rounds.heartbeat.beat()


def test_a_living_run_implements_its_interface(life):
    assert verifyObject(ILivingRun, life)
    assert life.path.is_absolute()


def test_a_duty_is_called_at_each_beat_or_in_each_round(beating):
    beats, rounds = [], []
    beating.every_beat(lambda: beats.append(1))
    beating.every_round(lambda: rounds.append(1))
    beat(beating, ROUND + 1)
    assert (len(beats), len(rounds)) == (ROUND + 1, 2)


@pytest.mark.parametrize('when', ['every_beat', 'every_round'])
def test_a_duty_that_is_there_already_is_not_added_again(beating, when):
    calls = []

    def duty():
        calls.append(1)

    getattr(beating, when)(duty)
    getattr(beating, when)(duty)
    beat(beating, 1)
    assert calls == [1]


@pytest.mark.parametrize('when', ['every_beat', 'every_round'])
def test_a_duty_that_raises_is_removed_with_a_finding(beating, when):
    calls = []

    def broken():
        calls.append(1)
        raise ValueError('the reason')

    getattr(beating, when)(broken)
    beat(beating, 2 * ROUND)
    (finding,) = beating.findings
    assert calls == [1]
    assert finding.id == 'heartbeat-broken' and 'the reason' in finding.detail


def test_an_answer_is_added_for_its_subject(beating):
    beating.answer('weather', lambda: {'sky': 'blue'})
    assert beating.rounds.answers['weather']() == {'sky': 'blue'}


def test_without_a_heartbeat_an_errand_runs_at_once_and_nothing_else_happens(life):
    done = []
    for register in (life.in_background, life.every_beat, life.every_round):
        register(lambda name=register.__name__: done.append(name))
    life.answer('weather', dict)
    assert done == ['in_background'] and not list(life.findings)
