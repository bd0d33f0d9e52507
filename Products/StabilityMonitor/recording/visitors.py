"""Whether visitors are answered: who waits, and whether the busy workers progress.

That all workers are busy does not mean that the site hangs: a site of one thread is so while it
makes an export.  It hangs when a visitor has waited for `stall` seconds, or when no worker has
progressed for as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..model.records import Frame
from ..system.acceptqueue import OwnTables
from ..system.acceptqueue import inodes_of
from ..system.acceptqueue import waiting
from ..system.tasks import clock as clock_of
from ..system.vitalsigns import descriptor_limit
from ..threads.frames import stacks
from .serverthreads import most_threads
from .waitressserver import Load
from .waitressserver import WaitressServer

#: Returns {ident: frames} of those of the given threads that still exist.
StacksOf = Callable[[Iterable[int]], dict[int, tuple[Frame, ...]]]

#: A worker that uses less than this share of one CPU does not progress: it only looks again and
#: again whether it may go on.
_IDLE = 0.02
#: Descriptors that are kept free, by a limit in the C library or by other code.
_SPARE = 2


@dataclass(frozen=True)
class Answering:
    """Whether visitors are answered, at one moment.  Times are in seconds; -1: not known.

    All workers have been busy for `all_busy` (0.0: not all are), and none has progressed for
    `stood`.  The oldest request in the queue has waited for `waited`.  For `refused` seconds no
    visitor could connect, because no `reason` ('connections' or 'descriptors') was left, and one
    waits in the kernel now.  The server has failed `accept_errors` times to accept a connection.
    """

    busy: int = 0
    serving: int = 0
    all_busy: float = 0.0
    stood: float = 0.0
    queue: int = -1
    waited: float = -1.0
    connections: int = -1
    limit: int = -1
    accept_queue: int = -1
    refused: float = 0.0
    reason: str = ''
    accept_errors: int = -1

    @property
    def needs_a_look(self) -> bool:
        """Whether a visitor may have to wait."""
        return self.all_busy > 0 or self.waited > 0 or self.refused > 0


class AcceptLog(Protocol):
    """What counts the errors of accept() that the server logs, see loghandler.BreadcrumbHandler."""

    accept_errors: int

    @property
    def sees_accept_errors(self) -> bool: ...


class Visitors:
    """`open` is called once, `find` in each round, `look` at each beat.

    `descriptors` returns the number of open descriptors, `stacks_of` the stacks of threads.  `log`
    is None if log lines are not recorded.
    """

    def __init__(
        self,
        descriptors: Callable[[], int],
        stacks_of: StacksOf = stacks,
        clock: Callable[[], float] = time.monotonic,
        server: WaitressServer | None = None,
        log: AcceptLog | None = None,
    ) -> None:
        self.server = server or WaitressServer(clock)
        self.clock = clock
        self.descriptors = descriptors
        self.load: Load | None = None
        self.log = log
        self._sees_errors = False
        self.progress = Progress(clock, stacks_of=stacks_of)
        self._inodes: frozenset[int] = frozenset()
        self._tables: OwnTables | None = None
        self._accept_queue = -1
        self._full_since: float | None = None
        self._connected: frozenset[int] = frozenset()
        self._busy_since: float | None = None
        self._most = 0  # threads that another server may use

    def open(self) -> None:
        """Hold the tables of the kernel open, for the time when no descriptor is left."""
        self._tables = OwnTables()

    def find(self) -> None:
        """Find the server if it is not known yet, and count the connections in the kernel."""
        if not self.server.is_found:
            self.server.find()
            self._most = self._most or most_threads()
        if self.server.is_found and not self._inodes:
            self._inodes = inodes_of(self.server.sockets())
        self._sees_errors = self.log is not None and self.log.sees_accept_errors
        self._count_in_kernel()

    def detach(self) -> None:
        if self._tables:
            self._tables.detach()

    def look(
        self,
        in_flight: int,
        serving: int,
        youngest: float,
        threads: Callable[[], Mapping[int, int]],
    ) -> Answering:
        """Return whether visitors are answered.

        Without waitress the requests of Zope count: `in_flight` of them, the youngest for
        `youngest` seconds.  `threads` returns the workers: {ident: native id}.
        """
        now = self.clock()
        load = self.load = self.server.look()
        busy = in_flight
        serving = max(serving, self._most)
        if load and load.workers:
            busy = max(load.busy, in_flight)
            serving = load.workers
        all_busy = 0.0
        stood = 0.0
        if busy and busy >= serving:
            if self._busy_since is None:
                self._busy_since = now if load else now - youngest
                self.progress.begin()
            all_busy = now - self._busy_since
            stood = self.progress.look(threads(), load.unsent if load else 0)
            # A thread may wait at the same place in each request, but the next one is progress.
            stood = min(stood, load.newest if load else youngest)
        else:
            self._busy_since = None
        reason = self._no_more_room(load)
        refused = self._refused(reason, now)
        accept_errors = -1
        if load and load.logs_errors and self.log and self._sees_errors:
            accept_errors = self.log.accept_errors
        return Answering(
            busy=busy,
            serving=serving,
            all_busy=all_busy,
            stood=stood,
            queue=load.queue if load else -1,
            waited=load.waited if load else -1.0,
            connections=load.connections if load else -1,
            limit=load.limit if load else -1,
            accept_queue=self._accept_queue,
            refused=refused,
            reason=reason,
            accept_errors=accept_errors,
        )

    def _refused(self, reason: str, now: float) -> float:
        """Return for how many seconds no visitor could connect; 0.0 if none wants to."""
        if not reason:
            self._full_since = None
            return 0.0
        connected = self.server.connected()
        if self._full_since is None or connected - self._connected:  # one was let in
            self._full_since = now
        self._connected = connected
        self._count_in_kernel()
        return now - self._full_since if self._accept_queue > 0 else 0.0

    def _no_more_room(self, load: Load | None) -> str:
        if load is None:
            return ''
        if 0 < load.limit <= load.connections:
            return 'connections'
        most = descriptor_limit()
        if 0 < most and self.descriptors() >= most - _SPARE:
            return 'descriptors'
        return ''

    def _count_in_kernel(self) -> None:
        if self._tables and self._inodes:
            self._accept_queue = waiting(self._inodes, self._tables.read())


class Progress:
    """For how long no worker has progressed: the same frames, hardly any CPU time, and as many
    bytes that clients have not taken.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        clock_of: Callable[[int], float | None] = clock_of,
        stacks_of: StacksOf = stacks,
    ) -> None:
        self.clock = clock
        self.clock_of = clock_of
        self.stacks_of = stacks_of
        self._seen: dict[int, _Seen] = {}
        self._unsent = 0

    def begin(self) -> None:
        """Forget what was seen before all workers were busy."""
        self._seen = {}

    def look(self, threads: Mapping[int, int], unsent: int) -> float:
        """Return for how many seconds none of these threads {ident: native id} has progressed."""
        now = self.clock()
        has_sent = unsent != self._unsent
        self._unsent = unsent
        seen = {}
        frames = self.stacks_of(threads)
        for ident, native_id in threads.items():
            used = self.clock_of(native_id)
            before = self._seen.get(ident)
            if before is None or has_sent or before.has_progressed(frames.get(ident), used, now):
                seen[ident] = _Seen(frames.get(ident), used, now, now)
            else:
                seen[ident] = _Seen(before.frames, used, now, before.since)
        self._seen = seen
        return now - max((each.since for each in seen.values()), default=now)


@dataclass(frozen=True)
class _Seen:
    """What a thread did at the last look, and since when it has not progressed."""

    frames: tuple[Frame, ...] | None
    used: float | None  # CPU seconds
    looked: float
    since: float

    def has_progressed(
        self,
        frames: tuple[Frame, ...] | None,
        used: float | None,
        now: float,
    ) -> bool:
        if frames != self.frames:
            return True
        if used is None or self.used is None:
            return used is not self.used
        return used - self.used > _IDLE * (now - self.looked)
