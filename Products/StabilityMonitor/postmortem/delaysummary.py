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
from .evidence import Traces

_START = 'slow-start'
_STOP = 'slow-stop'


def not_ready(t: Traces) -> str:
    """Return words for a start that stayed at one place until the run ended; else ''.

    For example "it did not get ready in 15 s: MainThread waited for ZEO at 10.0.0.5:8100".
    """
    begun = hangnotes.lasting(t.notes, _START)
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
