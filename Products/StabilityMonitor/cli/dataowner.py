"""Whose rights the command uses: those of the owner of the data directory.

The owner can replace each file of the directory at any moment, also by a link.  A command that root
runs there therefore becomes the owner before it reads the first file, and cannot go back: then no
file can make it read or write more than the owner can.  Another ordinary user only reads.

Linux takes the "dumpable" flag from a process that changes its user (PR_SET_DUMPABLE in prctl(2)).
So the owner can end such a process, but cannot attach to it, nor read its environment, its memory
or the terminal of root.  A program that it started would have the flag again: none is started.

Only reading native stacks needs root.  `RootReader` is a child that stays root, reads no file of
the directory, and gets nothing but two numbers, which it checks against the kernel.  Even if the
owner could write them, it would get no more than the stacks of a process of his own, on the
terminal of root.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from ..inspection import outside
from ..model.errors import StabilityError
from ..system.processidentity import start_ticks
from .exitstatus import UNUSABLE
from .terminal import notice

pwd: ModuleType | None
try:
    import pwd
except ImportError:  # Windows: no user can become another one
    pwd = None

#: The group id that Linux uses for no group (/proc/sys/kernel/overflowgid).
_NO_GROUP = 65534
#: Rooms whose modules the command may import later.
_ROOMS = (
    'model',
    'system',
    'store',
    'threads',
    'knowledge',
    'recording',
    'postmortem',
    'inspection',
    'checks',
    'reporting',
    'cli',
)
#: Modules of others that are imported in functions, or when an encoding is first used.
_ALSO = (
    'ctypes',
    'encodings.ascii',
    'encodings.latin_1',
    'encodings.unicode_escape',
    'encodings.utf_8_sig',
    'packaging.requirements',
    'packaging.specifiers',
    'packaging.version',
    'psutil',
    'resource',
    'termios',
    'zipfile',
)


class CannotBecomeOwner(StabilityError):
    next_step = 'Run this command as that user, in the container or on the host where Zope runs.'


class OnlyTheOwner(StabilityError):
    """The command would change a data directory, or ask a process, of another user."""

    next_step = 'Run this command as that user, or as root.'


class NoProgramForRoot(StabilityError):
    next_step = 'Run this command as that user.'


@dataclass(frozen=True)
class Owner:
    """The user that a directory belongs to.  `name` is '' if the user database has none."""

    uid: int
    gid: int
    name: str = ''

    @property
    def label(self) -> str:
        if self.name:
            return f'{self.name} (uid {self.uid})'
        return f'the user with uid {self.uid}'


def owner_of(descriptor: int) -> Owner:
    """Return the owner of an open directory.

    A user without an entry in the user database has the group of the directory, but never that of
    root: a directory that root made and then gave away still has it.
    """
    return _owner(os.fstat(descriptor))


def owner_of_path(path: os.PathLike[str] | str) -> Owner:
    """Like `owner_of`, for a directory that may not be opened.  Raises OSError."""
    return _owner(os.stat(path))


def _owner(status: os.stat_result) -> Owner:
    if pwd is not None:
        with contextlib.suppress(KeyError):
            known = pwd.getpwuid(status.st_uid)
            return Owner(status.st_uid, known.pw_gid, known.pw_name)
    return Owner(status.st_uid, status.st_gid or _NO_GROUP)


def may_change(path: os.PathLike[str] | str) -> bool:
    """Whether this user may change that data directory and ask its processes: root and the owner.

    Modes do not decide it: a directory that is writable for others is still not theirs.
    """
    if not hasattr(os, 'geteuid'):
        return True
    return os.geteuid() in (0, os.stat(path).st_uid)


def refuse_others(path: os.PathLike[str] | str, what: str) -> None:
    """Raise OnlyTheOwner for a user who only reads.  `what` is what the command would do."""
    if not may_change(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            label = owner_of(descriptor).label
        finally:
            os.close(descriptor)
        raise OnlyTheOwner(f'{path} belongs to {label}, and only that user may {what}.')


def become_owner(
    path: os.PathLike[str] | str,
    native: Callable[[int], int] | None = None,
    starts_programs: bool = False,
) -> Callable[[int], int] | None:
    """If root runs this command in the directory of another user, become that user for good.

    `native` prints the native stacks of a process; the function that is returned does the same, and
    still as root.  Raises CannotBecomeOwner, and NoProgramForRoot if the command `starts_programs`.
    """
    if not hasattr(os, 'setuid') or os.geteuid() != 0:
        return native
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = owner_of(directory)
        if owner.uid == 0:
            return native
        if starts_programs:
            raise NoProgramForRoot(
                f'{path} belongs to {owner.label}, who could take over a program that root starts.'
            )
        _import_everything()
        if native is not None:
            native = RootReader(owner.uid, native).read
        _drop_to(owner, path)
        _check_path(path, directory, owner)
        notice(f'Continuing as {owner.label}, who owns {path}.')
    finally:
        os.close(directory)
    return native


def _import_everything() -> None:
    """Import what the command may need: the owner may not be allowed to read root's Python."""
    package, _, _ = __package__.rpartition('.')
    for room in _ROOMS:
        folder = importlib.import_module(f'{package}.{room}')
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f'{package}.{room}.{module.name}')
    for name in _ALSO:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _import_lazy_modules()


def _import_lazy_modules() -> None:
    """Make the imports that Python 3.15 has postponed until their first use (PEP 810).

    An import that is made here may postpone further imports.
    """
    tried: set[str] = set()
    while names := set(getattr(sys, 'lazy_modules', ())) - tried:
        tried |= names
        for name in names:
            # `from a import b` is listed as "a.b", which need not be a module.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def _drop_to(owner: Owner, path: os.PathLike[str] | str) -> None:
    """Change groups, group and user of this process, in this order, as only root can."""
    try:
        if owner.name:
            os.initgroups(owner.name, owner.gid)
        else:
            os.setgroups([])
        os.setgid(owner.gid)
        os.setuid(owner.uid)
    except (OSError, OverflowError) as error:
        raise CannotBecomeOwner(
            f'{path} belongs to {owner.label}, and root cannot become that user here: '
            f'{getattr(error, "strerror", None) or error}.'
        ) from None
    # Without CAP_SETUID, a process with the effective user root may get its real user back, and
    # keep root as its saved user.
    users = {os.getuid(), os.geteuid()}
    if hasattr(os, 'getresuid'):
        users = set(os.getresuid())
    if users != {owner.uid} or os.getegid() != owner.gid:
        raise CannotBecomeOwner(
            f'{path} belongs to {owner.label}, and root cannot become that user here.'
        )


def _check_path(path: os.PathLike[str] | str, directory: int, owner: Owner) -> None:
    """Raise CannotBecomeOwner if the owner cannot reach the path, or finds another directory."""
    try:
        now = os.stat(path)
    except OSError as error:
        raise CannotBecomeOwner(
            f'{path} belongs to {owner.label}, who cannot reach it here: {error.strerror}.'
        ) from None
    if not os.path.samestat(now, os.fstat(directory)):
        raise CannotBecomeOwner(f'{path} was replaced by another directory meanwhile.')


class RootReader:
    """A child process that stays root and reads the native stacks of processes of one user.

    It lives until this process closes its end of the pipe, at the latest at its own end.
    """

    def __init__(self, uid: int, native: Callable[[int], int]) -> None:
        self._uid = uid
        self._native = native
        asked, self._ask = os.pipe()
        self._told, tell = os.pipe()
        if os.fork() == 0:  # this process has no threads yet
            status = 1
            try:
                os.close(self._ask)
                os.close(self._told)
                self._serve(asked, tell)
                status = 0
            finally:
                os._exit(status)
        os.close(asked)
        os.close(tell)

    def read(self, pid: int) -> int:
        """Have the native stacks of a process printed, and return the exit status."""
        # The child prints, too: what this process has printed comes first.
        print(end='', flush=True)
        ticks = start_ticks(pid)
        with contextlib.suppress(OSError):
            os.write(self._ask, f'{pid} {ticks}\n'.encode())
        answer = os.read(self._told, 1)
        if not answer:
            notice('Native stacks were not read: the process that reads them has ended. Try again.')
            return UNUSABLE
        return answer[0]

    def _serve(self, asked: int, tell: int) -> None:
        with open(asked, encoding='ascii') as lines:
            for line in lines:
                pid, ticks = map(int, line.split())
                status = self._checked(pid, ticks)
                print(end='', flush=True)
                os.write(tell, bytes([status]))

    def _checked(self, pid: int, ticks: int) -> int:
        """Print the stacks of that process if it began then, and is wholly of that user."""
        if ticks <= 0 or start_ticks(pid) != ticks:
            notice(f'Native stacks were not read: process {pid} has ended.')
            return UNUSABLE
        if outside.users(pid) != {self._uid}:
            notice(
                f'Native stacks were not read: process {pid} does not run as the user with uid '
                f'{self._uid}. Run this command as the user of that process.'
            )
            return UNUSABLE
        return self._native(pid)
