"""Puts together what is the same for several threads or requests, so that it is said once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from typing import TypeVar

from ..model.counts import counted
from ..model.records import Note
from ..model.records import duration
from ..model.records import hexadecimal
from ..model.threadstates import ThreadState

_Item = TypeVar('_Item')


def equal_threads(threads: Iterable[ThreadState]) -> list[list[ThreadState]]:
    """Return the threads in groups with the same stack and note, in the order of the first ones."""
    return _grouped(
        threads, lambda thread: (thread.crashed, thread.note, thread.frames, thread.cut)
    )


def thread_label(group: list[ThreadState]) -> str:
    """For example "0x00007f0000000001 waitress-0" or "2 threads: waitress-0, waitress-1".

    Names that do not tell the threads apart are left out.
    """
    if len(group) == 1:
        thread = group[0]
        ident = hexadecimal(thread.ident) if thread.ident else ''
        return f'{ident} {thread.name}'.strip()
    names = {thread.name for thread in group if thread.name}
    if len(names) == len(group):
        labels = [thread.name for thread in group]
    else:
        labels = [hexadecimal(thread.ident) for thread in group]
    listed = ', '.join(labels)
    return f'{counted(len(group), "thread")}: {listed}'


def slow_requests(notes: Iterable[Note]) -> list[list[Note]]:
    """Return the last note of each slow request, the newest first; those with the same stack and
    the same page are in one group.
    """
    newest: dict[int, Note] = {}  # by number of the request: later notes replace earlier ones
    for note in notes:
        if note.kind in ('slow', 'slow-ended'):
            newest.pop(note.request, None)
            newest[note.request] = note
    return _grouped(
        reversed(newest.values()), lambda note: (note.kind, note.title, note.frames, note.cut)
    )


def slow_words(group: list[Note]) -> str:
    """Return when these requests were seen: "after 30 s", "ended after 10 s to 12 s"."""
    ages = sorted(note.seconds for note in group)
    least, most = duration(ages[0]), duration(ages[-1])
    words = f'after {least}' if least == most else f'after {least} to {most}'
    return f'ended {words}' if group[0].kind == 'slow-ended' else words


def _grouped(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> list[list[_Item]]:
    groups: dict[Hashable, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
