"""An alternate signal stack for every worker, so that faulthandler can dump its stack overflow.

faulthandler allocates one only for the thread that enables it.  Without one, a stack overflow in a
worker kills the process without a dump (docs/facts.rst, "faulthandler").  The memory belongs to
the slot, not to the thread: the next thread of that slot uses it again, and it is never freed while
a thread may be running on it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

SIZE = 64 << 10
#: The value of `ss_flags` when the thread has no alternate stack (SS_DISABLE).
if sys.platform == 'darwin' or 'bsd' in sys.platform:
    _SS_DISABLE = 4
else:
    _SS_DISABLE = 2

_POINTER = ('ss_sp', ctypes.c_void_p)
_SIZE_FIELD = ('ss_size', ctypes.c_size_t)
_FLAGS = ('ss_flags', ctypes.c_int)


class _Stack(ctypes.Structure):
    """The C type `stack_t`.  POSIX does not fix the order of its members."""

    if sys.platform.startswith('linux'):
        _fields_ = [_POINTER, _FLAGS, _SIZE_FIELD]
    else:
        _fields_ = [_POINTER, _SIZE_FIELD, _FLAGS]


class AlternateStacks:
    """One alternate signal stack for each slot.

    The constructor raises AttributeError or OSError where the system has no `sigaltstack`.
    """

    def __init__(self) -> None:
        self._call = ctypes.PyDLL(None, use_errno=True).sigaltstack
        self._memory: dict[int, mmap.mmap] = {}

    def install(self, index: int) -> None:
        """Give the calling thread the stack of slot `index`, unless it already has one."""
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
