"""The narrow door to `faulthandler`: it writes into our own files, on every Python version, and
is put right when other code interferes.

It rests on these facts (FACTS.md, measured):

* faulthandler writes where its descriptor stands, so a preallocated file works.
* It keeps a reference to the file object.  So we give it an object that only it holds: when this
  object is gone, other code has redirected faulthandler.
* `register(all_threads=True)` and `dump_traceback_later` crash healthy servers and are not used.
* A chained handler of C code notes a signal even while the GIL is stuck, and the process dies as it
  would have died anyway.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

from ..store import blackbox
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_tail
from ..store.rundirectory import mark_name
from ..store.rundirectory import preallocate
from ..system.signalmask import signal_set

if sys.platform != 'win32':
    import fcntl

FAULT_LOG_SIZE = 256 << 10
MARK_SIZE = 16 << 10
#: Descriptors are moved up to this number: some code closes "all" descriptors, which are low ones.
_HIGH = 200
#: faulthandler's C stack is not safe in a signal handler before 3.14.1 (gh-137185).
_C_STACK: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    _C_STACK = {'c_stack': sys.version_info >= (3, 14, 1)}


class _Door:
    """A file as faulthandler wants it.  Only faulthandler holds it, so it is gone when faulthandler
    lets go of it.
    """

    def __init__(self, file: MarkFile) -> None:
        self._descriptor = file.descriptor

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """faulthandler asks for it."""


class MarkFile:
    """A preallocated file that C code writes into; `length` bytes are written."""

    def __init__(self, path: Path, size: int, mode: int) -> None:
        low = preallocate(path, size, mode)
        self.path = path
        self.descriptor = _moved_up(low)
        self.identity = _inode(self.descriptor)

    def fileno(self) -> int:
        return self.descriptor

    def flush(self) -> None:
        """faulthandler asks for it."""

    @property
    def length(self) -> int:
        if not self.is_intact():
            return 0
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    @property
    def position(self) -> int:
        """Where its descriptor stands, even if that is of another file by now; cheaper than
        `length`.
        """
        try:
            return os.lseek(self.descriptor, 0, os.SEEK_CUR)
        except OSError:
            return -1

    def is_intact(self) -> bool:
        try:
            return _inode(self.descriptor) == self.identity
        except OSError:
            return False

    def reopen(self) -> None:
        """After other code closed our descriptor: open the same file again, at its end."""
        self.descriptor = _moved_up(open_regular(self.path, os.O_RDWR))
        self.identity = _inode(self.descriptor)
        size = os.fstat(self.descriptor).st_size
        tail = read_tail(self.descriptor, FAULT_LOG_SIZE)
        written = tail.rstrip(b'\0')
        free = len(tail) - len(written)
        os.lseek(self.descriptor, size - free, os.SEEK_SET)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self.is_intact():
                os.close(self.descriptor)


class FaultLog:
    """faulthandler for fatal signals, into `faults.mark` of the run."""

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.was_enabled = faulthandler.is_enabled()
        self.file = MarkFile(directory / mark_name('faults'), FAULT_LOG_SIZE, mode)
        self._enable()

    def _enable(self) -> None:
        door = _Door(self.file)
        faulthandler.enable(door, all_threads=True, **_C_STACK)
        self.door = weakref.ref(door)
        length = self.file.length
        self._enabled_at = length
        self._seen = length

    def check(self) -> str:
        """Put right what other code did to our fault log, and say in one sentence what that was;
        '' if all is well.
        """
        if not self.file.is_intact():
            trouble = 'Its file descriptor had been closed by other code.'
            faulthandler.disable()  # that number may be the descriptor of other code by now
            self.file.reopen()
        elif not faulthandler.is_enabled():
            trouble = 'It had been disabled by other code.'
        elif self.door() is None:
            trouble = 'It had been redirected by other code.'
        else:
            self._renew_after_a_survived_fault()
            return ''
        self._enable()
        return trouble

    def _renew_after_a_survived_fault(self) -> None:
        """After a fatal signal that did not kill (pid 1, a handler of other code), faulthandler has
        no handler for it any more.
        """
        length = self.file.length
        has_grown = length > self._enabled_at
        is_complete = length == self._seen
        if has_grown and is_complete:
            faulthandler.disable()
            self._enable()
        self._seen = length

    def detach(self) -> None:
        """In a forked child: never dump into the parent's file."""
        faulthandler.disable()
        if self.was_enabled:
            with contextlib.suppress(Exception):
                faulthandler.enable()
        self.file.close()


class SignalMarks:
    """One file for each ending signal.  C code writes the stack of MainThread there; then the
    signal goes on as before.

    Two kinds of signals are left alone.  An ignored one cannot kill, and with a handler of ours,
    programs that we execute would no longer inherit that it is ignored.  One that C code has a
    handler for, as after `faulthandler.register(SIGUSR1)` by other code, may be harmless: to chain
    to what was there before that handler would make it kill.
    """

    #: Those of the black box that this system has.
    SIGNALS = tuple(
        name for name in blackbox.MARKS if name.startswith('SIG') and hasattr(signal, name)
    )

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.files: dict[str, MarkFile] = {}
        self._doors: dict[str, weakref.ref[_Door]] = {}
        self._found: dict[str, object] = {}  # the handlers that were there before
        foreign = foreign_handlers()
        try:
            for name in self.SIGNALS:
                number = getattr(signal, name)
                handler = signal.getsignal(number)
                self._found[name] = handler
                if handler is signal.SIG_IGN or number in foreign:
                    continue
                path = directory / mark_name(name)
                self.files[name] = MarkFile(path, MARK_SIZE, mode)
                self._register(name)
        except BaseException:
            self.detach()
            raise

    def _register(self, name: str) -> None:
        door = _Door(self.files[name])
        number = getattr(signal, name)
        faulthandler.register(number, file=door, all_threads=False, chain=True)
        self._doors[name] = weakref.ref(door)

    def _is_ours(self, name: str) -> bool:
        """No other code has set a handler or registered a file of its own since."""
        door = self._doors.get(name)
        if door is None or door() is None:
            return False
        handler = signal.getsignal(getattr(signal, name))
        return handler is self._found[name]

    def check(self) -> str:
        """Like `FaultLog.check`, for descriptors that other code has closed."""
        closed = [name for name, file in self.files.items() if not file.is_intact()]
        for name in closed:
            if self._is_ours(name):
                faulthandler.unregister(getattr(signal, name))
                self.files[name].reopen()
                self._register(name)
        if not closed:
            return ''
        names = ', '.join(closed)
        return f'The file descriptors of the marks {names} had been closed by other code.'

    def detach(self) -> None:
        """In a forked child.  A signal that is not ours any more is not unregistered: that would
        undo the handler of other code.
        """
        for name, file in self.files.items():
            if self._is_ours(name):
                faulthandler.unregister(getattr(signal, name))
            file.close()
        self.files = {}


def foreign_handlers(status: Path = Path('/proc/self/status')) -> frozenset[int]:
    """Signals with a handler that Python's `signal` knows nothing of; none where the system does
    not tell.
    """
    foreign = set()
    for number in signal_set('SigCgt', status):
        if signal.getsignal(number) in (signal.SIG_DFL, None):
            foreign.add(number)
    return frozenset(foreign)


def _moved_up(low: int) -> int:
    if sys.platform == 'win32':
        return low
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except (AttributeError, OSError):  # no such command, or RLIMIT_NOFILE is lower than that
        return low
    os.close(low)
    return high


def _inode(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
