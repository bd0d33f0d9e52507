"""What the notes of a black box tell of hangs, deadlocks and spinning threads.

Values in, values out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

from ..model.records import Note
from ..model.threadstates import Event

_KINDS = ('hang', 'deadlock', 'spinning')


def hangs(notes: Sequence[Note], ended: float) -> tuple[Event, ...]:
    """The events of a run that ended at `ended`, oldest first."""
    found: list[Event] = []
    for note in notes:
        kind = note.kind.removesuffix('-ended')
        if kind not in _KINDS:
            continue
        if kind != note.kind:
            _close(found, kind, note)
        elif not note.of_thread:
            idents = tuple(each.ident for each in threads(notes, note) if each.ident)
            found.append(Event(kind, note.time, None, 0.0, note.title, note.number, idents))
    return tuple(replace(event, seconds=_seconds(event, ended)) for event in found)


def _seconds(event: Event, end_of_run: float) -> float:
    lasted = (event.ended or end_of_run) - event.started
    return round(max(0.0, lasted), 3)


def _close(found: list[Event], kind: str, note: Note) -> None:
    for index, event in enumerate(found):
        if event.lasts and event.kind == kind and _ends(note, event.number, event.summary):
            found[index] = replace(event, ended=note.time)
            return
    # The note of its beginning has been overwritten: the ring is full.
    found.append(Event(kind, note.time - note.seconds, note.time, 0.0, note.title))


def _ends(note: Note, number: int, title: str) -> bool:
    """Whether that note tells the end of what began with the note of that number.

    Releases before this one did not note the number: there, only the title tells.
    """
    if note.begun:
        return note.begun == number
    return note.title == title


def all_lasting(notes: Iterable[Note], kind: str = 'hang') -> list[Note]:
    """The notes with which the hangs that lasted to the end began, oldest first."""
    found: list[Note] = []
    for note in notes:
        if note.kind == kind and not note.of_thread:
            found.append(note)
        elif note.kind == f'{kind}-ended':
            for begun in found:
                if _ends(note, begun.number, begun.title):
                    found.remove(begun)
                    break
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
