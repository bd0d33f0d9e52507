"""Files from which a process executes machine code, from the text of /proc/<pid>/maps.  No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Of a file that was removed or replaced, the kernel says so behind its path.
_DELETED = ' (deleted)'
_LINE = re.compile(
    r'(?P<start>[0-9a-f]{1,16})-(?P<end>[0-9a-f]{1,16}) (?P<permissions>[rwxsp-]{4}) '
    r'(?P<offset>[0-9a-f]{1,16}) [0-9a-f]+:[0-9a-f]+ (?P<inode>[0-9]{1,20}) *(?P<path>.*)',
    re.ASCII,
)


@dataclass(frozen=True)
class MappedFile:
    """A file with at least one mapping that may be executed.

    `path` is the real path, as the kernel knows it, `inode` the number of the file, and `start` the
    address in bytes at which the bytes from `offset` on can be executed.  `is_deleted`: the file
    was removed or replaced, so a file that is now at this path is another one.
    """

    path: str
    inode: int
    start: int
    offset: int
    is_deleted: bool = False


def executable_files(maps: str) -> tuple[MappedFile, ...]:
    """Return the files with code, in the order of their addresses, each once.

    `maps` is the text of /proc/<pid>/maps.  Memory without a file, such as [vdso] or what
    memfd_create made, is left out, and so is what is no line of that form.
    """
    found: dict[tuple[str, int], MappedFile] = {}
    for line in maps.split('\n'):
        mapping = _LINE.fullmatch(line)
        if not mapping or mapping['permissions'][2] != 'x':
            continue
        path, is_deleted = _path(mapping['path'])
        inode = int(mapping['inode'])
        if not path.startswith('/') or path.startswith('/memfd:') or not inode:
            continue
        file = MappedFile(
            path,
            inode,
            start=int(mapping['start'], 16),
            offset=int(mapping['offset'], 16),
            is_deleted=is_deleted,
        )
        found.setdefault((path, inode), file)
    return tuple(found.values())


def _path(text: str) -> tuple[str, bool]:
    """Return the path and whether its file was deleted.

    Of all characters, the kernel escapes only newlines (`seq_file_path` in fs/proc/task_mmu.c).
    """
    is_deleted = text.endswith(_DELETED)
    return text.removesuffix(_DELETED).replace('\\012', '\n'), is_deleted
