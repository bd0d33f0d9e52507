"""What a report is about, for the parts that are read from this machine: a run, and its end.

Paths come from the context of a run, which is not trusted.  Who only reads the data directory of
another user reads no file that does not belong to that user: it could name a file of the reader.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from ..model.interfaces import ILivingRun
from ..model.reportparts import Gap
from ..model.runrecord import RunRecord
from ..postmortem.evidence import World
from ..store.archive import Archive
from ..store.regularfiles import NotARegularFile
from ..store.regularfiles import OfAnotherUser
from ..store.regularfiles import open_outside
from ..store.regularfiles import own_user
from ..store.regularfiles import read_start_outside
from .fromdisk import RecordedRun

#: Bytes that are read of a file of the kernel.
_KERNEL_FILE = 256


@dataclass(frozen=True)
class Subject:
    """A run, and the moment that the parts are about, in seconds since the epoch: its end or now.

    `record` is None if the run lives, or nothing is known of its end.  `owner` is the user whose
    files may be read; None: each file that this process may read.  `is_own`: it is this process.
    """

    context: dict[str, Any]
    moment: float
    record: RunRecord | None = None
    world: World = field(default_factory=World)
    owner: int | None = None
    is_own: bool = False

    def text(self, key: str) -> str:
        """Return a text of the context; '' for anything else."""
        return _text(self.context.get(key))

    def part(self, key: str) -> dict[str, Any]:
        """Return a part of the context; {} for anything else."""
        value = self.context.get(key)
        return value if isinstance(value, dict) else {}

    @property
    def same_boot(self) -> bool:
        """Whether the run was in this boot of this machine."""
        boot_id = _text(self.part('identity').get('boot_id'))
        return bool(boot_id) and boot_id == _line(self.world.proc / 'sys/kernel/random/boot_id')

    @property
    def is_here(self) -> bool:
        """Whether the run was on this machine, so that its paths lead to its files."""
        if self.is_own or self.same_boot:
            return True
        if not self.context:
            return False
        machine_id = self.text('machine_id')
        here = _line(self.world.machine_id)
        if machine_id and here:
            return machine_id == here
        return self.text('hostname') == socket.gethostname()

    @property
    def why_not_here(self) -> str:
        """Why its paths do not lead to its files: a key of `model.reportparts.REASONS`."""
        return 'other-machine' if self.context else 'not-recorded'

    @property
    def configuration(self) -> dict[str, str]:
        """{zope_conf, wsgi_ini}: the paths of the files that configured the run.

        A run of an older release did not note them: then they are where Zope makes them.
        """
        software = self.part('software')
        noted = software.get('configuration')
        if isinstance(noted, dict):
            return {name: _text(noted.get(name)) for name in ('zope_conf', 'wsgi_ini')}
        home = _text(software.get('instance_home'))
        if not os.path.isabs(home):
            return {'zope_conf': '', 'wsgi_ini': ''}
        candidates = [os.path.join(home, 'etc', name) for name in ('zope.ini', 'wsgi.ini')]
        inis = [path for path in candidates if os.path.exists(path)]
        return {
            'zope_conf': os.path.join(home, 'etc', 'zope.conf'),
            'wsgi_ini': inis[0] if inis else '',
        }

    def open(self, path: str) -> int:
        """Open a regular file that the run names.  Raises OfAnotherUser, or what `open_outside`
        raises.
        """
        if not os.path.isabs(path) or '\0' in path:
            raise NotARegularFile(path.replace('\0', ''))
        descriptor = open_outside(path)
        owner = os.fstat(descriptor).st_uid
        if self.owner not in (None, owner):
            os.close(descriptor)
            raise OfAnotherUser(path, owner)
        return descriptor


def of_life(life: ILivingRun, world: World) -> Subject:
    """Return this process, now."""
    return Subject({'software': life.software, **life.context}, world.now, world=world, is_own=True)


def of_run(run: RecordedRun, archive: Archive, world: World) -> Subject:
    """Return a run by its files: at its end, or now if it lives."""
    record = run.record
    moment = world.now
    if record and record.ended:
        moment = record.ended
    return Subject(run.context, moment, record, world, _owner(archive.base.path))


def _owner(directory: Path) -> int | None:
    """Return the owner of the data directory if it is another user than this process."""
    with contextlib.suppress(OSError):
        owner = os.stat(directory).st_uid
        if owner != own_user():
            return owner
    return None


def gap(what: str, path: str, error: Exception) -> Gap:
    """Return why a file could not be read."""
    if isinstance(error, OfAnotherUser):
        return Gap(what, 'of-another-user', path)
    if isinstance(error, NotARegularFile):
        return Gap(what, 'not-a-file', path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Gap(what, 'not-found', path)
    if isinstance(error, PermissionError):
        return Gap(what, 'not-readable', path)
    return Gap(what, 'failed', path, f'{type(error).__name__}: {error}')


def _text(value: object) -> str:
    return value if isinstance(value, str) else ''


def _line(path: Path) -> str:
    try:
        return read_start_outside(path, _KERNEL_FILE).decode('utf-8', 'replace').strip()
    except OSError:
        return ''
