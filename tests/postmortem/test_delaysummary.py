"""Where MainThread was before Zope served and while it stopped, as the next process says it."""

import threading

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import WORKER
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import recording
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import judge

MAIN = 0x7F0000000020
FRAMES = (Frame(threading.__file__, 3, 'wait'), Frame('/site/start.py', 9, 'connect'))
STACK = b'Stack (most recent call first):\n  File "/site/end.py", line 3 in tidy\n'
NO_FRAMES = b'Stack (most recent call first):\n  <no Python frame>\n'


def stood(kind, detail='', frames=FRAMES, ident=MAIN, ended=False):
    """The notes of a start or stop that took long from second 5 on."""
    title = 'Zope does not go on.'
    notes = [
        note(kind, 5.0, number=1, title=title, detail=detail),
        note(kind, 8.0, ident, number=2, title='MainThread', frames=frames),
    ]
    if ended:
        notes.append(note(f'{kind}-ended', 9.0, number=3, request=1, seconds=4.0, title=title))
    return tuple(notes)


def starting(**values):
    return recording(
        {'serving': 0}, served=0, samples=(sample(15),), notes=stood('slow-start', **values)
    )


def stopping(finished=0, **values):
    words = {'finished': STARTED + finished} if finished else {}
    return recording(words, samples=(sample(15),), notes=stood('slow-stop', **values))


class TestAStart:
    @pytest.mark.parametrize(
        'values, words',
        [
            (
                {'detail': 'ZEO at 10.0.0.5:8100'},
                'it did not get ready in 15 s: MainThread waited for ZEO at 10.0.0.5:8100.',
            ),
            ({}, 'it did not get ready in 15 s: MainThread was in connect (/site/start.py:9).'),
            ({'frames': ()}, 'it did not get ready in 15 s: MainThread ran no Python code.'),
            ({'ident': WORKER + 7}, 'it did not get ready in 15 s.'),
        ],
    )
    def test_a_failed_start_tells_where_it_stood(self, values, words):
        judgement = judge(traces(recording=starting(**values)))
        assert judgement.verdict == 'startup-failed' and judgement.summary.endswith(f'; {words}')

    def test_so_does_a_stop_before_it_was_ready(self):
        found = traces(recording=starting(), marks={'SIGTERM': mark(15.0)})
        judgement = judge(found)
        assert judgement.summary == (
            'Zope was stopped by SIGTERM; it did not get ready in 15 s: MainThread was in connect '
            '(/site/start.py:9).'
        )
        (fact,) = (evidence.fact for evidence in judgement.evidence if 'go on' in evidence.fact)
        assert fact.startswith('Zope does not go on; it lasted from ')
        assert fact.endswith(' until the run ended, for 10 s.')

    def test_a_start_that_went_on_is_not_told(self):
        assert 'ready in' not in judge(traces(recording=starting(ended=True))).summary

    @pytest.mark.parametrize('serving, told', [(False, True), (True, False)])
    def test_a_start_that_went_on_only_because_of_the_signal_is_told(self, serving, told):
        words = {'serving': STARTED + 9.5 if serving else 0}
        box = recording(
            words, served=0, samples=(sample(10),), notes=stood('slow-start', ended=True)
        )
        judgement = judge(traces(recording=box, marks={'SIGINT': mark(9.8)}))
        assert judgement.summary.startswith('Zope was stopped by SIGINT')
        assert ('it did not get ready in 10 s: MainThread was' in judgement.summary) == told

    def test_so_is_one_that_went_on_only_to_exit(self):
        box = recording(
            {'serving': 0, 'finished': STARTED + 9.1},
            served=0,
            samples=(sample(9),),
            notes=stood('slow-start', ended=True),
        )
        assert 'ready in 9 s: MainThread was in' in judge(traces(recording=box)).summary

    def test_it_is_no_hang_of_the_record(self):
        found = traces(recording=starting())
        record = incident.record(found, judge(found))
        assert [hang.kind for hang in record.hangs] == ['slow-start']
        assert not record.hung_at_the_end


class TestAStop:
    def test_a_stop_tells_where_it_stood(self):
        judgement = judge(traces(recording=stopping(finished=4)))
        assert judgement.summary == (
            'Zope came to a normal exit; MainThread was in connect (/site/start.py:9).'
        )

    def test_a_stop_that_went_on_is_a_plain_stop(self):
        judgement = judge(traces(recording=stopping(finished=4, ended=True)))
        assert judgement.summary == 'Zope came to a normal exit.'

    @pytest.mark.parametrize(
        'stack, words',
        [(STACK, 'was in tidy (/site/end.py:3)'), (NO_FRAMES, 'ran no Python code')],
    )
    def test_what_c_code_wrote_at_the_end_is_told(self, stack, words):
        box = recording({'finished': STARTED + 40}, samples=(sample(15),))
        judgement = judge(traces(recording=box, last_place=mark(70.0, stack)))
        assert judgement.summary == f'Zope came to a normal exit; MainThread {words}.'
        *_, last = judgement.evidence
        assert last.source == 'watchdog' and last.fact.startswith(f'MainThread {words} at 2026-')
        assert last.fact.endswith(', 30 s after the interpreter began its normal exit.')

    def test_its_time_is_a_sign_of_life(self):
        box = recording({'finished': STARTED + 40}, samples=(sample(15),))
        assert traces(recording=box, last_place=mark(70.0, STACK)).last_sign == STARTED + 70
