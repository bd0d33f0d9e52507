"""Traces and judgement, put together as the record that is archived.  Values in, a RunRecord
out.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..model.records import Evidence
from ..model.records import LogLine
from ..model.records import Request
from ..model.records import ThreadStack
from ..model.records import instance_of
from ..model.records import isotime
from ..model.records import shallow
from ..model.runrecord import RunRecord
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
    threads = _threads(traces)
    crashed = next((thread['ident'] for thread in threads if thread['crashed']), None)
    ended = max(traces.last_sign, traces.started)
    drill = _drill(box)
    return RunRecord(
        run=traces.run,
        instance=instance_of(traces.context),
        role=traces.role,
        pid=traces.pid,
        started=isotime(traces.started),
        ended=isotime(ended),
        uptime_seconds=round(ended - traces.started, 3),
        verdict=judgement.verdict,
        confidence=judgement.confidence,
        summary=judgement.summary,
        signal=judgement.signal,
        evidence=judgement.evidence + _drill_evidence(drill),
        drill=drill,
        ruled_out=judgement.ruled_out,
        candidates=judgement.candidates,
        phase=_phase(traces),
        exception=box.exception if box else '',
        requests=tuple(
            _request(r, ended, r.ident == crashed) for r in (box.in_flight if box else ())
        ),
        recent=tuple(_request(r, ended) for r in reversed(box.finished if box else ())),
        threads=threads,
        native=tuple(shallow(f) for f in (traces.dump.native if traces.dump else ())),
        samples=tuple(
            s._asdict() | {'time': isotime(s.time)} for s in (box.samples if box else ())
        ),
        log=tuple(_log_line(line) for line in (box.log if box else ())),
        notes=tuple(map(hangnotes.to_json, box.notes if box else ())),
        hangs=hangnotes.hangs(box.notes if box else (), ended),
        compiled_modules=_modules(traces),
        context=traces.context | _installed(traces),
        counters=_counters(traces),
        signature=signature(judgement, threads, box.exception if box else ''),
    )


def signature(judgement: Judgement, threads: Iterable[dict[str, Any]], exception: str = '') -> str:
    """A short, stable name for "the same crash again": what, where, and eight digits of both."""
    thread = next((t for t in threads if t['crashed']), None)
    frames = [_place(f) for f in (thread['frames'] if thread else ())]
    frames = list(dict.fromkeys(frames))[:_FRAMES_IN_SIGNATURE]
    kind = (
        exception_name(exception)
        if judgement.verdict in ('unhandled-exception', 'startup-failed')
        else ''
    )
    words = [judgement.verdict, judgement.signal or '', kind, *frames]
    digest = hashlib.sha256('|'.join(words).encode()).hexdigest()[:8]
    return ' '.join(
        filter(None, [judgement.signal or kind or judgement.verdict, *frames[:1], digest])
    )


def _place(frame: dict[str, Any]) -> str:
    """File and function; `__init__.py` alone would name nothing."""
    folder, name = os.path.split(frame['file'])
    if name == '__init__.py':
        name = f'{os.path.basename(folder)}/{name}'
    return f'{name}:{frame["function"]}'


def _drill(box: Recording | None) -> str:
    """The id of the drill that asked for this end, or ''."""
    number = box.words['drill'] if box else 0
    return DRILLS[number - 1] if 0 < number <= len(DRILLS) else ''


def _drill_evidence(drill: str) -> tuple[Evidence, ...]:
    return (
        (Evidence('black box', f'This end was asked for: it is the drill "{drill}".'),)
        if drill
        else ()
    )


def _phase(traces: Traces) -> str:
    """How far the run had come: "arming", "starting", "serving" or "finished"; "" if that is not
    known.
    """
    if not traces.recording:
        return ''
    return next(
        (
            phase
            for word, phase in (
                ('finished', 'finished'),
                ('serving', 'serving'),
                ('armed', 'starting'),
            )
            if traces.word(word)
        ),
        'arming',
    )


def _request(request: Request, ended: float, crashed: bool = False) -> dict[str, Any]:
    document = shallow(request)
    seconds = request.seconds if request.seconds is not None else max(0.0, ended - request.started)
    document.update(
        thread=f'0x{request.ident:016x}',
        started=isotime(request.started),
        ended=isotime(request.ended),
        seconds=round(seconds, 6),
        crashed=crashed,
    )
    return document


def _log_line(line: LogLine) -> dict[str, Any]:
    return {
        'time': isotime(line.time),
        'level': logging.getLevelName(line.level),
        'logger': line.logger,
        'message': line.message,
        'thread': f'0x{line.ident:016x}',
        'cut': line.cut,
    }


def _threads(traces: Traces) -> tuple[dict[str, Any], ...]:
    """Threads of the dump, else of a hang and the marks; the crashed one first, named by what is
    known of them.
    """
    found = list(traces.dump.threads) if traces.dump else [*_hanging(traces), *_marked(traces)]
    found.sort(key=lambda thread: not thread.crashed)
    return tuple(
        shallow(thread)
        | stack_of(traces, thread.ident)
        | {
            'name': _thread_name(traces, thread),
            'frames': tuple(map(shallow, thread.frames)),
        }
        for thread in found
    )


def _hanging(traces: Traces) -> Iterator[ThreadStack]:
    """The threads of a hang that lasted to the end: as they wrote of themselves, or as the
    heartbeat saw them.
    """
    notes = traces.recording.notes if traces.recording else ()
    yield from (
        replace(thread, ident=ident)
        for ident, mark in traces.stuck.items()
        for dump in mark.dumps[-1:]
        for thread in dump.threads
    )
    yield from (
        ThreadStack(note.ident, '', False, note.frames, note.cut, f'{note.title}: {note.detail}')
        for note in hangnotes.stuck(notes)
        if note.ident not in traces.stuck
    )


def _marked(traces: Traces) -> Iterator[ThreadStack]:
    """The main thread, as a signal mark shows it."""
    return (
        replace(thread, ident=thread.ident or traces.main_ident)
        for mark in traces.marks.values()
        for dump in mark.dumps
        for thread in dump.threads
    )


def _thread_name(traces: Traces, thread: ThreadStack) -> str:
    """Python 3.14 dumps the names that the kernel knows; that of the main thread is the process's,
    as in `python3.14`.
    """
    if thread.ident == traces.main_ident:
        return 'MainThread'
    if thread.name:
        return thread.name
    if traces.recording and thread.ident in traces.recording.threads:
        return 'serves requests'
    return ''


def _modules(traces: Traces) -> tuple[str, ...]:
    loaded = traces.loaded.get('compiled_modules')
    named = traces.dump.extension_modules if traces.dump else ()
    return tuple(
        sorted({str(name) for name in (*(loaded if isinstance(loaded, list) else ()), *named)})
    )


def _installed(traces: Traces) -> dict[str, Any]:
    """{distributions, builds and, where it is in a file of its own, the digest of that set}"""
    known = {key: traces.loaded.get(key) for key in ('distributions', 'builds')}
    told = {key: value if isinstance(value, dict) else {} for key, value in known.items()}
    digest = traces.loaded.get('installed')
    return told | ({'installed': digest} if isinstance(digest, str) else {})


def _counters(traces: Traces) -> dict[str, Any]:
    if not traces.recording:
        return {}
    finished = sum(request.count for request in traces.recording.finished)
    return {
        'requests_kept': finished,
        'requests_without_slot': traces.recording.words['overflow'],
        'forked': bool(traces.recording.words['forked']),
    }
