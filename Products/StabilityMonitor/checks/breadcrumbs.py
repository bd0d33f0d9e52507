"""Checks of the places where this site writes: do files survive a restart, is there free space?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import WARNING
from ..system import mounts
from .check import Check
from .check import megabytes
from .livesite import Site

_MEMORY = {'tmpfs', 'ramfs', 'devtmpfs'}
_LAYERS = {'overlay', 'aufs'}
#: The folder to suggest where the files of the site are not on a local disk.
_ELSEWHERE = Path('/var/lib/stability')
#: (severity, share of the disk, bytes): space is short if the free space is below both values.
_ROOM = ((CRITICAL, 0.01, 64 << 20), (WARNING, 0.05, 1 << 30))


class Place(Check):
    id = 'breadcrumbs-place'
    question = 'Do the breadcrumbs survive a restart of the process, the container and the machine?'
    source = '/proc/self/mountinfo'

    def look(self, site: Site) -> Finding:
        kind = mounts.kind(site.directory, site.proc)
        if kind in _MEMORY:
            return self.found(
                WARNING,
                f'The breadcrumbs are kept in memory only ({kind}).',
                f'{site.directory}: a restart of the machine or of the container loses them.',
                _move(site),
            )
        if kind in _LAYERS:
            return self.found(
                WARNING,
                f"The breadcrumbs are in the container's writable layer ({kind}).",
                f'{site.directory}: they are lost when the container is recreated.',
                Action(
                    'Mount a volume there when you start the container: "docker run -v '
                    '/srv/stability:{directory}".',
                    directory=site.directory,
                ),
            )
        if mounts.network_file_system(site.directory, site.proc):
            return self.found(
                WARNING,
                f'The breadcrumbs are on a network file system ({kind}).',
                f'{site.directory}: a mapped file is not safe there, so the black box is in memory '
                'only.',
                _move(site),
            )
        if not kind:
            return self.unknown('The file system of the breadcrumbs is not known.')
        return self.ok(
            'The breadcrumbs survive a restart of the machine.', f'{site.directory} is on {kind}.'
        )


def _move(site: Site) -> Action:
    """Return the advice to move the breadcrumbs: to a folder of the site if it is on a local disk.

    The next start creates that folder.
    """
    home = Path(site.zope.client_home or '/nonexistent')
    local = (
        home.is_dir()
        and os.path.realpath(home / 'stability') != os.fspath(site.directory)
        and mounts.kind(home, site.proc) not in _MEMORY | _LAYERS
        and not mounts.network_file_system(home, site.proc)
    )
    folder = home / 'stability' if local else _ELSEWHERE
    return Action(
        'Write "directory {folder}" into `<product-config stabilitymonitor>` of zope.conf and '
        'restart.',
        folder=folder,
    )


class Room(Check):
    id = 'disk-room'
    question = 'Is there enough free space on the disks that this site writes to?'
    source = 'statvfs'

    def look(self, site: Site) -> Finding | list[Finding]:
        if not hasattr(os, 'statvfs'):
            return self.unknown('The free disk space is not known on this system.')
        findings: list[Finding] = []
        facts: list[str] = []
        for about, what, folder in _places(site):
            room = os.statvfs(folder)
            facts.append(f'The {what} ({folder}): {megabytes(room.f_bavail * room.f_frsize)} free')
            finding = self._lack_of_space(about, what, folder, room)
            if finding is not None:
                findings.append(finding)
        return findings or self.ok('There is enough free disk space.', '; '.join(facts))

    def _lack_of_space(
        self, about: str, what: str, folder: Path, room: os.statvfs_result
    ) -> Finding | None:
        if room.f_flag & os.ST_RDONLY:
            return self.found(
                CRITICAL,
                f'The {what} cannot be written: the file system is read-only.',
                f'{folder}.',
                Action(
                    'As root, run "mount -o remount,rw {folder}"; "dmesg" may show why the file '
                    'system is read-only.',
                    folder=folder,
                ),
                about,
            )
        free = room.f_bavail * room.f_frsize
        share = room.f_bavail / max(room.f_blocks, 1)
        severities = [severity for severity, least, size in _ROOM if share < least and free < size]
        if severities:
            severity = severities[0]
            lack = f'{megabytes(free)} ({share:.1%}) are free.'
        elif room.f_files and room.f_favail / room.f_files < 0.01:
            severity = WARNING
            lack = f'only {room.f_favail} more files can be created.'
        else:
            return None
        return self.found(
            severity,
            f'The disk of the {what} is nearly full.',
            f'{folder}: {lack}',
            Action(
                'Free some space: "du -xh {folder} | sort -h | tail" shows the largest folders; '
                'delete old logs first, never *.sbr or Data.fs.',
                folder=folder,
            ),
            about,
        )


def _places(site: Site) -> Iterator[tuple[str, str, Path]]:
    """Yield (end of the id of a finding, what is written, the folder that it is written to), once
    for each disk.
    """
    wanted = [('the-breadcrumbs', 'breadcrumbs', site.directory)]
    for database in site.zope.databases:
        if database.file:
            about = f'the-database-{database.name.replace(" ", "-").lower()}'
            wanted.append((about, f'database {database.name}', Path(database.file).parent))
    for file in site.log_files:
        wanted.append(('the-event-log', 'event log', Path(file).parent))
    seen: set[int] = set()
    for about, what, folder in wanted:
        # A folder that does not exist yet will be created on the disk of its parent.
        there = next((f for f in (folder, *folder.parents) if f.exists()), Path('/'))
        device = there.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield about, what, there
