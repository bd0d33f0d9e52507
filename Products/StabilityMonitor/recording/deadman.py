"""The dead-man switch: a timer of the kernel that notes that the heartbeat has stopped, as when C code
holds the GIL.

A POSIX timer sends a real-time signal to the heartbeat thread itself, whose handler (C code, registered
with faulthandler) writes that thread's own stack into `deadman.mark`.  It never walks another thread's
frames, which killed healthy servers (FACTS.md, finding 4).  The handler is never taken away again: the
default action of that signal would end the process.
"""
from __future__ import annotations

import ctypes
import faulthandler
import signal
import threading
from pathlib import Path

from ..rundirectory import mark_name
from .faulthandler_compat import MARK_SIZE
from .faulthandler_compat import MarkFile
from .faulthandler_compat import foreign_handlers

_CLOCK_MONOTONIC = 1
_SIGEV_THREAD_ID = 4


class _SignalEvent(ctypes.Structure):
    _fields_ = [('value', ctypes.c_void_p), ('signo', ctypes.c_int), ('notify', ctypes.c_int),
                ('thread_id', ctypes.c_int), ('padding', ctypes.c_char * 44)]


class _Moment(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]


class _TimerSetting(ctypes.Structure):
    _fields_ = [('interval', _Moment), ('value', _Moment)]


class DeadMan:
    """Made in the thread that re-arms it.  AttributeError or OSError where the system has no such timers."""

    def __init__(self, directory: Path, timeout: float, mode: int = 0o600):
        self._libc = _library()
        self._setting = _TimerSetting(_Moment(0, 0), _Moment(int(timeout), int(timeout % 1 * 1e9)))
        self.file = MarkFile(directory / mark_name('deadman'), MARK_SIZE, mode)
        self.signal = _free_signal()
        self._register()
        self._timer = self._create()

    def _register(self):
        faulthandler.register(self.signal, file=self.file, all_threads=False, chain=False)

    def _create(self):
        event = _SignalEvent(signo=self.signal, notify=_SIGEV_THREAD_ID, thread_id=threading.get_native_id())
        timer = ctypes.c_void_p()
        if self._libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
            raise OSError(ctypes.get_errno(), 'timer_create failed')
        return timer

    def rearm(self) -> None:
        """All is well: the timer starts anew."""
        if not self.file.is_intact():                   # other code has closed the descriptor
            self.file.reopen()
            self._register()
        timer = self._timer
        if timer is not None and self._libc.timer_settime(timer, 0, ctypes.byref(self._setting), None):
            raise OSError(ctypes.get_errno(), 'timer_settime failed')

    def disarm(self) -> None:
        if self._timer is not None:
            self._libc.timer_delete(self._timer)
            self._timer = None

    def detach(self) -> None:
        """In a forked child, which has inherited no timer: let go of the parent's file."""
        faulthandler.unregister(self.signal)
        self.file.close()


def _library():
    libc = ctypes.PyDLL(None, use_errno=True)
    return libc if hasattr(libc, 'timer_create') else ctypes.PyDLL('librt.so.1', use_errno=True)


def _free_signal():
    foreign = foreign_handlers()
    for number in range(signal.SIGRTMIN + 7, signal.SIGRTMAX):
        if signal.getsignal(number) is signal.SIG_DFL and number not in foreign:
            return number
    raise OSError('no real-time signal is free')
