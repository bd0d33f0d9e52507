"""How a run ended: a table of rules, tried in order; the first that applies is the verdict.

A rule looks at `Traces` only and returns a `Judgement` or None.  It reads no file.  The order is
that of DESIGN section 4: a recorded crash is never erased by missing data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from ..model.records import Evidence
from ..model.records import clocktime
from ..store.blackboxreader import Recording
from . import stackoverflow
from .elimination import candidates
from .elimination import ruled_out
from .evidence import Traces
from .faultlog import Dump
from .hangsummary import how_long
from .hangsummary import stood_still
from .hangsummary import what_stood_still
from .hangsummary import what_was_deep
from .hangsummary import what_was_slow
from .hangsummary import who_hung
from .tracebacksummary import exception_line
from .tracebacksummary import exception_name

_CRASH_SIGNALS = {'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE'}
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')
_OTHER_SIGNALS = ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT', 'SIGALRM', 'SIGXCPU')
#: A server that stood ready for so long (seconds) has started, even if nobody asked it for
#: anything.
READY = 10
#: A server that was asked to stop may take so long (seconds): waitress waits 5 s for its threads,
#: gunicorn 30.
GRACE = 60


@dataclass(frozen=True)
class Judgement:
    verdict: str
    confidence: str
    summary: str
    evidence: tuple[Evidence, ...] = ()
    signal: str | None = None
    ruled_out: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()


def judge(traces: Traces) -> Judgement:
    found = next((found for rule in RULES if (found := rule(traces))), None) or vanished(traces)
    more = (*what_stood_still(traces), *what_was_slow(traces), *what_was_deep(traces))
    return replace(
        found, evidence=found.evidence + tuple(one for one in more if one not in found.evidence)
    )


# -- rules -----------------------------------------------------------------------------------------


def stack_overflow(t: Traces) -> Judgement | None:
    if not t.fault or t.fault.signal not in _CRASH_SIGNALS or not t.fault.crashed_thread:
        return None
    thread = t.fault.crashed_thread
    confidence = stackoverflow.confidence(t, thread)
    if not confidence:
        return None
    return Judgement(
        'stack-overflow',
        confidence,
        'A thread ran off the end of its stack: a recursion that did not stop.',
        (_dumped(t.fault, t.fault_time), *stackoverflow.evidence(t, thread)),
        t.fault.signal,
    )


def crashed(t: Traces) -> Judgement | None:
    if not t.fault or t.fault.signal == 'SIGABRT':
        return None
    return Judgement(
        'crashed',
        'certain',
        f'Zope crashed: {t.fault.reason} ({t.fault.signal}){_where(t, t.fault)}.',
        (_dumped(t.fault, t.fault_time),),
        t.fault.signal,
    )


def aborted(t: Traces) -> Judgement | None:
    if t.fault and not (t.stderr_fault and t.stderr_fault.kind == 'pyfatal'):
        return Judgement(
            'aborted',
            'certain',
            f'Zope was aborted: {t.fault.reason}{_where(t, t.fault)}.',
            (_dumped(t.fault, t.fault_time),),
            'SIGABRT',
        )
    if not t.stderr_fault:
        return None
    # It says more than the abort that it ends with.
    signal = t.stderr_fault.signal or 'SIGABRT'
    fact = f'"Fatal Python error: {t.stderr_fault.reason}", with the threads of this process.'
    return Judgement(
        'crashed' if signal in _CRASH_SIGNALS else 'aborted',
        'certain',
        f'Python ended itself with a fatal error: {t.stderr_fault.reason}.',
        (Evidence('standard error', fact),),
        signal,
    )


def out_of_memory(t: Traces) -> Judgement | None:
    if t.kernel_line:
        return _out_of_memory(t, 'certain', (Evidence('kernel log', t.kernel_line),))
    if _left_a_word(t):
        return None
    if t.cgroup_kills:
        fact = (
            f'The memory cgroup of this process counted {t.cgroup_kills} OOM kill(s) since '
            'its last sample.'
        )
        return _out_of_memory(t, 'strong', (Evidence('cgroup', fact),))
    if t.host_kills and t.cgroup_kills is None and _was_near_limit(t):
        fact = f'The kernel counted {t.host_kills} OOM kill(s) on this host since the last sample.'
        return _out_of_memory(t, 'likely', (Evidence('/proc/vmstat', fact),))
    return None


def startup_failed(t: Traces) -> Judgement | None:
    if t.role != 'server' or not t.recording or t.marks or _stop_signal(t) or t.same_boot is False:
        return None
    if t.recording.finished or _stood_ready(t):
        return None
    where = 'after it had started to serve' if t.word('serving') else 'before it was ready to serve'
    how, source, confidence = _end_of_start(t.recording, t.word('finished'))
    return Judgement(
        'startup-failed',
        confidence,
        f'Zope did not start: it ended {where}{how}.',
        (Evidence(source, f'It ended {where}{how}; no request had been answered.'),),
        ruled_out=ruled_out(t),
        candidates=() if source != 'black box' else candidates(t),
    )


def unhandled_exception(t: Traces) -> Judgement | None:
    if not t.recording or not t.recording.exception or _is_interrupt(t):
        return None
    return Judgement(
        'unhandled-exception',
        'certain',
        f'The main thread ended with {_exception(t.recording)}.',
        (Evidence('excepthook', t.recording.exception.strip()),),
    )


def hung(t: Traces) -> Judgement | None:
    if t.role != 'server' or not (t.hang or _all_overdue(t) or t.word('hung_since')):
        return None
    ended, signal = _how_stopped(t)
    return Judgement(
        'hung',
        'strong',
        f'Zope {how_long(t)} when it {ended}{who_hung(t)}.',
        (*stood_still(t, _all_overdue(t)), *(_marks(t) or _asked_for(t))),
        signal,
    )


def signalled(t: Traces) -> Judgement | None:
    signal = next((name for name in _OTHER_SIGNALS if name in t.marks), None)
    if not signal or t.word('finished'):
        return None
    summary = f'Zope was ended by {signal}, which it does not handle{_ADVICE[signal]}.'
    return Judgement('signalled', 'strong', summary, _marks(t), signal)


def stopped(t: Traces) -> Judgement | None:
    signal, finished = _stop_signal(t), t.word('finished')
    if not signal and not finished:
        return None
    evidence = _marks(t) or _asked_for(t)
    if finished:
        evidence += (
            Evidence(
                'black box', f'The interpreter came to its normal end at {clocktime(finished)}.'
            ),
        )
    how = f'by {signal}' if signal else 'by a normal exit'
    return Judgement(
        'stopped', 'certain' if finished else 'strong', f'Zope was stopped {how}.', evidence, signal
    )


def host_restarted(t: Traces) -> Judgement | None:
    if t.same_boot is not False or t.same_machine is False:
        return None
    gap = t.boot_time - t.last_sign
    fact = (
        f'The machine has booted since, at {clocktime(t.boot_time)}; '
        f'the last sign of life was at {clocktime(t.last_sign)}.'
    )
    return Judgement(
        'host-restarted',
        'strong' if abs(gap) < 600 else 'likely',
        'The machine was restarted while Zope was running.',
        (Evidence('boot id', fact),),
    )


def unreadable(t: Traces) -> Judgement | None:
    if not t.damage:
        return None
    return Judgement(
        'unreadable',
        'weak',
        'The record of this run is damaged; how it ended cannot be told.',
        (Evidence('reader', t.damage),),
        ruled_out=ruled_out(t),
        candidates=candidates(t),
    )


def vanished(t: Traces) -> Judgement:
    found = candidates(t)
    return Judgement(
        'vanished',
        'likely' if len(found) <= 2 else 'weak',
        'Zope ended without a trace: most likely it was killed (SIGKILL) or left by os._exit.',
        (Evidence('black box', f'The last sign of life is from {clocktime(t.last_sign)}.'),),
        ruled_out=ruled_out(t),
        candidates=found,
    )


RULES: tuple[Callable[[Traces], Judgement | None], ...] = (
    stack_overflow,
    crashed,
    aborted,
    out_of_memory,
    startup_failed,
    unhandled_exception,
    hung,
    signalled,
    stopped,
    host_restarted,
    unreadable,
    vanished,
)

_ADVICE = {
    'SIGHUP': ': an old logrotate recipe, or a terminal that was closed',
    'SIGUSR1': ': an old logrotate recipe',
    'SIGUSR2': ': an old logrotate recipe',
    'SIGQUIT': ': Ctrl-\\ on its terminal, or a supervisor',
    'SIGALRM': ': a timer of other code',
    'SIGXCPU': ': the limit of processor time (ulimit -t)',
}


# -- the words they use ----------------------------------------------------------------------------


def _dumped(fault: Dump, time: float) -> Evidence:
    who = (
        ' with the stack of the thread that crashed'
        if fault.crashed_thread
        else ', which names no crashed thread'
    )
    return Evidence('fault log', f'"Fatal Python error: {fault.reason}" at {clocktime(time)}{who}.')


def _where(t: Traces, fault: Dump) -> str:
    """Where a crash was, in words: the function, and the request that its thread served."""
    thread = fault.crashed_thread
    if not thread:
        return ''
    requests = t.recording.in_flight if t.recording else ()
    served = next(
        (f', while serving {r.method} {r.path}' for r in requests if r.ident == thread.ident), ''
    )
    return (f' in {thread.frames[0].function}' if thread.frames else '') + served


def _out_of_memory(t: Traces, confidence: str, evidence: tuple[Evidence, ...]) -> Judgement:
    sample = t.recording.last_sample if t.recording else None
    if sample and sample.rss > 0:
        limit = f' of {_mib(sample.cgroup_limit)} allowed' if sample.cgroup_limit > 0 else ''
        evidence += (
            Evidence(
                'last sample', f'It used {_mib(sample.rss)}{limit} at {clocktime(sample.time)}.'
            ),
        )
    return Judgement(
        'out-of-memory',
        confidence,
        'The kernel killed Zope because memory had run out.',
        evidence,
        'SIGKILL',
    )


def _was_near_limit(t: Traces) -> bool:
    sample = t.recording.last_sample if t.recording else None
    return bool(sample and 0 < sample.cgroup_limit <= sample.cgroup_current * 1.25)


def _left_a_word(t: Traces) -> bool:
    return bool(t.marks or t.word('finished') or (t.recording and t.recording.exception))


def _is_interrupt(t: Traces) -> bool:
    return bool(t.recording and exception_name(t.recording.exception) == 'KeyboardInterrupt')


def _stop_signal(t: Traces) -> str | None:
    """The signal that asked for a stop, even if the process took its time with that; else None."""
    return (
        next((name for name in _STOP_SIGNALS if name in t.marks), None)
        or ('SIGINT' if _is_interrupt(t) else None)
        or next(
            (
                name
                for name in _STOP_SIGNALS
                if name in t.asked and _in_good_order(t, t.asked[name])
            ),
            None,
        )
    )


def _in_good_order(t: Traces, asked: float) -> bool:
    return t.word('finished') > 0 and -1 <= t.word('finished') - asked <= GRACE


def _asked_for(t: Traces) -> tuple[Evidence, ...]:
    """The signal mark that the heartbeat has outlived while the server was shutting down, as
    evidence.
    """
    signal = _stop_signal(t)
    return (
        (Evidence('signal mark', f'{signal} came at {clocktime(t.asked[signal])}.'),)
        if signal in t.asked
        else ()
    )


def _stood_ready(t: Traces) -> bool:
    """It stood ready for long, or it is the master of a preforking server, which never answers
    itself.
    """
    serving = t.word('serving')
    return bool(serving and (t.last_sign - serving >= READY or t.word('forked') > serving))


def _end_of_start(recording: Recording, finished: float) -> tuple[str, str, str]:
    """In words how a start ended, the source of that, and how sure it is."""
    if recording.exception:
        return f' with {_exception(recording)}', 'excepthook', 'certain'
    if finished:
        return ' by a normal exit', 'atexit', 'certain'
    return ' without a trace', 'black box', 'likely'


def _exception(recording: Recording) -> str:
    return exception_line(recording.exception).rstrip('.')


def _all_overdue(t: Traces) -> bool:
    sample = t.recording.last_sample if t.recording else None
    ends = t.word('finished') and not t.word('hung_since')  # whose idle threads have ended already
    return bool(sample and sample.workers and sample.overdue >= sample.workers and not ends)


def _how_stopped(t: Traces) -> tuple[str, str | None]:
    signal = next(iter(t.marks), None) or _stop_signal(t)
    if signal:
        return f'was stopped by {signal}', signal
    return ('came to its end' if t.word('finished') else 'was killed'), None


def _marks(t: Traces) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            'signal mark', f'{name} came at {clocktime(mark.time)}; the process did not outlive it.'
        )
        for name, mark in t.marks.items()
    )


def _mib(size: int) -> str:
    return f'{size / (1 << 20):.0f} MiB'
