"""Which processes hold a lock (flock) of a file.

/proc/locks has the inodes of all locked files, with the process that took each lock.  A child that
was forked later holds the lock, too, and still does when that process has ended: the lock belongs
to the open file, which both share.  So the processes are found by their open files.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

#: A line such as `1: FLOCK  ADVISORY  WRITE 15614 fe:00:2466310 0 EOF`; the last part of the
#: device and inode is the inode.  The device is not compared: for a file of an overlay it differs.
_LINE = re.compile(
    r'^\d+: FLOCK +\w+ +WRITE +-?\d+ +[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Holder:
    """A process that has the locked file open."""

    pid: int
    name: str


@dataclass(frozen=True)
class Held:
    """`holders` is empty if the lock is held, but the open files of its holder cannot be read."""

    is_locked: bool
    holders: tuple[Holder, ...] = ()


def held(file: Path, proc: Path = Path('/proc')) -> Held | None:
    """Return who holds the lock of a file now; None if that cannot be known here."""
    try:
        status = file.stat()
        locks = (proc / 'locks').read_text(errors='replace')
    except OSError:
        return None
    inodes = {int(match['inode']) for match in _LINE.finditer(locks)}
    if status.st_ino not in inodes:
        return Held(False)
    found = []
    for pid in _pids(proc):
        if _has_open(pid, file, status, proc):
            found.append(Holder(pid, _name(pid, proc)))
    return Held(True, tuple(found))


def _pids(proc: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    return []


def _has_open(pid: int, file: Path, status: os.stat_result, proc: Path) -> bool:
    folder = proc / str(pid) / 'fd'
    try:
        numbers = os.listdir(folder)
    except OSError:  # it has ended, or belongs to another user
        return False
    for number in numbers:
        with contextlib.suppress(OSError):
            # Only the file with this name is looked at: a file of a dead server would block.
            if os.path.basename(os.readlink(folder / number)) != file.name:
                continue
            opened = os.stat(folder / number)
            if (opened.st_dev, opened.st_ino) == (status.st_dev, status.st_ino):
                return True
    return False


def _name(pid: int, proc: Path) -> str:
    with contextlib.suppress(OSError):
        return (proc / str(pid) / 'comm').read_text(errors='replace').strip()
    return ''
