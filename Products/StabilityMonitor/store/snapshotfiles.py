"""The snapshots of a data directory: moments of living processes that a person wanted to keep.

    <base>/snapshots/<name>/snapshot.json   the whole `SnapshotRecord`
    <base>/snapshots/<name>/summary.json    the same without its large parts, for lists

A snapshot has a name as a run has: its time, the pid of the process, four hexadecimal digits.  Each
is published by one rename, so it is whole or not there.  What is read here is never trusted.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

from ..model.errors import NoSuchSnapshot
from ..model.snapshotrecord import SnapshotRecord
from .regularfiles import Folder
from .regularfiles import is_folder
from .regularfiles import names_in
from .regularfiles import opened
from .regularfiles import rename
from .rundirectory import INCIDENT_MOST
from .rundirectory import RUN_NAME
from .rundirectory import SUMMARY
from .rundirectory import SUMMARY_MOST
from .rundirectory import Base
from .rundirectory import name_facts
from .rundirectory import read_json

FOLDER = 'snapshots'
SNAPSHOT = 'snapshot.json'
#: At most this many snapshots are kept, and at most this share of what the archive may take.
MOST = 100
_SHARE = 1 / 4
#: So many frames of each stack are kept: the most with which it is not too heavy to be read again,
#: see `model.foreignjson`.  The rest of a snapshot has at most 600 KiB of texts.
_MOST_FRAMES = (200, 60, 20, 5, 0)
_HEAVIEST = 800 << 10
_FRAME = 30  # characters of a frame besides its texts
_UNPUBLISHED = '.new-'
#: Seconds after which a snapshot that was never published counts as abandoned.
_ABANDONED = 60


class Snapshots:
    """The snapshots below `base`."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.path = base.path / FOLDER

    # -- reading -----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all snapshots, newest first."""
        return sorted(filter(RUN_NAME.fullmatch, names_in(self.path)), reverse=True)

    def summaries(self) -> tuple[SnapshotRecord, ...]:
        """Return all snapshots without their large parts, newest first."""
        return tuple(map(self._summary, self.names()))

    def _summary(self, name: str) -> SnapshotRecord:
        found = _from_file(self.path / name / SUMMARY, SUMMARY_MOST)
        return found.without_heavy() if found else _damaged(name)

    def record(self, name: str) -> SnapshotRecord:
        """Return one whole snapshot.  Raises NoSuchSnapshot."""
        if not RUN_NAME.fullmatch(name) or not is_folder(self.path / name):
            raise NoSuchSnapshot(f'There is no snapshot {name!r}.')
        return _from_file(self.path / name / SNAPSHOT, INCIDENT_MOST) or _damaged(name)

    # -- writing -----------------------------------------------------------------------------------

    def add(self, record: SnapshotRecord) -> None:
        """Keep a snapshot, and remove old ones if there are too many.  Raises OSError.

        Where it has more than can be read again, the outer frames of its stacks are left out.
        """
        self.base.make(self.base.path)
        self.base.make(self.path)
        new = self.path / f'{_UNPUBLISHED}{record.id}'
        try:
            self.base.make(new)
            self._write(new, record)
            rename(new, self.path / record.id)
        except BaseException:
            with contextlib.suppress(OSError), opened(self.path) as folder:
                folder.remove(new.name)
            raise
        with contextlib.suppress(OSError), opened(self.path) as folder:
            for name in self.names()[MOST:]:
                _remove(folder, name)

    def amend(self, record: SnapshotRecord) -> None:
        """Write a snapshot again, with what is known now.

        Raises NoSuchSnapshot if it was removed meanwhile, and OSError.
        """
        path = self.path / record.id
        if not is_folder(path):
            raise NoSuchSnapshot(f'There is no snapshot {record.id!r}.')
        self._write(path, record)

    def _write(self, path: Path, record: SnapshotRecord) -> None:
        mode = self.base.file_mode
        whole = json.dumps(_readable(record).to_json()).encode()
        summary = json.dumps(record.summary_json()).encode()
        with opened(path) as folder:
            folder.write_whole(SNAPSHOT, whole, mode)
            folder.write_whole(SUMMARY, summary, mode)

    def prune(self, keep: int, oldest: float, most_bytes: int) -> int:
        """Remove the snapshots that are too many, older than `oldest` (seconds since the epoch), or
        too large together.  Returns how many bytes the others take.

        `keep` and `most_bytes` are the limits of the archive: snapshots may use a quarter of the
        bytes.
        """
        size = 0
        with contextlib.suppress(OSError), opened(self.path) as folder:
            for number, name in enumerate(self.names()):
                taken = folder.disk_size(name)
                is_kept = number < min(keep, MOST) and _taken_at(name) >= oldest
                if is_kept and size + taken <= most_bytes * _SHARE:
                    size += taken
                else:
                    _remove(folder, name)
            self._remove_unpublished(folder)
        return size

    def _remove_unpublished(self, folder: Folder) -> None:
        for name in folder.names():
            if name.startswith(_UNPUBLISHED):
                age = time.time() - folder.stat(name).st_mtime
                if age > _ABANDONED:
                    folder.remove(name)


def _readable(record: SnapshotRecord) -> SnapshotRecord:
    """Return a snapshot with as many frames as can be read again."""
    for most in _MOST_FRAMES:
        cut = _with_frames(record, most)
        if _weight(cut) <= _HEAVIEST:
            break
    return cut


def _weight(record: SnapshotRecord) -> int:
    """Return how many characters the frames of a snapshot have in JSON, about."""
    weight = 0
    for thread in record.threads:
        weight += sum(_FRAME + len(each.file) + len(each.function) for each in thread.frames)
    for native in record.native_threads:
        for each in native.frames:
            weight += 3 * _FRAME + len(each.file) + len(each.function) + len(each.library)
    return weight


def _with_frames(record: SnapshotRecord, most: int) -> SnapshotRecord:
    threads = [
        replace(thread, frames=thread.frames[:most], cut=thread.cut or len(thread.frames) > most)
        for thread in record.threads
    ]
    native = [replace(thread, frames=thread.frames[:most]) for thread in record.native_threads]
    return replace(record, threads=tuple(threads), native_threads=tuple(native))


def _from_file(path: Path, most: int) -> SnapshotRecord | None:
    """Return the snapshot in that file; None if there is none, or if it has another name."""
    try:
        found = SnapshotRecord.from_json(read_json(path, most))
    except ValueError:
        return None
    return found if found.id == path.parent.name else None


def _damaged(name: str) -> SnapshotRecord:
    taken_at, pid = name_facts(name)
    return replace(
        SnapshotRecord(name),
        pid=pid,
        time=taken_at,
        summary='This snapshot cannot be read: its files are damaged.',
    )


def _taken_at(name: str) -> float:
    taken_at, _ = name_facts(name)
    return taken_at


def _remove(folder: Folder, name: str) -> None:
    folder.remove_at_once(name, f'{_UNPUBLISHED}{name}')
