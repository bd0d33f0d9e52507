"""Reads files of /proc without releasing the GIL.

Such a read cannot block.  If it released the GIL while another thread is busy, it would take five
milliseconds to get the GIL back after each system call.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_PAGE = 1 << 12
#: A file of at most this many bytes is read with one call.
_SHORT = 1024

LIBC: ctypes.PyDLL | None
try:
    LIBC = ctypes.PyDLL(None)  # unlike CDLL, it keeps the GIL during a call
    if not hasattr(LIBC, 'getpeername'):
        LIBC = None
except (OSError, TypeError):
    LIBC = None


def read(path: str | bytes | Path, size: int = _SHORT) -> bytes:
    """Return the first `size` bytes of a file of /proc; b'' if it cannot be read."""
    if LIBC is None:
        return b''
    file = LIBC.open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:
        return b''
    parts: list[bytes] = []
    piece = min(size, _PAGE)
    buffer = (ctypes.c_char * piece)()
    left = size
    try:
        while left > 0:  # the kernel returns long files page by page
            wanted = ctypes.c_size_t(min(left, piece))
            got = LIBC.read(file, buffer, wanted)
            if got <= 0:
                break
            parts.append(buffer.raw[:got])
            if piece <= _SHORT:
                break
            left -= got
    finally:
        LIBC.close(file)
    return b''.join(parts)
