"""The rules of the verdict, tested with synthetic traces: which one decides, and how certainly."""

import inspect

import pytest
from support.syntheticruns import CUT_FATAL_ERROR
from support.syntheticruns import FATAL_ERROR
from support.syntheticruns import SEGFAULT
from support.syntheticruns import STARTED
from support.syntheticruns import WORKER
from support.syntheticruns import dump
from support.syntheticruns import faulty
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import overflow
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.model.interfaces import IRule
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import ThreadSlot
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import GRACE
from Products.StabilityMonitor.postmortem.verdict import READY
from Products.StabilityMonitor.postmortem.verdict import RULES
from Products.StabilityMonitor.postmortem.verdict import judge
from Products.StabilityMonitor.store import blackbox

ERROR = (
    'Traceback (most recent call last):\n  File "/x.py", line 1, in f\n    g()\nValueError: bad\n'
)
INTERRUPT = (
    'Traceback (most recent call last):\n  File "/x.py", line 1, in f\n    g()\nKeyboardInterrupt\n'
)
BUSY = recording(samples=(sample(overdue=4),), in_flight=tuple(request(n, n) for n in range(2, 6)))
HOLDING = b'Stack (most recent call first):\n  File "/c.py", line 3 in hold\n'
ABORTED = SEGFAULT.replace(b'Segmentation fault', b'Aborted')
HANG_NOTES = (
    note('hang', 60.0, number=1, title='All 4 threads hang.'),
    note('hang', 61.0, 2, number=2, title='GET /page'),
)
HANG_ENDED = (*HANG_NOTES, note('hang-ended', 70.0, number=3, title='All 4 threads hang.'))
LOOP_HANGS = dict(
    context={'role': 'server', 'main_ident': 99},
    recording=recording(
        {'hung_since': STARTED + 50},
        samples=(sample(350),),
        notes=(
            note('hang', 50.0, number=1, title='The loop hangs.'),
            note(
                'hang',
                110.0,
                99,
                number=2,
                title='MainThread',
                frames=(Frame('/lib/l.py', 3, 'flush'),),
            ),
        ),
    ),
)
UNSERVED = recording(served=0, samples=(sample(5),))


def ended(after=70.0, **values):
    return recording({'finished': STARTED + after}, **values)


def deep(used, ident=WORKER, request=0, **values):
    """A black box with the high-water mark of a thread's stack of 1024 KiB.

    `used` is the mark in KiB, `request` the request in which it was reached.
    """
    threads = {
        ident: ThreadSlot(
            native_id=7,
            stack_size=1 << 20,
            guard_size=4096,
            stack_used=used << 10,
            stack_request=request,
        )
    }
    return recording(threads=threads, **values)


def deep_now(used):
    """A black box whose mark was reached in the request that the thread serves."""
    return deep(used, request=3, in_flight=(request(2, ident=WORKER + 1), request(3)))


def winding(frames):
    """The dump of a thread with a deep stack without a cycle."""
    return overflow(0) + b''.join(
        b'  File "/site/deep.py", line 3 in step_%d\n' % n for n in range(frames)
    )


def named(text):
    """A dump with thread names, as Python 3.14 writes it."""
    return text.replace(b' (most recent', b' [waitress-0] (most recent')


def calling(frames, text):
    """A dump with the frames of other calls on top of the stack."""
    head, end, rest = text.partition(b'first):\n')
    others = (b'  File "/site/other.py", line 3 in other_%d\n' % n for n in range(frames))
    return head + end + b''.join(others) + rest


def marks(*names):
    return {name: mark() for name in names}


OF_MAIN = {
    'context': {'role': 'server', 'main_ident': WORKER},
    'recording': recording({'main_stack': 8 * 2**20 / 1e9, 'main_stack_used': 8 * 2**20 / 1e9}),
}

# id, traces, verdict, confidence, signal, words of the summary or the evidence
TABLE = [
    ('a crash', faulty(), 'crashed', 'certain', 'SIGSEGV', 'Segmentation fault (SIGSEGV) in crash'),
    (
        'a crash by SIGBUS',
        faulty(SEGFAULT.replace(b'Segmentation fault', b'Bus error')),
        'crashed',
        'certain',
        'SIGBUS',
        'Bus error',
    ),
    (
        'a crash in a native thread',
        faulty(SEGFAULT.replace(b'Current t', b'T')),
        'crashed',
        'certain',
        'SIGSEGV',
        'names no crashed thread',
    ),
    (
        'a crash without a black box',
        faulty(recording=None),
        'crashed',
        'certain',
        'SIGSEGV',
        'crash',
    ),
    (
        'a crash, black box damaged',
        faulty(recording=None, damage='torn'),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'a stack overflow',
        faulty(overflow()),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '100 of the 100 frames',
    ),
    (
        'a shorter recursion',
        faulty(overflow(60)),
        'stack-overflow',
        'likely',
        'SIGSEGV',
        '60 of the 60 frames',
    ),
    (
        'a recursion of 49 frames, then a crash',
        faulty(overflow(49)),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'a stack overflow on Python 3.14: 50 frames are shown, 7 of them called last',
        faulty(named(calling(7, overflow(43)))),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '43 of the 50 frames',
    ),
    (
        'a crash on Python 3.14, too many calls above the recursion',
        faulty(named(calling(9, overflow(41)))),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'a stack overflow, its mark near the end in the same request',
        faulty(overflow(), recording=deep_now(1000)),
        'stack-overflow',
        'certain',
        'SIGSEGV',
        '100 of the 100 frames',
    ),
    (
        'a stack overflow and its high-water mark',
        faulty(overflow(), recording=deep_now(1000)),
        'stack-overflow',
        'certain',
        'SIGSEGV',
        'stack of the crashed thread had 1024 KiB; its high-water mark was 1000 KiB, measured in '
        'the request that crashed',
    ),
    (
        'a stack overflow, its mark from before',
        faulty(overflow(), recording=deep(1000)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        'its high-water mark was 1000 KiB, measured earlier',
    ),
    (
        'a stack overflow, its mark from another request',
        faulty(overflow(), recording=deep(1000, request=2, in_flight=(request(3),))),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        ' earlier',
    ),
    (
        'a stack overflow, its mark from a request of another thread',
        faulty(
            overflow(),
            recording=deep(1000, request=2, in_flight=(request(3), request(2, ident=WORKER + 1))),
        ),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        ' earlier',
    ),
    (
        'a stack overflow, its mark from this request but not near the end',
        faulty(overflow(), recording=deep_now(921)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '921 KiB',
    ),
    (
        'a stack overflow, its mark low',
        faulty(overflow(), recording=deep(100)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        'high-water mark was 100 KiB',
    ),
    (
        'a shorter recursion, its mark from before',
        faulty(overflow(60), recording=deep(1000)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '60 of the 60 frames',
    ),
    (
        'a shorter recursion, its mark from the same request',
        faulty(overflow(60), recording=deep_now(1000)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '60 of the 60 frames',
    ),
    (
        'a crash, the stack deep before',
        faulty(recording=deep(1000)),
        'crashed',
        'certain',
        'SIGSEGV',
        'had been nearly full: 1000 of 1024 KiB',
    ),
    (
        'a crash, the stack deep in the same request',
        faulty(recording=deep_now(1000)),
        'crashed',
        'certain',
        'SIGSEGV',
        'nearly full',
    ),
    (
        'deep without a cycle, its mark from before',
        faulty(winding(50), recording=deep(1000)),
        'stack-overflow',
        'likely',
        'SIGSEGV',
        'its high-water mark was 1000 KiB, measured earlier',
    ),
    (
        'deep without a cycle, its mark from the same request',
        faulty(winding(100), recording=deep_now(1000)),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        'in the request that crashed',
    ),
    (
        'deep without a cycle, cut',
        faulty(winding(20) + b'  ...\n', recording=deep(1000)),
        'stack-overflow',
        'likely',
        'SIGSEGV',
        '',
    ),
    (
        '49 frames without a cycle',
        faulty(winding(49), recording=deep(1000)),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'deep without a cycle, its mark just near enough to the end',
        faulty(winding(50), recording=deep(922)),
        'stack-overflow',
        'likely',
        'SIGSEGV',
        '',
    ),
    (
        'deep without a cycle, its mark just below 90 %',
        faulty(winding(50), recording=deep(921)),
        'crashed',
        'certain',
        'SIGSEGV',
        'nearly full',
    ),
    (
        'deep without a cycle and without a mark',
        faulty(winding(100)),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'the deep stack of another thread',
        faulty(winding(50), recording=deep(1000, ident=WORKER + 1)),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'the deep stack of the main thread',
        faulty(winding(50), **OF_MAIN),
        'stack-overflow',
        'likely',
        'SIGSEGV',
        '8192 KiB',
    ),
    (
        'the main thread overflows',
        faulty(overflow(), **OF_MAIN),
        'stack-overflow',
        'strong',
        'SIGSEGV',
        '8192 KiB',
    ),
    (
        'an abort with a deep stack',
        faulty(ABORTED, recording=deep(1000)),
        'aborted',
        'certain',
        'SIGABRT',
        '',
    ),
    ('an abort', faulty(ABORTED), 'aborted', 'certain', 'SIGABRT', 'Zope was aborted (SIGABRT)'),
    (
        'a fatal error in stderr',
        traces(stderr_fault=dump(FATAL_ERROR)),
        'aborted',
        'certain',
        'SIGABRT',
        'take: the GIL is gone',
    ),
    (
        'a fatal error in stderr that names no thread',
        traces(stderr_fault=dump(CUT_FATAL_ERROR)),
        'aborted',
        'likely',
        'SIGABRT',
        'it leaves out threads: another process may have written it',
    ),
    (
        'a fatal error in stderr that names no thread, after SIGTERM',
        traces(stderr_fault=dump(CUT_FATAL_ERROR), marks=marks('SIGTERM')),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    (
        'a fatal error in stderr that names no thread, and an OOM kill',
        traces(stderr_fault=dump(CUT_FATAL_ERROR), cgroup_kills=1),
        'out-of-memory',
        'strong',
        'SIGKILL',
        '',
    ),
    (
        'a fatal error in stderr that names no thread, and an abort of this process',
        faulty(ABORTED, stderr_fault=dump(CUT_FATAL_ERROR)),
        'aborted',
        'certain',
        'SIGABRT',
        'Zope was aborted (SIGABRT)',
    ),
    (
        'a fatal error, with the abort at its end',
        faulty(ABORTED, stderr_fault=dump(FATAL_ERROR)),
        'aborted',
        'certain',
        'SIGABRT',
        'take: the GIL is gone',
    ),
    (
        "another faulthandler's dump in stderr",
        traces(stderr_fault=dump(SEGFAULT)),
        'crashed',
        'certain',
        'SIGSEGV',
        '',
    ),
    (
        'the kernel names it',
        traces(kernel_line='Killed process 4711 (python)'),
        'out-of-memory',
        'certain',
        'SIGKILL',
        'Killed process 4711',
    ),
    (
        'the counter of the cgroup rose',
        traces(cgroup_kills=1),
        'out-of-memory',
        'strong',
        'SIGKILL',
        '200 MiB',
    ),
    (
        'only the counter of the host rose, near the limit',
        traces(
            cgroup_kills=None,
            host_kills=1,
            recording=recording(samples=(sample(cgroup_limit=100, cgroup_current=90),)),
        ),
        'out-of-memory',
        'likely',
        'SIGKILL',
        '/proc',
    ),
    (
        'only the counter of the host rose, far from the limit',
        traces(cgroup_kills=None, host_kills=1),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'the counter of the host rose, but not that of the cgroup',
        traces(cgroup_kills=0, host_kills=1),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'a start that ended with an exception',
        traces(recording=recording({'serving': 0}, served=0, exception=ERROR)),
        'startup-failed',
        'certain',
        None,
        'before it was ready to serve, with ValueError: bad',
    ),
    (
        'a start that exited',
        traces(recording=ended(5, served=0, samples=())),
        'startup-failed',
        'strong',
        None,
        'soon after it had loaded, by a normal exit',
    ),
    (
        'a start that vanished',
        traces(recording=recording({'serving': 0}, served=0)),
        'startup-failed',
        'likely',
        None,
        'without a trace',
    ),
    (
        'it had loaded, and vanished soon after',
        traces(recording=UNSERVED),
        'vanished',
        'weak',
        None,
        'without a trace',
    ),
    (
        'it vanished while it served its first request',
        traces(recording=recording({'serving': 0}, served=0, samples=(), in_flight=(request(1),))),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'a start that exited, and other code handles SIGTERM',
        traces(recording=ended(5, served=0, samples=(), unmarked=('SIGTERM',))),
        'stopped',
        'strong',
        None,
        'came to a normal exit',
    ),
    (
        'a start that exited before it had loaded, and other code handles SIGTERM',
        traces(
            recording=recording(
                {'serving': 0, 'finished': STARTED + 3},
                served=0,
                samples=(),
                unmarked=('SIGTERM',),
            )
        ),
        'startup-failed',
        'likely',
        None,
        'before it was ready to serve, by a normal exit',
    ),
    (
        'a start that was stopped',
        traces(recording=UNSERVED, marks=marks('SIGTERM')),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    (
        'a start that was ended by SIGHUP',
        traces(recording=UNSERVED, marks=marks('SIGHUP')),
        'signalled',
        'strong',
        'SIGHUP',
        '',
    ),
    (
        'a start with Ctrl-C',
        traces(recording=ended(5, served=0, samples=(), exception=INTERRUPT)),
        'stopped',
        'strong',
        'SIGINT',
        '',
    ),
    (
        'a start during which the machine went down',
        traces(recording=UNSERVED, same_boot=False),
        'host-restarted',
        'likely',
        None,
        '',
    ),
    (
        'ready for long enough without a request',
        traces(recording=recording(served=0, samples=(sample(2 + READY),))),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'an exception',
        traces(recording=ended(exception=ERROR)),
        'unhandled-exception',
        'certain',
        None,
        'ValueError: bad',
    ),
    (
        'a script with an exception',
        traces(context={'role': 'script'}, recording=ended(served=0, exception=ERROR)),
        'unhandled-exception',
        'certain',
        None,
        '',
    ),
    (
        'all busy without a hang, stopped',
        traces(recording=BUSY, marks=marks('SIGTERM')),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    (
        'all busy without a hang, killed',
        traces(recording=BUSY),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'all overdue, with a note of the hang',
        traces(
            recording=recording(
                {'hung_since': STARTED + 50}, samples=(sample(350, overdue=4),), notes=HANG_NOTES
            )
        ),
        'hung',
        'strong',
        None,
        'Zope had not been answering for at least 5 min when it ended without a trace',
    ),
    (
        'the note of a hang says since when',
        traces(recording=recording(samples=(sample(360, overdue=4),), notes=HANG_NOTES)),
        'hung',
        'strong',
        None,
        'All 4 threads hang; it lasted from 2026-09-21 14:14:20 UTC until 2026-09-21 14:19:20 UTC '
        'or later, for at least 5 min.',
    ),
    (
        'a hang that was over',
        traces(recording=recording(notes=HANG_ENDED)),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'killed by the OOM killer while it hung',
        traces(cgroup_kills=1, recording=recording(notes=HANG_NOTES)),
        'out-of-memory',
        'strong',
        'SIGKILL',
        'black box All 4 threads hang; it lasted from',
    ),
    (
        'crashed while it hung',
        faulty(recording=recording(notes=HANG_NOTES)),
        'crashed',
        'certain',
        'SIGSEGV',
        'black box All 4 threads hang; it lasted from',
    ),
    (
        'the loop of the server hung, stopped',
        traces(marks=marks('SIGTERM'), **LOOP_HANGS),
        'hung',
        'strong',
        'SIGTERM',
        'answering for 5 min when it was stopped by SIGTERM: MainThread was in flush '
        '(/lib/l.py:3).',
    ),
    (
        'the loop of the server hung, killed',
        traces(**LOOP_HANGS),
        'hung',
        'strong',
        None,
        'The loop hangs; it lasted from',
    ),
    (
        'a hang of which only the time is known',
        traces(recording=recording({'hung_since': STARTED + 50}, samples=(sample(350),))),
        'hung',
        'strong',
        None,
        'black box A hang began at 2026-09-21 14:14:10 UTC',
    ),
    (
        'a shut-down that waited for the last threads',
        traces(
            recording=recording({'finished': STARTED + 70}, samples=(sample(overdue=1, workers=1),))
        ),
        'stopped',
        'strong',
        None,
        '',
    ),
    (
        'some overdue',
        traces(recording=recording(samples=(sample(overdue=3),))),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'no workers at all',
        traces(recording=recording(samples=(sample(workers=0),))),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'the watchdog fired',
        traces(hang=mark(), marks=marks('SIGTERM')),
        'hung',
        'strong',
        'SIGTERM',
        '(GIL)',
    ),
    (
        'C code held the GIL, and it was killed before the watchdog of the heartbeat fired',
        traces(
            stuck={WORKER: mark(90, HOLDING)},
            recording=recording(in_flight=(request(2, path='/hold'),)),
        ),
        'hung',
        'likely',
        None,
        'had not been answering for at least 30 s when it ended without a trace: GET /hold was in '
        'hold',
    ),
    (
        'C code held the GIL for a moment only',
        traces(stuck={WORKER: mark(69, HOLDING)}, recording=recording(in_flight=(request(2),))),
        'vanished',
        'weak',
        None,
        '',
    ),
    (
        'C code held the GIL for less than "stall" when it was stopped',
        traces(
            stuck={WORKER: mark(90, HOLDING)},
            marks={'SIGTERM': mark(90)},
            recording=recording(in_flight=(request(2),)),
        ),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    (
        'a script holds the GIL',
        traces(context={'role': 'script'}, hang=mark(), marks=marks('SIGTERM')),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    (
        'an old logrotate',
        traces(marks=marks('SIGUSR1')),
        'signalled',
        'strong',
        'SIGUSR1',
        'logrotate',
    ),
    ('SIGXCPU', traces(marks=marks('SIGXCPU')), 'signalled', 'strong', 'SIGXCPU', 'ulimit -t'),
    ('SIGTERM', traces(marks=marks('SIGTERM')), 'stopped', 'strong', 'SIGTERM', 'did not survive'),
    (
        'SIGINT',
        traces(marks=marks('SIGINT'), recording=ended()),
        'stopped',
        'strong',
        'SIGINT',
        '',
    ),
    ('a normal exit', traces(recording=ended()), 'stopped', 'strong', None, 'to a normal exit'),
    (
        'a clean stop after SIGTERM',
        traces(recording=ended(), asked={'SIGTERM': STARTED + 60}),
        'stopped',
        'strong',
        'SIGTERM',
        'SIGTERM arrived at',
    ),
    (
        'a normal exit long after SIGINT',
        traces(recording=ended(), asked={'SIGINT': STARTED + 69 - GRACE}),
        'stopped',
        'strong',
        None,
        'to a normal exit',
    ),
    (
        'a reboot',
        traces(same_boot=False, boot_time=STARTED + 70),
        'host-restarted',
        'strong',
        None,
        'The machine booted at',
    ),
    (
        'a boot long after',
        traces(same_boot=False, boot_time=STARTED + 7000),
        'host-restarted',
        'likely',
        None,
        '',
    ),
    ('another machine', traces(same_boot=False, same_machine=False), 'vanished', 'weak', None, ''),
    (
        'a normal exit, then a reboot',
        traces(same_boot=False, recording=ended()),
        'stopped',
        'strong',
        None,
        '',
    ),
    (
        'damage',
        traces(recording=None, damage='It is torn.'),
        'unreadable',
        'weak',
        None,
        'It is torn.',
    ),
    (
        'damage, but a mark',
        traces(recording=None, damage='torn', marks=marks('SIGTERM')),
        'stopped',
        'strong',
        'SIGTERM',
        '',
    ),
    ('nothing at all', traces(), 'vanished', 'weak', None, 'last sign of life'),
    ('nothing at all, no black box', traces(recording=None), 'vanished', 'weak', None, ''),
]


@pytest.mark.parametrize(
    'found, verdict, confidence, signal, words',
    [pytest.param(*row[1:], id=row[0]) for row in TABLE],
)
def test_the_traces_of_each_ending_give_its_verdict(found, verdict, confidence, signal, words):
    judgement = judge(found)
    assert (judgement.verdict, judgement.confidence, judgement.signal) == (
        verdict,
        confidence,
        signal,
    )
    assert words in ' '.join(
        [judgement.summary, *(f'{e.source} {e.fact}' for e in judgement.evidence)]
    )
    assert judgement.evidence and judgement.summary.endswith('.')
    assert incident.record(found, judgement).to_json()['verdict'] == verdict


#: In the order of the rules.  All traces from a row on are given at once; the first row wins.
ORDER = [
    ('crashed', dict(fault=dump(SEGFAULT), fault_time=STARTED + 60)),
    ('aborted', dict(stderr_fault=dump(FATAL_ERROR))),
    ('out-of-memory', dict(kernel_line='Killed process 4711', cgroup_kills=1)),
    ('hung', dict(hang=mark())),
    ('signalled', dict(marks=marks('SIGTERM', 'SIGHUP'))),
    ('stopped', dict(marks=marks('SIGTERM'))),
    ('host-restarted', dict(same_boot=False)),
    ('unreadable', dict(damage='torn')),
    ('vanished', dict()),
]


@pytest.mark.parametrize('start', range(len(ORDER)), ids=[verdict for verdict, _ in ORDER])
def test_the_first_rule_that_applies_wins(start):
    """A recorded crash is never hidden by missing data or by other traces."""
    together = {}
    for _, found in reversed(ORDER[start:]):
        together |= found
    assert judge(traces(**together)).verdict == ORDER[start][0]


def test_the_order_of_the_rules():
    assert [rule.__name__ for rule in RULES] == [
        'stack_overflow',
        'crashed',
        'aborted',
        'out_of_memory',
        'startup_failed',
        'unhandled_exception',
        'hung',
        'signalled',
        'stopped',
        'host_restarted',
        'unreadable',
        'vanished',
    ]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_every_rule_keeps_the_contract(rule):
    assert len(inspect.signature(rule).parameters) == len(IRule['__call__'].positional) == 1
    for _, found, *_ in TABLE:
        judgement = rule(found)
        assert judgement is None or judgement.confidence in ('certain', 'strong', 'likely', 'weak')


# -- what is ruled out without a trace -------------------------------------------------------------

SURE = traces()


def test_all_but_sigkill_and_os_exit_is_ruled_out_if_everything_is_known():
    found = judge(SURE)
    words = (
        'OOM killer',
        'fatal error of Python',
        'Not a crash',
        'SIGTERM',
        'normal exit',
        'has not booted since',
    )
    assert [word for word in words if word not in ' '.join(found.ruled_out)] == []
    assert [cause.partition(':')[0] for cause in found.candidates] == [
        'SIGKILL',
        'os._exit, exit() in C code, or os.execv (the process then runs another program)',
        'Another signal that leaves no mark, such as SIGTRAP, SIGSYS or SIGPROF',
    ]


def test_pid_1_of_a_container_dies_of_no_signal_without_a_handler():
    found = judge(traces(pid=1))
    assert (found.verdict, found.confidence) == ('vanished', 'likely')
    assert 'SIGPROF' in ' '.join(found.ruled_out)
    assert 'SIGPROF' not in ' '.join(found.candidates)


def test_a_missing_mark_of_a_signal_that_other_code_handles_rules_nothing_out():
    found = judge(traces(recording=recording(unmarked=('SIGTERM', 'SIGUSR1'))))
    ruled_out, candidates = ' '.join(found.ruled_out), ' '.join(found.candidates)
    assert 'Not SIGINT, SIGHUP, SIGQUIT, SIGUSR2,' in ruled_out
    assert 'SIGTERM' not in ruled_out and 'SIGUSR1' not in ruled_out
    assert 'SIGTERM or SIGUSR1: other code handles such a signal' in candidates


def test_without_signal_marks_no_signal_is_ruled_out():
    every = [name for name in blackbox.MARKS if name.startswith('SIG')]
    found = judge(traces(recording=recording(unmarked=every)))
    assert 'leaves a mark' not in ' '.join(found.ruled_out)
    assert 'SIGXCPU: other code handles' in ' '.join(found.candidates)


def test_a_signal_that_was_survived_is_not_ruled_out_by_a_missing_mark():
    found = judge(traces(survived_marks={'SIGUSR1': mark(20)}))
    ruled_out = ' '.join(found.ruled_out)
    assert 'Not SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2,' in ruled_out
    assert (
        'Not SIGUSR1, which arrived at 2026-09-21 14:13:40 UTC: the process lived on for 40 s.'
        in ruled_out
    )


@pytest.mark.parametrize(
    'unknown, candidate',
    [
        (dict(cgroup_kills=None, host_kills=None), 'OOM killer'),
        (dict(stderr_readable=False), 'Py_FatalError'),
        (dict(recording=None), 'A crash'),
        (dict(recording=None), 'A signal'),
        (dict(same_boot=None), 'A restart of the machine'),
    ],
)
def test_what_is_not_known_is_a_candidate(unknown, candidate):
    found = judge(traces(**unknown))
    assert found.verdict == 'vanished' and found.confidence == 'weak'
    assert len([cause for cause in found.candidates if candidate in cause]) == 1
    assert not [sentence for sentence in found.ruled_out if candidate in sentence]


def test_either_counter_rules_out_the_oom_killer():
    for known in (dict(cgroup_kills=0, host_kills=None), dict(cgroup_kills=None, host_kills=0)):
        assert 'OOM' in ' '.join(judge(traces(**known)).ruled_out)


@pytest.mark.parametrize('values', [dict(), dict(cgroup_kills=1), dict(marks=marks('SIGTERM'))])
def test_a_hang_that_ended_is_not_evidence_of_the_end(values):
    found = traces(recording=recording(notes=HANG_ENDED), **values)
    judgement = judge(found)
    assert judgement.verdict != 'hung' and 'hang' not in ' '.join(
        evidence.fact for evidence in judgement.evidence
    )
    (event,) = incident.record(found, judgement).hangs
    assert event.ended and event.seconds == 10.0, 'it must still be an event of the run'


@pytest.mark.parametrize(
    'supervisor, told', [('container (a shell is its pid 1)', True), ('systemd', False)]
)
def test_a_shell_as_pid_1_explains_a_process_that_vanished(supervisor, told):
    found = judge(traces(context={'role': 'server', 'main_ident': 99, 'supervisor': supervisor}))
    assert found.verdict == 'vanished'
    assert ('A shell was pid 1' in ' '.join(fact.fact for fact in found.evidence)) == told
