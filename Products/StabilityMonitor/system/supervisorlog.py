"""Finds the log of the supervisor that started this process, without any configuration.

A file that the parent process writes to is its log if it says that it has started this process:
the supervisors log that at once.  Files of another user's process cannot be seen; for supervisord
its configuration, which everybody may read, names the log.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.options import from_record

#: What each supervisor logs when it has started the process with this id.
_STARTED = {
    'zdaemon': rb'spawned process pid=%d\b',
    'supervisord': rb"spawned: '[^'\n]{1,200}' with pid %d\b",
    'gunicorn': rb'Booting worker with pid: %d\b',
}
#: At most this many descriptors of the parent are looked at.
_MOST_FILES = 256
#: Bytes that are read at the end of each file; the supervisor has just written that line.
_TAIL = 16 << 10
_CONFIGURATION = 256 << 10
_OPENED_FOR = re.compile(r'^flags:\s*0?([0-7]{1,12})$', re.MULTILINE)
_SECTION = re.compile(r'^\[([^\]]+)\]', re.MULTILINE)
_LOGFILE = re.compile(r'^logfile\s*[=:]\s*(.*?)\s*(?:\s;.*)?$', re.MULTILINE)
#: Where supervisord looks for its configuration, apart from folders that depend on it.
_DEFAULT_PLACES = ('etc/supervisord.conf', 'etc/supervisor/supervisord.conf')


def find(
    kind: str,
    parent: int,
    pid: int,
    proc: Path = Path('/proc'),
    root: Path = Path('/'),
) -> dict[str, str]:
    """Return {'kind', 'path'} of the log in which supervisor `kind`, process `parent`, says that it
    has started the process `pid`; {} if it is not found.
    """
    path = ''
    if kind in _STARTED:
        path = _written_by(parent, pid, re.compile(_STARTED[kind] % pid), proc)
    if not path and kind == 'supervisord':
        path = _configured(parent, proc, root)
    return {'kind': kind, 'path': path} if path else {}


def path_of(context: Mapping[str, Any]) -> str:
    """Return the log to read, by the context of a run: the option, what was found at the start, or
    standard error of a server that writes there; '' if there is none.

    The context is not trusted.
    """
    path = from_record(context.get('options')).get('supervisor-log')
    recorded = context.get('supervisor_log')
    if not path and isinstance(recorded, dict):
        path = recorded.get('path')
    outputs = context.get('outputs')
    error = outputs.get('2') if isinstance(outputs, dict) else None
    writes_there = context.get('supervisor') in ('gunicorn', 'uwsgi')
    if not path and writes_there and isinstance(error, dict) and error.get('kind') == 'file':
        path = error.get('path')
    return str(path or '')


def _written_by(parent: int, pid: int, started: re.Pattern[bytes], proc: Path) -> str:
    folder = proc / str(parent)
    try:
        numbers = sorted(map(int, os.listdir(folder / 'fd')))
    except (OSError, ValueError):  # a process of another user, or no /proc
        return ''
    for number in numbers[:_MOST_FILES]:
        try:
            path = os.readlink(folder / 'fd' / str(number))
            if not path.startswith('/') or not _is_written(folder / 'fdinfo' / str(number)):
                continue
            tail = _tail(path)
            if b'%d' % pid in tail and started.search(tail):
                return path
        except OSError:
            continue
    return ''


def _is_written(information: Path) -> bool:
    flags = _OPENED_FOR.search(information.read_text())
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _tail(path: str | Path, most: int = _TAIL) -> bytes:
    """Return the end of a regular file; b'' for anything else, without waiting."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b''
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b''
        return os.pread(descriptor, most, max(0, status.st_size - most))
    finally:
        os.close(descriptor)


def _configured(parent: int, proc: Path, root: Path) -> str:
    """Return the log that the command line or the configuration of supervisord names."""
    try:
        words = (proc / str(parent) / 'cmdline').read_bytes().decode(errors='replace').split('\0')
    except OSError:
        return ''
    named = _option(words, '-l', '--logfile')
    if named:
        return named if os.path.isabs(named) else ''
    given = _option(words, '-c', '--configuration')
    places = [Path(given)] if given else [root / place for place in _DEFAULT_PLACES]
    for place in places:
        if not place.is_absolute():  # its working directory is not known
            continue
        try:
            text = _tail(place, _CONFIGURATION).decode(errors='replace')
        except OSError:
            continue
        path = _logfile(text).replace('%(here)s', str(place.parent))
        return path if os.path.isabs(path) and '%(' not in path else ''
    return ''


def _option(words: list[str], short: str, long: str) -> str:
    for number, word in enumerate(words):
        if word in (short, long) and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(f'{long}='):
            return word.partition('=')[2]
        if word.startswith(short) and not word.startswith('--') and word != short:
            return word.removeprefix(short)
    return ''


def _logfile(text: str) -> str:
    """Return the value of "logfile" in the section "supervisord"."""
    names = _SECTION.split(text)  # text before the first section, then names and their texts
    for name, body in zip(names[1::2], names[2::2], strict=False):
        found = _LOGFILE.search(body)
        if name == 'supervisord' and found:
            return found[1]
    return ''
