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
    best = ('', '')
    try:
        lines = (proc / 'self/mountinfo').read_text(errors='replace').splitlines()
    except OSError:
        return ''
    for line in lines:
        before, _, after = line.partition(' - ')
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        mount = _ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[4]).rstrip('/') + '/'
        if wanted.startswith(mount) and len(mount) >= len(best[0]):
            best = (mount, kinds[0])
    return best[1]


def network_file_system(path: Path, proc: Path = Path('/proc')) -> str:
    """The type, if it is one of the network or of FUSE, on which a mapped file is not safe; ''
    otherwise.
    """
    found = kind(path, proc)
    return found if found in _NETWORK or found.startswith('fuse') else ''
