"""Opens files that somebody else may have put there; no reader waits forever or runs out of memory.

Only regular files are opened: no FIFO, which waits for a writer; no device such as /dev/zero, which
never ends; no link in the last component of the path, which may lead to either.  No more is read
than the caller says.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: Without O_NONBLOCK the open itself waits at a FIFO.  A terminal must not become the controlling
#: terminal of this process (O_NOCTTY).  Windows has none of them.
_O_NOFOLLOW = getattr(os, 'O_NOFOLLOW', 0)
_FLAGS = (
    getattr(os, 'O_CLOEXEC', 0)
    | getattr(os, 'O_NOCTTY', 0)
    | getattr(os, 'O_NONBLOCK', 0)
    | _O_NOFOLLOW
)
#: What the system says of a link (ELOOP), a directory (EISDIR), and a socket or a FIFO that nobody
#: reads (ENXIO).
_NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


class NotARegularFile(OSError):
    """Something other than a file is in its place."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(errno.EINVAL, 'It is not a regular file', str(path))


class TooLarge(OSError):
    """A file is larger than anything that this product writes there."""

    def __init__(self, path: Path | str, most: int) -> None:
        super().__init__(errno.EFBIG, f'It is larger than {most} bytes', str(path))


def open_regular(
    path: Path | str,
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    follow: bool = False,
) -> int:
    """A descriptor of that regular file.

    Raises NotARegularFile, also for a link unless `follow` is true, or another OSError.
    """
    flags |= _FLAGS
    if follow:
        flags &= ~_O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise NotARegularFile(path) from None
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor
    os.close(descriptor)
    raise NotARegularFile(path)


def read_whole(path: Path | str, most: int) -> bytes:
    """All of a file.  Raises TooLarge if it has more than `most` bytes, and as `open_regular`."""
    with open(open_regular(path), 'rb') as file:
        status = os.fstat(file.fileno())
        if status.st_size > most:
            raise TooLarge(path, most)
        return file.read(status.st_size)


def read_start(
    path: Path | str,
    most: int,
    follow: bool = False,
) -> bytes:
    """Its first `most` bytes, or what there is of them.  Raises as `open_regular`."""
    with open(open_regular(path, follow=follow), 'rb') as file:
        return file.read(most)


def read_tail(descriptor: int, most: int, start: int = 0) -> bytes:
    """The last `most` bytes of an open file, as large as it is now, but nothing before `start`."""
    status = os.fstat(descriptor)
    start = max(start, status.st_size - most)
    length = max(0, status.st_size - start)
    return os.pread(descriptor, length, start)
