"""What to do now: three steps that fit the verdict and the evidence."""

from dataclasses import replace

import pytest
from support.deadcrashes import FAST
from support.deadcrashes import PYTHON
from support.deadcrashes import core
from support.deadcrashes import crash
from support.deadcrashes import native
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.runrecord import KnownIssue
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.model.verdicts import VERDICTS
from Products.StabilityMonitor.reporting.nextsteps import next_steps
from Products.StabilityMonitor.reporting.runtext import run_lines

INCIDENTS = [verdict for verdict, row in VERDICTS.items() if not row.is_wanted]
PAGE = (Frame('/python/lib/python3.12/socket.py', 7, 'recv'), Frame('/site/shop.py', 31, 'prices'))
LOOP = (Frame('/zope/lib/python3.12/site-packages/waitress/wasyncore.py', 9, 'poll'),)


def told(run):
    return ' '.join(map(str, next_steps(run)))


@pytest.mark.parametrize('verdict', INCIDENTS)
def test_each_incident_has_three_different_steps(verdict):
    steps = next_steps(record(0, verdict))
    assert len(set(map(str, steps))) == 3 and all(steps)


@pytest.mark.parametrize('verdict', INCIDENTS)
def test_the_first_step_is_of_that_verdict(verdict):
    of_any_verdict = set(map(str, next_steps(record(0, 'of a later release'))))
    run = record(0, verdict, exception='ValueError: 1')
    assert str(next_steps(run)[0]) not in of_any_verdict


@pytest.mark.parametrize('verdict', ['stopped', 'host-restarted', 'running'])
def test_a_wanted_end_asks_for_nothing(verdict):
    assert next_steps(record(0, verdict)) == ()


def test_a_hang_names_the_place_of_its_threads_and_asks_for_a_timeout():
    stuck = [ThreadState(ident, frames=PAGE) for ident in (1, 2)]
    threads = (*stuck, ThreadState(9, frames=LOOP))
    hang = Event('hang', 1.0, threads=(1, 2), reason='workers')
    found = told(record(0, 'hung', threads=threads, hangs=(hang,)))
    assert found.startswith('Look at what prices (/site/shop.py, line 31) waits for')
    assert 'timeout' in found and '"stabilitymonitor stacks"' in found


def test_an_idle_loop_is_no_reason_for_a_timeout():
    threads = (ThreadState(1, frames=PAGE[1:]), ThreadState(9, frames=LOOP))
    hang = Event('hang', 1.0, threads=(1, 9), reason='workers')
    run = record(0, 'hung', threads=threads, hangs=(hang,), requests=(request(1, ident=1),))
    assert 'timeout' not in told(run)


@pytest.mark.parametrize(
    'reason, words', [('connections', 'connection_limit'), ('descriptors', 'LimitNOFILE')]
)
def test_a_hang_without_a_place_says_what_is_used_up(reason, words):
    assert words in told(record(0, 'hung', hangs=(Event('hang', 1.0, reason=reason),)))


def test_a_crash_names_its_page_and_its_code():
    crashed = replace(request(1), crashed=True)
    thread = ThreadState(1, crashed=True, frames=PAGE[1:])
    found = told(record(0, 'crashed', requests=(crashed,), threads=(thread,)))
    assert 'prices (' in found and f'GET {crashed.path}' in found and '"core-files on"' in found


def test_a_known_issue_comes_first():
    issue = KnownIssue('x', 'It crashes', strength='strong', action='Upgrade it.')
    steps = next_steps(record(0, 'crashed', known_issues=(issue,)))
    assert str(steps[0]) == 'This looks like the known issue "It crashes": Upgrade it.'


def test_an_exception_and_a_used_port_are_named():
    error = 'Traceback:\n  File "x"\nOSError: [Errno 98] Address already in use\n'
    found = told(record(0, 'startup-failed', exception=error))
    assert '"ss -ltnp"' in found and 'OSError: [Errno 98]' in found


def test_a_drill_needs_no_repair():
    assert told(record(0, 'crashed', drill='segfault')).startswith('Nothing needs to be repaired')


def test_the_command_shows_the_steps():
    lines = run_lines(record(0, 'vanished'))
    begin = lines.index('What to do now:')
    assert [line[:5] for line in lines[begin + 1 : begin + 4]] == ['  1. ', '  2. ', '  3. ']


def test_a_signal_that_may_have_been_sent_makes_the_sender_the_first_question():
    crash = {'verdict': 'crashed', 'signal': 'SIGSEGV'}
    first = str(next_steps(record(0, **crash, confidence='strong'))[0])
    assert first.startswith('First see whether SIGSEGV was sent') and 'journalctl' in first
    assert 'was sent' not in told(record(0, **crash, confidence='certain'))


def test_a_crash_in_a_library_of_python_names_the_code_that_called_it():
    ctypes = Frame('/python/lib/python3.12/ctypes/__init__.py', 519, 'string_at')
    own = Frame('/site/shop.py', 20, 'render_logo')
    frames = (ctypes, own)
    run = record(0, 'crashed', threads=(ThreadState(1, crashed=True, frames=frames),))
    assert told(run).startswith('Look why render_logo (/site/shop.py, line 20) calls string_at (')


def test_the_loop_of_the_server_is_not_called_by_code_of_the_site():
    launcher = Frame('/site/bin/runwsgi', 8, '<module>')
    run = record(0, 'crashed', threads=(ThreadState(1, crashed=True, frames=(*LOOP, launcher)),))
    assert 'runwsgi' not in told(run)


def test_nobody_is_sent_to_a_maintainer_of_code_that_is_not_named():
    words = ' '.join(map(str, next_steps(record(0, 'killed'))))
    assert 'maintainer' not in words


def test_the_first_suspect_comes_first_unless_it_is_weak():
    run = diagnosed(crash(native('go', FAST)))
    assert str(next_steps(run)[0]) == (
        'Look for a newer release of shop 2.0: its C code (shop._fast) is the first suspect.'
    )
    weak = diagnosed(crash())
    assert weak.suspects[0].strength == 'weak' and 'suspect' not in told(weak)


@pytest.mark.parametrize(
    'values, words',
    [
        (
            {'code': 'SI_USER', 'sender': 99, 'address': None},
            'Find out who sent it: a supervisor, a watchdog, or a person.',
        ),
        ({'signal': 'SIGBUS', 'code': 'BUS_ADRERR'}, 'Find what truncates that file'),
        ({'signal': 'SIGILL', 'code': 'ILL_ILLOPN'}, 'Compare "flags" in /proc/cpuinfo'),
    ],
)
def test_where_the_class_tells_the_cause_its_advice_comes_first(values, words):
    go = native('go', FAST)
    run = crash(go, core=core(go, **values), signal=values.get('signal', 'SIGSEGV'))
    assert told(diagnosed(run)).startswith(words)
    if values['code'] == 'SI_USER':
        assert 'maintainer' not in told(diagnosed(run)), 'no code is to blame'


def test_the_class_advises_what_finds_earlier_damage():
    run = diagnosed(crash(native('gc_collect_main', PYTHON), threads=()))
    assert 'PYTHONMALLOC=debug' in told(run)


def test_a_fault_in_a_core_file_was_not_sent():
    run = crash(native('go', FAST), confidence='strong')
    assert 'was sent' in told(replace(run, core=None)) and 'was sent' not in told(diagnosed(run))
