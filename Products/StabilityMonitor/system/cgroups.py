"""Find the memory cgroup of a process: version 1, version 2, or both at once (hybrid).

The result is written into the run's context, so that the next process can read the same cgroup.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

#: {version: names of the files with (the counter of OOM kills, the memory in use, the limit)}
_FILES = {
    1: (
        'memory.oom_control',
        'memory.usage_in_bytes',
        'memory.limit_in_bytes',
    ),
    2: (
        'memory.events',
        'memory.current',
        'memory.max',
    ),
}
#: Version 1 shows "no limit" as a number near 2**63.
_NO_LIMIT = 1 << 60


def find(proc: Path = Path('/proc'), pid: str = 'self') -> dict[str, Any]:
    """Return directory, identity and limit of the memory cgroup; {} if none can be found."""
    # OSError: this user may not read the files.  ValueError: the mount table has an unknown format.
    with contextlib.suppress(OSError, ValueError):
        for version, path in _memberships(proc / pid / 'cgroup'):
            directory = _mounted_at(proc / pid / 'mountinfo', version, path)
            if directory is None:
                continue
            counter, current, limit = _FILES[version]
            if not (directory / counter).exists():
                continue
            status = directory.stat()
            return {
                'version': version,
                'directory': str(directory),
                'device': status.st_dev,
                'inode': status.st_ino,
                'counter_file': str(directory / counter),
                'current_file': str(directory / current),
                'limit_file': str(directory / limit),
                'limit': smallest_limit(directory, version),
            }
    return {}


def _memberships(file: Path) -> list[tuple[int, str]]:
    """Return the (version, path) of each cgroup of the process that may limit its memory.

    Version 1 comes first: where both are mounted, it has the memory controller.
    """
    found: list[tuple[int, str]] = []
    for line in _lines(file):
        # "4:memory:/a/path" for version 1, "0::/a/path" for version 2
        number, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if 'memory' in controllers.split(','):
            found.insert(0, (1, path))
        elif number == '0' and not controllers:
            found.append((2, path))
    return found


def _mounted_at(
    mountinfo: Path,
    version: int,
    path: str,
) -> Path | None:
    """Return the directory of a cgroup.  In a container the mount shows only a part of the tree."""
    wanted = 'cgroup' if version == 1 else 'cgroup2'
    for line in _lines(mountinfo):
        fields, _, after = line.partition(' - ')
        kind, _, source_and_options = after.partition(' ')
        if kind != wanted:
            continue
        if version == 1:
            controllers = source_and_options.replace(' ', ',').split(',')
            if 'memory' not in controllers:
                continue
        root, mount = fields.split()[3:5]
        if root != '/':
            path = path.removeprefix(root)
        for directory in (Path(mount + path), Path(mount)):
            if directory.is_dir():
                return directory
        return None
    return None


def smallest_limit(directory: Path, version: int) -> int:
    """Return the smallest limit in bytes of this cgroup and its ancestors; -1 if there is none."""
    smallest = _NO_LIMIT
    _, _, name = _FILES[version]
    for folder in (directory, *directory.parents):
        for line in _lines(folder / name)[:1]:
            if line.isdigit():  # version 2 shows "max" for no limit
                smallest = min(smallest, int(line))
    if smallest == _NO_LIMIT:
        return -1
    return smallest


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors='replace').splitlines()
    except OSError:
        return []
