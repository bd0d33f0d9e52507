"""What the notes of a black box tell of hangs, deadlocks and spinning threads.

Values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

from ..model.eventkinds import EVENT_KINDS
from ..model.records import Note
from ..model.threadstates import Event


def hangs(notes: Sequence[Note], ended: float) -> tuple[Event, ...]:
    """The events of a run that ended at `ended`, oldest first."""
    found: list[Event] = []
    for note in notes:
        kind = note.kind.removesuffix('-ended')
        if kind not in EVENT_KINDS:
            continue
        has_ended = kind != note.kind
        if has_ended:
            _close(found, kind, note)
        elif not note.of_thread:
            idents = [of_thread.ident for of_thread in threads(notes, note)]
            event = Event(
                kind=kind,
                started=note.time,
                summary=note.title,
                number=note.number,
                threads=tuple(filter(None, idents)),
            )
            found.append(event)

    with_seconds = []
    for event in found:
        lasted = (event.ended or ended) - event.started
        seconds = round(max(0.0, lasted), 3)
        with_seconds.append(replace(event, seconds=seconds))
    return tuple(with_seconds)


def _close(found: list[Event], kind: str, note: Note) -> None:
    """Set the end of the event whose end this note tells."""
    for index, event in enumerate(found):
        if not event.lasts or event.kind != kind:
            continue
        if _ends(note, event.number, event.summary):
            found[index] = replace(event, ended=note.time)
            return
    # The note of its beginning has been overwritten: the ring is full.
    event = Event(
        kind=kind,
        started=note.time - note.seconds,
        ended=note.time,
        summary=note.title,
    )
    found.append(event)


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
    if not found:
        return None
    return found[-1]


def threads(notes: Iterable[Note], begun: Note) -> list[Note]:
    """The notes of the threads that were seen when that hang began: they follow its own note."""
    found: list[Note] = []
    for note in notes:
        is_later = note.number > begun.number
        if note.kind != begun.kind or not is_later:
            continue
        if not note.of_thread:  # the next hang begins
            break
        found.append(note)
    return found


def stuck(notes: Sequence[Note]) -> list[Note]:
    """The newest note of each thread of the hangs that lasted to the end.

    Where no hang did, those of deadlocks; where no deadlock did either, those of spinning threads.
    """
    for kind in EVENT_KINDS:
        newest: dict[tuple[int, int], Note] = {}
        for begun in all_lasting(notes, kind):
            for note in threads(notes, begun):
                newest[note.ident, note.native_id] = note
        if newest:
            return list(newest.values())
    return []
