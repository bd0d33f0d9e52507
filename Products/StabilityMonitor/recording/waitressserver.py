"""What waitress has to do: who waits for a thread, which threads are busy, which connections are
open.

A request waits in waitress's queue until a thread takes it; a thread is busy from then on until it
waits for the next one.  So a thread is also busy in WSGI middleware around Zope, and while it waits
for a client that reads slowly.  Zope knows nothing of either.

Waitress is only read: `vars` of its objects calls none of its code.  Its socket map leads to
everything else: servers, connections ("channels"), and the dispatcher with the queue.  The map is a
local variable of its loop.  Read in the sources of waitress 2.1.2 and 3.0.2.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ..model.threadstates import Connection
from ..system.currentframes import current_frames

_LOOP = ('loop', '/waitress/wasyncore.py')
#: At most this many connections are told in detail.
MOST_CONNECTIONS = 32
#: At most this many characters of a path are kept.
_LONGEST_PATH = 320


@dataclass(frozen=True)
class Load:
    """What waitress has to do at one moment.

    `queue` requests wait for a thread, the oldest for `waited` seconds.  `busy` of the `workers`
    (threads) have taken a request.  `connections` are counted as waitress counts them against
    `limit`: its listening sockets and what wakes its loop are among them.  `unsent` are the bytes
    of answers that busy threads have written and clients have not taken.  A thread took a request
    at most `newest` seconds ago; 0.0 if none is busy.  `logs_errors`:
    waitress logs when it fails to accept a connection (its option `log_socket_errors`).
    """

    workers: int
    busy: int
    queue: int
    waited: float
    connections: int
    limit: int
    unsent: int
    newest: float = 0.0
    logs_errors: bool = True


class WaitressServer:
    """Reads the waitress that serves in this process.

    `find` is called until `is_found`; `look` at each beat after that.  What waitress lacks, because
    it is of another release, is named by `missing`; then `look` returns None.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.missing = ''
        self._map: dict[int, Any] | None = None
        self._waiting = _FirstSights()
        self._served = _FirstSights()
        self._in_use = _FirstSights()

    @property
    def is_found(self) -> bool:
        return self._map is not None

    def find(self) -> None:
        """Look for the loop of waitress in MainThread, then in all other threads."""
        frames = current_frames()
        try:
            main = frames.pop(threading.main_thread().ident or 0, None)
            self._map = _map_in([main, *frames.values()])
        finally:
            frames.clear()  # they refer to our own frame, which refers to them

    def sockets(self) -> tuple[int, ...]:
        """Return the descriptors of the listening sockets."""
        return tuple(descriptor for descriptor, _ in self._servers(self._entries()))

    def look(self) -> Load | None:
        """Return what waitress has to do; None if it was not found, or is of an unknown kind."""
        if self._map is None or self.missing:
            return None
        try:
            return self._look()
        except (KeyError, AttributeError, TypeError) as error:
            self.missing = f'{type(error).__name__}: {error}'
            return None

    def _look(self) -> Load:
        entries = self._entries()
        servers = self._servers(entries)
        if not servers:  # it is shutting down
            return Load(0, 0, 0, 0.0, len(entries), -1, 0)
        server = vars(servers[0][1])
        dispatcher = vars(server['task_dispatcher'])
        waiting = set(map(id, tuple(dispatcher['queue'])))
        queued = []
        served = []
        unsent = 0
        for _, channel in entries:
            found = vars(channel)
            requests = found.get('requests')
            if not requests:
                continue
            if id(channel) in waiting:
                queued += requests[:1]
            else:
                served += requests[:1]
                unsent += found.get('total_outbufs_len', 0)
        now = self.clock()
        return Load(
            workers=len(dispatcher['threads']),
            busy=len(served),
            queue=len(queued),
            waited=self._waiting.oldest(queued, now),
            connections=len(entries),
            limit=server['adj'].connection_limit,
            unsent=unsent,
            newest=min(self._served.ages(served, now), default=0.0),
            logs_errors=bool(server['adj'].log_socket_errors),
        )

    def connected(self) -> frozenset[int]:
        """Return the ids of what is connected, to see whether something is added."""
        return frozenset(id(each) for _, each in self._entries())

    def connections(self) -> tuple[Connection, ...]:
        """Return the connections that are in use but keep no thread busy, the oldest first."""
        try:
            return self._connections()
        except (KeyError, AttributeError, TypeError):  # of another release of waitress
            return ()

    def _connections(self) -> tuple[Connection, ...]:
        now = self.clock()
        found: list[tuple[object, str, int, object]] = []
        for _, channel in self._entries():
            values = vars(channel)
            if values.get('requests') or 'outbufs' not in values:
                continue
            request = values.get('request')
            unsent = values.get('total_outbufs_len', 0)
            if unsent:
                found.append((channel, 'sending', unsent, None))
            elif request is not None:
                arrived = vars(request)
                size = arrived.get('header_bytes_received', 0)
                size += arrived.get('body_bytes_received', 0)
                found.append((request, 'arriving', size, arrived.get('path')))
        ages = self._in_use.ages([subject for subject, *_ in found], now)
        connections = []
        for (_, does, size, path), seconds in zip(found, ages, strict=True):
            known = path[:_LONGEST_PATH] if isinstance(path, str) else ''
            connections.append(Connection(does, seconds, size, known))
        connections.sort(key=lambda connection: -connection.seconds)
        return tuple(connections[:MOST_CONNECTIONS])

    def _entries(self) -> list[tuple[int, Any]]:
        return list((self._map or {}).items())  # in one step under the GIL

    @staticmethod
    def _servers(entries: Iterable[tuple[int, Any]]) -> list[tuple[int, Any]]:
        return [
            (descriptor, each) for descriptor, each in entries if 'task_dispatcher' in vars(each)
        ]


class _FirstSights:
    """Since when objects have been seen.  It refers to them weakly: a request may hold a file."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[weakref.ref[Any], float]] = {}

    def ages(self, subjects: Iterable[Any], now: float) -> list[float]:
        """Return for how many seconds each object has been seen; forget all others."""
        seen = {}
        ages = []
        for subject in subjects:
            reference, since = self._seen.get(id(subject), (None, now))
            if reference is None or reference() is not subject:  # another object at its address
                reference, since = weakref.ref(subject), now
            seen[id(subject)] = (reference, since)
            ages.append(now - since)
        self._seen = seen
        return ages

    def oldest(self, subjects: Iterable[Any], now: float) -> float:
        return max(self.ages(subjects, now), default=0.0)


def _map_in(frames: Iterable[FrameType | None]) -> dict[int, Any] | None:
    """Return the socket map of the first loop of waitress in these stacks."""
    name, file = _LOOP
    for each in frames:
        frame = each
        while frame is not None:
            code = frame.f_code
            if code.co_name == name and code.co_filename.replace('\\', '/').endswith(file):
                found = frame.f_locals.get('map')
                return found if type(found) is dict else None
            frame = frame.f_back
    return None
