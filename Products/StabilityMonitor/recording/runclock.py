"""A clock that stands while the process is frozen, and how a freeze is recognised.

A process that was stopped (SIGSTOP, a debugger, the freezer of a container) has not hung: no time
has passed for it.  So what measures how long something lasts uses this clock.

Afterwards, a frozen process and one in which C code holds the interpreter lock (GIL) look alike:
the heartbeat is late.  But a thread that waits for the GIL wakes up 200 times a second and goes
back to sleep, and a frozen one does not.  The kernel counts how often (docs/facts.rst).

While the whole machine is suspended, CLOCK_MONOTONIC stands by itself; CLOCK_BOOTTIME does not.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows: no freeze is recognised
    resource = None

#: The process was frozen only if the heartbeat is late by at least this many seconds.
_LATE = 2.0
#: A thread that waits for the GIL gives up its CPU more often than this in each second.
_SWITCHES = 5
#: Switches to another thread that one beat makes itself.
_OF_A_BEAT = 20
#: A freeze is only one if the process used less than this share of one CPU meanwhile.  A heartbeat
#: that only gets no CPU on a busy machine is late, too, while other threads run.
_SHARE = 0.05
#: At most this many freezes are known one by one; the oldest ones count together.
_KEPT = 200


@dataclass(frozen=True)
class Freeze:
    """For how many seconds the process did not run.  `of_machine`: all processes did not."""

    seconds: float
    of_machine: bool = False


def _boot_time() -> float:
    """Return the seconds since the boot, suspensions included; 0.0 where that is not known."""
    if not hasattr(time, 'CLOCK_BOOTTIME'):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _switches() -> int | None:
    """Return how often this thread has given up its CPU; None: not known."""
    if resource is None or not hasattr(resource, 'RUSAGE_THREAD'):
        return None
    used = resource.getrusage(resource.RUSAGE_THREAD)
    switches: int = used.ru_nvcsw
    return switches


class RunClock:
    """Call it to get its time in seconds: the monotonic clock without the freezes.

    The heartbeat calls `look` before each beat.  Only this thread adds a freeze.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        boot_time: Callable[[], float] = _boot_time,
        switches: Callable[[], int | None] = _switches,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.clock = clock
        self.boot_time = boot_time
        self.switches = switches
        self.used = used
        #: Seconds in which the process was frozen, all together.
        self.frozen = 0.0
        self._ends: list[float] = []  # when each freeze was over, by the monotonic clock
        self._sums: list[float] = []  # the seconds of all freezes until then
        self._looked: float | None = None
        # When this clock was asked last.  If that is longer ago, it stands until the next look.
        self._seen = clock()
        self._longest = math.inf
        self._suspended = 0.0
        self._switched: int | None = None
        self._used = 0.0

    def __call__(self) -> float:
        now = self.clock()
        if now - self._seen > self._longest:
            now = self._seen  # perhaps a freeze, in the midst of a beat: the next look tells
        else:
            self._seen = now
        return now - self.frozen

    def at(self, moment: float) -> float:
        """Return what this clock showed at a moment of the monotonic clock."""
        ends = self._ends
        if not ends or moment >= ends[-1]:
            return moment - self.frozen
        before = bisect.bisect_right(ends, moment)
        return moment - (self._sums[before - 1] if before else 0.0)

    def look(self, interval: float) -> Freeze | None:
        """Return the freeze that ended since the last look, or None.

        `interval` is the number of seconds for which the heartbeat sleeps between two looks.
        """
        now = self._seen = self.clock()
        self._longest = _LATE + interval
        suspended = self.boot_time() - now
        switched = self.switches()
        used = self.used()
        looked, self._looked = self._looked, now
        suspended_before, self._suspended = self._suspended, suspended
        switched_before, self._switched = self._switched, switched
        used_before, self._used = self._used, used
        if looked is None:
            return None
        if suspended - suspended_before >= _LATE:
            return Freeze(suspended - suspended_before, of_machine=True)
        late = now - looked - interval
        if late < max(_LATE, interval) or switched is None or switched_before is None:
            return None
        has_waited = switched - switched_before > _OF_A_BEAT + _SWITCHES * late
        has_worked = used - used_before > interval + _SHARE * late
        if has_waited or has_worked:
            return None
        self._add(late, now)
        return Freeze(late)

    def _add(self, seconds: float, now: float) -> None:
        total = self.frozen + seconds
        # New lists, because another thread may be reading the old ones.
        self._ends = [*self._ends, now][-_KEPT:]
        self._sums = [*self._sums, total][-_KEPT:]
        self.frozen = total
