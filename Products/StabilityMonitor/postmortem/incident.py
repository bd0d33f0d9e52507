"""Puts traces and judgement together as the record that is archived.

Values in, a RunRecord out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..model.records import Evidence
from ..model.records import Frame
from ..model.records import Request
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from ..store.blackbox import DRILLS
from ..store.blackboxreader import Recording
from . import hangnotes
from .evidence import Traces
from .stackoverflow import stack_of
from .tracebacksummary import exception_name
from .verdict import Judgement

_FRAMES_IN_SIGNATURE = 4


def record(traces: Traces, judgement: Judgement) -> RunRecord:
    """The whole record of a dead run."""
    box = traces.recording
    finished = box.finished if box else ()
    samples = box.samples if box else ()
    log = box.log if box else ()
    native = traces.dump.native if traces.dump else ()
    threads = _threads(traces)
    crashed = next((thread.ident for thread in threads if thread.crashed), 0)
    ended = max(traces.last_sign, traces.started)
    evidence = judgement.evidence
    drill = _drill(box)
    if drill:
        evidence += (Evidence('black box', f'This end was asked for: it is the drill "{drill}".'),)
    return RunRecord(
        run=traces.run,
        instance=instance_of(traces.context),
        role=traces.role,
        pid=traces.pid,
        started=traces.started,
        ended=ended,
        uptime_seconds=round(ended - traces.started, 3),
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
        requests=tuple(_in_flight(request, ended, crashed) for request in traces.in_flight),
        recent=tuple(map(_rounded, reversed(finished))),
        threads=threads,
        native=native,
        samples=samples,
        log=log,
        notes=traces.notes,
        hangs=hangnotes.hangs(traces.notes, ended),
        compiled_modules=_modules(traces),
        context=traces.context | _installed(traces),
        counters=_counters(traces),
        signature=signature(judgement, threads, traces.exception),
    )


def signature(judgement: Judgement, threads: Iterable[ThreadState], exception: str = '') -> str:
    """A short, stable name for "the same crash again": what, where, and eight digits of both."""
    crashed = next((thread for thread in threads if thread.crashed), None)
    places = [_place(frame) for frame in crashed.frames] if crashed else []
    places = list(dict.fromkeys(places))[:_FRAMES_IN_SIGNATURE]
    kind = ''
    if judgement.verdict in ('unhandled-exception', 'startup-failed'):
        kind = exception_name(exception)
    words = [judgement.verdict, judgement.signal or '', kind, *places]
    digest = hashlib.sha256('|'.join(words).encode()).hexdigest()[:8]
    return ' '.join([judgement.signal or kind or judgement.verdict, *places[:1], digest])


def _place(frame: Frame) -> str:
    """File and function; `__init__.py` alone would name nothing."""
    folder, name = os.path.split(frame.file)
    if name == '__init__.py':
        name = f'{os.path.basename(folder)}/{name}'
    return f'{name}:{frame.function}'


def _drill(box: Recording | None) -> str:
    """The id of the drill that asked for this end, or ''."""
    number = box.words['drill'] if box else 0
    return DRILLS[number - 1] if 0 < number <= len(DRILLS) else ''


def _phase(traces: Traces) -> str:
    """How far the run had come: "arming", "starting", "serving" or "finished"; "" if that is not
    known.
    """
    if not traces.recording:
        return ''
    for word, phase in (('finished', 'finished'), ('serving', 'serving'), ('armed', 'starting')):
        if traces.word(word):
            return phase
    return 'arming'


def _in_flight(request: Request, ended: float, crashed: int) -> Request:
    """A request that was in flight when the run ended; `crashed` is the thread that did."""
    return replace(
        request,
        seconds=round(max(0.0, ended - request.started), 6),
        crashed=bool(crashed) and request.ident == crashed,
    )


def _rounded(request: Request) -> Request:
    """To microseconds: a file has no use for more."""
    return replace(request, seconds=round(request.seconds or 0.0, 6))


def _threads(traces: Traces) -> tuple[ThreadState, ...]:
    """The threads of the dump; where there is none, those of a hang and of the signal marks.

    The crashed one is first.
    """
    found = list(traces.dump.threads) if traces.dump else [*_hanging(traces), *_marked(traces)]
    found.sort(key=lambda thread: not thread.crashed)
    return tuple(_with_stack(traces, thread) for thread in found)


def _with_stack(traces: Traces, thread: ThreadState) -> ThreadState:
    stack = stack_of(traces, thread.ident)
    return replace(
        thread,
        name=_thread_name(traces, thread),
        stack_size=stack.stack_size,
        stack_used=stack.stack_used,
        stack_request=stack.stack_request,
    )


def _hanging(traces: Traces) -> Iterator[ThreadState]:
    """The threads of a hang that lasted to the end: as they wrote of themselves, or as the
    heartbeat saw them.
    """
    for ident, mark in traces.stuck.items():
        for thread in mark.last_threads:
            yield replace(thread, ident=ident)
    for note in hangnotes.stuck(traces.notes):
        if note.ident not in traces.stuck:
            said = f'{note.title}: {note.detail}'
            yield ThreadState(note.ident, '', False, note.frames, note.cut, said)


def _marked(traces: Traces) -> Iterator[ThreadState]:
    """The main thread, as a signal mark shows it."""
    for mark in traces.marks.values():
        for dump in mark.dumps:
            for thread in dump.threads:
                yield replace(thread, ident=thread.ident or traces.main_ident or 0)


def _thread_name(traces: Traces, thread: ThreadState) -> str:
    """Python 3.14 dumps the kernel's name of a thread; for the main thread that is the name of the
    process, as `python3.14`.
    """
    if thread.ident == traces.main_ident:
        return 'MainThread'
    if thread.name:
        return thread.name
    if traces.recording and thread.ident in traces.recording.threads:
        return 'serves requests'
    return ''


def _modules(traces: Traces) -> tuple[str, ...]:
    """The compiled modules that were loaded: as noted by the run, and as the dump names them."""
    names = set(traces.dump.extension_modules) if traces.dump else set()
    loaded = traces.loaded.get('compiled_modules')
    if isinstance(loaded, list):
        names |= set(map(str, loaded))
    return tuple(sorted(names))


def _installed(traces: Traces) -> dict[str, Any]:
    """{distributions, builds and, where it is in a file of its own, the digest of that set}"""
    found: dict[str, Any] = {}
    for key in ('distributions', 'builds'):
        value = traces.loaded.get(key)
        found[key] = value if isinstance(value, dict) else {}
    digest = traces.loaded.get('installed')
    if isinstance(digest, str):
        found['installed'] = digest
    return found


def _counters(traces: Traces) -> dict[str, Any]:
    if not traces.recording:
        return {}
    finished = sum(request.count for request in traces.recording.finished)
    return {
        'requests_kept': finished,
        'requests_without_slot': traces.recording.words['overflow'],
        'forked': bool(traces.recording.words['forked']),
    }
