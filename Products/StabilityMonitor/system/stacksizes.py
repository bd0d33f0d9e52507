"""Thread-stack checks: the size of thread stacks, and whether deep recursion fits into them.

The FreeBSD threads of the HOWTO had 64 KiB; musl gives 128 KiB today.  The needed sizes below were
measured by `inspection.recursionprobe` on x86-64 Linux, with the recursion through C code that
takes the most stack.  The probe can also measure the current Python.

Python 3.12 counts the levels of C code separately, so a higher recursion limit needs no more stack.
3.13 needs more stack with a higher limit, up to a plateau.  3.14 checks the stack itself and raises
RecursionError before its end (the probe survives with 64 KiB on 3.14.8 and 3.15.0).  Nevertheless
3.14 is assumed to need as much as 3.12, for two reasons: C code may recurse without such a check,
and a recursion should be able to get as deep as with 3.12.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import WARNING

#: A C library: `ctypes.PyDLL`, or a replacement in a test.
Library = Any

#: {version of Python: function from recursion limit to needed bytes of stack}.  The comments have
#: the measured needs.
_NEEDS: dict[tuple[int, int], Callable[[int], int]] = {
    # 3.11.7: 2,432 KiB for a recursion limit of 1,000; 7,296 KiB for 3,000; 24,384 KiB for 10,000
    (3, 11): lambda limit: 2560 * limit,
    # 3.12.1: 2,496 KiB for a recursion limit of 1,000 and for 20,000
    (3, 12): lambda limit: 2496 << 10,
    # 3.13.0: 5,056 KiB for a recursion limit of 1,000; 12,608 KiB for 3,000 and more
    (3, 13): lambda limit: min(5200 * limit, 12608 << 10),
}
_LIKE_NEWER = (3, 12)  # Python 3.14 and later are assumed to need as much as this version
_MARGIN = 64 << 10
#: Room for a `pthread_attr_t`, which has 56 bytes in glibc on x86-64.
_ATTRIBUTES = ctypes.c_char * 128


class Place(NamedTuple):
    """Where a stack is: its lowest address, its size and that of the guard below it, in bytes."""

    address: int
    size: int
    guard: int


def needed(
    recursion_limit: int,
    version: tuple[int, int] = sys.version_info[:2],
) -> int:
    """Return the bytes of stack that recursion through C code up to the recursion limit needs."""
    need = _NEEDS.get(version, _NEEDS[_LIKE_NEWER])
    return need(recursion_limit) + _MARGIN


def default_stack(libc: Library = None) -> tuple[int, int] | None:
    """Return size and guard, in bytes, of the stacks of threads started from now on.

    None if the system does not report them.
    """
    found = _read('pthread_getattr_default_np', (), libc)
    wanted = threading.stack_size()
    threading.stack_size(wanted)  # because a call without an argument sets it to 0
    if found:
        return wanted or found.size, found.guard
    if wanted:
        return wanted, 0
    return None


def own_stack(libc: Library = None) -> tuple[int, int] | None:
    """Return size and guard of the calling thread's stack, in bytes; None if not known."""
    place = own_place(libc)
    if place is None:
        return None
    return place.size, place.guard


def own_place(libc: Library = None) -> Place | None:
    """Return where the calling thread's stack is; None if not known.

    There is no such function for other threads: the C function is undefined for a thread that has
    ended.
    """
    thread = ctypes.c_void_p(threading.get_ident())
    return (
        _read('pthread_getattr_np', (thread,), libc)
        or _read('pthread_attr_get_np', (thread,), libc, made=True)
        or _read_of_macos(thread, libc)
    )


def _read(
    function: str,
    arguments: tuple[ctypes.c_void_p, ...],
    libc: Library,
    made: bool = False,
) -> Place | None:
    """Return the place from the `pthread_attr_t` that a C function fills; None if it fails.

    The function of FreeBSD needs an initialized `pthread_attr_t` (`made`).
    """
    attributes = _ATTRIBUTES()
    filled = ctypes.byref(attributes)
    address = ctypes.c_size_t()
    size = ctypes.c_size_t()
    guard = ctypes.c_size_t()
    try:
        libc = libc or ctypes.PyDLL(None)
        if made and libc.pthread_attr_init(filled):
            return None
        if getattr(libc, function)(*arguments, filled):
            return None
        libc.pthread_attr_getstack(
            filled,
            ctypes.byref(address),
            ctypes.byref(size),
        )
        libc.pthread_attr_getguardsize(filled, ctypes.byref(guard))
        libc.pthread_attr_destroy(filled)
    except (AttributeError, OSError, TypeError):
        return None
    return Place(address.value, size.value, guard.value)


def _read_of_macos(thread: ctypes.c_void_p, libc: Library) -> Place | None:
    """Return the place on macOS, which reports the upper end of a stack.  The guard is one page."""
    try:
        libc = libc or ctypes.PyDLL(None)
        libc.pthread_get_stackaddr_np.restype = ctypes.c_void_p
        libc.pthread_get_stacksize_np.restype = ctypes.c_size_t
        end = libc.pthread_get_stackaddr_np(thread)
        size = libc.pthread_get_stacksize_np(thread)
        return Place(end - size, size, mmap.PAGESIZE)
    except (AttributeError, OSError, TypeError):
        return None


def check(
    stack: tuple[int, int] | None,
    recursion_limit: int | None = None,
) -> Finding:
    """Return the finding for "does deep recursion fit into the stacks of threads?"."""
    need = needed(recursion_limit or sys.getrecursionlimit())
    if stack is None:
        return Finding(
            'thread-stacks',
            INFO,
            'The size of thread stacks is not known on this system.',
            source='thread-stack check',
        )
    size, guard = stack
    fact = (
        f'Threads have {size >> 10} KiB of stack and a guard of {guard >> 10} KiB; recursion '
        f'through C code up to the recursion limit needs about {need >> 10} KiB.'
    )
    if size >= need:
        return Finding(
            'thread-stacks',
            OK,
            'Thread stacks are large enough.',
            fact,
            source='thread-stack check',
        )
    megabytes = max(8, 2 * need >> 20)
    return Finding(
        'thread-stacks',
        CRITICAL if size < need // 2 else WARNING,
        'Thread stacks are too small: deep recursion can kill the process.',
        fact,
        Action(
            'Write "thread-stack-size {megabytes}MB" into `<product-config stabilitymonitor>` of '
            'zope.conf and restart.',
            megabytes=megabytes,
        ),
        'thread-stack check',
    )


def raise_size(size: int) -> None:
    """Set the stack size in bytes of threads started later; 0 changes nothing.

    Raises ValueError if the system does not allow that size.
    """
    if size:
        threading.stack_size(size)
