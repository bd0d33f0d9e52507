"""What the notes of a black box tell of hangs, deadlocks and spinning threads.  Values in, values out."""
from __future__ import annotations

import itertools

from ..records import isotime
from ..records import shallow

_KINDS = ('hang', 'deadlock', 'spinning')


def hangs(notes, ended: float) -> tuple[dict, ...]:
    """[{kind, started, ended, seconds, summary}], oldest first; `ended` of what lasted to the end is None."""
    found = []
    for note in notes:
        if note.kind in _KINDS and not note.of_thread:
            found.append({'kind': note.kind, 'started': note.time, 'ended': None, 'summary': note.title})
        elif note.kind.endswith('-ended') and note.kind[:-6] in _KINDS:
            _close(found, note)
    return tuple(hang | {'started': isotime(hang['started']), 'ended': isotime(hang['ended']),
                         'seconds': round(max(0.0, (hang['ended'] or ended) - hang['started']), 3)} for hang in found)


def _close(found, note):
    kind = note.kind[:-6]
    for hang in found:
        if hang['kind'] == kind and hang['summary'] == note.title and hang['ended'] is None:
            hang['ended'] = note.time
            return
    # Its beginning has been pushed out of the ring.
    found.append({'kind': kind, 'started': note.time - note.seconds, 'ended': note.time, 'summary': note.title})


def lasting(notes, kind: str = 'hang'):
    """The note with which the hang began that lasted to the end, the newest of several; None if there is none."""
    over = {note.title: note.number for note in notes if note.kind == f'{kind}-ended'}
    return next((note for note in reversed(notes) if note.kind == kind and not note.of_thread
                 and over.get(note.title, 0) < note.number), None)


def threads(notes, begun) -> list:
    """The notes of the threads that were seen when that hang began: they follow it."""
    later = (note for note in notes if note.kind == begun.kind and note.number > begun.number)
    return list(itertools.takewhile(lambda note: note.of_thread, later))


def to_json(note) -> dict:
    return shallow(note) | {'time': isotime(note.time), 'thread': f'0x{note.ident:016x}',
                            'frames': [shallow(frame) for frame in note.frames]}
