"""One run's directory: create, lock, claim, read.  With `blackbox`, all that writer and reader
share.

    <base>/runs/<run>/      what lives, or waits for triage
    <base>/archive/<run>/   the rest, evidence kept beside `incident.json`

A run is alive while its lock is held (flock), or while a process with its pid and start time
exists.  flock is used and not lockf: lockf is dropped when any descriptor of the file is closed in
the process.  A forked child must close its copy of the descriptor with os.close
(`RunDirectory.abandon`), or it would keep the lock of a dead parent.
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
    fcntl = grp = None

BLACKBOX, CONTEXT, SERVING, INSTALLED, FAULTS, LOCK, CLAIM = (
    'blackbox.sbr',
    'context.json',
    'serving.json',
    'installed.json',
    'faults.mark',
    'lock',
    'claim',
)
#: The site's own rules of known issues, in the data directory.
KNOWN_ISSUES = 'known-issues.toml'
INCIDENT, SUMMARY = 'incident.json', 'summary.json'
#: Bytes that are read of such files at most: what is larger was not written by this product.
CONTEXT_MOST, SUMMARY_MOST, INCIDENT_MOST = 4 << 20, 1 << 20, 16 << 20
RUN_NAME = re.compile(r'\d{8}T\d{6}Z-\d{1,10}-[0-9a-f]{4}', re.ASCII)

#: A run without a usable lock, of another host, is taken for dead when nothing was written for so
#: long (seconds).
SILENCE = 900
_TRIES, _PAUSE = 3, 0.01
_UNLOCKABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def mark_name(mark: str) -> str:
    return f'{mark}.mark'


def new_name(now: float, pid: int) -> str:
    """The name of a run: `<UTC start as 20261123T074501Z>-<pid>-<4 hex>`."""
    return f'{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{pid}-{os.urandom(2).hex()}'


def is_run_name(name: str) -> bool:
    """Whether `new_name` may have made it: a RUN_NAME of a day that there is."""
    try:
        return bool(RUN_NAME.fullmatch(name) and name_facts(name))
    except ValueError:
        return False


def name_facts(name: str) -> tuple[float, int]:
    """Start (seconds since the epoch) and pid out of a run's name; ValueError for other names."""
    stamp, pid, _ = name.split('-')
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp(), int(pid)


# -- files -----------------------------------------------------------------------------------------


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(f'.{path.name}.{os.getpid()}.{os.urandom(2).hex()}')
    try:
        with open(
            os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), 'w', encoding='utf-8'
        ) as file:
            file.write(text)
        beside.chmod(mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path, most: int = CONTEXT_MOST) -> dict[str, Any]:
    """The object in a JSON file of at most `most` bytes; an empty one for whatever cannot be read
    as such.
    """
    try:
        document = json.loads(read_whole(path, most).decode('utf-8', 'replace'))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or whatever is in its place: `shutil.rmtree` would
    wait at a FIFO.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def preallocate(path: Path, size: int, mode: int = 0o600) -> int:
    """A new file whose blocks are there for real, and its descriptor.  On a full disk: OSError and
    no file.
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


# -- who lives ------------------------------------------------------------------------------------


def is_alive(path: Path, proc: Path = Path('/proc')) -> bool | None:
    """Does the process of the run in that directory still exist?  None: nobody can tell, as for a
    damaged context.

    A context that names another process than the run's name does is damaged.
    """
    known = read_json(path / CONTEXT).get('identity')
    is_of_run = isinstance(known, dict) and known.get('pid') == int(path.name.split('-')[1])
    return process_is_there(known if is_of_run else {}, proc)


def may_live(path: Path) -> bool:
    """Whether the run in that directory lives as far as anybody can tell, who may also be in
    another container.

    Where its context does not tell, its lock does.  That is tried for a moment: not for a process
    that claims runs.
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
    except OSError:  # somebody has it, or there are no locks on this volume
        return True
    finally:
        os.close(descriptor)
    return not read_json(path / CONTEXT).get('locked', True)


# -- the directory ---------------------------------------------------------------------------------


class Base:
    """The data directory that all runs of one or several instances share."""

    def __init__(self, path: Path | str, group: str = '') -> None:
        self.path = Path(path)
        self.runs, self.archive = self.path / 'runs', self.path / 'archive'
        self.group = group

    @property
    def file_mode(self) -> int:
        return 0o640 if self.group else 0o600

    def prepare(self) -> None:
        for folder in (self.path, self.runs, self.archive):
            self.make(folder)

    def make(self, folder: Path) -> None:
        """Make a directory with the rights of DESIGN section 4; OSError or KeyError (no such
        group).
        """
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        if self.group:
            if grp is None:
                raise KeyError(f'{self.group}: this system has no groups')
            group, status = grp.getgrnam(self.group).gr_gid, folder.stat()
            if status.st_gid != group or status.st_mode & 0o050 != 0o050:
                os.chown(folder, -1, group)
                folder.chmod(0o2750)

    def waiting(self) -> list[str]:
        """Names of all runs that live or wait for triage, oldest first."""
        with contextlib.suppress(OSError), os.scandir(self.runs) as entries:
            return sorted(
                entry.name
                for entry in entries
                if is_run_name(entry.name) and entry.is_dir(follow_symlinks=False)
            )
        return []

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
        """The directory of a dead run, ours alone now; None if it lives or another process was
        first.
        """
        path = self.runs / name
        there = is_alive(path)
        if there:
            return None
        try:
            descriptor = open_regular(path / LOCK, os.O_RDWR | os.O_CREAT, self.file_mode)
            locked = _flock(descriptor)
            for _ in range(_TRIES if locked is False and there is None else 0):
                time.sleep(_PAUSE)  # `may_live` of another process has it for a moment
                locked = locked or _flock(descriptor)
            claimed = RunDirectory(path, (descriptor, locked))
        except NotARegularFile:  # damaged: as on a volume without locks
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
                if time.time() - folder.stat().st_mtime > 60 and not process_is_there(known):
                    remove(folder)


class RunDirectory:
    """One run's directory with its lock: `lock` is a descriptor and whether it is held."""

    def __init__(self, path: Path, lock: tuple[int, bool | None]) -> None:
        self.path = path
        self.descriptor, self.locked = lock

    def abandon(self) -> None:
        """Let go without unlocking what a parent process holds."""
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
    try:
        if claimed.descriptor >= 0 and not os.path.samestat(
            os.fstat(claimed.descriptor), os.stat(claimed.path / LOCK)
        ):
            return False
    except OSError:  # archived by another process meanwhile
        return False
    if claimed.locked and context.get('locked', True):
        return True
    if claimed.locked is False or not _is_silent(claimed.path):
        return False
    return bool(claimed.locked) or _claim_by_file(claimed.path)


def _is_silent(path: Path) -> bool:
    """Without a lock to go by: is the process known to be gone, or has it been silent for long?"""
    there = is_alive(path)
    if there is not None:
        return not there
    try:
        newest = max(
            (entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(path)), default=0
        )
    except OSError:  # archived by another process meanwhile
        return False
    return time.time() - newest > SILENCE


def _claim_by_file(path: Path) -> bool:
    """A claim where there is no flock: the first to make the file has it, for `SILENCE` seconds."""
    claim = path / CLAIM
    with contextlib.suppress(OSError):
        if time.time() - claim.stat().st_mtime > SILENCE:
            remove(claim)
    with contextlib.suppress(OSError):
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return True
    return False
