"""How many connections wait in the kernel because the process does not accept them.

The kernel completes a connection without the process, and lets it wait in the accept queue of the
listening socket.  In /proc/PID/net/tcp and tcp6, a line of a listening socket has the length of
that queue as `rx_queue` (tcp(7) and `get_tcp4_sock` in net/ipv4/tcp_ipv4.c: `sk_ack_backlog`).
Other processes can read it, too: also of a process that hangs.

The listening sockets come first (`tcp_get_idx` in the same file).  Only these are read: a busy site
has ten thousand closed connections in its table, and to read them all takes 27 ms of CPU time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from collections.abc import Iterable
from pathlib import Path

#: The state TCP_LISTEN of include/net/tcp_states.h.
_LISTENS = b'0A'
#: At most this many bytes of a table are read: 150 for each listening socket.
_MOST = 4 << 20
#: The kernel gives no more than a page at once.
_PIECE = 4 << 10
_TABLES = ('tcp', 'tcp6')


def waiting(inodes: Collection[int], tables: Iterable[bytes]) -> int:
    """Return how many connections wait for the listening sockets with these inodes.

    -1 if none of these sockets is in the tables: they may be Unix sockets, or the tables may not be
    readable.
    """
    found = -1
    for table in tables:
        for line in table.splitlines():
            fields = line.split(None, 10)
            if len(fields) < 10 or fields[3] != _LISTENS:
                continue
            if int(fields[9]) in inodes:
                found = max(found, 0) + int(fields[4].partition(b':')[2], 16)
    return found


def tables_of(pid: int, proc: Path = Path('/proc')) -> list[bytes]:
    """Return the listening sockets in the tables of the network namespace of a process; without
    those tables that are not there.
    """
    tables = []
    for name in _TABLES:
        with contextlib.suppress(OSError), open(proc / str(pid) / 'net' / name, 'rb') as table:
            tables.append(_listening(table.fileno()))
    return tables


class OwnTables:
    """The tables of this process.  They are held open: when the process has used up its
    descriptors, they can be read all the same.
    """

    def __init__(self, proc: Path = Path('/proc')) -> None:
        self._files = []
        for name in _TABLES:
            with contextlib.suppress(OSError):  # a kernel without IPv6, or another system
                path = proc / 'self' / 'net' / name
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> list[bytes]:
        """Return the listening sockets in each table."""
        return [_listening(descriptor) for descriptor in self._files]

    def detach(self) -> None:
        for descriptor in self._files:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._files = []


def _listening(descriptor: int) -> bytes:
    """Return a table up to the piece that has the first connection, or its first `_MOST` bytes."""
    table = b''
    with contextlib.suppress(OSError):
        while len(table) < _MOST and (piece := os.pread(descriptor, _PIECE, len(table))):
            table += piece
            last = table.rsplit(b'\n', 2)[-2:-1]  # the last whole line
            if last and not _listens(last[0]):
                break
    return table


def _listens(line: bytes) -> bool:
    return line.split(None, 4)[3:4] in ([_LISTENS], [b'st'])


def inodes_of(descriptors: Collection[int]) -> frozenset[int]:
    """Return the inodes of open sockets of this process."""
    found = set()
    for descriptor in descriptors:
        try:
            found.add(os.fstat(descriptor).st_ino)
        except OSError:  # it was closed meanwhile
            continue
    return frozenset(found)


def inodes_of_process(pid: int, proc: Path = Path('/proc')) -> frozenset[int]:
    """Return the inodes of all sockets of a process.

    Raises OSError, for example PermissionError for a process of another user.
    """
    found = set()
    folder = proc / str(pid) / 'fd'
    for name in os.listdir(folder):
        try:
            target = os.readlink(folder / name)
        except OSError:  # it was closed meanwhile
            continue
        if target.startswith('socket:['):
            found.add(int(target[len('socket:[') : -1]))
    return frozenset(found)
