"""Says who held the lock of a database file that a run could not lock."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.records import Evidence
from .evidence import Traces
from .lockedstorage import LockedFile


def lock_holder(t: Traces) -> Iterator[Evidence]:
    """Yield who held the lock that ended a run, if the lock of a database did so."""
    locked = t.locked_file
    if locked is None:
        return
    yield Evidence('lock file', f'{_who(locked)}.')


def _who(locked: LockedFile) -> str:
    parent = ''
    if locked.taken_by:
        parent = f'process {locked.taken_by}'
        if locked.run:
            parent += f' (run {locked.run})'
    held = locked.held
    if held is None or (held.is_locked and not held.holders):
        words = f'Which process held the lock of {locked.file} could not be read'
        return f'{words}; {parent} has taken it' if parent else words
    if not held.is_locked:
        words = f'When the run was judged, nobody held the lock of {locked.file} any more'
        return f'{words}; {parent} was the last that took it' if parent else words
    names = []
    for holder in held.holders:
        if holder.pid == locked.taken_by:
            names.append(parent)
        else:
            names.append(f'process {holder.pid} ({holder.name or "?"})')
    listed = ' and '.join(names)
    words = f'When the run was judged, {listed} held the lock of {locked.file}'
    if parent and parent not in names:
        words += f'; {parent}, which took the lock, had left it behind'
    return words
