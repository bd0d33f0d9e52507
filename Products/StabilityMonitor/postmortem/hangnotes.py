"""What the notes of a black box tell of hangs, deadlocks and spinning threads.

Values in, values out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from ..model.records import Note
from ..model.records import isotime
from ..model.records import shallow

_KINDS = ('hang', 'deadlock', 'spinning')


def hangs(notes: Iterable[Note], ended: float) -> tuple[dict[str, Any], ...]:
    """[{kind, started, ended, seconds, summary}], oldest first.

    `ended` is when the run ended.  A hang that lasted until then has None for its own end.
    """
    found: list[_Hang] = []
    for note in notes:
        kind = note.kind.removesuffix('-ended')
        if kind not in _KINDS:
            continue
        if kind != note.kind:
            _close(found, kind, note)
        elif not note.of_thread:
            found.append(_Hang(kind, note.title, note.time))
    return tuple(hang.to_json(ended) for hang in found)


class _Hang:
    """A hang, deadlock or spinning thread; `ended` is None as long as no note tells its end."""

    def __init__(self, kind: str, summary: str, started: float, ended: float | None = None) -> None:
        self.kind = kind
        self.summary = summary
        self.started = started
        self.ended = ended

    def to_json(self, end_of_run: float) -> dict[str, Any]:
        seconds = (self.ended or end_of_run) - self.started
        return {
            'kind': self.kind,
            'started': isotime(self.started),
            'ended': isotime(self.ended),
            'summary': self.summary,
            'seconds': round(max(0.0, seconds), 3),
        }


def _close(found: list[_Hang], kind: str, note: Note) -> None:
    for hang in found:
        if hang.kind == kind and hang.summary == note.title and hang.ended is None:
            hang.ended = note.time
            return
    # The note of its beginning has been overwritten: the ring is full.
    found.append(_Hang(kind, note.title, note.time - note.seconds, note.time))


def all_lasting(notes: Iterable[Note], kind: str = 'hang') -> list[Note]:
    """The notes with which the hangs that lasted to the end began, oldest first."""
    found: list[Note] = []
    for note in notes:
        if note.kind == kind and not note.of_thread:
            found.append(note)
        elif note.kind == f'{kind}-ended':
            titles = [begun.title for begun in found]
            if note.title in titles:
                del found[titles.index(note.title)]
    return found


def lasting(notes: Iterable[Note], kind: str = 'hang') -> Note | None:
    """The note with which the newest hang that lasted to the end began, or None."""
    found = all_lasting(notes, kind)
    return found[-1] if found else None


def threads(notes: Iterable[Note], begun: Note) -> list[Note]:
    """The notes of the threads that were seen when that hang began: they follow its own note."""
    later = (note for note in notes if note.kind == begun.kind and note.number > begun.number)
    return list(itertools.takewhile(lambda note: note.of_thread, later))


def stuck(notes: Sequence[Note]) -> list[Note]:
    """The newest note of each thread of the hangs that lasted to the end.

    Where no hang did, those of deadlocks; where no deadlock did either, those of spinning threads.
    """
    for kind in _KINDS:
        newest = {}
        for begun in all_lasting(notes, kind):
            for note in threads(notes, begun):
                newest[note.ident, note.native_id] = note
        if newest:
            return list(newest.values())
    return []


def to_json(note: Note) -> dict[str, Any]:
    return shallow(note) | {
        'time': isotime(note.time),
        'thread': f'0x{note.ident:016x}',
        'frames': [shallow(frame) for frame in note.frames],
    }
