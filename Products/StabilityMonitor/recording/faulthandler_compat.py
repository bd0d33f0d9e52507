"""The only module that uses `faulthandler` for crashes and ending signals.  It makes faulthandler
write into the files of this run on every Python version, and repairs this when other code
interferes.

It rests on these measured facts (docs/facts.rst):

* faulthandler writes at the file offset of its descriptor, so a preallocated file works.
* faulthandler keeps a reference to the file object.  So we give it an object that nothing else
  holds: when this object is gone, other code has redirected faulthandler.
* `register(all_threads=True)` and `dump_traceback_later` crash healthy servers, so they are not
  used.
* A chained C signal handler notes a signal even while C code holds the GIL, and the process dies as
  it would have died anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import os
import signal
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..store import blackbox
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_tail
from ..store.rundirectory import mark_name
from ..store.rundirectory import preallocate
from ..system.signalmask import has_python_handler
from ..system.signalmask import signal_set

if sys.platform != 'win32':
    import fcntl

FAULT_LOG_SIZE = 256 << 10
MARK_SIZE = 16 << 10
#: Descriptors are moved to this number or higher.  Some code closes "all" descriptors, but often
#: only the low numbers.
_HIGH = 200
#: Bytes; more than a `struct sigaction` has on any system (152 on Linux).
_ACTION_SIZE = 256
#: Options of `faulthandler.enable`.  Before Python 3.14.1 it is not safe to dump the C stack in a
#: signal handler (gh-137185).
_C_STACK: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    _C_STACK = {'c_stack': sys.version_info >= (3, 14, 1)}


class _Door:
    """A file object for faulthandler.  Only faulthandler holds a reference, so the object is gone
    as soon as faulthandler uses another file.
    """

    def __init__(self, file: MarkFile) -> None:
        self._descriptor = file.descriptor

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """Do nothing.  faulthandler calls this method."""


class MarkFile:
    """A preallocated file that C code writes into; `length` bytes of it are written so far."""

    def __init__(self, path: Path, size: int, mode: int) -> None:
        low = preallocate(path, size, mode)
        self.path = path
        self.descriptor = _moved_up(low)
        self.identity = _inode(self.descriptor)

    def fileno(self) -> int:
        return self.descriptor

    def flush(self) -> None:
        """Do nothing.  faulthandler calls this method."""

    @property
    def length(self) -> int:
        if not self.is_intact():
            return 0
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    @property
    def written(self) -> int:
        """The time of the last write in nanoseconds; -1 if other code has taken the descriptor.

        One system call, because the heartbeat asks for it at each beat.
        """
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return -1
        if (status.st_dev, status.st_ino) != self.identity:
            return -1
        return status.st_mtime_ns

    def is_intact(self) -> bool:
        try:
            return _inode(self.descriptor) == self.identity
        except OSError:
            return False

    def reopen(self) -> None:
        """Open the file again after other code closed the descriptor; go on at its written end."""
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
    """faulthandler for fatal signals; it writes into `faults.mark` of the run."""

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.was_enabled = faulthandler.is_enabled()
        self.abort_may_be_outlived = has_python_handler('SIGABRT')
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
        """Repair the fault log.  Return one sentence about what other code did to it, or ''."""
        if not self.file.is_intact():
            trouble = 'Its file descriptor had been closed by other code.'
            faulthandler.disable()  # the same number may now be a descriptor of other code
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
        """Enable faulthandler again after a fatal signal that the process survived.

        A process survives it as pid 1 of a container, or if other code has a handler.  faulthandler
        has removed its handler of that signal by then.
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
    """One mark file for each signal that ends a process.  C code writes the stack of MainThread
    there; then the signal has its usual effect.

    Two kinds of signals are left alone:

    * An ignored signal cannot kill.  If we set a handler, programs that this process executes would
      no longer inherit that the signal is ignored.
    * A signal with a handler of other C code, for example after `faulthandler.register(SIGUSR1)` by
      other code, may be harmless.  faulthandler would replace that handler and chain to the one
      that was there before it, so the signal would kill.
    """

    #: The signals of `blackbox.MARKS` that this system has.
    SIGNALS = tuple(
        name for name in blackbox.MARKS if name.startswith('SIG') and hasattr(signal, name)
    )

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.files: dict[str, MarkFile] = {}
        self._doors: dict[str, weakref.ref[_Door]] = {}
        self._found: dict[str, object] = {}  # the handlers that were there before
        self._actions: dict[str, bytes] = {}  # what the C library knows of our handlers
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
        self._actions[name] = _action(number)

    def _is_ours(self, name: str) -> bool:
        """Return whether our registration is still in force: no other code has set a handler or
        registered another file since.
        """
        door = self._doors.get(name)
        if door is None or door() is None:
            return False
        handler = signal.getsignal(getattr(signal, name))
        return handler is self._found[name]

    def unmarked(self) -> list[str]:
        """Return the signals that would leave no mark now, because other code handles them.

        A signal that is ignored is not among them: it cannot end the process.  Python does not know
        the handlers of C code, so the C library is asked, too.
        """
        names = []
        for name in self.SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            is_marked = name in self.files and self._is_ours(name)
            if not is_marked or _action(number) != self._actions[name]:
                names.append(name)
        return names

    def check(self) -> str:
        """Like `FaultLog.check`, but only for descriptors that other code has closed."""
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
        """In a forked child: unregister our signals and close the files.

        A signal that other code has registered since is left alone: unregistering it would remove
        the handler of the other code.
        """
        for name, file in self.files.items():
            if self._is_ours(name):
                faulthandler.unregister(getattr(signal, name))
            file.close()
        self.files = {}


@functools.cache
def _sigaction() -> Callable[..., int] | None:
    """Return the function of the C library, or None.  While it runs, it keeps the GIL."""
    try:
        function: Callable[..., int] = ctypes.PyDLL(None).sigaction
    except (AttributeError, OSError, TypeError):
        return None
    return function


def _action(number: int) -> bytes:
    """Return the handler of a signal as the C library knows it; b'' where it cannot be asked.

    A `struct sigaction` begins with the address of the handler on Linux, macOS and FreeBSD.  What
    follows differs from call to call: glibc copies more bytes of the mask than the kernel has set.
    """
    sigaction = _sigaction()
    action = ctypes.create_string_buffer(_ACTION_SIZE)
    if sigaction is None or sigaction(number, None, action) != 0:
        return b''
    return action.raw[: ctypes.sizeof(ctypes.c_void_p)]


def foreign_handlers(status: Path = Path('/proc/self/status')) -> frozenset[int]:
    """Return the signals that have a handler which Python's `signal` module does not know.

    The result is empty on a system that does not list the caught signals (without /proc).
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
    except (AttributeError, OSError):  # no F_DUPFD_CLOEXEC here, or RLIMIT_NOFILE is too low
        return low
    os.close(low)
    return high


def _inode(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
