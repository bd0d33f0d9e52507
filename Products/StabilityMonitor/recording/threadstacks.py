"""Thread-stack checks: how large the stacks of threads are, and whether deep recursion fits into them.

The HOWTO's FreeBSD threads had 64 KiB; musl gives 128 KiB today.  The hungriest recursion through C code
that was found (`sorted` with a key that sorts) needed 2,432 KiB of stack to Python's default limit of 1,000 on
3.11.7, and 24,384 KiB to 10,000 (x86-64 Linux).  3.12 and 3.13 count levels of C code apart, whatever
`sys.getrecursionlimit()` says: 2,496 KiB sufficed on 3.12.1; 3.13.0 allows 10,000 and needed 5,056 KiB.  What
holds for this very Python is found out by `diagnosis.recursionprobe`.
"""
from __future__ import annotations

import ctypes
import sys
import threading

from ..records import Finding

BYTES_PER_LEVEL = 2560
_C_RECURSION = 5120 << 10 if sys.version_info[:2] == (3, 13) else 0
_MARGIN = 64 << 10
_ATTRIBUTES = ctypes.c_char * 128


def needed(recursion_limit: int) -> int:
    """Bytes of stack that a recursion to the limit through C code takes."""
    return max(recursion_limit * BYTES_PER_LEVEL, _C_RECURSION) + _MARGIN


def default_stack(libc=None) -> tuple[int, int] | None:
    """Size and guard of threads started from now on, in bytes; None where the system does not tell."""
    found = _read('pthread_getattr_default_np', (), libc)
    wanted = threading.stack_size()
    threading.stack_size(wanted)                        # to ask without an argument also sets it to 0
    if found is None:
        return (wanted, 0) if wanted else None
    return wanted or found[1], found[2]


def own_stack(libc=None) -> tuple[int, int] | None:
    """Size and guard of the calling thread's stack, in bytes; None where the system does not tell."""
    place = own_place(libc)
    return place and place[1:]


def own_place(libc=None) -> tuple[int, int, int] | None:
    """Address, size and guard of the calling thread's stack; never ask for another, which may have ended."""
    return _read('pthread_getattr_np', (ctypes.c_void_p(threading.get_ident()),), libc)


def _read(function, arguments, libc):
    try:
        libc = libc or ctypes.PyDLL(None)
        attributes, address, size, guard = _ATTRIBUTES(), *(ctypes.c_size_t() for _ in range(3))
        if getattr(libc, function)(*arguments, ctypes.byref(attributes)):
            return None
        libc.pthread_attr_getstack(ctypes.byref(attributes), ctypes.byref(address), ctypes.byref(size))
        libc.pthread_attr_getguardsize(ctypes.byref(attributes), ctypes.byref(guard))
        libc.pthread_attr_destroy(ctypes.byref(attributes))
        return address.value, size.value, guard.value
    except (AttributeError, OSError, TypeError):
        return None


def check(stack: tuple[int, int] | None, recursion_limit: int | None = None) -> Finding:
    """The answer to "does deep recursion fit into the stacks of threads?"."""
    need = needed(recursion_limit or sys.getrecursionlimit())
    if stack is None:
        return Finding('thread-stacks', 'info', 'The size of thread stacks is not known on this system.',
                       source='thread-stack check')
    size, guard = stack
    fact = (f'Threads have {size >> 10} KiB of stack and a guard of {guard >> 10} KiB; a recursion through C code '
            f'to the limit needs about {need >> 10} KiB.')
    if size >= need:
        return Finding('thread-stacks', 'ok', 'Thread stacks are large enough.', fact, source='thread-stack check')
    return Finding('thread-stacks', 'critical' if size < need // 2 else 'warning',
                   'Thread stacks are too small: deep recursion can kill the process.', fact,
                   f'Write "thread-stack-size {max(8, 2 * need >> 20)}MB" into '
                   '<product-config stabilitymonitor> of zope.conf and restart.', 'thread-stack check')


def raise_size(size: int) -> None:
    """Stack of threads started later; 0 leaves it.  ValueError: the system does not allow that size."""
    if size:
        threading.stack_size(size)
