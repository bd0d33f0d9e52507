"""On which kind of file system a path lies, as far as the mount table tells."""

from __future__ import annotations

import re
from pathlib import Path

#: How the mount table writes blanks, tabs, newlines and backslashes.
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
    """The type of the file system that holds `path`, such as "ext4"; '' where it is not known."""
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
        if len(mount) >= len(longest):  # of two in one place, the later one hides the other
            longest = mount
            found = kinds[0]
    return found


def _unescaped(escape: re.Match[str]) -> str:
    code = int(escape[1], 8)
    return chr(code)


def network_file_system(path: Path, proc: Path = Path('/proc')) -> str:
    """The type, if it is one of the network or of FUSE; '' otherwise.

    On those a file that is mapped into memory is not safe.
    """
    found = kind(path, proc)
    if found in _NETWORK or found.startswith('fuse'):
        return found
    return ''
