"""The directory of a run: create, lock, claim, read.

    <base>/runs/<run>/      a run that lives or waits for triage
    <base>/archive/<run>/   an archived run: its evidence and `incident.json`

The writer and the reader share only this module and `blackbox`.

A run is alive while its lock is held (flock), or while a process with its pid and start time
exists.  A process that replaces itself by another program (os.execv) keeps both, but loses the
lock and the mapped black box.  The lock is made with flock, not lockf: a process loses a lockf lock
as soon as it closes any descriptor of the file.  A forked child must close its copy of the
descriptor with os.close (`RunDirectory.abandon`); otherwise it keeps the lock of a dead parent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from datetime import UTC
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model import foreignjson
from ..system.processidentity import PID_LIMIT
from ..system.processidentity import is_of_another_machine
from ..system.processidentity import process_is_there
from . import regularfiles
from . import runnumbers
from .regularfiles import BLOCK
from .regularfiles import NotARegularFile
from .regularfiles import OfAnotherUser
from .regularfiles import is_folder
from .regularfiles import names_in
from .regularfiles import open_regular
from .regularfiles import opened
from .regularfiles import own_user
from .regularfiles import read_whole
from .regularfiles import rename
from .regularfiles import status_of

fcntl: ModuleType | None
grp: ModuleType | None
try:
    import fcntl
    import grp
except ImportError:  # Windows: no locks, only the identity of the process decides
    fcntl = None
    grp = None

BLACKBOX = 'blackbox.sbr'
CONTEXT = 'context.json'
SERVING = 'serving.json'
INSTALLED = 'installed.json'
OBJECTS = 'objects.json'
FAULTS = 'faults.mark'
LOCK = 'lock'
CLAIM = 'claim'
INCIDENT = 'incident.json'
SUMMARY = 'summary.json'
#: The site's own rules of known issues, in the data directory.
KNOWN_ISSUES = 'known-issues.toml'
#: At most this many bytes of such files are read; this product writes no larger ones.
CONTEXT_MOST = 4 << 20
SUMMARY_MOST = 1 << 20
INCIDENT_MOST = 4 << 20
RUN_NAME = re.compile(r'\d{8}T\d{6}Z-\d{1,10}-[0-9a-f]{4}', re.ASCII)
#: Characters of the longest name that matches.
LONGEST_NAME = 32

#: A run of another host without a usable lock counts as dead when it has written nothing for this
#: many seconds.
SILENCE = 900
#: How often a claim is tried again, and the pause between two tries in seconds.
_TRIES = 3
_PAUSE = 0.01
#: Seconds after which a directory that was never published counts as abandoned.
_ABANDONED = 60
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GROUP_MAY_READ = 0o050  # list a directory and go into it
_OTHERS_MAY_WRITE = 0o022
#: The errors of flock on a volume without file locks.
_UNLOCKABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def mark_name(mark: str) -> str:
    return f'{mark}.mark'


def mark_file(directory: Path, mark: str) -> Path:
    """Return the file of a mark in a run's directory, also of a run of an older release.

    Before 1.0 the marks of the watchdog were named `deadman*.mark`.
    """
    name = mark_name(mark)
    older = mark_name(mark.replace('watchdog', 'deadman', 1))
    if older != name:
        with contextlib.suppress(OSError), opened(directory) as folder:
            if not folder.has(name) and folder.has(older):
                return directory / older
    return directory / name


def new_name(now: float, pid: int) -> str:
    """Return the name of a run: `<UTC start as 20261123T074501Z>-<pid>-<4 hex digits>`."""
    start = datetime.fromtimestamp(now, UTC)
    suffix = os.urandom(2).hex()
    return f'{start:%Y%m%dT%H%M%SZ}-{pid}-{suffix}'


def name_facts(name: str) -> tuple[float, int]:
    """Return (start in seconds since the epoch, pid) from a name that matches RUN_NAME.

    The start is 0.0 if the name holds a moment that does not exist, or one before 1970.  Raises
    ValueError for other names.
    """
    if not RUN_NAME.fullmatch(name):
        raise ValueError(f'This is not the name of a run: {name[:80]!r}.')
    stamp, pid, _ = name.split('-')
    try:
        start = datetime.fromisoformat(stamp).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return 0.0, int(pid)
    return max(0.0, start.timestamp()), int(pid)


def is_possible(name: str) -> bool:
    """Whether a process can have made a run of this name, which matches RUN_NAME.

    It cannot if the moment or the pid in the name does not exist.  Such a folder is foreign: it
    never counts as alive, nothing in it is read, and triage archives it as unreadable.
    """
    start, pid = name_facts(name)
    return start > 0 and 0 < pid < PID_LIMIT


def number_of(path: Path) -> int:
    """Return the number of the run in that directory; 0 if it has none, see `runnumbers`."""
    if not RUN_NAME.fullmatch(path.name) or not is_possible(path.name):
        return 0
    return runnumbers.valid(read_json(path / CONTEXT).get('number'))


# -- files -----------------------------------------------------------------------------------------


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a temporary file and rename it: a reader sees the old file or the new one."""
    with opened(path.parent) as folder:
        folder.write_whole(path.name, text.encode(), mode)


def read_json(path: Path, most: int = CONTEXT_MOST) -> dict[str, Any]:
    """Return the object in a JSON file of at most `most` bytes; {} if it cannot be read.

    Its values are finite and bounded, see `model.foreignjson`.
    """
    try:
        document = foreignjson.parse(read_whole(path, most))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict):
        return {}
    return document


def remove(path: Path) -> None:
    """Remove a folder with its content, or a file of any type; what cannot be removed stays."""
    with contextlib.suppress(OSError), opened(path.parent) as folder:
        folder.remove(path.name)


def preallocate(path: Path, size: int, mode: int = 0o600) -> int:
    """Make a file of `size` bytes whose blocks are really allocated; return its descriptor.

    A disk that fills up later then cannot prevent writes into it.  On a full disk it raises OSError
    and leaves no file.
    """
    with opened(path.parent) as folder:
        descriptor = folder.create(path.name, mode)
        try:
            _reserve(descriptor, size)
        except BaseException:
            os.close(descriptor)
            folder.unlink(path.name)
            raise
    return descriptor


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:  # this system has no posix_fallocate
        pass
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
    status = os.fstat(descriptor)
    reserved = status.st_blocks * BLOCK
    if status.st_size >= size and reserved >= size:
        return
    written = os.pwrite(descriptor, bytes(size), 0)
    if written < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- which runs live -------------------------------------------------------------------------------


def is_alive(path: Path, proc: Path = Path('/proc')) -> bool | None:
    """Whether the process of the run in that directory still exists; None: not known.

    It is not known if the context is damaged, for example if its pid differs from the pid in the
    run's name.  It is not known either if the process no longer maps the run's black box: it may
    run another program now (os.execv), and then only the lock tells.  Without a lock (on a network
    file system) a process that exists counts as the run's.
    """
    if not is_possible(path.name):
        return False
    context = read_json(path / CONTEXT)
    known = context.get('identity')
    if not isinstance(known, dict):
        return process_is_there({}, proc)
    _, pid = name_facts(path.name)
    if known.get('pid') != pid:
        return process_is_there({}, proc)
    there = process_is_there(known, proc)
    if there and context.get('locked') is True and _has_let_go(path, proc / str(pid) / 'maps'):
        return None
    return there


def _has_let_go(path: Path, maps: Path) -> bool:
    """Whether a process that exists certainly does not map the black box in that directory.

    `maps` lists what it maps.  It ends with the name of the run and of the file, in whatever mount
    namespace that process is.  A free lock alone would not do: code that closes all descriptors of
    its process frees the lock of a run that lives.
    """
    if not (path / BLACKBOX).exists():  # its black box is only in memory, or was deleted
        return False
    wanted = os.fsencode(f'/{path.name}/{BLACKBOX}')
    try:
        with open(maps, 'rb') as lines:
            return not any(wanted in line for line in lines)
    except OSError:  # the process of another user, or a system without /proc
        return False


def may_live(path: Path) -> bool:
    """Whether the run in that directory may be alive, as far as this process knows.

    This process may be in another container than the run.  If the context does not decide it, the
    lock does.  The lock is taken for a moment, so a process that claims runs must not call this.
    """
    there = is_alive(path)
    if there is not None or fcntl is None:
        return there is not False
    if is_copy(path):
        return False
    try:
        descriptor = open_regular(path / LOCK)
    except FileNotFoundError:  # archived meanwhile, or no run: each one is published with its lock
        return False
    except OfAnotherUser:  # nothing that we could trust says that it lives
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or this volume has no locks
        return True
    finally:
        os.close(descriptor)
    context = read_json(path / CONTEXT)
    return not context.get('locked', True)


def is_copy(path: Path) -> bool:
    """Whether this is a copy of the directory of a run, and that run is of another machine.

    The run has noted the inode of its lock, which a copy does not have.  A volume that moves from
    one machine to another keeps it.  Runs of older releases noted none: they count as no copies.
    """
    if not is_possible(path.name):
        return False
    context = read_json(path / CONTEXT)
    inode = context.get('lock_inode')
    if not isinstance(inode, int) or not is_of_another_machine(context):
        return False
    try:
        with opened(path) as folder:
            return folder.stat(LOCK).st_ino != inode
    except FileNotFoundError:
        return is_folder(path)  # else it was archived meanwhile
    except OSError:
        return False


def last_change(path: Path) -> float:
    """Return when a file in that directory was changed last, in seconds since the epoch.

    0.0 if the directory is gone.  Raises OSError.
    """
    newest = 0.0
    with opened(path) as folder:
        for _, status in folder.statuses():
            newest = max(newest, status.st_mtime)
    return newest


# -- the directory ---------------------------------------------------------------------------------


class Base:
    """The data directory, which all runs of one or several instances share.

    Its path may lead through links; they are resolved here, once.  With `is_ours` nothing in it is
    used if it belongs to another user than this one and root, see `regularfiles.guard`.

    `loose` names the folders of this user that others could write to, until `make` found them.
    """

    def __init__(self, path: Path | str, group: str = '', is_ours: bool = False) -> None:
        self.path = Path(path)
        with contextlib.suppress(OSError, ValueError):
            self.path = Path(os.path.realpath(path))
        self.runs = self.path / 'runs'
        self.archive = self.path / 'archive'
        self.group = group
        self.loose: list[Path] = []
        regularfiles.guard(self.path, is_ours)

    @property
    def foreign_owner(self) -> int | None:
        """The user who owns the directory, or a folder that each run needs, if that is neither
        this user nor root.
        """
        for folder in (self.path, self.runs, self.archive):
            with contextlib.suppress(OSError, ValueError):
                owner = os.stat(folder, follow_symlinks=False).st_uid
                if owner not in (0, own_user()):
                    return owner
        return None

    @property
    def file_mode(self) -> int:
        if self.group:
            return 0o640
        return 0o600

    def prepare(self) -> None:
        for folder in (self.path, self.runs, self.archive):
            self.make(folder)

    def make(self, folder: Path) -> None:
        """Make a directory for its owner alone, and readable for the group if there is one.

        Raises OSError, or KeyError if the group does not exist.
        """
        if folder == self.path:  # the folders above it may have any owner
            folder.parent.mkdir(parents=True, exist_ok=True)
        with opened(folder.parent) as above:
            with contextlib.suppress(FileExistsError):
                above.make(folder.name)
            with above.folder(folder.name) as made, made.itself() as itself:
                self._tighten(folder, itself)
                if self.group:
                    self._open_to_group(itself)

    def _tighten(self, folder: Path, itself: int | str) -> None:
        """Close a folder of this user to which others may write.

        They cannot even go into it then, because what is in it may be open to them, too.
        """
        status = os.stat(itself)
        is_loose = status.st_mode & _OTHERS_MAY_WRITE and status.st_uid == own_user()
        if is_loose and os.name == 'posix':
            with contextlib.suppress(OSError):  # a volume without modes
                os.chmod(itself, 0o700)
            if folder not in self.loose:
                self.loose.append(folder)

    def _open_to_group(self, itself: int | str) -> None:
        if grp is None:
            raise KeyError(f'{self.group}: this system has no groups')
        group = grp.getgrnam(self.group)
        status = os.stat(itself)
        may_read = status.st_mode & _GROUP_MAY_READ == _GROUP_MAY_READ
        if status.st_gid != group.gr_gid or not may_read:
            os.chown(itself, -1, group.gr_gid)
            os.chmod(itself, 0o2750)

    def waiting(self) -> list[str]:
        """Return the names of all runs that live or wait for triage, oldest first."""
        names = []
        with contextlib.suppress(OSError), opened(self.runs) as runs:
            for name, status in runs.statuses():
                if RUN_NAME.fullmatch(name) and stat.S_ISDIR(status.st_mode):
                    names.append(name)
        return sorted(names, key=self._order)

    def folder_of(self, run: str) -> Path:
        """Return the folder of a run; another process may archive it meanwhile."""
        waiting = self.runs / run
        return waiting if is_folder(waiting) else self.archive / run

    def _order(self, name: str) -> tuple[int, str]:
        return number_of(self.runs / name), name

    def _archived_numbers(self) -> list[int]:
        numbers = []
        for name in filter(RUN_NAME.fullmatch, names_in(self.archive)):
            summary = read_json(self.archive / name / SUMMARY, SUMMARY_MOST)
            numbers.append(runnumbers.valid(summary.get('number')))
        return numbers

    def create(self, name: str, context: dict[str, Any]) -> RunDirectory:
        """Make and lock a run's directory, then rename it to its name.

        So no other process can claim it before it is locked.
        """
        self.prepare()
        new = self.runs / f'.new-{name}'
        run = None
        try:
            self.make(new)
            with opened(new) as folder:
                descriptor = folder.create(LOCK, self.file_mode)
            run = RunDirectory(new, descriptor)
            run.locked = _flock(descriptor)
            number = runnumbers.take(
                self.path,
                self.file_mode,
                lambda: [number_of(self.runs / name) for name in names_in(self.runs)],
                self._archived_numbers,
            )
            noted = {
                'locked': run.locked,
                'lock_inode': os.fstat(descriptor).st_ino,
                'number': number,
            }
            text = json.dumps(context | noted)
            write_whole(new / CONTEXT, text, self.file_mode)
            rename(new, self.runs / name)
            run.path = self.runs / name
        except BaseException:
            if run:
                run.abandon()
            remove(new)
            raise
        return run

    def claim(self, name: str) -> RunDirectory | None:
        """Claim a dead run for this process, and return its directory.

        Returns None if the run lives, if another process has claimed it, or if it is only a copy
        from another machine.  Raises OSError if the system refuses: no permission, a volume that is
        read-only, too many open files.
        """
        path = self.runs / name
        there = is_alive(path)
        if there or is_copy(path):
            return None
        try:
            descriptor = open_regular(path / LOCK, os.O_RDWR | os.O_CREAT, self.file_mode)
            claimed = RunDirectory(path, descriptor, _flock(descriptor))
        except OfAnotherUser:  # it is not ours to judge, and the caller says so
            raise
        except NotARegularFile:  # damaged: the run is treated as on a volume without locks
            claimed = RunDirectory(path, -1)
        except FileNotFoundError:  # archived by another process meanwhile
            return None
        if there is None:
            for _ in range(_TRIES):
                if claimed.locked is not False:
                    break
                time.sleep(_PAUSE)  # `may_live` in another process may hold the lock for a moment
                claimed.locked = _flock(claimed.descriptor)
        if _is_ours(claimed, read_json(path / CONTEXT)):
            return claimed
        claimed.abandon()
        return None

    def sweep(self) -> None:
        """Remove directories of runs that died before they were published.

        They hold no evidence.
        """
        for name in names_in(self.runs):
            if not name.startswith('.new-'):
                continue
            folder = self.runs / name
            context = read_json(folder / CONTEXT)
            with contextlib.suppress(OSError):
                age = time.time() - status_of(folder).st_mtime
                if age > _ABANDONED and not process_is_there(context.get('identity')):
                    remove(folder)


class RunDirectory:
    """One run's directory with its lock.

    `descriptor` is that of the lock file; -1 if there is none.  `locked` says whether the lock is
    held (see `_flock`).
    """

    def __init__(
        self,
        path: Path,
        descriptor: int,
        locked: bool | None = None,
    ) -> None:
        self.path = path
        self.descriptor = descriptor
        self.locked = locked

    def abandon(self) -> None:
        """Close the descriptor of the lock; a lock that a parent process holds stays locked."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _flock(descriptor: int) -> bool | None:
    """Lock a file.  True: held by us.  False: held by another.  None: this volume has no flock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNLOCKABLE:
            return None
        return False
    return True


def _is_ours(claimed: RunDirectory, context: dict[str, Any]) -> bool:
    """Whether a claim is valid: of the right file, and with a lock or a proof of death."""
    if claimed.descriptor >= 0:
        try:
            held = os.fstat(claimed.descriptor)
            present = status_of(claimed.path / LOCK)
        except OSError:  # archived by another process meanwhile
            return False
        if not os.path.samestat(held, present):
            return False
    if claimed.locked is False:
        return False
    lived_with_lock = context.get('locked', True)
    if claimed.locked and lived_with_lock:
        return True
    # A free lock proves nothing for a run that could not lock it.
    if not _is_silent(claimed.path):
        return False
    if claimed.locked:
        return True
    return _claim_by_file(claimed.path)


def _is_silent(path: Path) -> bool:
    """Whether a run without a usable lock is dead.

    Its process is gone, or, if that is not known, it has written nothing for SILENCE seconds.
    """
    there = is_alive(path)
    if there is not None:
        return not there
    try:
        age = time.time() - last_change(path)
    except OSError:  # archived by another process meanwhile
        return False
    return age > SILENCE


def _claim_by_file(path: Path) -> bool:
    """Claim a run on a volume without flock.

    The process that creates the file first has the claim, for SILENCE seconds.
    """
    try:
        with opened(path) as folder:
            if folder.has(CLAIM):
                age = time.time() - folder.stat(CLAIM).st_mtime
                if age > SILENCE:
                    folder.remove(CLAIM)
            os.close(folder.create(CLAIM))
    except OSError:
        return False
    return True
