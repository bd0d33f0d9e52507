"""Finds the hangs, deadlocks and spinning threads in the notes of a black box.

Values in, values out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

from ..model.eventkinds import EVENT_KINDS
from ..model.eventkinds import REASONS
from ..model.records import Note
from ..model.threadstates import Event


def hangs(
    notes: Sequence[Note],
    ended: float,
    by_last_clock: Callable[[float], float] = float,
) -> tuple[Event, ...]:
    """Return the events of a run that ended at `ended`, oldest first.

    `by_last_clock` returns a moment by the clock that showed `ended`, which may have been set.
    """
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
                reason=note.detail if note.detail in REASONS else '',
            )
            found.append(event)

    with_seconds = []
    for event in found:
        seconds = event.seconds  # as measured, if the run saw its end
        if not seconds:
            last = event.ended or ended
            seconds = by_last_clock(last) - by_last_clock(event.started)
        seconds = round(max(0.0, seconds), 3)
        with_seconds.append(replace(event, seconds=seconds))
    return tuple(with_seconds)


def _close(found: list[Event], kind: str, note: Note) -> None:
    """Set the end of the event that ended with this note."""
    for index, event in enumerate(found):
        if not event.lasts or event.kind != kind:
            continue
        if _ends(note, event.number, event.summary):
            found[index] = replace(event, ended=note.time, seconds=note.seconds)
            return
    # The ring is full, and the note of the event's beginning was overwritten.
    event = Event(
        kind=kind,
        started=note.time - note.seconds,
        ended=note.time,
        seconds=note.seconds,
        summary=note.title,
    )
    found.append(event)


def _ends(note: Note, number: int, title: str) -> bool:
    """Whether that note ends the event that began with the note of that number.

    Releases before this one did not note the number, so there the titles are compared.
    """
    if note.begun:
        return note.begun == number
    return note.title == title


def all_lasting(notes: Iterable[Note], kind: str = 'hang') -> list[Note]:
    """Return the first note of each event of that kind that lasted to the end, oldest first."""
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
    """Return the first note of the newest event of that kind that lasted to the end, or None."""
    found = all_lasting(notes, kind)
    if not found:
        return None
    return found[-1]


def threads(notes: Iterable[Note], begun: Note) -> list[Note]:
    """Return the notes of the threads of the event that began with that note; they follow it."""
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
    """Return the newest note of each thread of the hangs that lasted to the end.

    Without such a hang, return those of deadlocks; without a deadlock, those of spinning threads.
    """
    for kind in EVENT_KINDS:
        newest: dict[tuple[int, int], Note] = {}
        for begun in all_lasting(notes, kind):
            for note in threads(notes, begun):
                newest[note.ident, note.native_id] = note
        if newest:
            return list(newest.values())
    return []
