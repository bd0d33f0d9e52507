"""Which process this is, and whether a process that was written down still exists.

A pid alone proves nothing: it is given again, after a restart of the machine or in another pid
namespace.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any


def identity(pid: int | None = None, proc: Path = Path('/proc')) -> dict[str, Any]:
    """What tells a process from every other one: boot id, pid namespace, pid, start time, host."""
    pid = os.getpid() if pid is None else pid
    return {
        'pid': pid,
        'host': socket.gethostname(),
        'boot_id': _line(proc / 'sys/kernel/random/boot_id'),
        'pid_namespace': _link(proc / 'self/ns/pid'),
        'start_ticks': start_ticks(pid, proc),
    }


def start_ticks(pid: int, proc: Path = Path('/proc')) -> int:
    """Start time of a process in clock ticks since boot (field 22 of its stat); 0 if it is gone."""
    try:
        text = (proc / str(pid) / 'stat').read_text(errors='replace')
        fields = text[text.rindex(')') + 2 :].split()
        return 0 if fields[0] in 'ZX' else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def process_is_there(document: object, proc: Path = Path('/proc')) -> bool | None:
    """Whether the process of an identity still exists; None if this system cannot tell.

    The identity may have been read from any file.
    """
    known = document if isinstance(document, dict) and _is_pid(document.get('pid')) else {}
    here = identity(proc=proc)
    is_same_host = known.get('host') == here['host']
    if not known.get('boot_id') or not here['boot_id'] or not known.get('start_ticks'):
        return _pid_exists(known) if is_same_host else None
    if known['boot_id'] != here['boot_id']:
        return False if is_same_host else None
    if known.get('pid_namespace') != here['pid_namespace']:
        return None
    return bool(start_ticks(known['pid'], proc) == known['start_ticks'])


def _is_pid(value: object) -> bool:
    """Whether it can be the pid of one process: 0 and negative numbers stand for groups."""
    return type(value) is int and 0 < value < 1 << 31


def _pid_exists(known: dict[str, Any]) -> bool | None:
    if os.name != 'posix' or not known:
        return None
    try:
        os.kill(known['pid'], 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _line(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors='replace').strip()
    return ''


def _link(path: Path) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ''
