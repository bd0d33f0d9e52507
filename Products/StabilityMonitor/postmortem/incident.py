"""Makes the record that is archived, from the traces and the judgement.

Values in, a RunRecord out.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..model.drillkinds import expectation
from ..model.faultfacts import OF_PYTHON
from ..model.faultfacts import OF_SIGNAL
from ..model.faultfacts import FatalError
from ..model.records import Evidence
from ..model.records import LifePoint
from ..model.records import LogLine
from ..model.records import NativeFrame
from ..model.records import Request
from ..model.records import Sample
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from ..store import runnumbers
from ..store.blackbox import DRILLS
from . import hangnotes
from . import kernellog
from .evidence import Context
from .evidence import Traces
from .hangsummary import thread_name
from .stackoverflow import stack_of
from .verdict import COLLECTING
from .verdict import Judgement


def record(traces: Traces, judgement: Judgement) -> RunRecord:
    """Return the whole record of a dead run."""
    finished: tuple[Request, ...] = ()
    samples: tuple[Sample, ...] = ()
    curve: tuple[LifePoint, ...] = ()
    log: tuple[LogLine, ...] = ()
    drill = ''
    counters: dict[str, Any] = {}
    box = traces.recording
    if box:
        finished = box.finished
        samples = box.samples
        curve = box.curve
        log = box.log
        number = box.words['drill']  # counted from 1; a later release may have more drills
        if 0 < number <= len(DRILLS):
            drill = DRILLS[number - 1]
        counters = {
            'requests_kept': sum(request.count for request in box.finished),
            'requests_without_slot': box.words['overflow'],
            'forked': bool(box.words['forked']),
        }
    native: tuple[NativeFrame, ...] = ()
    if traces.dump:
        native = traces.dump.native
    threads = _threads(traces)
    crashed = _crashed(threads)
    ended = max(traces.last_sign, traces.began)

    in_flight = []
    for request in traces.in_flight:
        seconds = max(0.0, ended - traces.start_of(request))
        request = replace(request, seconds=seconds)
        if crashed and crashed.ident:
            request = replace(request, crashed=request.ident == crashed.ident)
        in_flight.append(_for_record(request, traces))
    recent = [_for_record(request, traces) for request in reversed(finished)]

    evidence = judgement.evidence
    if drill:
        compared = _compared(drill, traces.context, judgement.verdict)
        fact = f'This end was requested: it is the drill "{drill}"{compared}.'
        evidence += (Evidence('black box', fact),)
    return RunRecord(
        run=traces.run,
        instance=instance_of(traces.context),
        role=traces.role,
        pid=traces.pid,
        started=traces.started,
        ended=ended,
        uptime_seconds=round(ended - traces.began, 3),
        verdict=judgement.verdict,
        confidence=judgement.confidence,
        summary=judgement.summary,
        signal=judgement.signal,
        evidence=evidence,
        drill=drill,
        ruled_out=judgement.ruled_out,
        candidates=judgement.candidates,
        phase=_phase(traces),
        exception=traces.exception,
        requests=tuple(in_flight),
        recent=tuple(recent),
        threads=threads,
        native=native,
        samples=samples,
        curve=curve,
        log=log,
        notes=traces.notes,
        last_words=traces.last_words,
        hangs=hangnotes.hangs(traces.notes, ended, traces.by_last_clock),
        compiled_modules=_modules(traces),
        context=traces.context | _installed(traces),
        counters=counters,
        number=runnumbers.valid(traces.context.get('number')),
        boot_id=traces.boot_id,
        monotonic=traces.started_monotonic,
        fatal=_fatal(traces),
        kernel_fault=kernellog.fault_of(traces.kernel_fault),
    )


#: {kind of a dump: what it is of}
_FATAL_KINDS = {'fatal': OF_SIGNAL, 'pyfatal': OF_PYTHON}


def _fatal(traces: Traces) -> FatalError | None:
    """Return what the dump says besides its stacks; None without a dump."""
    dump = traces.dump
    error = traces.stderr_fault
    if error and error.kind == 'pyfatal' and error.names(traces.main_ident):
        dump = error  # it says more than the abort that follows it
    if dump is None:
        return None
    thread = dump.crashed_thread
    return FatalError(
        kind=_FATAL_KINDS.get(dump.kind, ''),
        reason=dump.reason,
        runtime_state=dump.runtime_state,
        collecting=thread is not None and COLLECTING in thread.note,
        names_thread=thread is not None,
        is_whole=bool(dump.threads) and not dump.truncated and not dump.leaves_out_threads,
    )


def _compared(drill: str, context: Context, verdict: str) -> str:
    """Return the verdict that a drill should lead to beside the one that was found, as a clause."""
    expected = expectation(drill, context)
    if expected is None:
        return ''
    if expected.verdict == verdict:
        return f'; expected and reported: {expected}'
    return f'; expected: {expected}; reported instead: {verdict}'


def _crashed(threads: Iterable[ThreadState]) -> ThreadState | None:
    for thread in threads:
        if thread.crashed:
            return thread
    return None


def _phase(traces: Traces) -> str:
    """Return how far the run came: "arming", "starting", "serving" or "finished"; "": not known."""
    if not traces.recording:
        return ''
    if traces.word('finished'):
        return 'finished'
    if traces.word('serving'):
        return 'serving'
    if traces.word('armed'):
        return 'starting'
    return 'arming'


def _for_record(request: Request, traces: Traces) -> Request:
    """Return the request with the name of its thread, and its duration in whole microseconds."""
    seconds = round(request.seconds or 0.0, 6)
    return replace(request, seconds=seconds, thread_name=thread_name(traces, request.ident))


def _threads(traces: Traces) -> tuple[ThreadState, ...]:
    """Return the threads of the dump; without a dump, those of a hang and of the signal marks.

    The crashed thread comes first.
    """
    if traces.dump:
        seen = list(traces.dump.threads)
    else:
        seen = [*_hanging(traces), *_marked(traces)]
    seen.sort(key=lambda thread: not thread.crashed)
    found = []
    for thread in seen:
        stack = stack_of(traces, thread.ident)
        with_stack = replace(
            thread,
            name=_thread_name(traces, thread),
            stack_size=stack.stack_size,
            stack_used=stack.stack_used,
            stack_request=stack.stack_request,
        )
        found.append(with_stack)
    return tuple(found)


def _hanging(traces: Traces) -> Iterator[ThreadState]:
    """Yield the threads of a hang that lasted to the end.

    The stacks are those that the threads wrote when the watchdog fired, or else those that the
    heartbeat saw.
    """
    for ident, mark in traces.stuck.items():
        for thread in mark.last_threads:
            yield replace(thread, ident=ident)
    for note in hangnotes.stuck(traces.notes):
        if note.ident in traces.stuck:
            continue
        yield ThreadState(
            ident=note.ident,
            frames=note.frames,
            cut=note.cut,
            note=f'{note.title}: {note.detail}',
        )


def _marked(traces: Traces) -> Iterator[ThreadState]:
    """Yield the main thread with the stack that a signal mark holds."""
    for mark in traces.marks.values():
        for dump in mark.dumps:
            for thread in dump.threads:
                ident = thread.ident or traces.main_ident or 0
                yield replace(thread, ident=ident)


def _thread_name(traces: Traces, thread: ThreadState) -> str:
    """Return the name that is shown for a thread, or ''.

    A dump of Python 3.14 holds the kernel's name of each thread.  For the main thread that is the
    name of the process, for example `python3.14`.
    """
    name = thread_name(traces, thread.ident) or thread.name
    if name:
        return name
    if traces.recording and thread.ident in traces.recording.threads:
        return 'serves requests'
    return ''


def _modules(traces: Traces) -> tuple[str, ...]:
    """Return the compiled modules that the run noted or that the dump names."""
    names: set[str] = set()
    if traces.dump:
        names.update(traces.dump.extension_modules)
    loaded = traces.loaded.get('compiled_modules')
    if isinstance(loaded, list):
        names.update(map(str, loaded))
    return tuple(sorted(names))


def _installed(traces: Traces) -> dict[str, Any]:
    """Return {distributions, builds}, and `installed`, the digest of that set, if it has one."""
    found: dict[str, Any] = {}
    for key in ('distributions', 'builds'):
        found[key] = {}
        value = traces.loaded.get(key)
        if isinstance(value, dict):
            found[key] = value
    digest = traces.loaded.get('installed')
    if isinstance(digest, str):
        found['installed'] = digest
    return found
