"""Files of /proc, read with the GIL held: they cannot block, and beside a busy thread each system call that lets go of
the GIL costs five milliseconds to get it back.
"""
from __future__ import annotations

import ctypes
import os

_PAGE, _LINE = 1 << 12, 128
_Line = ctypes.c_char * _LINE


def _library():
    try:
        library = ctypes.PyDLL(None)                    # unlike CDLL, it keeps the GIL during a call
        return library if hasattr(library, 'getpeername') else None
    except (OSError, TypeError):
        return None


LIBC = _library()


def read(path: str, size: int = 1024) -> bytes:
    """The first `size` bytes of a file of /proc; b'' if there is none."""
    file = -1 if LIBC is None else LIBC.open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:
        return b''
    try:
        return _whole(file, size)
    finally:
        LIBC.close(file)


def reread(file: int) -> bytes:
    """The first line of an open file of /proc, as it is now; b'' where there is nothing any more."""
    buffer = _Line()
    return buffer[:max(0, LIBC.pread(file, buffer, ctypes.c_size_t(_LINE), 0))]


def _whole(file, size):
    """/proc gives long files page by page."""
    parts, buffer = [], (ctypes.c_char * min(size, _PAGE))()
    while size > 0 and (got := LIBC.read(file, buffer, ctypes.c_size_t(min(size, len(buffer))))) > 0:
        parts.append(buffer[:got])
        size -= got if len(buffer) > 1024 else size     # short ones come at once
    return b''.join(parts)
