"""Deep recursions that stop, and go on when they are told to; the pages of these are published by
the kit too.

Imports StabilityMonitor: its name as a product must come after that, or it would be armed before
its turn.  Told is a page by somebody who opens the named pipe "go-on" in its working directory:
whoever comes first waits.
"""

import ctypes
import sys

from Products.StabilityMonitor.system.stackdepth import StackGauge


def _dive(stop, *shares, endless=False):
    """Recursion through C: `stop(share)` is called when such shares of this thread's stack are
    used.
    """
    sys.setrecursionlimit(1 << 30)
    stack, stops = StackGauge().own(), list(shares)

    def key(item):
        if stops and _pointer() <= stack.top - stops[0] * stack.size:
            stop(stops.pop(0))
        if not (stops or endless):
            return item
        try:
            return sorted([item], key=key)
        except RecursionError:
            if stops:
                raise
            return _go_over_the_end()

    key('')


class _Wide(ctypes.Structure):
    _fields_ = [('rest', ctypes.c_char * (48 << 10))]


_libc = ctypes.CDLL(None)


def _go_over_the_end():
    """From Python 3.14 on, a call raises RecursionError within 32 KiB of the end of the stack.  An
    argument that is passed by value and larger than that takes the rest in one step.
    """
    _libc.getpid(_Wide())


def _pointer():
    with open('/proc/thread-self/syscall') as file:
        return int(file.read().split()[-2], 16)


def _until_told(share):
    with open('go-on') as pipe:
        pipe.read()


def dive_and_crash(self):
    """The dive is survived; what crashes then is shallow."""
    _dive(_until_told, 15 / 16)
    ctypes.string_at(0)


def dive_and_overflow(self):
    """The gauge looks twice at this request: when it is half way down, and when it is nearly at the
    end.
    """
    _dive(_until_told, 1 / 2, 15 / 16, endless=True)
