"""How a run ended: a table of rules, tried in order; the first that applies is the verdict.

A rule looks at `Traces` only and returns a `Judgement` or None.  It reads no file.  The order makes
sure that missing data never hides a recorded crash (docs/design.rst, "Judging").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from ..model.counts import counted
from ..model.records import Evidence
from ..model.records import clocktime
from . import stackoverflow
from .elimination import candidates
from .elimination import ruled_out
from .evidence import Traces
from .faultlog import Dump
from .hangsummary import deep_stacks
from .hangsummary import evidence_of_hang
from .hangsummary import how_long
from .hangsummary import lasting_events
from .hangsummary import slow_requests
from .hangsummary import where_it_hung
from .tracebacksummary import exception_line
from .tracebacksummary import exception_name

_CRASH_SIGNALS = {'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE'}
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')
#: Signals that end Zope because it does not handle them, and their usual causes.
_OTHER_SIGNALS = {
    'SIGHUP': 'an old logrotate recipe, or a terminal that was closed',
    'SIGUSR1': 'an old logrotate recipe',
    'SIGUSR2': 'an old logrotate recipe',
    'SIGQUIT': 'Ctrl-\\ on its terminal, or a supervisor',
    'SIGALRM': 'a timer that other code has set',
    'SIGXCPU': 'the limit of CPU time (ulimit -t)',
}
#: Seconds: a server that was ready for this long has started, even if no request came.
READY = 10
#: Seconds that a server may take to stop: waitress waits 5 s for its threads, gunicorn 30.
GRACE = 60
#: Seconds between the last sign of life and the boot that must have ended the run.
REBOOT_GAP = 600


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
    """Return the judgement of the first rule that applies.

    Hangs, slow requests and deep stacks that lasted to the end are added to its evidence.
    """
    answers = (rule(traces) for rule in RULES)
    found = next(answer for answer in answers if answer)  # the last rule always applies
    evidence = list(found.evidence)
    for also_seen in (lasting_events, slow_requests, deep_stacks):
        evidence += [fact for fact in also_seen(traces) if fact not in found.evidence]
    return replace(found, evidence=tuple(evidence))


# -- rules -----------------------------------------------------------------------------------------


def stack_overflow(t: Traces) -> Judgement | None:
    if not t.fault or t.fault.signal not in _CRASH_SIGNALS:
        return None
    thread = t.fault.crashed_thread
    if not thread:
        return None
    confidence = stackoverflow.confidence(t, thread)
    if not confidence:
        return None
    dumped = _dumped(t.fault, t.fault_time)
    return Judgement(
        verdict='stack-overflow',
        confidence=confidence,
        summary='A thread overflowed its stack: its recursion was endless or too deep.',
        evidence=(dumped, *stackoverflow.evidence(t, thread)),
        signal=t.fault.signal,
    )


def crashed(t: Traces) -> Judgement | None:
    if not t.fault or t.fault.signal == 'SIGABRT':
        return None
    where = _where(t, t.fault)
    dumped = _dumped(t.fault, t.fault_time)
    return Judgement(
        verdict='crashed',
        confidence='certain',
        summary=f'Zope crashed: {t.fault.reason} ({t.fault.signal}){where}.',
        evidence=(dumped,),
        signal=t.fault.signal,
    )


def aborted(t: Traces) -> Judgement | None:
    # The text of Py_FatalError on standard error says more than the abort that follows it.
    error = t.stderr_fault
    surely_ours = error is not None and error.names(t.main_ident)
    if t.fault and not (error and error.kind == 'pyfatal' and surely_ours):
        where = _where(t, t.fault)
        dumped = _dumped(t.fault, t.fault_time)
        return Judgement(
            verdict='aborted',
            confidence='certain',
            summary=f'Zope was aborted (SIGABRT){where}.',
            evidence=(dumped,),
            signal='SIGABRT',
        )
    if not error:
        return None
    confidence = 'certain'
    threads = 'with the threads of this process'
    if not surely_ours:
        if _left_a_trace(t) or t.kernel_line or t.cgroup_kills:
            return None
        confidence = 'likely'
        threads = 'but it leaves out threads: another process may have written it'
    reason = error.reason
    signal = error.signal or 'SIGABRT'
    verdict = 'aborted'
    if signal in _CRASH_SIGNALS:
        verdict = 'crashed'
    fact = f'"Fatal Python error: {reason}", {threads}.'
    return Judgement(
        verdict=verdict,
        confidence=confidence,
        summary=f'Python ended itself with a fatal error: {reason}.',
        evidence=(Evidence('standard error', fact),),
        signal=signal,
    )


def out_of_memory(t: Traces) -> Judgement | None:
    if t.kernel_line:
        return _out_of_memory(t, 'certain', Evidence('kernel log', t.kernel_line))
    if _left_a_trace(t):
        return None
    if t.cgroup_kills:
        kills = counted(t.cgroup_kills, 'OOM kill')
        fact = f'The memory cgroup of this process counted {kills} since the last sample.'
        return _out_of_memory(t, 'strong', Evidence('cgroup', fact))
    if t.host_kills and t.cgroup_kills is None and _was_near_limit(t):
        kills = counted(t.host_kills, 'OOM kill')
        fact = f'The kernel counted {kills} on this host since the last sample.'
        return _out_of_memory(t, 'likely', Evidence('/proc/vmstat', fact))
    return None


def startup_failed(t: Traces) -> Judgement | None:
    if t.role != 'server' or not t.recording:
        return None
    if t.marks or _stop_signal(t) or t.same_boot is False:
        return None
    if t.recording.finished or _was_ready(t):
        return None
    when = 'before it was ready to serve'
    if t.word('serving'):
        when = 'soon after it had loaded'
    causes: tuple[str, ...] = ()
    if t.exception:
        how = f'with {_last_line(t)}'
        source = 'excepthook'
        confidence = 'certain'
    elif t.word('finished'):
        how = 'by a normal exit'
        source = 'atexit'
        confidence = 'certain'
    else:
        how = 'without a trace'
        source = 'black box'
        confidence = 'likely'
        causes = candidates(t)
    fact = f'Zope ended {when}, {how}; it had answered no request.'
    return Judgement(
        verdict='startup-failed',
        confidence=confidence,
        summary=f'Zope failed to start: it ended {when}, {how}.',
        evidence=(Evidence(source, fact),),
        ruled_out=ruled_out(t),
        candidates=causes,
    )


def unhandled_exception(t: Traces) -> Judgement | None:
    if not t.exception or _is_interrupt(t):
        return None
    exception = _last_line(t)
    traceback = Evidence('excepthook', t.exception.strip())
    return Judgement(
        verdict='unhandled-exception',
        confidence='certain',
        summary=f'The main thread ended with {exception}.',
        evidence=(traceback,),
    )


def hung(t: Traces) -> Judgement | None:
    all_overdue = _all_overdue(t)
    has_hung = t.hang or all_overdue or t.word('hung_since')
    if t.role != 'server' or not has_hung:
        return None
    signal = next(iter(t.marks), None) or _stop_signal(t)
    if signal:
        ended = f'was stopped by {signal}'
    elif t.word('finished'):
        ended = 'came to a normal exit'
    else:
        ended = 'ended without a trace'
    asked = _marks(t) or _outlived_stop_signal(t)
    return Judgement(
        verdict='hung',
        confidence='strong',
        summary=f'Zope {how_long(t)} when it {ended}{where_it_hung(t)}.',
        evidence=(*evidence_of_hang(t, all_overdue), *asked),
        signal=signal,
    )


def signalled(t: Traces) -> Judgement | None:
    if t.word('finished'):
        return None
    for signal, usual_cause in _OTHER_SIGNALS.items():
        if signal in t.marks:
            return Judgement(
                verdict='signalled',
                confidence='strong',
                summary=(
                    f'Zope was ended by {signal}, which it does not handle '
                    f'(usual cause: {usual_cause}).'
                ),
                evidence=_marks(t),
                signal=signal,
            )
    return None


def stopped(t: Traces) -> Judgement | None:
    signal = _stop_signal(t)
    finished = t.word('finished')
    if not signal and not finished:
        return None
    confidence = 'strong'
    evidence = _marks(t) or _outlived_stop_signal(t)
    if finished:
        confidence = 'certain'
        fact = f'The interpreter began its normal exit at {clocktime(finished)}.'
        evidence += (Evidence('black box', fact),)
    how = f'was stopped by {signal}' if signal else 'came to a normal exit'
    return Judgement(
        verdict='stopped',
        confidence=confidence,
        summary=f'Zope {how}.',
        evidence=evidence,
        signal=signal,
    )


def host_restarted(t: Traces) -> Judgement | None:
    if t.same_boot is not False or t.same_machine is False:
        return None
    booted = clocktime(t.boot_time)
    last_sign = clocktime(t.last_sign)
    fact = f'The machine booted at {booted}; the last sign of life of Zope was at {last_sign}.'
    gap = t.boot_time - t.last_sign
    confidence = 'likely'
    if abs(gap) < REBOOT_GAP:
        confidence = 'strong'
    return Judgement(
        verdict='host-restarted',
        confidence=confidence,
        summary='The machine was restarted while Zope was running.',
        evidence=(Evidence('boot id', fact),),
    )


def unreadable(t: Traces) -> Judgement | None:
    if not t.damage:
        return None
    return Judgement(
        verdict='unreadable',
        confidence='weak',
        summary='The record of this run is damaged; how the run ended is not known.',
        evidence=(Evidence('reader', t.damage),),
        ruled_out=ruled_out(t),
        candidates=candidates(t),
    )


def vanished(t: Traces) -> Judgement:
    causes = candidates(t)
    summary = 'Zope ended without a trace: most likely it was killed (SIGKILL) or called os._exit.'
    confidence = 'weak'
    if len(causes) <= 2:  # SIGKILL and os._exit, which never leave a trace
        confidence = 'likely'
    if t.still_there:
        summary = 'Zope ended without a trace: its process replaced itself by another program.'
        confidence = 'strong'
    last_sign = clocktime(t.last_sign)
    return Judgement(
        verdict='vanished',
        confidence=confidence,
        summary=summary,
        evidence=(Evidence('black box', f'The last sign of life was at {last_sign}.'),),
        ruled_out=ruled_out(t),
        candidates=causes,
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


# -- what the rules use ----------------------------------------------------------------------------


def _dumped(fault: Dump, time: float) -> Evidence:
    if fault.crashed_thread:
        stack = ' with the stack of the thread that crashed'
    else:
        stack = ', which names no crashed thread'
    fact = f'"Fatal Python error: {fault.reason}" at {clocktime(time)}{stack}.'
    return Evidence('fault log', fact)


def _where(t: Traces, fault: Dump) -> str:
    """Where a crash happened, in words: the function, and the request that its thread served."""
    thread = fault.crashed_thread
    if not thread:
        return ''
    where = ''
    if thread.frames:
        innermost = thread.frames[0]
        where = f' in {innermost.function}'
    for request in t.in_flight:
        if request.ident == thread.ident:
            return f'{where}, while serving {request.method} {request.path}'
    return where


def _out_of_memory(
    t: Traces,
    confidence: str,
    kill: Evidence,
) -> Judgement:
    evidence = [kill]
    sample = t.last_sample
    if sample and sample.rss > 0:
        limit = ''
        if sample.cgroup_limit > 0:
            limit = f'; the limit of its memory cgroup was {_mib(sample.cgroup_limit)}'
        used = _mib(sample.rss)
        when = clocktime(sample.time)
        evidence.append(Evidence('last sample', f'Zope used {used} at {when}{limit}.'))
    return Judgement(
        verdict='out-of-memory',
        confidence=confidence,
        summary='The kernel killed Zope because memory had run out.',
        evidence=tuple(evidence),
        signal='SIGKILL',
    )


def _was_near_limit(t: Traces) -> bool:
    """Whether the cgroup used at least four fifths of its memory at the last sample."""
    sample = t.last_sample
    if sample is None or sample.cgroup_limit <= 0:
        return False
    return sample.cgroup_limit <= sample.cgroup_current * 1.25


def _is_interrupt(t: Traces) -> bool:
    return exception_name(t.exception) == 'KeyboardInterrupt'


def _stop_signal(t: Traces) -> str | None:
    """The signal that asked for a stop, or None.

    It counts even if the process ran on for a while after it, because a shutdown takes time.
    """
    for name in _STOP_SIGNALS:
        if name in t.marks:
            return name
    if _is_interrupt(t):
        return 'SIGINT'
    for name in _STOP_SIGNALS:
        if name in t.asked and _exited_soon_after(t, t.asked[name]):
            return name
    return None


def _exited_soon_after(t: Traces, asked: float) -> bool:
    """Whether a normal exit began at most GRACE seconds after the stop signal at the time `asked`.

    `asked` is the time of a file, which may be a second off.
    """
    finished = t.word('finished')
    if not finished:
        return False
    took = finished - asked
    return -1 <= took <= GRACE


def _left_a_trace(t: Traces) -> bool:
    """Whether the run left a trace that is impossible after SIGKILL."""
    return bool(t.marks or t.word('finished') or t.exception)


def _outlived_stop_signal(t: Traces) -> tuple[Evidence, ...]:
    """The evidence of a stop signal that the process outlived while its server shut down."""
    signal = _stop_signal(t)
    if signal not in t.asked:
        return ()
    asked = clocktime(t.asked[signal])
    return (Evidence('signal mark', f'{signal} arrived at {asked}.'),)


def _was_ready(t: Traces) -> bool:
    """Whether the run was ready to serve for READY seconds, or is a master that has forked.

    The master of a preforking server answers no request itself.
    """
    serving = t.word('serving')
    if not serving:
        return False
    was_ready_for = t.last_sign - t.by_last_clock(serving)
    has_forked = t.word('forked') > serving
    return was_ready_for >= READY or has_forked


def _last_line(t: Traces) -> str:
    """The exception that ended the main thread, without its traceback."""
    return exception_line(t.exception).rstrip('.')


def _all_overdue(t: Traces) -> bool:
    """Whether all workers were busy with overdue requests at the last sample."""
    if t.word('finished') and not t.word('hung_since'):
        return False  # a normal exit: the idle workers had already ended, so only busy ones count
    sample = t.last_sample
    if sample is None:
        return False
    return 0 < sample.workers <= sample.overdue


def _marks(t: Traces) -> tuple[Evidence, ...]:
    found = []
    for name, mark in t.marks.items():
        when = clocktime(mark.time)
        fact = f'{name} arrived at {when}; the process did not survive it.'
        found.append(Evidence('signal mark', fact))
    return tuple(found)


def _mib(size: int) -> str:
    mib = size / (1 << 20)
    return f'{mib:.0f} MiB'
