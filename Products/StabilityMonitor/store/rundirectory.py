"""One run's directory: create, lock, claim, read.

    <base>/runs/<run>/      what lives, or waits for triage
    <base>/archive/<run>/   the rest, evidence kept beside `incident.json`

This and `blackbox` is all that the writer and the reader share.

A run is alive while its lock is held (flock), or while a process with its pid and start time
exists.  It is flock and not lockf, because a process loses the latter when it closes any descriptor
of the file.  A forked child must close its copy of the descriptor with os.close
(`RunDirectory.abandon`), or it keeps the lock of a dead parent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import time
from datetime import UTC
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ..system.processidentity import process_is_there
from .regularfiles import NotARegularFile
from .regularfiles import open_regular
from .regularfiles import read_whole

fcntl: ModuleType | None
grp: ModuleType | None
try:
    import fcntl
    import grp
except ImportError:  # Windows: no lock, identity alone decides
    fcntl = None
    grp = None

BLACKBOX = 'blackbox.sbr'
CONTEXT = 'context.json'
SERVING = 'serving.json'
INSTALLED = 'installed.json'
FAULTS = 'faults.mark'
LOCK = 'lock'
CLAIM = 'claim'
INCIDENT = 'incident.json'
SUMMARY = 'summary.json'
#: The site's own rules of known issues, in the data directory.
KNOWN_ISSUES = 'known-issues.toml'
#: At most so many bytes of such files are read: this product writes no larger ones.
CONTEXT_MOST = 4 << 20
SUMMARY_MOST = 1 << 20
INCIDENT_MOST = 16 << 20
RUN_NAME = re.compile(r'\d{8}T\d{6}Z-\d{1,10}-[0-9a-f]{4}', re.ASCII)

#: A run of another host without a usable lock is taken for dead when it has written nothing for so
#: many seconds.
SILENCE = 900
#: A claim is tried again so often, after so many seconds.
_TRIES = 3
_PAUSE = 0.01
#: What a volume without file locks answers.
_UNLOCKABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def mark_name(mark: str) -> str:
    return f'{mark}.mark'


def new_name(now: float, pid: int) -> str:
    """The name of a run: `<UTC start as 20261123T074501Z>-<pid>-<4 hex>`."""
    start = datetime.fromtimestamp(now, UTC)
    return f'{start:%Y%m%dT%H%M%SZ}-{pid}-{os.urandom(2).hex()}'


def is_run_name(name: str) -> bool:
    """Whether `new_name` may have made it: a RUN_NAME with a day that exists."""
    if not RUN_NAME.fullmatch(name):
        return False
    try:
        name_facts(name)
    except ValueError:
        return False
    return True


def name_facts(name: str) -> tuple[float, int]:
    """Start (seconds since the epoch) and pid out of a run's name; ValueError for other names."""
    stamp, pid, _ = name.split('-')
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp(), int(pid)


# -- files -----------------------------------------------------------------------------------------


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(f'.{path.name}.{os.getpid()}.{os.urandom(2).hex()}')
    try:
        descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(text)
        beside.chmod(mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path, most: int = CONTEXT_MOST) -> dict[str, Any]:
    """The object in a JSON file of at most `most` bytes; {} for whatever cannot be read as one."""
    try:
        document = json.loads(read_whole(path, most).decode('utf-8', 'replace'))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or whatever else is in its place.

    `shutil.rmtree` alone would wait at a FIFO.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def preallocate(path: Path, size: int, mode: int = 0o600) -> int:
    """Make a file whose blocks are really allocated; returns its descriptor.

    On a full disk it raises OSError and leaves no file.
    """
    descriptor = os.open(
        path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, 'O_CLOEXEC', 0), mode
    )
    try:
        os.fchmod(descriptor, mode)
        _reserve(descriptor, size)
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
    status = os.fstat(descriptor)
    is_there = status.st_size >= size and status.st_blocks * 512 >= size
    if not is_there and os.pwrite(descriptor, bytes(size), 0) < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- which runs live -------------------------------------------------------------------------------


def is_alive(path: Path, proc: Path = Path('/proc')) -> bool | None:
    """Whether the process of the run in that directory still exists; None: that cannot be told.

    So it is for a damaged context, such as one that names another process than the run's name.
    """
    known = read_json(path / CONTEXT).get('identity')
    if isinstance(known, dict):
        pid = int(path.name.split('-')[1])
        if known.get('pid') == pid:
            return process_is_there(known, proc)
    return process_is_there({}, proc)


def may_live(path: Path) -> bool:
    """Whether the run in that directory lives as far as this process, in any container, can tell.

    Where its context does not tell, its lock does.  That is taken for a moment, so a process that
    claims runs must not call this.
    """
    there = is_alive(path)
    if there is not None or fcntl is None:
        return there is not False
    try:
        descriptor = open_regular(path / LOCK)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or this volume has no locks
        return True
    finally:
        os.close(descriptor)
    return not read_json(path / CONTEXT).get('locked', True)


# -- the directory ---------------------------------------------------------------------------------


class Base:
    """The data directory that all runs of one or several instances share."""

    def __init__(self, path: Path | str, group: str = '') -> None:
        self.path = Path(path)
        self.runs = self.path / 'runs'
        self.archive = self.path / 'archive'
        self.group = group

    @property
    def file_mode(self) -> int:
        return 0o640 if self.group else 0o600

    def prepare(self) -> None:
        for folder in (self.path, self.runs, self.archive):
            self.make(folder)

    def make(self, folder: Path) -> None:
        """Make a directory with the rights of DESIGN section 4.

        Raises OSError, or KeyError if there is no such group.
        """
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        if not self.group:
            return
        if grp is None:
            raise KeyError(f'{self.group}: this system has no groups')
        group = grp.getgrnam(self.group).gr_gid
        status = folder.stat()
        if status.st_gid != group or status.st_mode & 0o050 != 0o050:
            os.chown(folder, -1, group)
            folder.chmod(0o2750)

    def waiting(self) -> list[str]:
        """Names of all runs that live or wait for triage, oldest first."""
        try:
            with os.scandir(self.runs) as entries:
                folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(filter(is_run_name, folders))

    def create(self, name: str, context: dict[str, Any]) -> RunDirectory:
        """Make, lock and then publish a run's directory, so that no claimer can slip in."""
        self.prepare()
        new = self.runs / f'.new-{name}'
        run = None
        try:
            self.make(new)
            run = RunDirectory(new, _lock(new / LOCK, self.file_mode))
            write_whole(new / CONTEXT, json.dumps(context | {'locked': run.locked}), self.file_mode)
            run.path = new.rename(self.runs / name)
        except BaseException:
            if run:
                run.abandon()
            remove(new)
            raise
        return run

    def claim(self, name: str) -> RunDirectory | None:
        """The directory of a dead run, which is ours alone now.

        None if the run lives, or if another process was first.
        """
        path = self.runs / name
        there = is_alive(path)
        if there:
            return None
        try:
            descriptor = open_regular(path / LOCK, os.O_RDWR | os.O_CREAT, self.file_mode)
            locked = _flock(descriptor)
            if there is None:
                for _ in range(_TRIES):
                    if locked is not False:
                        break
                    time.sleep(_PAUSE)  # `may_live` of another process holds it for a moment
                    locked = _flock(descriptor)
            claimed = RunDirectory(path, (descriptor, locked))
        except NotARegularFile:  # damaged: treat it as on a volume without locks
            claimed = RunDirectory(path, (-1, None))
        except OSError:
            return None
        if _is_ours(claimed, read_json(path / CONTEXT)):
            return claimed
        claimed.abandon()
        return None

    def sweep(self) -> None:
        """Remove directories of runs that died before they were published; they hold nothing."""
        for folder in self.runs.glob('.new-*'):
            known = read_json(folder / CONTEXT).get('identity')
            with contextlib.suppress(OSError):
                age = time.time() - folder.stat().st_mtime
                if age > 60 and not process_is_there(known):
                    remove(folder)


class RunDirectory:
    """One run's directory with its lock.

    `lock` is a descriptor, and whether it is held (see `_flock`).
    """

    def __init__(self, path: Path, lock: tuple[int, bool | None]) -> None:
        self.path = path
        self.descriptor, self.locked = lock

    def abandon(self) -> None:
        """Let go of the lock without releasing what a parent process holds."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _lock(path: Path, mode: int) -> tuple[int, bool | None]:
    descriptor = os.open(
        path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, 'O_CLOEXEC', 0), mode
    )
    os.fchmod(descriptor, mode)
    return descriptor, _flock(descriptor)


def _flock(descriptor: int) -> bool | None:
    """True: held by us.  False: held by another.  None: this volume has no flock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _UNLOCKABLE else False
    return True


def _is_ours(claimed: RunDirectory, context: dict[str, Any]) -> bool:
    """Whether a claim holds: of the right file, with a lock or without one to go by."""
    if claimed.descriptor >= 0:
        try:
            held = os.fstat(claimed.descriptor)
            present = os.stat(claimed.path / LOCK)
        except OSError:  # archived by another process meanwhile
            return False
        if not os.path.samestat(held, present):
            return False
    if claimed.locked and context.get('locked', True):
        return True
    if claimed.locked is False or not _is_silent(claimed.path):
        return False
    return bool(claimed.locked) or _claim_by_file(claimed.path)


def _is_silent(path: Path) -> bool:
    """Without a lock to go by: whether the process is gone for sure, or silent for long."""
    there = is_alive(path)
    if there is not None:
        return not there
    newest = 0.0
    try:
        for entry in os.scandir(path):
            newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except OSError:  # archived by another process meanwhile
        return False
    return time.time() - newest > SILENCE


def _claim_by_file(path: Path) -> bool:
    """Claim where there is no flock: the first to make the file has it, for `SILENCE` seconds."""
    claim = path / CLAIM
    with contextlib.suppress(OSError):
        if time.time() - claim.stat().st_mtime > SILENCE:
            remove(claim)
    with contextlib.suppress(OSError):
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return True
    return False
