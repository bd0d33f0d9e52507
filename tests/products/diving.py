"""Deep recursions that pause at given depths; zopekit publishes the pages for Zopes too.

A product with this module must have a name after "StabilityMonitor" in the alphabet, since the
import of StabilityMonitor here would arm it too early.  At each pause the page opens the FIFO
"go-on" in its working directory and waits until a test opens it for writing.
"""

import ctypes
import sys

from Products.StabilityMonitor.system.stackdepth import StackGauge


def _dive(stop, *shares, endless=False):
    """Recurse through C; call `stop(share)` when this share of the thread's stack is used."""
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
    """Use the last 32 KiB of the stack, where a call raises RecursionError from Python 3.14 on.

    An argument of 48 KiB that is passed by value uses them in one step.
    """
    _libc.getpid(_Wide())


def _pointer():
    with open('/proc/thread-self/syscall') as file:
        return int(file.read().split()[-2], 16)


def _until_told(share):
    with open('go-on') as pipe:
        pipe.read()


def dive_and_crash(self):
    """Survive a deep recursion, and then crash with a shallow stack."""
    _dive(_until_told, 15 / 16)
    ctypes.string_at(0)


def dive_and_overflow(self):
    """Pause at half of the stack and nearly at its end, so that the gauge sees both, and then
    overflow.
    """
    _dive(_until_told, 1 / 2, 15 / 16, endless=True)
