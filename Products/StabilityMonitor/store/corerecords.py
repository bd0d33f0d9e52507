"""The file `core.json` beside the evidence of a run: what its core file told.

It is written once, whole: the first writer wins.  `incident.json` is never rewritten; who reads a
record reads this file, too.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..model import foreignjson
from ..model.corefile import BY_CONTENT
from ..model.corefile import BY_NAME
from ..model.corefile import CoreFile
from ..model.errors import NoSuchRun
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from . import witnessfiles
from .regularfiles import Folder
from .regularfiles import opened
from .rundirectory import Base
from .witnessfiles import write_once

CORE = 'core.json'
#: At most this many bytes of the file are read.
MOST = 4 << 20


@dataclass(frozen=True)
class Stamp:
    """Tells one file from another, also from one that took its place.  `modified` is in ns."""

    device: int = -1
    inode: int = -1
    size: int = -1
    modified: int = -1
    owner: int = -1

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_uid)


def add(base: Base, run: str, core: CoreFile, stamp: Stamp) -> bool:
    """Leave what the core file of an archived run told beside its record.

    Returns False if that was written already.  Raises NoSuchRun if the run is gone, and OSError.
    """
    content = json.dumps({'format': 1, 'file': vars(stamp)} | to_json(core)).encode()
    try:
        with opened(base.archive) as archive, archive.folder(run) as place:
            written = write_once(place, CORE, content, base.file_mode)
    except FileNotFoundError:
        raise NoSuchRun(f'There is no archived run {run!r}.') from None
    if written:
        with contextlib.suppress(OSError):
            witnessfiles.note(base, run)
    return written


def of_run(path: Path) -> CoreFile | None:
    """Return what the core file of the run in that directory told; None if that is not known."""
    found = _read(path)
    return found[0] if found else None


def kept(base: Base, run: str) -> tuple[CoreFile, Stamp] | None:
    """Return the same of an archived run, with the stamp of the core file."""
    return _read(base.archive / run)


def has(base: Base, run: str) -> bool:
    with contextlib.suppress(OSError), opened(base.archive / run) as folder:
        return folder.has(CORE)
    return False


def _read(path: Path) -> tuple[CoreFile, Stamp] | None:
    with contextlib.suppress(OSError, ValueError), opened(path) as folder:
        return _from_folder(folder)
    return None


def _from_folder(folder: Folder) -> tuple[CoreFile, Stamp]:
    """Raises OSError, or ValueError if the file does not fit."""
    document = foreignjson.parse(folder.read_whole(CORE, MOST))
    if not isinstance(document, dict):
        raise ValueError('not an object')
    core = from_json(CoreFile, document, strict=True)
    if core.match not in (BY_CONTENT, BY_NAME) or not os.path.isabs(core.path):
        raise ValueError('not what the core file of a run told')
    file = document.get('file')
    numbers = file if isinstance(file, dict) else {}
    values = [numbers.get(name, -1) for name in vars(Stamp())]
    is_known = all(isinstance(value, int) for value in values)
    return core, Stamp(*values) if is_known else Stamp()
