"""Finds the core file of a dead run.

A core file is that of a run if it says that the process had the black box of that run mapped
(BY_CONTENT), and that it is of the process of that run: one that Zope has forked has the black box
mapped, too.  Only if its content cannot be read here, because it is compressed or the system
refuses, its name, its time and the process id in it count (BY_NAME): that is likely, and no more.
A core file that can be read, but maps another black box or none, is of another process whatever its
name is.

Only regular files are opened and no link is followed, because other users may write into some of
the folders.  What a file of another user than this one and root says does not count, only its name.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..model.corefile import BY_CONTENT
from ..model.corefile import BY_NAME
from ..model.runrecord import RunRecord
from ..store.regularfiles import NotARegularFile
from ..store.regularfiles import open_outside
from ..store.regularfiles import own_user
from ..store.regularfiles import read_start_outside
from ..store.rundirectory import BLACKBOX
from ..system import coreformat
from ..system import corepattern
from ..system.coreformat import Core
from ..system.processidentity import FIRST_NAMESPACE
from .evidence import World

#: At most this many names in each folder, and files in all of them, are looked at for one run.
MOST_NAMES = 2000
MOST_FILES = 200
#: The kernel appends this to the name of a file that was removed.
_DELETED = ' (deleted)'
#: The first bytes of what keeps a core file, but is none: zstd, lz4, xz, gzip, and reports of
#: apport.
_PACKED = (
    b'\x28\xb5\x2f\xfd',
    b'\x04\x22\x4d\x18',
    b'\xfd7zXZ\0',
    b'\x1f\x8b',
    b'ProblemType:',
)
#: Bytes of a file of the kernel that are read.
_KERNEL_FILE = 4096
#: Seconds: the time of a file may be this much older than the write, and a large core file takes
#: a while.
_BEFORE, _AFTER = 2.0, 120.0
_ROOT = 0
#: What a site may have in its own folders without a pattern that names them.
_USUAL = ('core', 'core.*', '*.core')
#: Where apport keeps its reports, and the names there: the path of the program and the user.
_REPORTS = '_*.crash'


@dataclass(frozen=True)
class FoundCore:
    """The core file of a run: its path and status, and how it was found."""

    path: str
    match: str
    status: os.stat_result


@dataclass(frozen=True)
class _Place:
    """A folder in which core files may be, and what fits the names there."""

    folder: str
    glob: str
    pattern: corepattern.CorePattern | None = None


def find(record: RunRecord, world: World) -> FoundCore | None:
    """Return the core file of this run, whose record must be whole; None if none is found."""
    likely = None
    for path, place in itertools.islice(_candidates(record, world), MOST_FILES):
        try:
            descriptor = open_outside(path)
        except PermissionError:
            with contextlib.suppress(OSError):
                likely = likely or _by_name(record, world, path, place, os.lstat(path))
            continue
        except (OSError, ValueError):
            continue
        with open(descriptor, 'rb') as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (_ROOT, own_user()):  # it could name any black box
                likely = likely or _by_name(record, world, path, place, status)
                continue
            try:
                core = coreformat.read(file.fileno())
            except coreformat.NotACoreFile:
                if file.read(16).startswith(_PACKED):
                    likely = likely or _by_name(record, world, path, place, status)
                continue
            except OSError:
                continue
            if maps(core, record.run):
                if core.pid not in (0, record.pid):  # of a process that the run has forked
                    continue
                return FoundCore(path, BY_CONTENT, status)
            if core.is_cut and not core.files:
                likely = likely or _by_name(record, world, path, place, status)
    return likely


def maps(core: Core, run: str) -> bool:
    """Whether the process of this core file had the black box of that run mapped."""
    wanted = f'/runs/{run}/{BLACKBOX}'
    return any(file.path.removesuffix(_DELETED).endswith(wanted) for file in core.files)


def open_again(found: FoundCore) -> int:
    """Open a core file that was found.  Raises OSError, also if it is another file by now."""
    descriptor = open_outside(found.path)
    status = os.fstat(descriptor)
    was = found.status
    if (status.st_dev, status.st_ino) != (was.st_dev, was.st_ino):
        os.close(descriptor)
        raise NotARegularFile(found.path)
    return descriptor


# -- where it may be -------------------------------------------------------------------------------


def _candidates(record: RunRecord, world: World) -> list[tuple[str, _Place]]:
    """Return the files that may be it, those that were written near the end of the run first."""
    found: dict[str, tuple[float, _Place]] = {}
    end = record.ended or record.started or 0.0
    for place in _places(record, world):
        for name in _names(place):
            path = os.path.normpath(os.path.join(place.folder, name))
            with contextlib.suppress(OSError, ValueError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and path not in found:
                    found[path] = (abs(status.st_mtime - end), place)
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    return [(path, place) for path, (_, place) in ordered]


def _names(place: _Place) -> list[str]:
    try:
        names = glob.iglob(place.glob, root_dir=place.folder)
        return list(itertools.islice(names, MOST_NAMES))
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return []


def _places(record: RunRecord, world: World) -> Iterator[_Place]:
    context = record.context
    cwd = context.get('cwd')
    home = record.instance.client_home
    folder = cwd if isinstance(cwd, str) and os.path.isabs(cwd) else '/'
    uses_pid = _line(world.proc / 'sys/kernel/core_uses_pid') not in ('', '0')
    then = context.get('core_pattern')
    now = _line(world.proc / 'sys/kernel/core_pattern')
    for text in dict.fromkeys((then if isinstance(then, str) else '', now)):
        pattern = corepattern.parse(text, folder, uses_pid)
        if pattern.folder and pattern.glob:
            yield _Place(pattern.folder, pattern.glob, pattern)
    for usual in (cwd, home):
        if isinstance(usual, str) and os.path.isabs(usual):
            for names in _USUAL:
                yield _Place(usual, names)
    for keeper in world.core_keepers:
        pattern = corepattern.parse(f'|{keeper}', folder)
        if pattern.folder:
            yield _Place(str(world.root / pattern.folder.lstrip('/')), pattern.glob, pattern)
    yield _Place(str(world.root / 'var/crash'), _REPORTS)


def _line(path: Path) -> str:
    with contextlib.suppress(OSError):
        return read_start_outside(path, _KERNEL_FILE).decode('utf-8', 'replace').strip()
    return ''


# -- by its name -----------------------------------------------------------------------------------


def _by_name(
    record: RunRecord, world: World, path: str, place: _Place, status: os.stat_result
) -> FoundCore | None:
    """Return it if name and time fit: of a file whose content cannot be read."""
    ended = record.ended or record.started or 0.0
    latest = max(record.ended_before or world.now, ended) + _AFTER
    if not ended - _BEFORE <= status.st_mtime <= latest:
        return None
    if place.glob == _REPORTS:
        fits = os.path.basename(path) == _report_name(record, status)
    else:
        fits = _name_fits(record, os.path.relpath(path, place.folder), place.pattern)
    return FoundCore(path, BY_NAME, status) if fits else None


def _name_fits(record: RunRecord, name: str, pattern: corepattern.CorePattern | None) -> bool:
    """Whether the name tells the pid of this run, and nothing that contradicts."""
    told = pattern.read(name) if pattern else None
    if told is None:
        return name in (f'core.{record.pid}', f'{record.pid}.core')
    identity = record.context.get('identity')
    known = identity if isinstance(identity, dict) else {}
    in_first = known.get('pid_namespace') == FIRST_NAMESPACE
    if told.boot_id and told.boot_id != record.boot_id.replace('-', ''):
        return False
    if told.pid is not None:
        return told.pid == record.pid
    return in_first and told.host_pid == record.pid


def _report_name(record: RunRecord, status: os.stat_result) -> str:
    """Return the name of the report that apport writes of a crash of this program."""
    executable = record.context.get('executable')
    if not isinstance(executable, str) or '\0' in executable:
        return ''
    program = os.path.realpath(executable).replace('/', '_')
    return f'{program}.{status.st_uid}.crash'
