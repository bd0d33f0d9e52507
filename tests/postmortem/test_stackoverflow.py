"""The end of a stack: real threads that go there, and come back or not; the table itself is tested
as verdicts.
"""

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
from Products.StabilityMonitor.reporting.renderers import run_lines
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base


@pytest.fixture
def ends(tmp_path):
    """The archived record of a process that went one way."""

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
    not sys.platform.startswith('linux'), reason='the gauge reads what only Linux tells'
)
class TestRealThreads:
    @pytest.mark.parametrize(
        'way, verdict, confidence, fact',
        [
            (
                ('overflow_in_worker',),
                'stack-overflow',
                'strong',
                'frames shown of the crashed thread are the same',
            ),
            (
                ('overflow_slowly',),
                'stack-overflow',
                'certain',
                'of it had been used in the request that crashed.',
            ),
            (
                ('survive_then', 'dive'),
                'stack-overflow',
                'strong',
                'of it had been used before.',
            ),
            (('survive_then', 'segv'), 'crashed', 'certain', 'had been nearly full: '),
        ],
    )
    def test_the_mark_never_sinks_and_says_nothing_alone(
        self, ends, way, verdict, confidence, fact
    ):
        run = ends(*way)
        assert (run.verdict, run.confidence) == (verdict, confidence)
        assert fact in ' '.join(evidence.fact for evidence in run.evidence)

    def test_size_mark_and_headroom_stand_with_the_thread(self, ends):
        run = ends('survive_then', 'segv')
        crashed = run.threads[0]
        assert crashed.crashed and 0.9 < crashed.stack_used / crashed.stack_size <= 1
        main = next(thread for thread in run.threads if thread.name == 'MainThread')
        assert 0 < main.stack_used < main.stack_size
        (title,) = (line for line in run_lines(run) if line.startswith('Crashed thread'))
        assert re.search(r' stack: 9\d\d KiB of 1\.0 MiB used, \d+ KiB never used:$', title)


@pytest.mark.parametrize(
    'recorded, ident', [(None, WORKER), (recording(), WORKER), (recording(), 0)]
)
def test_a_stack_that_is_not_known(recorded, ident):
    assert stackoverflow.stack_of(traces(recording=recorded), ident) == ThreadSlot()


def test_the_main_thread_s():
    words = {'main_stack': 8e6 / 1e9, 'main_stack_used': 1e6 / 1e9}
    found = stackoverflow.stack_of(traces(context={'main_ident': 5}, recording=recording(words)), 5)
    assert found == ThreadSlot(stack_size=8_000_000, stack_used=1_000_000)
