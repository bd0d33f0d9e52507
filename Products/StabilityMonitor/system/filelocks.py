"""Which processes hold a lock (flock) of a file.

A child that was forked later holds the lock, too, and still does when the process that took it has
ended: the lock belongs to the open file, which both share.  So the processes are found by their
open files: /proc/PID/fdinfo has the locks of each.

/proc/locks has the inodes of all locked files, also of processes whose open files cannot be read.
But in a pid namespace, as in a container, it leaves out a lock whose process has ended
(`locks_show` in fs/locks.c of Linux).
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
#: The same in /proc/PID/fdinfo/NUMBER.
_LOCK_OF_DESCRIPTOR = re.compile(r'^lock:\s+\d+: FLOCK +\w+ +WRITE ', re.MULTILINE)


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
    found = []
    for pid in _pids(proc):
        if _holds(pid, file, status, proc):
            found.append(Holder(pid, _name(pid, proc)))
    inodes = {int(match['inode']) for match in _LINE.finditer(locks)}
    return Held(bool(found) or status.st_ino in inodes, tuple(found))


def _pids(proc: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    return []


def _holds(pid: int, file: Path, status: os.stat_result, proc: Path) -> bool:
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
            if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino):
                continue
            facts = (proc / str(pid) / 'fdinfo' / number).read_text(errors='replace')
            if _LOCK_OF_DESCRIPTOR.search(facts):
                return True
    return False


def _name(pid: int, proc: Path) -> str:
    with contextlib.suppress(OSError):
        return (proc / str(pid) / 'comm').read_text(errors='replace').strip()
    return ''
