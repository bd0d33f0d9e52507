"""Describes where MainThread stood when a run ended before it served, or while it stopped.

Traces in, words and evidence out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from ..model.records import Evidence
from ..model.records import Frame
from ..model.records import Note
from ..model.records import clocktime
from ..model.records import duration
from ..threads.activity import own_frame
from . import hangnotes
from . import stops
from .evidence import Traces

_START = 'slow-start'
_STOP = 'slow-stop'
#: A slow start that ended less than this many seconds before a signal was ended by it: the times
#: of files and of notes differ.
_SHORTLY = 1.0


def not_ready(t: Traces) -> str:
    """Return words for a start that stayed at one place until the run ended; else ''.

    For example "it did not get ready in 15 s: MainThread waited for ZEO at 10.0.0.5:8100".
    """
    begun = _slow_start(t)
    if begun is None:
        return ''
    lived = duration(max(0.0, t.last_sign - t.began))
    words = f'it did not get ready in {lived}'
    where = _where_it_stood(t, begun)
    return f'{words}: {where}' if where else words


def still_stopping(t: Traces) -> str:
    """Return words for where MainThread stood when a run ended that was stopping; '' if not known.

    For example "MainThread was in join (threading.py:1119)".
    """
    begun = hangnotes.lasting(t.notes, _STOP)
    if begun:
        return _where_it_stood(t, begun)
    return _last_place(t)


def at_the_end(t: Traces) -> Iterator[Evidence]:
    """Yield where MainThread was long after the end of the interpreter had begun.

    C code wrote it, because the heartbeat could not run.
    """
    where = _last_place(t)
    if not where or t.last_place is None:
        return
    when = clocktime(t.last_place.time)
    fact = f'{where} at {when}'
    finished = t.word('finished')
    if finished:
        seconds = duration(max(0.0, t.last_place.time - finished))
        fact += f', {seconds} after the interpreter began its normal exit'
    yield Evidence('watchdog', f'{fact}.')


def _slow_start(t: Traces) -> Note | None:
    """Return the first note of a slow start that lasted until the run began to end, or None.

    MainThread goes on when it ends: then the event was over shortly before the process was.
    """
    begun = hangnotes.lasting(t.notes, _START)
    if begun or t.word('serving'):
        return begun
    starts = [event for event in hangnotes.hangs(t.notes, t.last_sign) if event.kind == _START]
    moments = [t.last_sign]
    stop = stops.last_stop(t)
    if stop:
        moments.append(stop.time)
    finished = t.word('finished')
    if finished:
        moments.append(t.by_last_clock(finished))
    if not starts or t.by_last_clock(starts[-1].ended or 0.0) < min(moments) - _SHORTLY:
        return None
    return next((note for note in t.notes if note.number == starts[-1].number), None)


def _where_it_stood(t: Traces, begun: Note) -> str:
    if begun.detail:  # the server that it waited for
        return f'MainThread waited for {begun.detail}'
    for note in hangnotes.threads(t.notes, begun):
        if note.ident == t.main_ident:
            return _place(note.frames)
    return ''  # the run ended while this was noted


def _last_place(t: Traces) -> str:
    if t.last_place is None:
        return ''
    for thread in t.last_place.last_threads:
        return _place(thread.frames)
    return ''


def _place(frames: Sequence[Frame]) -> str:
    frame = own_frame(frames)
    if frame is None:
        return 'MainThread ran no Python code'
    return f'MainThread was in {frame.function} ({frame.file}:{frame.line})'
