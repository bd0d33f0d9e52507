"""An alternate signal stack for every thread that serves, so that a stack overflow there is dumped.

faulthandler gives one only to the thread that enables it.  Without one, a worker that runs off its
stack dies without a trace (FACTS.md, finding 1).  The memory belongs to the slot and not to the
thread: the next thread of that slot uses it again, and it is never freed while a thread may stand
on it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

SIZE = 64 << 10
#: The flag of a thread that has no alternate stack.
if sys.platform == 'darwin' or 'bsd' in sys.platform:
    _SS_DISABLE = 4
else:
    _SS_DISABLE = 2

_POINTER = ('ss_sp', ctypes.c_void_p)
_SIZE_FIELD = ('ss_size', ctypes.c_size_t)
_FLAGS = ('ss_flags', ctypes.c_int)


class _Stack(ctypes.Structure):
    """`stack_t`; POSIX leaves the order of its members open."""

    if sys.platform.startswith('linux'):
        _fields_ = [_POINTER, _FLAGS, _SIZE_FIELD]
    else:
        _fields_ = [_POINTER, _SIZE_FIELD, _FLAGS]


class AlternateStacks:
    """Raises AttributeError or OSError at construction where the system has no `sigaltstack`."""

    def __init__(self) -> None:
        self._call = ctypes.PyDLL(None, use_errno=True).sigaltstack
        self._memory: dict[int, mmap.mmap] = {}

    def install(self, index: int) -> None:
        """Give the calling thread the stack of slot `index`, unless it has one already."""
        present = _Stack()
        refused = self._call(None, ctypes.byref(present))
        has_none = present.ss_flags & _SS_DISABLE
        if refused or not has_none:
            return
        if index not in self._memory:
            self._memory[index] = mmap.mmap(-1, SIZE)
        lowest = ctypes.c_char.from_buffer(self._memory[index])
        stack = _Stack(
            ss_sp=ctypes.addressof(lowest),
            ss_flags=0,
            ss_size=SIZE,
        )
        refused = self._call(ctypes.byref(stack), None)
        if refused:
            raise OSError(ctypes.get_errno(), 'sigaltstack failed')
