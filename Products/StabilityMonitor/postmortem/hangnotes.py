"""What the notes of a black box tell of hangs, deadlocks and spinning threads.  Values in, values
out.
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
    """[{kind, started, ended, seconds, summary}], oldest first; `ended` of what lasted to the end
    is None.
    """
    found: list[dict[str, Any]] = []
    for note in notes:
        if note.kind in _KINDS and not note.of_thread:
            found.append(
                {'kind': note.kind, 'started': note.time, 'ended': None, 'summary': note.title}
            )
        elif note.kind.endswith('-ended') and note.kind[:-6] in _KINDS:
            _close(found, note)
    return tuple(
        hang
        | {
            'started': isotime(hang['started']),
            'ended': isotime(hang['ended']),
            'seconds': round(max(0.0, (hang['ended'] or ended) - hang['started']), 3),
        }
        for hang in found
    )


def _close(found: list[dict[str, Any]], note: Note) -> None:
    kind = note.kind[:-6]
    for hang in found:
        if hang['kind'] == kind and hang['summary'] == note.title and hang['ended'] is None:
            hang['ended'] = note.time
            return
    # Its beginning has been pushed out of the ring.
    found.append(
        {
            'kind': kind,
            'started': note.time - note.seconds,
            'ended': note.time,
            'summary': note.title,
        }
    )


def all_lasting(notes: Iterable[Note], kind: str = 'hang') -> list[Note]:
    """The notes with which those hangs began that lasted to the end, the oldest first."""
    found: list[Note] = []
    for note in notes:
        if note.kind == kind and not note.of_thread:
            found.append(note)
        elif note.kind == f'{kind}-ended' and note.title in (
            titles := [begun.title for begun in found]
        ):
            del found[titles.index(note.title)]
    return found


def lasting(notes: Iterable[Note], kind: str = 'hang') -> Note | None:
    """The newest of them; None if there is none."""
    return next(reversed(all_lasting(notes, kind)), None)


def threads(notes: Iterable[Note], begun: Note) -> list[Note]:
    """The notes of the threads that were seen when that hang began: they follow it."""
    later = (note for note in notes if note.kind == begun.kind and note.number > begun.number)
    return list(itertools.takewhile(lambda note: note.of_thread, later))


def stuck(notes: Sequence[Note]) -> list[Note]:
    """The newest note of each thread of the hangs that lasted to the end; where none did, of
    deadlocks or spinning.
    """
    for kind in _KINDS:
        found = {
            (note.ident, note.native_id): note
            for begun in all_lasting(notes, kind)
            for note in threads(notes, begun)
        }
        if found:
            return list(found.values())
    return []


def to_json(note: Note) -> dict[str, Any]:
    return shallow(note) | {
        'time': isotime(note.time),
        'thread': f'0x{note.ident:016x}',
        'frames': [shallow(frame) for frame in note.frames],
    }
