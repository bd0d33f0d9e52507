"""When a run ended, and how long its hangs lasted, also if nobody saw its end."""

from dataclasses import replace

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import record

from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.model.witnesses import amended
from Products.StabilityMonitor.reporting import endwords
from Products.StabilityMonitor.reporting.runtext import run_lines

HANG = Event('hang', STARTED + 40, seconds=20.0, summary='The site does not answer.')
SEEN = record(0, 'hung', hangs=(HANG,))
UNSEEN = replace(SEEN, ended_before=STARTED + 127, found_by='the next run')


def test_a_hang_that_ended_unseen_tells_what_is_known():
    assert endwords.hang_words(HANG, UNSEEN) == (
        'for at least 20 s; last sign 14:14:20; ended before 14:15:27 (next start)'
    )


def test_a_hang_whose_end_was_recorded_lasted_exactly():
    assert endwords.hang_words(HANG, SEEN) == 'for 20 s, until the run ended'
    over = replace(HANG, ended=STARTED + 60)
    assert endwords.hang_words(over, UNSEEN) == 'for 20 s, then it ended'


@pytest.mark.parametrize(
    'run, ended, uptime, when',
    [
        (SEEN, '2026-09-21 14:14:20 UTC', '1 min', 'It ended 3 s ago (2026-09-21 14:14:20 UTC).'),
        (
            UNSEEN,
            'last sign 2026-09-21 14:14:20 UTC; ended before 14:15:27 (next start)',
            'at least 1 min',
            'Its last sign of life was 3 s ago (2026-09-21 14:14:20 UTC); it ended before 14:15:27 '
            '(next start).',
        ),
    ],
)
def test_the_end_of_a_run(run, ended, uptime, when):
    assert endwords.end_words(run) == ended
    assert endwords.uptime_words(run) == uptime
    assert endwords.when_it_ended(run, '3 s ago') == when
    assert f'ended              {ended}' in run_lines(run)


def test_the_command_does_not_call_itself_a_start():
    assert '(seen by the command)' in endwords.end_words(replace(UNSEEN, found_by=''))


SEEN_TOO = 'no; its end is also known from: another Zope'


def test_what_witnesses_have_changed():
    judged = record(0, 'vanished', confidence='likely')
    assert endwords.amended_words(judged) == ''
    status = Witness('sibling', STARTED + 127, 'It saw it.', signal='SIGKILL')
    found = amended(judged, [status])
    words = 'vanished (likely) at first; killed (certain) since 14:15:27, by another Zope'
    assert endwords.amended_words(found) == words
    assert f'amended            {words}' in run_lines(found)
    moment = Witness('sibling', STARTED + 127, 'It saw it.')
    assert endwords.amended_words(amended(judged, [moment])) == SEEN_TOO
    # The exit status alone is no other decision, and a contradiction may change nothing at all.
    stopped = record(0, 'stopped', confidence='certain', signal='SIGTERM')
    code = Witness('sibling', STARTED + 127, 'It saw it.', exit_code=0)
    assert endwords.amended_words(amended(stopped, [code])) == SEEN_TOO
    crashed = record(0, 'crashed', confidence='strong', signal='SIGSEGV')
    assert endwords.amended_words(amended(crashed, [status])) == SEEN_TOO
