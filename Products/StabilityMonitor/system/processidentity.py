"""The identity of a process, and whether a recorded process still exists.

A pid alone proves nothing: another process can have the same pid later, after a reboot, or in
another pid namespace.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The pid namespace in which the ids of a process are those of the kernel (PROC_PID_INIT_INO).
FIRST_NAMESPACE = 'pid:[4026531836]'
#: Pids are below this.  0 and negative numbers stand for process groups, not for a process.
PID_LIMIT = 1 << 31


def identity(
    pid: int | None = None,
    proc: Path = Path('/proc'),
) -> dict[str, Any]:
    """Return what identifies a process: boot id, pid namespace, pid, start time, host."""
    if pid is None:
        pid = os.getpid()
    boot_id = ''
    with contextlib.suppress(OSError):
        boot_id = (proc / 'sys/kernel/random/boot_id').read_text(errors='replace').strip()
    pid_namespace = ''
    with contextlib.suppress(OSError):
        pid_namespace = os.readlink(proc / 'self/ns/pid')
    return {
        'pid': pid,
        'host': socket.gethostname(),
        'boot_id': boot_id,
        'pid_namespace': pid_namespace,
        'start_ticks': start_ticks(pid, proc),
    }


def start_ticks(pid: int, proc: Path = Path('/proc')) -> int:
    """Return the start time of a process in clock ticks since boot (field 22 of its `stat`).

    0 if it does not exist.  A process that has ended counts as gone, even if its parent has not
    waited for it yet (a zombie).
    """
    try:
        text = (proc / str(pid) / 'stat').read_text(errors='replace')
        # The second field is the name in parentheses; it may contain any character.
        _, bracket, rest = text.rpartition(')')
        fields = rest.split()
        state = fields[0]
        if not bracket or state in 'ZX':
            return 0
        return int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def process_is_there(
    document: object,
    proc: Path = Path('/proc'),
) -> bool | None:
    """Return whether the process of an identity still exists; None if that cannot be known here.

    The identity is not trusted: it may come from a damaged file.
    """
    if not isinstance(document, dict):
        return None
    pid = document.get('pid')
    if type(pid) is not int or not 0 < pid < PID_LIMIT:
        return None
    own = identity(proc=proc)
    is_same_host = document.get('host') == own['host']
    boot_id = document.get('boot_id')
    ticks = document.get('start_ticks')
    if not boot_id or not own['boot_id'] or not ticks:
        # There is no /proc here, or there was none there: only the pid can be compared.
        if is_same_host:
            return _pid_exists(pid)
        return None
    if boot_id != own['boot_id']:
        # This host has been rebooted since, or the process is of another host.
        if is_same_host:
            return False
        return None
    if document.get('pid_namespace') != own['pid_namespace']:
        return None
    return bool(start_ticks(pid, proc) == ticks)


def is_of_another_machine(
    context: Mapping[str, Any],
    proc: Path = Path('/proc'),
    machine_id: Path = Path('/etc/machine-id'),
) -> bool:
    """Whether the process of that context ran on another machine than this one, as far as is known.

    It did if the boot was another one, and the name of the host or the machine id, too.  Containers
    of one machine share the boot.  The context is not trusted.
    """
    known = context.get('identity')
    if not isinstance(known, dict):
        return False
    own = identity(proc=proc)
    if own['boot_id'] and known.get('boot_id') == own['boot_id']:
        return False
    if known.get('host') != own['host']:
        return True
    own_machine = ''
    with contextlib.suppress(OSError):
        own_machine = machine_id.read_text(errors='replace').strip()
    machine = context.get('machine_id')
    return bool(machine and own_machine and machine != own_machine)


def _pid_exists(pid: int) -> bool | None:
    if os.name != 'posix':
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
