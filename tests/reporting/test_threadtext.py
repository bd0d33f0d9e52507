"""A stacks document: any input is read, the threads are sorted, and the text is safe."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stacksdocuments import NOW
from support.stacksdocuments import document
from support.stacksdocuments import thread

from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting.stacksdocument import age
from Products.StabilityMonitor.reporting.stacksdocument import is_well
from Products.StabilityMonitor.reporting.stacksdocument import ordered
from Products.StabilityMonitor.reporting.stacksdocument import stack_words
from Products.StabilityMonitor.reporting.stacksdocument import tidy
from Products.StabilityMonitor.reporting.threadtext import text
from Products.StabilityMonitor.reporting.threadtext import thread_lines
from Products.StabilityMonitor.reporting.threadtext import without_repetition


def told(**values):
    return text(tidy(document(**values)), 'process 17')


@pytest.mark.parametrize(
    'lines, shown',
    [
        ('', ''),
        ('abc', 'abc'),
        ('abbbc', 'abbbc'),
        ('abbbbc', 'ab[The line above comes 3 more times]c'),
        ('x' + 'ab' * 4 + 'c', 'xab[The 2 lines above come 3 more times]c'),
        ('ababa', 'ababa'),
        # The last, incomplete cycle is shown.
        ('ab' * 4 + 'a', 'ab[The 2 lines above come 3 more times]a'),
        ('abcd' * 2, 'abcd[The 4 lines above come 1 more time]'),
        ('abcdefghi' * 3, 'abcdefghi' * 3),
    ],
)
def test_frames_that_repeat_are_shown_once_with_a_count(lines, shown):
    assert ''.join(without_repetition(lines)) == shown


@given(st.text('ab', max_size=60))
def test_no_line_is_lost(lines):
    told = list(without_repetition(lines))
    whole = []
    for line in told:
        if line.startswith('['):
            size, again = [int(word) for word in re.findall(r'\d+', f'1 {line}')][-2:]
            whole += whole[-size:] * again
        else:
            whole.append(line)
    assert ''.join(whole) == lines and len(told) <= len(lines)


def test_a_recursion_is_short_in_the_text():
    frames = (Frame('/site/view.py', 7, 'render'),) * 100
    told = list(thread_lines(ThreadState(frames=frames)))
    assert told[1:] == [
        '    File "/site/view.py", line 7, in render',
        '    [The line above comes 99 more times]',
    ]


def state(number, **values):
    return from_json(ThreadState, thread(number, **values))


def with_keys_of(old, new):
    """`new`, without the keys that `old` does not have."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: with_keys_of(old[key], new[key]) for key in new if key in old}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [with_keys_of(*pair) for pair in zip(old, new, strict=True)]
    return new


# -- tidy ------------------------------------------------------------------------------------------


def test_a_valid_document_is_unchanged():
    """Except keys that an older release did not write."""
    good = tidy(document())
    assert with_keys_of(document(), to_json(good, plain=True)) == document()
    assert tidy(json.loads(json.dumps(document()))) == good
    assert tidy(json.loads(json.dumps(to_json(good, plain=True)))) == good


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.data())
def test_nonsense_anywhere_in_a_document_is_dropped(nonsense, data):
    found = copy.deepcopy(document())
    at = found
    while isinstance(at, dict | list) and at:
        keys = sorted(at) if isinstance(at, dict) else range(len(at))
        key = data.draw(st.sampled_from(list(keys)))
        if data.draw(st.booleans()) or not isinstance(at[key], dict | list) or not at[key]:
            at[key] = nonsense
            break
        at = at[key]
    text(tidy(found))


@pytest.mark.parametrize(
    'nonsense',
    [
        {},
        {'error': 'no answer'},
        {'threads': 5, 'slow': {}, 'hangs': None},
        {'threads': [None, 5, {}], 'slow': [{}], 'hangs': [{}]},
    ],
)
def test_an_invalid_document_still_gives_a_text(nonsense):
    assert text(tidy(nonsense)).startswith('Threads of this process at ')


# -- judgement and order ---------------------------------------------------------------------------


def test_hangs_and_slow_requests_that_last_are_not_well():
    assert not is_well(tidy(document()))
    assert not is_well(tidy(document(slow=[])))
    assert not is_well(tidy(document(hangs=[])))
    ended = [hang | {'ended': NOW} for hang in document()['hangs']]
    assert is_well(tidy(document(hangs=ended, slow=document()['slow'][1:])))


@pytest.mark.parametrize(
    'kind, severity, well',
    [
        ('spinning', 'warning', True),
        ('spinning', 'critical', False),
        ('deadlock', 'warning', False),
        ('hang', 'critical', False),
        ('spinning', None, False),
        ('slow-start', 'info', True),
        ('slow-stop', 'info', True),
        ('slow-start', 'critical', False),
    ],
)
def test_only_a_spin_or_a_slow_start_or_stop_that_is_not_critical_is_well(kind, severity, well):
    hang = document()['hangs'][0] | {'kind': kind, 'severity': severity}
    if severity is None:
        del hang['severity']  # as in the answer of another release
    assert is_well(tidy(document(slow=[], hangs=[hang]))) == well


def test_oldest_requests_come_first_then_the_main_thread_and_idle_threads_are_separate():
    loud, quiet = ordered(tidy(document()).threads)
    assert [t.name for t in loud] == [
        'waitress-0',
        'waitress-1',
        'waitress-3',
        'MainThread',
        'grpc_poller',
    ]
    assert [t.name for t in quiet] == ['waitress-2', 'waitress-4', 'StabilityMonitor heartbeat']


def test_the_thread_that_makes_the_document_counts_as_idle():
    threads = tidy(document()).threads
    assert [t.name for t in ordered(threads, own=threads[0].ident)[1]][0] == 'waitress-0'
    assert 'grpc_poller' in [t.name for t in ordered(threads, own=0)[0]]


def test_an_idle_worker_with_a_request_counts_as_busy():
    busy = state(5, request=document()['threads'][0]['request'])
    assert ordered([busy])[0] == [busy]


# -- text ------------------------------------------------------------------------------------------


def test_the_text_contains_all_parts_of_the_document():
    shown = told()
    for words in (
        'Threads of process 17 at 2026-11-23 ',
        'DEADLOCK began 2026-11-23 ',
        'HANG began ',
        ', ended ',
        'waitress-0 (native id 1000, 0x7f0000000000): waits for a lock: LOCK_B at shop/views.py:31',
        '  serves POST /shop/checkout for 34.2 s (publishing)',
        '  CPU 99% of the last 10.0 s, stack 7.0 MiB',
        '    File "/srv/zope/src/shop/views.py", line 31, in checkout',
        'grpc_poller (native id 1010): waits in C code',
        'no Python frames',
        'Idle threads, and threads of the stability monitor: waitress-2 (native id 1002',
        'Slow requests:\n  GET /shop/prices?sort=cheapest: 12.5 s so far, began',
        '30 samples',
        ' 70% in cheapest (/srv/zope/src/shop/views.py)',
        'Finished slow requests:\n  GET /shop/report: 1 min 35 s in total',
    ):
        assert words in shown, words
    assert shown.index('DEADLOCK') < shown.index('waitress-0 (') < shown.index('Slow requests')
    assert ' 0% in prices' not in shown


def test_the_text_of_an_idle_site_is_short():
    shown = told(threads=[thread(2)], slow=[], hangs=[])
    assert shown.splitlines()[1:] == [
        '0 of 1 worker is busy.',
        '',
        'Idle threads, and threads of the stability monitor: '
        'waitress-2 (native id 1002, 0x7f0000000002)',
    ]


def test_control_characters_in_a_document_never_reach_the_terminal():
    evil = '\x1b[2J\n\x07'
    found = json.loads(
        json.dumps(document()).replace('waitress-0', 'evil').replace('checkout', 'evil')
    )
    found['threads'][0] |= {'name': evil, 'detail': evil, 'activity': evil}
    found['hangs'][0]['summary'] = found['slow'][0]['path'] = evil
    shown = text(tidy(found), evil)
    assert '\x1b' not in shown and '\x07' not in shown and '\\x1b[2J\\n' in shown


@pytest.mark.parametrize(
    'seconds, said', [(0, '0.0 s'), (59.94, '59.9 s'), (60, '1 min'), (95, '1 min 35 s')]
)
def test_age_is_in_seconds_below_a_minute(seconds, said):
    assert age(seconds) == said


def test_an_unknown_stack_size_is_omitted():
    assert stack_words(state(0, stack_size=0)) == stack_words(state(0, stack_used=0)) == ''
    assert stack_words(state(0)) == '120 KiB of 8.0 MiB'
