"""Opens files that another user may have replaced, without waiting forever or filling the memory.

Only regular files are opened.  A FIFO would wait for a writer; a device such as /dev/zero never
ends; a link in the last component of the path may lead to either.  At most as many bytes are read
as the caller allows.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: O_NONBLOCK: without it, opening a FIFO waits.  O_NOCTTY: a terminal must not become the
#: controlling terminal of this process.  Windows has none of these flags.
_O_NOFOLLOW = getattr(os, 'O_NOFOLLOW', 0)
_FLAGS = (
    getattr(os, 'O_CLOEXEC', 0)
    | getattr(os, 'O_NOCTTY', 0)
    | getattr(os, 'O_NONBLOCK', 0)
    | _O_NOFOLLOW
)
#: What the system returns for a link (ELOOP), a directory (EISDIR), and for a socket or a FIFO
#: without a reader (ENXIO).
_NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


class NotARegularFile(OSError):
    """The path leads to something other than a regular file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(errno.EINVAL, 'It is not a regular file', str(path))


class TooLarge(OSError):
    """The file is larger than any that this product writes there."""

    def __init__(self, path: Path | str, most: int) -> None:
        super().__init__(errno.EFBIG, f'It is larger than {most} bytes', str(path))


def open_regular(
    path: Path | str,
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    follow: bool = False,
) -> int:
    """Open a regular file and return its descriptor.

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
    """Return a whole file.  Raises TooLarge above `most` bytes, or what `open_regular` raises."""
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
    """Return at most the first `most` bytes of a file.  Raises what `open_regular` raises."""
    with open(open_regular(path, follow=follow), 'rb') as file:
        return file.read(most)


def read_tail(descriptor: int, most: int, start: int = 0) -> bytes:
    """Return at most the last `most` bytes of an open file, and nothing before offset `start`."""
    status = os.fstat(descriptor)
    start = max(start, status.st_size - most)
    length = max(0, status.st_size - start)
    return os.pread(descriptor, length, start)
