"""How another process ended, as the kernel tells it: without its help, and not as its parent.

A pidfd (pidfd_open(2), Linux 5.3) stands for one process, and never for a later one with the same
pid.  It becomes readable when the process has ended.  From Linux 6.15 on, the ioctl PIDFD_GET_INFO
tells the wait status, once the parent has waited for the process (`struct pidfd_info` in
include/uapi/linux/pidfd.h, `pidfd_info` in fs/pidfs.c).  Any user may ask; only processes of this
pid namespace, or of one below it, can be asked about.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .processidentity import PID_LIMIT
from .processidentity import start_ticks
from .signalnames import signal_name

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: it has no pidfd either
    fcntl = None

#: PIDFD_GET_INFO is _IOWR(0xFF, 11, struct pidfd_info), with the size of the struct in bytes 2 and
#: 3.  64 bytes are its first version.  Each kernel that knows the request takes this size, and what
#: was added later is not needed: the wait status itself has the flag for a core file.
_SIZE = 64
_GET_INFO = 0xC000FF0B | _SIZE << 16
_MASK = struct.Struct('=Q')  # at 0: what is asked for, and then what was told
_STATUS = struct.Struct('=i')
_STATUS_AT = 60
#: PIDFD_INFO_EXIT: the wait status is told.
_EXIT = 1 << 3
#: A flag in the wait status of a process that a signal ended (WCOREDUMP of wait(2)).
_CORE = 0x80
_ANY_PIDFD = 'anon_inode:[pidfd]'


class CannotTell(Exception):
    """The kernel does not tell the status: it is too old, or the process is not in our reach."""


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended.  `exit_code` (0 to 255) or `signal` (such as "SIGKILL") is set."""

    exit_code: int | None = None
    signal: str | None = None
    core_dumped: bool = False


def decoded(status: int) -> ProcessEnd:
    """Return what a wait status says, as wait(2) and the kernel give it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return ProcessEnd(exit_code=code)
    return ProcessEnd(signal=signal_name(-code), core_dumped=bool(status & _CORE))


class ProcessDescriptor:
    """A pidfd.  It is closed at an exec, but a forked child must call `close`.

    `number` is the descriptor, -1 once it is closed.  The constructor takes it over, also if it
    raises OSError because this is no pidfd, or /proc is missing.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        try:
            self._is = _what_is(number)
        except OSError:
            os.close(number)
            raise

    @property
    def is_intact(self) -> bool:
        """Whether this is still our descriptor: other code may have closed it, and have opened
        another file that got its number.
        """
        try:
            return self.number >= 0 and _what_is(self.number) == self._is
        except OSError:
            return False

    def end(self) -> ProcessEnd | None:
        """Return how the process ended; None if it lives, or if its parent has not waited for it.

        Raises CannotTell.
        """
        # A process that lives, or is a zombie, is told without the status.
        answer = bytearray(_SIZE)
        _MASK.pack_into(answer, 0, _EXIT)
        try:
            _ioctl(self.number, answer)
        except OSError as error:
            # ENOTTY, EINVAL: the request is not known.  ESRCH: before Linux 6.15, a process that is
            # gone.  EREMOTE: a process outside of this pid namespace.
            raise CannotTell(str(error)) from error
        (told,) = _MASK.unpack_from(answer)
        if not told & _EXIT:
            return None
        (status,) = _STATUS.unpack_from(answer, _STATUS_AT)
        return decoded(status)

    def close(self) -> None:
        """Close the descriptor, unless it is not ours any more."""
        if self.is_intact:
            with contextlib.suppress(OSError):
                os.close(self.number)
        self.number = -1


def opened(
    known: Mapping[str, Any], own: Mapping[str, Any], proc: Path = Path('/proc')
) -> ProcessDescriptor:
    """Open the living process of an identity (see `processidentity.identity`); `own` is ours.

    Raises ProcessLookupError if it is gone, or cannot be known here: in another pid namespace or
    on another host.  Raises OSError if the system refuses.  The identity is not trusted.
    """
    pid = known.get('pid')
    ticks = known.get('start_ticks')
    if type(pid) is not int or not 0 < pid < PID_LIMIT or not ticks:
        raise ProcessLookupError('this is not the identity of a process')
    for name in ('boot_id', 'pid_namespace'):
        if not own[name] or known.get(name) != own[name]:
            raise ProcessLookupError(f'its {name} is not ours')
    process = ProcessDescriptor(_pidfd_open(pid))
    # Only now: until the descriptor is open, another process may get this pid.
    if start_ticks(pid, proc) != ticks:
        process.close()
        raise ProcessLookupError(f'process {pid} is another one by now')
    return process


def is_possible() -> bool:
    """Whether this system has descriptors of processes."""
    return fcntl is not None and hasattr(os, 'pidfd_open')


def _pidfd_open(pid: int) -> int:
    if not is_possible():
        raise OSError('this system has no descriptors of processes')
    return os.pidfd_open(pid)


def _ioctl(number: int, answer: bytearray) -> None:
    if fcntl is None:
        raise OSError('this system has no ioctl')
    fcntl.ioctl(number, _GET_INFO, answer)


def _what_is(number: int) -> tuple[int, int]:
    """Return what tells one pidfd from other files.  Raises OSError if this is none.

    From Linux 6.9 on each process has its own inode; before that all pidfds have the same.
    """
    if os.readlink(f'/proc/self/fd/{number}') != _ANY_PIDFD:
        raise OSError('it is not a descriptor of a process')
    status = os.fstat(number)
    return status.st_dev, status.st_ino
