"""Stack overflows of real threads.  The table of `stackoverflow` is tested in test_verdict.py."""

import re
import signal
import sys

import pytest
from support.syntheticruns import WORKER
from support.syntheticruns import recording
from support.syntheticruns import traces
from support.victims import Victim

from Products.StabilityMonitor.model.records import ThreadSlot
from Products.StabilityMonitor.postmortem import stackoverflow
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.reporting.runtext import run_lines
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base


@pytest.fixture
def ends(tmp_path):
    """A function that lets a process die in a way and returns its archived record."""

    def ends(way, *words):
        base = Base(tmp_path / 'stability')
        victim = Victim(way, str(base.path), *words)
        try:
            assert victim.go().end() == -signal.SIGSEGV, victim.errors
        finally:
            victim.clean_up()
        (run,) = triage(base)
        return Archive(base).record(run.run)

    return ends


@pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux shows how much of a stack was used'
)
class TestRealThreads:
    @pytest.mark.parametrize(
        'way, verdict, confidence, fact',
        [
            (
                ('overflow_in_worker',),
                'stack-overflow',
                'strong',
                'frames shown for the crashed thread repeat the same',
            ),
            (
                ('overflow_slowly',),
                'stack-overflow',
                'certain',
                ' KiB, measured in the request that crashed.',
            ),
            (
                ('survive_then', 'dive'),
                'stack-overflow',
                'strong',
                ' KiB, measured earlier.',
            ),
            (('survive_then', 'segv'), 'crashed', 'certain', 'had been nearly full: '),
        ],
    )
    def test_a_high_water_mark_alone_is_no_overflow(self, ends, way, verdict, confidence, fact):
        run = ends(*way)
        assert (run.verdict, run.confidence) == (verdict, confidence)
        assert fact in ' '.join(evidence.fact for evidence in run.evidence)

    def test_the_crashed_thread_has_stack_size_mark_and_headroom(self, ends):
        run = ends('survive_then', 'segv')
        crashed = run.threads[0]
        assert crashed.crashed and 0.9 < crashed.stack_used / crashed.stack_size <= 1
        main = next(thread for thread in run.threads if thread.name == 'MainThread')
        assert 0 < main.stack_used < main.stack_size
        (title,) = (line for line in run_lines(run) if line.startswith('Crashed thread'))
        assert re.search(r' stack: at most 9\d\d KiB of 1\.0 MiB used:$', title)


@pytest.mark.parametrize(
    'recorded, ident', [(None, WORKER), (recording(), WORKER), (recording(), 0)]
)
def test_the_stack_of_an_unknown_thread_is_empty(recorded, ident):
    assert stackoverflow.stack_of(traces(recording=recorded), ident) == ThreadSlot()


def test_the_stack_of_the_main_thread_is_in_the_header():
    words = {'main_stack': 8e6 / 1e9, 'main_stack_used': 1e6 / 1e9}
    found = stackoverflow.stack_of(traces(context={'main_ident': 5}, recording=recording(words)), 5)
    assert found == ThreadSlot(stack_size=8_000_000, stack_used=1_000_000)
