"""A process that was frozen: it did not hang, and its record says so."""

import os

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import note
from support.syntheticruns import quiet_world
from support.syntheticruns import recording
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.model.options import watchdog_times
from Products.StabilityMonitor.postmortem import evidence
from Products.StabilityMonitor.postmortem import freezes
from Products.StabilityMonitor.postmortem.verdict import judge

STALL = 30.0
OPTIONS = {'stall': STALL, 'sample-interval': 1.0}
TIMEOUT, _ = watchdog_times(STALL, 1.0)
STACK = (
    b'Current thread 0x00007f0000000030 (most recent call first):\n  File "/a.py", line 3 in f\n'
)


def run(folder, marks, later=(), options=OPTIONS):
    """Return the traces of a run that took a sample 60 s after its start, and those of `later`.

    `marks` is {name: for how many seconds after that sample it was written}; so are `later`.
    """
    dead = DeadRun(folder / 'stability', options=options)

    def write(recorder):
        recorder.stamp('armed', STARTED + 1)
        recorder.stamp('serving', STARTED + 2)
        recorder.begin('GET', '/page', _now=lambda: STARTED + 3)
        for after in (0.0, *later):
            recorder.sample(sample(60.0 + after))

    dead.box(write)
    (dead.path / 'watchdog.mark').write_bytes(bytes(1024))  # made when the run was armed
    for name, after in marks.items():
        dead.marked(name, STACK)
        written = STARTED + 60 + after
        os.utime(dead.path / f'{name}.mark', (written, written))
    return evidence.collect(dead.path, quiet_world(folder))


@pytest.mark.parametrize('after', [TIMEOUT - 2, TIMEOUT, TIMEOUT + 1.5])
def test_a_watchdog_that_fired_in_time_is_a_hang(tmp_path, after):
    found = run(tmp_path, {'watchdog': after})
    assert found.hang and not found.frozen
    assert judge(found).verdict == 'hung'


@pytest.mark.parametrize('later', [99.9, 100.0, 100.5])
def test_a_beat_that_was_interrupted_hides_no_freeze(tmp_path, later):
    """The process died before the heartbeat could say that it was frozen."""
    found = run(tmp_path, {'watchdog': 100.0, 'SIGTERM': 100.1}, later=[later])
    assert not found.hang and found.frozen > 90
    assert judge(found).verdict == 'stopped'


@pytest.mark.parametrize('after', [TIMEOUT + 4, 600.0, 86400.0])
def test_a_watchdog_that_fired_late_is_no_hang(tmp_path, after):
    """Its timer expired while the process was frozen; the stack was written afterwards."""
    found = run(tmp_path, {'watchdog': after})
    assert found.hang is None and found.frozen == pytest.approx(after)
    judgement = judge(found)
    assert judgement.verdict == 'vanished'
    facts = [each.fact for each in judgement.evidence]
    assert any('the process was frozen (SIGSTOP' in fact for fact in facts)


def test_a_late_watchdog_is_a_hang_if_a_worker_wrote_its_stack(tmp_path):
    """Workers write when the heartbeat has used CPU time: a frozen process uses none."""
    found = run(tmp_path, {'watchdog': 600.0, 'watchdog-0': TIMEOUT})
    assert found.hang and judge(found).verdict == 'hung'


def test_a_worker_that_wrote_its_stack_after_a_freeze_is_no_hang(tmp_path):
    found = run(tmp_path, {'watchdog': 600.0, 'watchdog-0': 600.0, 'SIGTERM': 600.0})
    assert not found.hang and not found.stuck
    assert judge(found).verdict == 'stopped'


def test_a_signal_that_waited_for_a_frozen_process_is_a_stop(tmp_path):
    found = run(tmp_path, {'SIGTERM': 600.0, 'watchdog': 600.0})
    judgement = judge(found)
    assert (judgement.verdict, judgement.signal) == ('stopped', 'SIGTERM')
    assert found.frozen == pytest.approx(600.0)


def test_a_signal_in_time_says_nothing_about_a_freeze(tmp_path):
    assert run(tmp_path, {'SIGTERM': 1.0}).frozen == 0.0


@pytest.mark.parametrize('stall', [2.0, 3.0, STALL])
def test_the_gil_that_was_held_twice_is_no_freeze(tmp_path, stall):
    """One sample got through between: after it the watchdog fired in time once more."""
    options = {'stall': stall, 'sample-interval': 0.1}
    timeout, _ = watchdog_times(stall, 0.1)
    between = timeout + 2.2
    found = run(tmp_path, {'watchdog': between + timeout}, later=[between], options=options)
    assert found.hang and not found.frozen


@pytest.mark.parametrize('options', [{}, {'stall': 'x'}, None, {'stall': 30.0}])
def test_without_options_nothing_is_known_about_a_freeze(tmp_path, options):
    dead = DeadRun(tmp_path / 'stability', options=options)
    dead.box(lambda recorder: recorder.sample(sample(60.0))).marked('watchdog', STACK)
    os.utime(dead.path / 'watchdog.mark', (STARTED + 9999, STARTED + 9999))
    found = evidence.collect(dead.path, quiet_world(tmp_path))
    assert found.frozen == 0.0 and found.hang


def test_what_vanished_may_have_been_frozen():
    """Nothing is left of a SIGSTOP before a SIGKILL.  A process that still exists is not dead."""
    fact = 'Whether it was frozen then (SIGSTOP, a debugger), and killed later, is not known.'
    assert fact in [each.fact for each in judge(traces()).evidence]
    assert fact not in [each.fact for each in judge(traces(still_there=True)).evidence]


def test_recorded_freezes_are_told():
    ended = note('frozen-ended', 50, seconds=40.0, title='The process was frozen for 40 s.')
    found = traces(recording=recording(notes=(ended,)))
    (told,) = freezes.freezes(found)
    assert told.fact == 'The process was frozen for 40 s. It went on at 2026-09-21 14:14:10 UTC.'
    assert told in judge(found).evidence


def test_of_many_freezes_the_last_are_told_and_the_others_counted():
    notes = tuple(
        note('frozen-ended', 10 * n, seconds=9.0, title='It was frozen.') for n in range(1, 7)
    )
    facts = [each.fact for each in freezes.freezes(traces(recording=recording(notes=notes)))]
    assert len(facts) == 4
    assert facts[-1] == 'Before that it was frozen 3 times, for 27 s.'
