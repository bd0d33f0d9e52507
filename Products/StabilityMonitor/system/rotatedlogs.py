"""Finds the files of a log that is rotated: `event.log.1`, `event.log-20261201.gz`, ...

Only regular files count, and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from itertools import islice

#: At most this many names of a folder are looked at, and files returned.
_MOST_NAMES = 10_000
_MOST_FILES = 64
#: What comes between the name of a log and its compression: a number or a date.
_ADDED = r'[.-]\d[\d._-]{0,40}'
_PACKED = r'(?P<packed>\.gz|\.bz2|\.xz)?'


@dataclass(frozen=True)
class LogFile:
    """A file of a log.  `written` is when it changed last, in seconds since the epoch, `size` its
    size in bytes, and `packed` its compression: ".gz", ".bz2", ".xz" or ''.
    """

    path: str
    written: float
    size: int
    packed: str = ''


def files_of(path: str) -> list[LogFile]:
    """Return the files of the log at this path, those that were written earliest first.

    The log itself comes last, if it is there.
    """
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    either = (
        f'{re.escape(name)}{_ADDED}{_PACKED}|'
        f'{re.escape(stem)}{_ADDED}{re.escape(extension)}{_PACKED.replace("packed", "also")}'
    )
    older = []
    with contextlib.suppress(OSError, ValueError), os.scandir(folder or os.curdir) as entries:
        for entry in islice(entries, _MOST_NAMES):
            found = re.fullmatch(either, entry.name)
            if found:
                older.append((entry.name, found['packed'] or found['also'] or ''))
    files = []
    for other, packed in older:
        file = _file(os.path.join(folder, other), packed)
        if file:
            files.append(file)
    files.sort(key=lambda file: (file.written, file.path))
    itself = _file(path)
    return files[-_MOST_FILES:] + ([itself] if itself else [])


def _file(path: str, packed: str = '') -> LogFile | None:
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return LogFile(path, status.st_mtime, status.st_size, packed)
