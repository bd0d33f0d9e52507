"""Names and numbers of the system calls in which threads of a server wait."""

from __future__ import annotations

import os
import sys

#: {name: (number on x86_64, number on aarch64)}; -1 if the machine does not have the call.
CALLS = {
    'read': (0, 63),
    'write': (1, 64),
    'open': (2, -1),
    'poll': (7, -1),
    'pread64': (17, 67),
    'pwrite64': (18, 68),
    'readv': (19, 65),
    'writev': (20, 66),
    'select': (23, -1),
    'pause': (34, -1),
    'nanosleep': (35, 101),
    'sendfile': (40, 71),
    'connect': (42, 203),
    'accept': (43, 202),
    'sendto': (44, 206),
    'recvfrom': (45, 207),
    'sendmsg': (46, 211),
    'recvmsg': (47, 212),
    'wait4': (61, 260),
    'fcntl': (72, 25),
    'flock': (73, 32),
    'fsync': (74, 82),
    'fdatasync': (75, 83),
    'ftruncate': (77, 46),
    'rename': (82, -1),
    'unlink': (87, -1),
    'rt_sigtimedwait': (128, 137),
    'futex': (202, 98),
    'restart_syscall': (219, 128),
    'clock_nanosleep': (230, 115),
    'epoll_wait': (232, -1),
    'waitid': (247, 95),
    'openat': (257, 56),
    'newfstatat': (262, 79),
    'unlinkat': (263, 35),
    'pselect6': (270, 72),
    'ppoll': (271, 73),
    'epoll_pwait': (281, 22),
    'accept4': (288, 242),
    'preadv': (295, 69),
    'pwritev': (296, 70),
    'recvmmsg': (299, 243),
    'sendmmsg': (307, 269),
    'renameat2': (316, 276),
    'copy_file_range': (326, 285),
    'statx': (332, 291),
    'io_uring_enter': (426, 426),
    'openat2': (437, 437),
    'epoll_pwait2': (441, 441),
    'futex_waitv': (449, 449),
}
_MACHINES = {'x86_64': 0, 'aarch64': 1}


def call_names(machine: str) -> dict[int, str]:
    """Return {number: name} for a machine; {} if it is not in the table."""
    column = _MACHINES.get(machine)
    if column is None:
        return {}
    names = {}
    for name, numbers in CALLS.items():
        if numbers[column] >= 0:
            names[numbers[column]] = name
    return names


def machine() -> str:
    """Return the machine whose call numbers this Python uses; '' for 32 bits and other systems."""
    is_64_bit = sys.maxsize > 1 << 32
    if sys.platform.startswith('linux') and is_64_bit:
        return os.uname().machine
    return ''
