"""What witnesses change in a record: the table of issue "Witnesses", for each verdict."""

import itertools
from dataclasses import replace

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import record

from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.witnesses import FAULT
from Products.StabilityMonitor.model.witnesses import OUT_OF_MEMORY
from Products.StabilityMonitor.model.witnesses import SENT
from Products.StabilityMonitor.model.witnesses import SOURCES
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.model.witnesses import amended

RULED_OUT = ('Not SIGTERM or SIGHUP: such a signal leaves a mark, and there is none.',)


def saw(source='sibling', after=1.0, **what):
    return Witness(source, STARTED + after, f'{source} saw it.', STARTED + 0.5, **what)


def run(verdict='vanished', confidence='likely', **values):
    return record(0, verdict, confidence=confidence, candidates=('SIGKILL', 'os._exit'), **values)


def end(found):
    return found.verdict, found.confidence, found.signal, found.exit_code


def test_without_a_witness_the_record_stays_the_same():
    judged = run()
    assert amended(judged, ()) is judged


@pytest.mark.parametrize('judged', ['vanished', 'unreadable'])
@pytest.mark.parametrize(
    'what, expected',
    [
        ({'signal': 'SIGKILL'}, ('killed', 'certain', 'SIGKILL', None)),
        ({'signal': 'SIGTERM'}, ('stopped', 'certain', 'SIGTERM', None)),
        ({'signal': 'SIGKILL', 'asked': 'SIGTERM'}, ('stopped', 'certain', 'SIGKILL', None)),
        ({'exit_code': 0, 'asked': 'SIGINT'}, ('stopped', 'certain', None, 0)),
        ({'signal': 'SIGSEGV'}, ('crashed', 'strong', 'SIGSEGV', None)),
        ({'signal': 'SIGSEGV', 'cause': FAULT}, ('crashed', 'certain', 'SIGSEGV', None)),
        ({'signal': 'SIGABRT'}, ('aborted', 'strong', 'SIGABRT', None)),
        ({'signal': 'SIGSEGV', 'asked': 'SIGTERM'}, ('crashed', 'strong', 'SIGSEGV', None)),
        ({'signal': 'SIGTRAP'}, ('signalled', 'certain', 'SIGTRAP', None)),
        (
            {'signal': 'SIGKILL', 'cause': OUT_OF_MEMORY},
            ('out-of-memory', 'certain', 'SIGKILL', None),
        ),
    ],
)
def test_a_status_decides_where_the_own_traces_decide_nothing(judged, what, expected):
    found = amended(run(judged), [saw(**what)])
    assert end(found) == expected
    assert found.candidates == () and found.summary != run().summary
    assert found.evidence[-1].source == 'another Zope'
    assert found.evidence[-1].fact.endswith(': sibling saw it.')


@pytest.mark.parametrize(
    'judged, expected',
    [('vanished', ('exited', 'certain')), ('unreadable', ('unreadable', 'weak'))],
)
@pytest.mark.parametrize('code', [0, 7])
def test_an_exit_was_without_clean_up_only_if_the_record_is_whole(judged, expected, code):
    found = amended(run(judged, 'weak'), [saw(exit_code=code)])
    assert end(found) == (*expected, None, code)
    assert f'exited with status {code}' in found.summary and found.candidates == ()
    assert ('os._exit' in found.summary) is (judged == 'vanished')


def test_of_a_damaged_record_it_is_not_said_what_it_lacks():
    found = amended(run('unreadable'), [saw(signal='SIGSEGV', cause=FAULT)])
    assert 'no stack' not in found.summary


@pytest.mark.parametrize(
    'what, expected',
    [
        ({'signal': 'SIGKILL'}, RULED_OUT),
        ({'exit_code': 3}, RULED_OUT),
        ({'signal': 'SIGTERM'}, ()),
        ({'signal': 'SIGHUP'}, ()),
        ({'signal': 'SIGKILL', 'cause': OUT_OF_MEMORY}, ()),
    ],
)
def test_what_was_seen_is_not_ruled_out_as_well(what, expected):
    assert amended(run(ruled_out=RULED_OUT), [saw(**what)]).ruled_out == expected


def test_a_moment_alone_is_evidence_and_decides_nothing():
    found = amended(run(), [saw()])
    assert end(found) == end(run()) and found.candidates == run().candidates
    assert found.evidence[-1].source == 'another Zope'


@pytest.mark.parametrize(
    'judged, what, confidence',
    [
        (run('stopped', 'strong', signal='SIGTERM'), {'exit_code': 0}, 'certain'),
        (run('stopped', 'strong', signal='SIGTERM'), {'signal': 'SIGTERM'}, 'certain'),
        (run('stopped', 'strong', phase='finished'), {'exit_code': 0}, 'certain'),
        (run('stopped', 'likely', signal='SIGTERM'), {'signal': 'SIGKILL'}, 'likely'),
        (
            run('stopped', 'likely', signal='SIGTERM'),
            {'signal': 'SIGKILL', 'asked': 'SIGTERM'},
            'certain',
        ),
        (run('stopped', 'likely'), {'exit_code': 0}, 'likely'),
        (run('hung', 'strong'), {'signal': 'SIGKILL'}, 'strong'),
        (run('crashed', 'certain', signal='SIGSEGV'), {'signal': 'SIGSEGV'}, 'certain'),
        (run('crashed', 'strong', signal='SIGSEGV'), {'signal': 'SIGSEGV'}, 'strong'),
        (
            run('crashed', 'strong', signal='SIGSEGV'),
            {'signal': 'SIGSEGV', 'cause': FAULT},
            'certain',
        ),
        (run('crashed', 'likely'), {'signal': 'SIGBUS'}, 'likely'),
        (run('aborted', 'strong', signal='SIGABRT'), {'signal': 'SIGABRT'}, 'strong'),
        (run('signalled', 'strong', signal='SIGHUP'), {'signal': 'SIGHUP'}, 'certain'),
        (run('signalled', 'strong', signal='SIGABRT'), {'exit_code': 1}, 'strong'),
        (
            run('out-of-memory', 'strong', signal='SIGKILL'),
            {'signal': 'SIGKILL', 'cause': OUT_OF_MEMORY},
            'certain',
        ),
        (run('out-of-memory', 'likely', signal='SIGKILL'), {'signal': 'SIGKILL'}, 'likely'),
        (run('startup-failed', 'likely'), {'exit_code': 1}, 'likely'),
        (run('host-restarted', 'strong'), {'signal': 'SIGKILL'}, 'strong'),
        (run('unhandled-exception', 'certain'), {'exit_code': 1}, 'certain'),
    ],
)
def test_of_any_other_run_it_is_evidence_and_may_make_it_certain(judged, what, confidence):
    found = amended(judged, [saw(**what)])
    assert (found.verdict, found.confidence) == (judged.verdict, confidence)
    assert found.summary == judged.summary
    assert found.signal == (judged.signal or what.get('signal'))
    assert found.exit_code == what.get('exit_code')
    assert len(found.evidence) == len(judged.evidence) + 1  # no contradiction


@pytest.mark.parametrize(
    'judged, what, confidence',
    [
        (run('crashed', 'certain', signal='SIGSEGV'), {'exit_code': 3}, 'strong'),
        (run('crashed', 'certain', signal='SIGSEGV'), {'signal': 'SIGKILL'}, 'strong'),
        (run('aborted', 'certain', signal='SIGABRT'), {'exit_code': 0}, 'strong'),
        (run('out-of-memory', 'likely', signal='SIGKILL'), {'exit_code': 0}, 'likely'),
        (run('stopped', 'strong', signal='SIGTERM'), {'signal': 'SIGSEGV'}, 'strong'),
        (run('signalled', 'strong', signal='SIGHUP'), {'signal': 'SIGUSR1'}, 'strong'),
    ],
)
def test_a_contradiction_shows_both_sides_and_is_never_certain(judged, what, confidence):
    found = amended(judged, [saw(**what)])
    assert (found.verdict, found.confidence) == (judged.verdict, confidence)
    assert found.signal == judged.signal
    said = found.evidence[-1].fact
    assert f'"{judged.verdict}", {judged.signal}' in said
    assert (what.get('signal') or f'exit status {what.get("exit_code")}') in said


def test_witnesses_that_differ_are_both_shown_and_the_nearer_one_decides():
    log = saw('zdaemon', after=1, exit_code=3)
    waited = saw('run', after=9, signal='SIGKILL')
    found = amended(run(), [log, waited])
    assert end(found) == ('killed', 'strong', 'SIGKILL', None)
    assert 'SIGKILL, here exit status 3' in found.evidence[-1].fact
    assert [step.source for step in found.amendments] == ['zdaemon', 'run']
    first, second = found.amendments
    assert first.before.verdict == 'vanished' and first.after.verdict == 'exited'
    assert second.before == first.after and second.after.verdict == 'killed'


def test_a_witness_that_confirms_is_an_amendment_that_changes_nothing():
    one, two = saw('sibling', 1, signal='SIGKILL'), saw('zdaemon', 2, signal='SIGKILL')
    found = amended(run(), [two, one])
    assert end(found) == ('killed', 'certain', 'SIGKILL', None)
    first, second = found.amendments
    assert first.before != first.after == second.before == second.after


def test_a_cause_of_another_signal_is_not_that_of_the_status():
    status = saw('run', 1, signal='SIGKILL')
    kernel = saw('kernel', 2, signal='SIGSEGV', cause=FAULT)
    assert end(amended(run(), [status, kernel]))[:2] == ('killed', 'strong')


def test_the_order_in_which_witnesses_come_does_not_matter():
    several = [
        saw(source, after, **what)
        for (source, after), what in zip(
            itertools.product(('kernel', 'sibling', 'run'), (1, 2)),
            [
                {'signal': 'SIGKILL', 'cause': OUT_OF_MEMORY},
                {},
                {'signal': 'SIGKILL'},
                {'exit_code': 3},
                {'signal': 'SIGKILL', 'asked': 'SIGTERM'},
                {'signal': 'SIGKILL'},
            ],
            strict=True,
        )
    ]
    for judged in (run(), run('stopped', 'likely', signal='SIGTERM'), run('crashed', 'certain')):
        results = {
            repr(amended(judged, order)) for order in itertools.permutations(several[::2], 3)
        }
        assert len(results) == 1


def test_a_summary_is_amended_as_the_whole_record_is():
    judged = run()
    seen = [saw('sibling', signal='SIGKILL')]
    assert amended(judged.without_heavy(), seen) == amended(judged, seen).without_heavy()


def test_amendments_are_in_the_json():
    found = amended(run(), [saw('zdaemon', exit_code=3, core_dumped=False)])
    (row,) = found.to_json()['amendments']
    assert set(row) == {'time', 'source', 'before', 'after'}
    assert row['source'] == 'zdaemon'
    assert row['after'] == {
        'verdict': 'exited',
        'confidence': 'certain',
        'signal': None,
        'exit_code': 3,
    }
    assert RunRecord.from_json(found.to_json()).amendments == found.amendments


def test_a_source_of_a_later_release_counts_least():
    later = saw('of-2030', signal='SIGKILL')
    found = amended(run(), [later, saw('kernel', signal='SIGSEGV', cause=FAULT)])
    assert found.verdict == 'crashed'
    assert list(SOURCES)[0] == 'run'


def test_what_a_core_file_says_was_sent_is_no_crash():
    for signal in ('SIGSEGV', 'SIGABRT'):
        found = amended(run(), [saw('core', signal=signal, cause=SENT)])
        assert (found.verdict, found.confidence, found.signal) == ('signalled', 'certain', signal)


def test_the_core_file_is_in_the_words_of_a_contradiction():
    seen = replace(saw(signal='SIGQUIT'), core_dumped=True)
    found = amended(run('crashed', 'certain', signal='SIGSEGV'), [seen])
    assert 'SIGQUIT (core dumped)' in found.evidence[-1].fact
