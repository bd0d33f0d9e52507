"""The type of the file system that holds a path, according to the mount table."""

from __future__ import annotations

import re
from pathlib import Path

#: The mount table writes blanks, tabs, newlines and backslashes as octal escapes.
_ESCAPE = re.compile(r'\\([0-7]{3})')
_NETWORK = {
    'nfs',
    'nfs4',
    'cifs',
    'smb3',
    'smbfs',
    '9p',
    'ceph',
    'glusterfs',
    'lustre',
    'afs',
    'beegfs',
}


def kind(path: Path, proc: Path = Path('/proc')) -> str:
    """Return the type of the file system that holds `path`, such as "ext4"; '' if not known."""
    wanted = f'{path.resolve()}/'
    longest = ''
    found = ''
    try:
        lines = (proc / 'self/mountinfo').read_text(errors='replace').splitlines()
    except OSError:
        return ''
    for line in lines:
        before, _, after = line.partition(' - ')
        fields = before.split()
        kinds = after.split()
        if len(fields) < 5 or not kinds:
            continue
        mount = _ESCAPE.sub(_unescaped, fields[4])
        mount = f'{mount.rstrip("/")}/'
        if not wanted.startswith(mount):
            continue
        if len(mount) >= len(longest):  # with two mounts on one directory, the later one counts
            longest = mount
            found = kinds[0]
    return found


def _unescaped(escape: re.Match[str]) -> str:
    code = int(escape[1], 8)
    return chr(code)


def network_file_system(path: Path, proc: Path = Path('/proc')) -> str:
    """Return the type of the file system if it is a network or FUSE file system, else ''.

    A file on such a file system cannot be safely mapped into memory.
    """
    found = kind(path, proc)
    if found in _NETWORK or found.startswith('fuse'):
        return found
    return ''
