"""A stop that was asked for and took long: when it counts as the end, and when as evidence only.

All clocks are handed in: a mark at 1, 10 and 60 minutes is a number in the traces.
"""

import pytest
from support.syntheticruns import FATAL_ERROR
from support.syntheticruns import SEGFAULT
from support.syntheticruns import STARTED
from support.syntheticruns import WORKER
from support.syntheticruns import dump
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import record
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem import stops
from Products.StabilityMonitor.postmortem.runhistory import crash_loop
from Products.StabilityMonitor.postmortem.verdict import judge

MINUTE = 60
HOUR = 3600
MAIN = 0x7F0000000020
STACK = b'Stack (most recent call first):\n  File "/lib/loop.py", line 7 in poll\n'
HANDLERS = {'handled_signals': ['SIGCHLD', 'SIGINT']}


def outlived(
    lived_on,
    name='SIGTERM',
    at=100,
    after=(),
    words=(),
    context=(),
    **values,
):
    """Return the traces of a process that lived on for so many seconds after a signal.

    `after` are the seconds after the signal at which requests began.  It left no other trace.
    """
    began = [request(2 + n, started=STARTED + at + each) for n, each in enumerate(after)]
    ended = [
        request(each.number, started=each.started, ended=each.started + 1, seconds=1.0)
        for each in began
    ]
    box = dict(samples=(sample(at - 1), sample(at + lived_on)), finished=tuple(ended))
    for key in ('in_flight', 'notes', 'unmarked'):
        if key in values:
            box[key] = values.pop(key)
    return traces(
        **{
            'context': {'role': 'server', 'main_ident': MAIN, 'pid': 1, **dict(context)},
            'recording': recording(words, **box),
            'asked': {name: STARTED + at},
            'survived_marks': {name: mark(at, STACK)},
            **values,
        }
    )


def told(judgement):
    return ' '.join([judgement.summary, *(each.fact for each in judgement.evidence)])


VISITORS = tuple(range(10, 7200, 30))
#: id, seconds that it lived on, when requests began after the mark, verdict, confidence
TIMES = [
    ('a minute', MINUTE, (), 'stopped', 'likely'),
    ('a minute, with visitors', MINUTE, (30, 50), 'stopped', 'likely'),
    ('two minutes, with visitors', 2 * MINUTE, (30, 110), 'stopped', 'likely'),
    ('just more than two minutes', 2 * MINUTE + 1, (), 'stopped', 'weak'),
    ('just more than two minutes, with visitors', 2 * MINUTE + 1, (110,), 'vanished', 'weak'),
    ('ten minutes', 10 * MINUTE, (), 'stopped', 'weak'),
    ('ten minutes, with visitors', 10 * MINUTE, VISITORS[:20], 'vanished', 'weak'),
    ('a quarter of an hour', 15 * MINUTE, (), 'stopped', 'weak'),
    ('just more than a quarter of an hour', 15 * MINUTE + 1, (), 'vanished', 'weak'),
    ('an hour', HOUR, (), 'vanished', 'weak'),
    ('an hour, with visitors', HOUR, VISITORS[:100], 'vanished', 'weak'),
]


@pytest.mark.parametrize('name', stops.STOP_SIGNALS)
@pytest.mark.parametrize(
    'lived_on, after, verdict, confidence',
    [row[1:] for row in TIMES],
    ids=[row[0] for row in TIMES],
)
def test_how_long_a_stop_may_take(name, lived_on, after, verdict, confidence):
    judgement = judge(outlived(lived_on, name, after=after))
    assert (judgement.verdict, judgement.confidence) == (verdict, confidence)
    assert judgement.signal == (name if verdict == 'stopped' else None)
    assert f'{name} ' in told(judgement)
    assert f'Not {name}, which arrived at ' in ' '.join(judgement.ruled_out)


def test_the_time_that_it_lived_on_is_said():
    judgement = judge(outlived(12))
    assert judgement.summary == (
        'Zope was asked to stop by SIGTERM, lived on for 12 s, and then ended without a trace, as '
        'after SIGKILL.'
    )
    assert 'SIGTERM arrived at 2026-09-21 14:15:00 UTC; the process lived on for 12 s.' in told(
        judgement
    )


def test_a_mark_without_effect_is_evidence():
    judgement = judge(outlived(3 * HOUR, after=VISITORS))
    assert judgement.verdict == 'vanished'
    assert (
        'SIGTERM at 2026-09-21 14:15:00 UTC had no effect; Zope went on serving for 3 hours.'
        in told(judgement)
    )


def test_the_last_mark_counts():
    """A SIGTERM had no effect for three hours; the SIGINT was meant."""
    both = {'SIGTERM': STARTED + 100, 'SIGINT': STARTED + 100 + 3 * HOUR}
    judgement = judge(outlived(3 * HOUR + 5, after=VISITORS, asked=both))
    assert (judgement.verdict, judgement.confidence, judgement.signal) == (
        'stopped',
        'likely',
        'SIGINT',
    )
    assert 'SIGTERM' in told(judgement) and 'SIGINT' in told(judgement)


@pytest.mark.parametrize('step', [-HOUR, HOUR, 90 * 24 * HOUR])
def test_a_clock_that_is_set_after_the_mark_changes_nothing(step):
    samples = (sample(99), sample(112 + step, monotonic=1112.0))
    box = recording(samples=samples)
    judgement = judge(outlived(12, context={'monotonic': 1000.0}, recording=box))
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'likely')
    assert 'lived on for 12 s' in judgement.summary


def test_a_survived_mark_of_a_copied_run_has_no_time():
    """`cp -r` gives the mark the time of the copy, which is later than the end of the run."""
    copied = STARTED + 5 * HOUR
    found = outlived(
        3 * HOUR,
        after=VISITORS,
        asked={'SIGTERM': copied},
        survived_marks={'SIGTERM': mark(5 * HOUR)},
    )
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence) == ('vanished', 'weak')
    assert 'SIGTERM' not in told(judgement)


# -- what wins -------------------------------------------------------------------------------------

HANG = note('hang', 50, number=1, title='All 4 threads hang.')
LATE_HANG = note('hang', 105, number=1, title='All 4 threads hang.')


@pytest.mark.parametrize(
    'values, verdict',
    [
        (dict(fault=dump(SEGFAULT), fault_time=STARTED + 130), 'crashed'),
        (dict(stderr_fault=dump(FATAL_ERROR)), 'aborted'),
        (dict(cgroup_kills=1), 'out-of-memory'),
        (dict(kernel_line='Killed process 4711 (python)'), 'out-of-memory'),
        (dict(words={'hung_since': STARTED + 50}, notes=(HANG,)), 'hung'),
        (dict(notes=(HANG,), words={'hung_since': STARTED + 105}), 'stopped'),
        (dict(words={'hung_since': STARTED + 105}, notes=(LATE_HANG,)), 'stopped'),
    ],
)
def test_what_wins_over_a_stop_that_took_long(values, verdict):
    judgement = judge(outlived(30, **values))
    assert judgement.verdict == verdict
    assert 'SIGTERM arrived at 2026-09-21 14:15:00 UTC; the process lived on for 30 s.' in told(
        judgement
    )


def test_a_hang_that_begins_long_after_a_mark_is_a_hang():
    late = STARTED + 100 + HOUR
    found = outlived(2 * HOUR, after=VISITORS[:100], words={'hung_since': late})
    assert judge(found).verdict == 'hung'


def test_a_gil_that_was_held_before_the_mark_is_a_hang():
    """The heartbeat cannot note that pid 1 survives the signal."""
    found = outlived(
        5,
        pid=1,
        context=HANDLERS,
        hang=mark(70),
        recording=recording(samples=(sample(30),)),
        marks={'SIGTERM': mark(100)},
        survived_marks={},
    )
    assert judge(found).verdict == 'hung'
    assert 'was asked to stop by SIGTERM' in judge(found).summary


def test_a_gil_that_was_held_only_after_the_mark_is_part_of_the_stop():
    found = outlived(100, hang=mark(190), recording=recording(samples=(sample(130),)))
    assert judge(found).verdict == 'stopped'


def test_workers_that_were_busy_before_the_mark_did_not_hang():
    overdue = dict(overdue=4)
    found = outlived(
        30, recording=recording(samples=(sample(99, **overdue), sample(130, **overdue)))
    )
    assert judge(found).verdict == 'stopped'


def test_workers_that_are_waited_for_do_not_hang():
    """The idle workers have ended, and one still serves: no worker was overdue at the signal."""
    samples = (sample(99, overdue=1, workers=4), sample(130, overdue=1, workers=1))
    serving = request(7, path='/export', started=STARTED + 40)
    found = outlived(30, recording=recording(samples=samples, in_flight=(serving,)))
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'likely')
    assert 'Requests were still in progress: GET /export for 1 min 30 s.' in told(judgement)


def test_a_worker_that_wrote_its_stack_is_placed():
    serving = request(7, path='/export', started=STARTED + 40)
    found = outlived(30, in_flight=(serving,), stuck={WORKER: mark(120, STACK)})
    assert 'GET /export for 1 min 30 s, in poll (/lib/loop.py:7).' in told(judge(found))


def test_a_process_that_still_exists_was_not_stopped():
    judgement = judge(outlived(10, still_there=True))
    assert (judgement.verdict, judgement.confidence) == ('vanished', 'strong')


@pytest.mark.parametrize(
    'lived_on, verdict, confidence',
    [(5, 'stopped', 'strong'), (60, 'stopped', 'likely'), (HOUR, 'vanished', 'weak')],
)
def test_a_script_notes_no_mark_as_survived_but_its_log_does(lived_on, verdict, confidence):
    """A script has no heartbeat; here a handler of its own went on after SIGINT."""
    line = LogLine(STARTED + 100 + lived_on, 'WARNING', 'site', 'It works.')
    later = request(9, started=STARTED + 150, ended=STARTED + 151, seconds=1.0)
    found = traces(
        context={'role': 'script'},
        recording=recording(samples=(sample(1),), log=(line,), finished=(later,)[: lived_on > 60]),
        marks={'SIGINT': mark(100)},
        asked={'SIGINT': STARTED + 100},
    )
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence) == (verdict, confidence)


# -- why -------------------------------------------------------------------------------------------


def test_pid_1_without_a_handler_ignores_sigterm():
    judgement = judge(outlived(5, pid=1, context=HANDLERS))
    assert (judgement.verdict, judgement.confidence, judgement.signal) == (
        'stopped',
        'likely',
        'SIGTERM',
    )
    assert judgement.summary.endswith('(as pid 1 of its container it ignores SIGTERM).')
    assert 'MainThread was in poll (/lib/loop.py:7)' in told(judgement)


@pytest.mark.parametrize(
    'context, unmarked',
    [({'handled_signals': ['SIGINT', 'SIGTERM']}, ()), (HANDLERS, ('SIGTERM',))],
    ids=['at the start', 'later'],
)
def test_pid_1_with_a_handler_does_not_ignore_sigterm(context, unmarked):
    judgement = judge(outlived(5, pid=1, context=context, unmarked=unmarked))
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'likely')
    assert 'ignores' not in judgement.summary
    assert 'Other code handled SIGTERM.' in told(judgement)


def test_a_mark_just_before_the_end_of_pid_1_did_not_end_it():
    """`docker stop --time 1`: the heartbeat had no time to note that the process outlived it."""
    found = traces(
        pid=1,
        context={'role': 'server', **HANDLERS},
        marks={'SIGTERM': mark(60)},
        asked={'SIGTERM': STARTED + 60},
    )
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'likely')
    assert 'did not survive' not in told(judgement)
    assert 'was asked to stop by SIGTERM, did not end, and then ended' in judgement.summary


@pytest.mark.parametrize('name', ['SIGHUP', 'SIGUSR1'])
def test_pid_1_is_not_ended_by_a_signal_that_the_kernel_drops(name):
    found = traces(pid=1, context={'role': 'server', **HANDLERS}, marks={name: mark(60)})
    assert judge(found).verdict == 'vanished'


def test_a_signal_that_other_code_handles_may_not_have_ended_it():
    context = {'role': 'server', 'handled_signals': ['SIGINT', 'SIGUSR1']}
    judgement = judge(traces(context=context, marks={'SIGUSR1': mark(60)}))
    assert (judgement.verdict, judgement.confidence) == ('signalled', 'likely')
    assert 'which it does not handle' not in judgement.summary


def test_an_out_of_memory_kill_of_pid_1_just_after_sigterm_is_one():
    found = traces(
        pid=1,
        context={'role': 'server', **HANDLERS},
        marks={'SIGTERM': mark(60)},
        cgroup_kills=1,
    )
    assert judge(found).verdict == 'out-of-memory'


def test_where_main_thread_stood_after_the_signal_is_said():
    """Such notes are made when the end takes long: see `slow-stop` in the table of events."""
    frames = (Frame('/lib/threading.py', 1132, '_wait_for_tstate_lock'),)
    notes = (
        note('slow-stop', 105, number=1, title='The stop takes long.'),
        note('slow-stop', 110, MAIN, number=2, title='MainThread', frames=frames),
        note('slow-stop', 110, WORKER, number=3, title='GET /page', frames=frames),
    )
    judgement = judge(outlived(130, after=(2,), notes=notes))
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'weak'), 'the loop was left'
    assert 'MainThread was in _wait_for_tstate_lock (/lib/threading.py:1132)' in judgement.summary


@pytest.mark.parametrize(
    'lasted, values, verdict, confidence',
    [
        (12, {}, 'stopped', 'likely'),
        (MINUTE, {}, 'stopped', 'likely'),
        (10 * MINUTE, {}, 'stopped', 'weak'),
        (HOUR, {}, 'vanished', 'weak'),
        (12, {'still_there': True}, 'vanished', 'strong'),
        (12, {'cgroup_kills': 1}, 'out-of-memory', 'strong'),
        (12, {'fault': dump(SEGFAULT), 'fault_time': STARTED + 100}, 'crashed', 'certain'),
    ],
)
def test_a_stop_is_seen_where_other_code_handles_the_signal(lasted, values, verdict, confidence):
    """So no signal left a mark, as with a handler that a site sets after its start."""
    frames = (Frame('/site/queue.py', 7, 'drain'),)
    begun = (
        note('slow-stop', 100, number=1, title='The stop takes long.'),
        note('slow-stop', 100, MAIN, number=2, title='MainThread', frames=frames),
    )
    box = {'samples': (sample(100), sample(100 + lasted)), 'finished': (request(1),)}
    context = {'role': 'server', 'main_ident': MAIN}
    judgement = judge(traces(context=context, recording=recording(notes=begun, **box), **values))
    assert (judgement.verdict, judgement.confidence) == (verdict, confidence)
    if verdict == 'stopped':
        assert judgement.signal is None
        assert '(MainThread was in drain (/site/queue.py:7))' in judgement.summary
        assert 'no signal that asks for a stop left a mark' in told(judgement)
    over = (*begun, note('slow-stop-ended', 101, number=3, request=1))
    ended = judge(traces(context=context, recording=recording(notes=over, **box), **values))
    assert ended.verdict == ('vanished' if verdict == 'stopped' else verdict)


def test_a_start_that_was_asked_to_stop_and_killed_did_not_fail():
    found = outlived(
        10,
        pid=1,
        context=HANDLERS,
        recording=recording({'serving': 0}, served=0, samples=(sample(110),)),
    )
    assert judge(found).verdict == 'stopped'


# -- after the normal exit -------------------------------------------------------------------------


def test_a_normal_exit_says_that_the_end_of_the_process_is_not_known():
    judgement = judge(traces(recording=recording({'finished': STARTED + 60})))
    assert (judgement.verdict, judgement.confidence) == ('stopped', 'strong')
    assert 'how the process ended after that is not known' in told(judgement)


def test_an_end_that_takes_long_after_the_normal_exit_is_said():
    box = recording({'finished': STARTED + 60}, samples=(sample(150),))
    judgement = judge(traces(recording=box))
    assert 'The process was still there 1 min 30 s after its normal exit began.' in told(judgement)


@pytest.mark.parametrize(
    'took, after, signal',
    [(100, (50,), 'SIGTERM'), (600, (), 'SIGTERM'), (600, (300,), None), (1000, (), None)],
)
def test_a_normal_exit_follows_the_signal_that_asked_for_it(took, after, signal):
    found = outlived(took, after=after, words={'finished': STARTED + 100 + took})
    judgement = judge(found)
    assert (judgement.verdict, judgement.signal) == ('stopped', signal)


# -- a stop is no incident -------------------------------------------------------------------------


def test_three_stops_that_took_long_are_no_crash_loop():
    stopped = incident.record(found := outlived(5, pid=1, context=HANDLERS), judge(found))
    assert not stopped.is_incident
    runs = [record(n, stopped.verdict, after=n * 60) for n in range(3)]
    assert crash_loop(runs[::-1]) == ()
    killed = [record(n, 'vanished', after=n * 60) for n in range(3)]
    assert len(crash_loop(killed[::-1])) == 3, 'the times of a loop'
