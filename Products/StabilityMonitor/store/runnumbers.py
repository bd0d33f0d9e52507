"""The numbers of runs: they say in which order runs began, whatever the clock showed.

The next run gets the largest known number plus one, from the file `last-number` in the data
directory.  The file is locked meanwhile, so ten processes that start at once get ten numbers.  On a
volume without locks two of them may get the same number; then their names decide.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from .regularfiles import open_regular

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LAST_NUMBER = 'last-number'
#: A larger number is damaged: JSON readers of other languages hold no larger ones exactly.
LARGEST = 1 << 53
#: Digits in the file: it is written in its place, also on a full disk.
_DIGITS = 16
#: Another process holds the lock for some milliseconds.  If it is frozen meanwhile, nobody waits
#: for it.
_TRIES = 50
_PAUSE = 0.01


def valid(number: object) -> int:
    """Return the number of a run; 0 if it is none, as in a run of an older release."""
    if isinstance(number, bool) or not isinstance(number, int):
        return 0
    return number if 0 < number <= LARGEST else 0


def take(
    directory: Path,
    mode: int,
    waiting: Callable[[], Iterable[int]],
    archived: Callable[[], Iterable[int]],
) -> int:
    """Return the number of a run that begins now.

    `waiting` returns the numbers of the runs that are not archived, `archived` those of the others;
    the latter are read only if the file does not tell the last number.
    """
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = open_regular(directory / LAST_NUMBER, os.O_RDWR | os.O_CREAT, mode)
    try:
        last = _read(descriptor) if descriptor >= 0 else 0
        known = [last, *waiting()]
        if not last:
            known += archived()
        number = min(max(known) + 1, LARGEST)
        if descriptor >= 0:
            _write(descriptor, number)
        return number
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read(descriptor: int) -> int:
    """Lock the file and return the number in it; 0 if there is none."""
    if fcntl is not None:
        for _ in range(_TRIES):
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE)
    text = b''
    with contextlib.suppress(OSError):
        text = os.read(descriptor, _DIGITS + 2).strip()
    return valid(int(text)) if text.isdigit() else 0


def _write(descriptor: int, number: int) -> None:
    """Write the number; on a full disk the next run finds it in the files of this one."""
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f'{number:0{_DIGITS}d}\n'.encode())
