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
#: Seconds: a server that stood ready for this long has started, even if no request came.
READY = 10
#: Seconds that a server may take to stop: waitress waits 5 s for its threads, gunicorn 30.
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
    """The judgement of the first rule that applies, with what else was seen at the end."""
    answers = (rule(traces) for rule in RULES)
    found = next(answer for answer in answers if answer)  # the last rule always applies
    seen = (*what_stood_still(traces), *what_was_slow(traces), *what_was_deep(traces))
    more = tuple(one for one in seen if one not in found.evidence)
    return replace(found, evidence=found.evidence + more)


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
    # The text on standard error says more than the abort that follows it.
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
    when = 'after it had started to serve' if t.word('serving') else 'before it was ready to serve'
    how, source, confidence = _end_of_start(t)
    return Judgement(
        'startup-failed',
        confidence,
        f'Zope did not start: it ended {when}{how}.',
        (Evidence(source, f'It ended {when}{how}; no request had been answered.'),),
        ruled_out=ruled_out(t),
        candidates=candidates(t) if source == 'black box' else (),
    )


def unhandled_exception(t: Traces) -> Judgement | None:
    if not t.exception or _is_interrupt(t):
        return None
    return Judgement(
        'unhandled-exception',
        'certain',
        f'The main thread ended with {_last_line(t)}.',
        (Evidence('excepthook', t.exception.strip()),),
    )


def hung(t: Traces) -> Judgement | None:
    all_overdue = _all_overdue(t)
    if t.role != 'server' or not (t.hang or all_overdue or t.word('hung_since')):
        return None
    signal = next(iter(t.marks), None) or _stop_signal(t)
    if signal:
        ended = f'was stopped by {signal}'
    elif t.word('finished'):
        ended = 'came to its end'
    else:
        ended = 'was killed'
    return Judgement(
        'hung',
        'strong',
        f'Zope {how_long(t)} when it {ended}{who_hung(t)}.',
        (*stood_still(t, all_overdue), *(_marks(t) or _asked_for(t))),
        signal,
    )


def signalled(t: Traces) -> Judgement | None:
    signal = next((name for name in _OTHER_SIGNALS if name in t.marks), None)
    if not signal or t.word('finished'):
        return None
    summary = f'Zope was ended by {signal}, which it does not handle{_ADVICE[signal]}.'
    return Judgement('signalled', 'strong', summary, _marks(t), signal)


def stopped(t: Traces) -> Judgement | None:
    signal = _stop_signal(t)
    finished = t.word('finished')
    if not signal and not finished:
        return None
    confidence = 'strong'
    evidence = _marks(t) or _asked_for(t)
    if finished:
        confidence = 'certain'
        fact = f'The interpreter came to its normal end at {clocktime(finished)}.'
        evidence += (Evidence('black box', fact),)
    how = f'by {signal}' if signal else 'by a normal exit'
    return Judgement('stopped', confidence, f'Zope was stopped {how}.', evidence, signal)


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
    if fault.crashed_thread:
        stack = ' with the stack of the thread that crashed'
    else:
        stack = ', which names no crashed thread'
    fact = f'"Fatal Python error: {fault.reason}" at {clocktime(time)}{stack}.'
    return Evidence('fault log', fact)


def _where(t: Traces, fault: Dump) -> str:
    """Where a crash was, in words: the function, and the request that its thread served."""
    thread = fault.crashed_thread
    if not thread:
        return ''
    where = f' in {thread.frames[0].function}' if thread.frames else ''
    for request in t.in_flight:
        if request.ident == thread.ident:
            return f'{where}, while serving {request.method} {request.path}'
    return where


def _out_of_memory(t: Traces, confidence: str, evidence: tuple[Evidence, ...]) -> Judgement:
    sample = t.last_sample
    if sample and sample.rss > 0:
        limit = f' of {_mib(sample.cgroup_limit)} allowed' if sample.cgroup_limit > 0 else ''
        fact = f'It used {_mib(sample.rss)}{limit} at {clocktime(sample.time)}.'
        evidence += (Evidence('last sample', fact),)
    return Judgement(
        'out-of-memory',
        confidence,
        'The kernel killed Zope because memory had run out.',
        evidence,
        'SIGKILL',
    )


def _was_near_limit(t: Traces) -> bool:
    """Whether the cgroup used at least four fifths of its memory at the last sample."""
    sample = t.last_sample
    return sample is not None and 0 < sample.cgroup_limit <= sample.cgroup_current * 1.25


def _left_a_word(t: Traces) -> bool:
    """Whether it left a sign that a process killed by the kernel cannot leave."""
    return bool(t.marks or t.word('finished') or t.exception)


def _is_interrupt(t: Traces) -> bool:
    return exception_name(t.exception) == 'KeyboardInterrupt'


def _stop_signal(t: Traces) -> str | None:
    """The signal that asked for a stop, even if the process needed some time for it, or None."""
    for name in _STOP_SIGNALS:
        if name in t.marks:
            return name
    if _is_interrupt(t):
        return 'SIGINT'
    for name in _STOP_SIGNALS:
        if name in t.asked and _in_good_order(t, t.asked[name]):
            return name
    return None


def _in_good_order(t: Traces, asked: float) -> bool:
    """Whether the interpreter came to its end soon after it was asked to.  When that was is the
    time of a file, which may be a second off.
    """
    finished = t.word('finished')
    return finished > 0 and -1 <= finished - asked <= GRACE


def _asked_for(t: Traces) -> tuple[Evidence, ...]:
    """A stop signal that the process outlived, because the server was still shutting down."""
    signal = _stop_signal(t)
    if signal not in t.asked:
        return ()
    return (Evidence('signal mark', f'{signal} came at {clocktime(t.asked[signal])}.'),)


def _stood_ready(t: Traces) -> bool:
    """Whether it stood ready for long, or is the master of a preforking server, which answers no
    request itself.
    """
    serving = t.word('serving')
    if not serving:
        return False
    return t.last_sign - serving >= READY or t.word('forked') > serving


def _end_of_start(t: Traces) -> tuple[str, str, str]:
    """In words how a start ended, the source of that, and how sure it is."""
    if t.exception:
        return f' with {_last_line(t)}', 'excepthook', 'certain'
    if t.word('finished'):
        return ' by a normal exit', 'atexit', 'certain'
    return ' without a trace', 'black box', 'likely'


def _last_line(t: Traces) -> str:
    """The exception that ended the main thread, without its traceback."""
    return exception_line(t.exception).rstrip('.')


def _all_overdue(t: Traces) -> bool:
    """Whether all threads that serve were busy with overdue requests at the last sample."""
    if t.word('finished') and not t.word('hung_since'):
        return False  # it came to a normal end, and its idle threads had ended before
    sample = t.last_sample
    return sample is not None and 0 < sample.workers <= sample.overdue


def _marks(t: Traces) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            'signal mark', f'{name} came at {clocktime(mark.time)}; the process did not outlive it.'
        )
        for name, mark in t.marks.items()
    )


def _mib(size: int) -> str:
    return f'{size / (1 << 20):.0f} MiB'
