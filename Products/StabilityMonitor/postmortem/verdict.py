"""How a run ended: a table of rules, tried in order; the first that applies is the verdict.

A rule looks at `Traces` only and returns a `Judgement` or None.  It reads no file.  The order makes
sure that missing data never hides a recorded crash (docs/design.rst, "Judging").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

from ..model.counts import counted
from ..model.records import Evidence
from ..model.records import Request
from ..model.records import clocktime
from ..model.records import duration
from ..model.tracebacksummary import exception_line
from ..system.runcontext import SHELL_IN_CONTAINER
from . import crashplace
from . import freezes
from . import hangnotes
from . import sentsignal
from . import stackoverflow
from . import stops
from .delaysummary import at_the_end
from .delaysummary import not_ready
from .delaysummary import still_stopping
from .elimination import candidates
from .elimination import ruled_out
from .evidence import Traces
from .faultlog import Dump
from .hangsummary import deep_stacks
from .hangsummary import evidence_of_hang
from .hangsummary import held_gil
from .hangsummary import how_long
from .hangsummary import lasting_events
from .hangsummary import slow_requests
from .hangsummary import where_it_hung
from .lockholder import lock_holder
from .memoryend import growth_to_the_limit
from .memoryend import was_near_limit
from .stops import GRACE as GRACE

_CRASH_SIGNALS = {'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE'}
#: The words of Python itself for a stack that overflowed: "Cannot recover from stack overflow"
#: (3.11), "Cannot recover from Python stack overflow" (3.12), "Unrecoverable stack overflow" (3.14)
_OVERFLOW = re.compile('(?:Cannot recover from|Unrecoverable) (?:Python |C )?stack overflow')
#: What a dump says at a thread in which the garbage collector was at work.
COLLECTING = 'Garbage-collecting'
#: Signals that end Zope because it does not handle them, and their usual causes.
_OTHER_SIGNALS = {
    'SIGHUP': 'an old logrotate recipe, or a terminal that was closed',
    'SIGUSR1': 'an old logrotate recipe',
    'SIGUSR2': 'an old logrotate recipe',
    'SIGQUIT': 'Ctrl-\\ on its terminal, or a supervisor',
    'SIGALRM': 'a timer that other code has set',
    'SIGXCPU': 'the limit of CPU time (ulimit -t)',
}
#: The outermost function of a program: a script, or a module that was started with "-m".
_PROGRAM = ('<module>', '_run_module_as_main')
#: A dump with fewer frames is not cut short: Python 3.15 shows 50, and others 100.
_WHOLE = 50
#: The end of a summary if the signal may have been sent.
_OR_SENT = ', or another process sent this signal'
#: Seconds: a server that was ready for this long has started, even if no request came.
READY = 10
#: Seconds that a process may take to end after its normal exit has begun, without being slow.
ENDING = 5
#: Seconds that a process takes at most to exit after a SIGABRT that its handler turns into an exit.
_ABORT_GRACE = 10
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

    Hangs, slow requests and deep stacks that lasted to the end are added to its evidence, and so
    are signals that the process outlived, the last words of C code, and what the fault log holds
    besides.
    """
    answers = (rule(traces) for rule in RULES)
    found = next(answer for answer in answers if answer)  # the last rule always applies
    evidence = list(found.evidence)
    for also_seen in _ALSO_SEEN:
        evidence += [fact for fact in also_seen(traces) if fact not in found.evidence]
    return replace(found, evidence=tuple(evidence))


def alive_in_copy(when: float) -> Judgement:
    """Return the judgement of a run of another machine whose files tell nothing of its end.

    `when`: the last change of its files.
    """
    return Judgement(
        verdict='running',
        confidence='certain',
        summary=f'It was alive when this copy was made, at {clocktime(when)}.',
        evidence=(
            Evidence(
                'data directory',
                'This is a copy from another machine, and nothing in it tells of an end.  Only '
                'that machine knows how the process ended, if it did.',
            ),
        ),
    )


# -- rules -----------------------------------------------------------------------------------------


def stack_overflow(t: Traces) -> Judgement | None:
    error = t.stderr_fault
    if error and _says_overflow(error):
        said = _fatal_error(t, error)
        if said:
            return said
    if not t.fault or t.fault.signal not in _CRASH_SIGNALS:
        return None
    thread = t.fault.crashed_thread
    if not thread:
        return None
    confidence = stackoverflow.confidence(t, thread)
    if not confidence:
        return None
    dumped = _dumped(t, t.fault)
    where = _where(t, t.fault)
    return Judgement(
        verdict='stack-overflow',
        confidence=confidence,
        summary=f'A thread overflowed its stack{where}: its recursion was endless or too deep.',
        evidence=(*dumped, *stackoverflow.evidence(t, thread)),
        signal=t.fault.signal,
    )


def crashed(t: Traces) -> Judgement | None:
    if t.headless:
        return _headless(t, t.headless)
    if not t.fault or t.fault.signal == 'SIGABRT':
        return None
    where = _where(t, t.fault)
    doubt = _may_be_sent(t, t.fault)
    if t.fault.signal:
        how = f'{t.fault.reason} ({t.fault.signal})'
        confidence = 'strong' if doubt else 'certain'
    else:
        how = f'by a signal whose name is cut off ("{t.fault.reason}")'
        confidence = 'strong'
    return Judgement(
        verdict='crashed',
        confidence=confidence,
        summary=f'Zope crashed: {how}{where}{_OR_SENT if doubt else ""}.',
        evidence=(*_dumped(t, t.fault), *doubt),
        signal=t.fault.signal,
    )


def aborted(t: Traces) -> Judgement | None:
    # The text of Py_FatalError on standard error says more than the abort that follows it.
    error = t.stderr_fault
    says_more = error is not None and error.kind == 'pyfatal' and error.names(t.main_ident)
    if t.fault and not says_more:
        return _abort(t, t.fault)
    if error:
        return _fatal_error(t, error)
    return _outlived_abort(t)


def out_of_memory(t: Traces) -> Judgement | None:
    if t.kernel_line:
        return _out_of_memory(t, 'certain', Evidence('kernel log', t.kernel_line))
    if _left_a_trace(t):
        return None
    if t.cgroup_kills:
        kills = counted(t.cgroup_kills, 'OOM kill')
        fact = f'The memory cgroup of this process counted {kills} since the last sample.'
        return _out_of_memory(t, 'strong', Evidence('cgroup', fact))
    if t.host_kills and t.cgroup_kills is None and was_near_limit(t):
        kills = counted(t.host_kills, 'OOM kill')
        fact = f'The kernel counted {kills} on this host since the last sample.'
        return _out_of_memory(t, 'likely', Evidence('/proc/vmstat', fact))
    return None


def startup_failed(t: Traces) -> Judgement | None:
    if t.role != 'server' or not t.recording:
        return None
    was_asked = t.marks or stops.stop_signal(t) or stops.outlived_stop(t)
    if was_asked or t.same_boot is False:
        return None
    if t.recording.finished or t.in_flight or _was_ready(t):
        return None
    leaves_no_mark = not t.unmarked.isdisjoint(stops.STOP_SIGNALS)
    when = 'before it was ready to serve'
    if t.word('serving'):
        when = 'soon after it had loaded'
        # Only an error or an exit shows that it could not serve, as when its port is in use.
        is_a_stop = t.word('finished') and leaves_no_mark
        has_failed = t.exception or (t.word('finished') and not is_a_stop)
        if not has_failed:
            return None
    causes: tuple[str, ...] = ()
    if t.exception:
        how = f'with {_last_line(t)}'
        source = 'excepthook'
        confidence = 'certain'
    elif t.word('finished'):
        how = 'by a normal exit'
        source = 'atexit'
        confidence = 'likely' if leaves_no_mark else 'strong'
    else:
        how = 'without a trace'
        source = 'black box'
        confidence = 'likely'
        causes = candidates(t)
    fact = f'Zope ended {when}, {how}; it had answered no request.'
    where = not_ready(t) or still_stopping(t)
    return Judgement(
        verdict='startup-failed',
        confidence=confidence,
        summary=f'Zope failed to start: it ended {when}, {how}{_clause(where)}.',
        evidence=(Evidence(source, fact),),
        ruled_out=ruled_out(t),
        candidates=causes,
    )


def unhandled_exception(t: Traces) -> Judgement | None:
    if not t.exception or stops.is_interrupt(t):
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
    has_hung = t.hang or t.word('hung_since') or hangnotes.lasting(t.notes)
    confidence = 'strong'
    if not has_hung and held_gil(t) and not _left_a_trace(t):
        has_hung = True
        confidence = 'likely'
    if t.role != 'server' or not has_hung:
        return None
    stop = stops.last_stop(t)
    if stop and stop.confidence and not stops.hung_before(t, stop.time):
        return None  # it did not answer because it was about to end
    arrived = [name for name in t.marks if not stops.is_without_effect(t, name)]
    signal = next(iter(arrived), None) or stops.stop_signal(t)
    outlived = stops.outlived_stop(t)
    if signal:
        ended = f'was stopped by {signal}'
    elif outlived:
        signal = outlived.signal
        ended = f'was asked to stop by {signal}'
    elif t.word('finished'):
        ended = 'came to a normal exit'
    else:
        ended = 'ended without a trace'
    asked = _signal_evidence(t)
    return Judgement(
        verdict='hung',
        confidence=confidence,
        summary=f'Zope {how_long(t)} when it {ended}{where_it_hung(t)}.',
        evidence=(*evidence_of_hang(t), *asked),
        signal=signal,
    )


def signalled(t: Traces) -> Judgement | None:
    if t.word('finished'):
        return None
    for signal, usual_cause in _OTHER_SIGNALS.items():
        if signal not in t.marks or stops.is_without_effect(t, signal):
            continue
        confidence = 'strong'
        summary = (
            f'Zope was ended by {signal}, which it does not handle (usual cause: {usual_cause}).'
        )
        if t.handled is not None and signal in t.handled:
            confidence = 'likely'
            summary = f'Zope ended just after {signal}, which other code handles.'
        return Judgement(
            verdict='signalled',
            confidence=confidence,
            summary=summary,
            evidence=_signal_evidence(t),
            signal=signal,
        )
    return None


def stopped(t: Traces) -> Judgement | None:
    signal = stops.stop_signal(t)
    finished = t.word('finished')
    if not signal and not finished:
        return _stopped_slowly(t) or _was_stopping(t)
    how = f'was stopped by {signal}' if signal else 'came to a normal exit'
    evidence = _signal_evidence(t)
    if finished:
        # This is the end of Python.  Libraries in C may still wait, or crash, in their own hooks.
        fact = (
            f'The interpreter began its normal exit at {clocktime(finished)}; how the process '
            'ended after that is not known.'
        )
        evidence += (Evidence('black box', fact),)
        lasted = t.last_sign - t.by_last_clock(finished)
        if lasted > ENDING:
            still = f'The process was still there {duration(lasted)} after its normal exit began.'
            evidence += (Evidence('black box', still),)
    return Judgement(
        verdict='stopped',
        confidence='strong',
        summary=f'Zope {how}{_clause(not_ready(t) or still_stopping(t))}.',
        evidence=evidence,
        signal=signal,
    )


def _stopped_slowly(t: Traces) -> Judgement | None:
    """Judge a process that lived on after it was asked to stop, and then was gone."""
    stop = stops.outlived_stop(t)
    if stop is None:
        return None
    lived_on = 'did not end'
    if stop.lived_on >= 1:
        lived_on = f'lived on for {duration(stop.lived_on)}'
    why = ''
    noted = still_stopping(t)
    place = stops.main_thread_place(t, stop)
    if stops.is_without_effect(t, stop.signal):
        why = f' (as pid 1 of its container it ignores {stop.signal})'
    elif noted:
        why = f' ({noted})'
    elif place:
        why = f' (MainThread was in {place})'
    return Judgement(
        verdict='stopped',
        confidence=stop.confidence,
        summary=(
            f'Zope was asked to stop by {stop.signal}, {lived_on}, and then ended without a trace, '
            f'as after SIGKILL{why}.'
        ),
        evidence=(*_signal_evidence(t), *stops.why_it_took_long(t, stop)),
        signal=stop.signal,
        ruled_out=ruled_out(t),
        candidates=candidates(t),
    )


def _was_stopping(t: Traces) -> Judgement | None:
    """Judge a process that was seen to stop, although no signal left a mark, and then was gone.

    Other code may handle the signal, or it called sys.exit.
    """
    begun = hangnotes.lasting(t.notes, 'slow-stop')
    if begun is None or t.role != 'server' or t.still_there:
        return None
    lasted = max(0.0, t.last_sign - t.by_last_clock(begun.time))
    if lasted > stops.LONG_GRACE:
        return None
    noted = still_stopping(t)
    why = f' ({noted})' if noted else ''
    fact = "MainThread had left the server's loop; no signal that asks for a stop left a mark."
    return Judgement(
        verdict='stopped',
        confidence='likely' if lasted <= GRACE else 'weak',
        summary=(
            f'Zope was stopping, did not end for {duration(lasted)}, and then ended without a '
            f'trace, as after SIGKILL{why}.'
        ),
        evidence=(Evidence('black box', fact),),
        ruled_out=ruled_out(t),
        candidates=candidates(t),
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
    evidence = [Evidence('black box', f'The last sign of life was at {last_sign}.')]
    if not t.still_there:
        fact = 'Whether it was frozen then (SIGSTOP, a debugger), and killed later, is not known.'
        evidence.append(Evidence('black box', fact))
    if t.context.get('supervisor') == SHELL_IN_CONTAINER:
        fact = (
            'A shell was pid 1 of the container and passes no SIGTERM on: a stop of the container '
            'kills Zope without a trace.  The check "stop-signal" says what to do.'
        )
        evidence.append(Evidence('run context', fact))
    return Judgement(
        verdict='vanished',
        confidence=confidence,
        summary=summary,
        evidence=tuple(evidence),
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


def _abort(t: Traces, fault: Dump) -> Judgement:
    """Judge a dump of SIGABRT in the fault log.

    With a handler of other code, which runs after the dump, a SIGABRT for the whole process does
    not end it.  The main thread gets such a signal; in another thread it was abort().
    """
    where = _where(t, fault)
    evidence = _dumped(t, fault)
    confidence = 'certain'
    thread = fault.crashed_thread
    may_be_handled = thread is None or thread.ident == t.main_ident
    if t.context.get('abort_handler') and may_be_handled:
        confidence = 'strong'
        cause = _cause_of_abort(t)
        fact = (
            'Other code has a handler for SIGABRT, so the signal may have come from outside '
            f'(usual cause: {cause}).'
        )
        evidence += (Evidence('run context', fact),)
    doubt = _may_be_sent(t, fault)
    if doubt:
        confidence = 'strong'
        where += _OR_SENT
    return Judgement(
        verdict='aborted',
        confidence=confidence,
        summary=f'Zope was aborted (SIGABRT){where}.',
        evidence=(*evidence, *doubt),
        signal='SIGABRT',
    )


def _cause_of_abort(t: Traces) -> str:
    """The usual cause of a SIGABRT for which other code has a handler."""
    if t.context.get('supervisor') == 'gunicorn':
        return 'the option --timeout of gunicorn'
    return 'a supervisor'


def _outlived_abort(t: Traces) -> Judgement | None:
    """Judge a SIGABRT that a handler of other code turned into an exit.

    gunicorn sends SIGKILL if the exit takes long, as when other threads do not end.
    """
    if not t.outlived or t.outlived.signal != 'SIGABRT':
        return None
    if t.exception or t.marks or any(at >= t.outlived_time - 1 for at in t.asked.values()):
        return None  # something else ended it
    finished = t.word('finished')
    if not finished and t.context.get('supervisor') != 'gunicorn':
        return None
    ended = finished or t.last_sign
    took = ended - t.outlived_time
    if not -1 <= took <= _ABORT_GRACE:
        return None
    cause = _cause_of_abort(t)
    unanswered = ''
    for request in _unanswered(t, t.outlived_time):
        took_words = duration(request.seconds)
        unanswered = f'; {request.method} {request.path} had taken {took_words} and got no answer'
    return Judgement(
        verdict='signalled',
        confidence='strong' if finished else 'likely',
        summary=(
            'Zope was ended by SIGABRT, for which other code has a handler '
            f'(usual cause: {cause}){unanswered}.'
        ),
        evidence=_outlived_dump(t),
        signal='SIGABRT',
    )


def _unanswered(t: Traces, since: float) -> list[Request]:
    """Return the request that was cut off after `since`, or else the oldest one in flight."""
    if not t.recording:
        return []
    for request in t.recording.finished[-1:]:
        if not request.status and (request.ended or 0) >= since - 1:
            return [request]
    oldest = sorted(t.in_flight, key=lambda request: request.started)[:1]
    return [replace(each, seconds=max(0.0, t.last_sign - each.started)) for each in oldest]


def _headless(t: Traces, dump: Dump) -> Judgement | None:
    """Judge stacks in the fault log without the line that says which signal it was.

    Only a fatal signal makes faulthandler write there.  Another library may have written to the
    descriptor, so the stacks must be of this process, and nothing else may explain the end.
    """
    if t.stderr_fault or _left_a_trace(t) or t.kernel_line or t.cgroup_kills or t.still_there:
        return None
    if not dump.crashed_thread and not dump.names(t.main_ident):
        return None
    where = _where(t, dump)
    return Judgement(
        verdict='crashed',
        confidence='likely',
        summary=f'Zope crashed{where}; which signal it was is not known.',
        evidence=_unknown_fault_log(t),
    )


def _fatal_error(t: Traces, error: Dump) -> Judgement | None:
    """Judge a fatal dump on standard error.

    If it names no thread of this process, it may be of another one: then only what nothing else
    explains is judged by it.
    """
    confidence = 'certain'
    threads = 'with the threads of this process'
    if error.kind == 'fatal' and t.word('finished'):
        confidence = 'strong'  # a handler of other code may have led to the exit, after the dump
    if not error.names(t.main_ident):
        if t.fault or _left_a_trace(t) or t.kernel_line or t.cgroup_kills:
            return None
        confidence = 'likely'
        threads = 'but it leaves out threads: another process may have written it'
    where = _where(t, error)
    doubt = _may_be_sent(t, error)
    if doubt:
        where += _OR_SENT
        if confidence == 'certain':
            confidence = 'strong'
    reason = error.reason.rstrip('.')
    thread = error.crashed_thread
    seen = None
    if thread and error.signal in _CRASH_SIGNALS and confidence != 'likely':
        seen = stackoverflow.confidence(t, thread)
    verdict = 'aborted'
    summary = f'Python ended itself with a fatal error{where}: {reason}.'
    if seen or _says_overflow(error):
        verdict = 'stack-overflow'
        summary = f'A thread overflowed its stack{where}: {reason}.'
        if seen:
            confidence = seen
        elif confidence == 'certain' and not _OVERFLOW.search(reason):
            confidence = 'strong'
    elif error.signal in _CRASH_SIGNALS:
        verdict = 'crashed'
        summary = f'Zope crashed: {reason} ({error.signal}){where}.'
    elif error.signal:
        summary = f'Zope was aborted ({error.signal}){where}.'
    fact = f'"Fatal Python error: {error.reason}", {threads}.'
    evidence = [Evidence('standard error', fact)]
    if thread and verdict == 'stack-overflow':
        evidence += stackoverflow.evidence(t, thread, 'standard error')
    evidence += doubt
    return Judgement(
        verdict=verdict,
        confidence=confidence,
        summary=summary,
        evidence=tuple(evidence),
        signal=error.signal or 'SIGABRT',
    )


def _may_be_sent(t: Traces, dump: Dump) -> tuple[Evidence, ...]:
    """The reason why the signal of a dump may have been sent; () if a fault raised it.

    The kernel logs a fault, and no signal that was sent.
    """
    if not dump.signal or not t.harmless_place or t.kernel_fault:
        return ()
    return (Evidence('stack', sentsignal.explanation(dump.signal, t.harmless_place)),)


def _says_overflow(error: Dump) -> bool:
    """Whether Py_FatalError says that a stack overflowed: "Unrecoverable stack overflow"."""
    return error.kind == 'pyfatal' and 'stack overflow' in error.reason.lower()


def _dumped(t: Traces, fault: Dump) -> tuple[Evidence, ...]:
    thread = fault.crashed_thread
    if thread and not t.kernel_fault:
        stack = ' with the stack of the thread that crashed'
    elif t.kernel_fault:
        stack = '; the kernel named the thread that crashed'
    else:
        stack = ', which names no crashed thread'
    fact = f'"Fatal Python error: {fault.reason}" at {clocktime(t.fault_time)}{stack}.'
    dumped = Evidence('fault log', fact)
    if t.kernel_fault:
        return dumped, Evidence('kernel log', t.kernel_fault)
    return (dumped,)


def _where(t: Traces, fault: Dump) -> str:
    """Where and when a crash happened, in words: phase, place, and the request that was served."""
    words = []
    if _was_ending(t, fault):
        words.append('while it was ending already')
    elif _was_starting(t):
        words.append('while it started')
    thread = fault.crashed_thread
    if thread:
        place = crashplace.place(thread.frames, t.imported)
        if crashplace.importing_frame(thread.frames) and not words:
            place = f'while {place}'
        if place:
            words.append(place)
        if COLLECTING in thread.note:
            words.append('during garbage collection')
        for request in t.in_flight:
            if request.ident == thread.ident:
                words.append(f'while serving {request.method} {request.path}')
    if _was_ending(t, fault) and t.role == 'server' and t.recording and not t.in_flight:
        words.append('so no request was lost')
    if not words:
        return ''
    return ' ' + ', '.join(words)


def _was_ending(t: Traces, fault: Dump) -> bool:
    """Whether Python was ending already: it says so, or its exit had begun before the dump."""
    says_so = fault.runtime_state.startswith('finalizing')
    finished = t.word('finished')
    return says_so or 0 < finished or _has_left_program(t, fault)


def _has_left_program(t: Traces, fault: Dump) -> bool:
    """Whether MainThread crashed outside of the program, after it was asked to stop.

    Exit handlers that were registered after ours run before it.  They have no caller in Python,
    while all that the program does is called by its module.
    """
    stop = stops.last_stop(t)
    thread = fault.crashed_thread
    if stop is None or stop.lived_on > GRACE or thread is None or thread.ident != t.main_ident:
        return False
    is_whole = 0 < len(thread.frames) < _WHOLE
    return is_whole and thread.frames[-1].function not in _PROGRAM


def _was_starting(t: Traces) -> bool:
    return t.role == 'server' and t.recording is not None and not t.word('serving')


def _words_of_c(t: Traces) -> Iterator[Evidence]:
    """Yield the last words of C code on standard error, which may be of another process."""
    for words in t.last_words:
        yield Evidence('standard error', f'Last words of C code: "{words}".')


def _unknown_fault_log(t: Traces) -> tuple[Evidence, ...]:
    """The evidence of a fault log that was written to, but does not say which signal came."""
    log = t.fault_log
    if t.fault or not log:
        return ()
    what = f'{counted(log.size, "byte")}'
    if t.headless:
        threads = counted(len(t.headless.threads), 'thread')
        what = f'the stacks of {threads}'
    fact = (
        f'It holds {what}, written until {clocktime(log.time)}, but no line "Fatal Python error"'
        f'; it begins with "{log.beginning}".'
    )
    return (Evidence('fault log', fact),)


def _outlived_dump(t: Traces) -> tuple[Evidence, ...]:
    """The evidence of a fatal signal that the process survived."""
    if not t.outlived:
        return ()
    fact = f'The process outlived "Fatal Python error: {t.outlived.reason}"'
    if t.outlived_time:
        lived_on = max(0.0, t.last_sign - t.by_last_clock(t.outlived_time))
        fact += f' at {clocktime(t.outlived_time)}'
        if lived_on >= 1:
            fact += f', by {duration(lived_on)}'
    return (Evidence('fault log', f'{fact}.'),)


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


def _left_a_trace(t: Traces) -> bool:
    """Whether the run left a trace that is impossible after SIGKILL."""
    for signal in t.marks:
        if not stops.is_without_effect(t, signal):
            return True
    return bool(t.word('finished') or t.exception)


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


def _clause(words: str) -> str:
    """These words as a further part of a sentence; '' for none."""
    return f'; {words}' if words else ''


def _last_line(t: Traces) -> str:
    """The exception that ended the main thread, without its traceback."""
    return exception_line(t.exception).rstrip('.')


def _signal_evidence(t: Traces) -> tuple[Evidence, ...]:
    """The evidence of the signals that asked for a stop, and of others that were not survived."""
    found = list(stops.marks(t))
    for name, mark in t.marks.items():
        if name in stops.STOP_SIGNALS:
            continue
        fact = f'{name} arrived at {clocktime(mark.time)}'
        if not stops.is_without_effect(t, name):
            fact += '; the process did not survive it'
        found.append(Evidence('signal mark', f'{fact}.'))
    return tuple(found)


def _mib(size: int) -> str:
    mib = size / (1 << 20)
    return f'{mib:.0f} MiB'


#: What is added to the evidence of each verdict.
_ALSO_SEEN: tuple[Callable[[Traces], Iterable[Evidence]], ...] = (
    _words_of_c,
    _unknown_fault_log,
    _outlived_dump,
    stops.outlived_marks,
    lock_holder,
    growth_to_the_limit,
    lasting_events,
    freezes.freezes,
    freezes.clock_settings,
    at_the_end,
    slow_requests,
    deep_stacks,
)
