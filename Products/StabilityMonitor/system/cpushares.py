"""How much of a CPU each thread gets, from two looks at the kernel's clocks.

The heartbeat takes the looks, which cost it little.  To know more of some threads, watch their next
moment.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from .tasks import KernelThreads

#: A share is taken over at least so many seconds, if there is a look so old.
LEAST_SECONDS = 1.0
#: The next moment lasts so many seconds.
MOMENT = 0.1
#: A thread with a smaller CPU share is not busy, however idle all others are.
_BUSY = 0.1
#: For threads above this CPU share, also read how long they waited for a CPU.
_NOTABLE = 0.05


class Load(NamedTuple):
    """A thread's CPU share over so many seconds, and how often a second it was given a CPU.

    `turns` is 0.0 where that was not watched.
    """

    cpu: float | None = None
    seconds: float = 0.0
    turns: float = 0.0


#: That of a thread of which nothing is known.
UNKNOWN = Load()


class _Look(NamedTuple):
    """{native id: seconds}: CPU time of all threads, and run-queue wait of the notable ones."""

    time: float
    clocks: dict[int, float]
    waited: dict[int, float]


_NEVER = _Look(-math.inf, {}, {})


class Loads:
    """Call `look` now and then, and ask for shares at any time, from any thread."""

    def __init__(
        self,
        kernel: KernelThreads,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.kernel = kernel
        self.clock = clock
        self.sleep = sleep
        self._looks = collections.deque([_NEVER], maxlen=2)

    def look(self) -> None:
        """Read how much CPU time each thread has had by now."""
        now = self.clock()
        clocks = self.kernel.clocks()
        waited = {}
        for tid, share in _shares(self._looks[-1], now, clocks):
            if share >= _NOTABLE:
                reading = self.kernel.reading(tid)
                if reading:
                    waited[tid] = reading.waited
        self._looks.append(_Look(now, clocks, waited))

    @property
    def fresh(self) -> dict[int, float]:
        """{native id: CPU time} as of the last look; {} when that is a second or more ago."""
        last = self._looks[-1]
        return last.clocks if self.clock() - last.time < LEAST_SECONDS else {}

    def busiest(self) -> dict[int, float]:
        """{native id: share of the time between the last two looks that it had or wanted a CPU}"""
        old = self._looks[0]
        new = self._looks[-1]
        ran = dict(_shares(old, new.time, new.clocks))
        waited = dict(_shares(old._replace(clocks=old.waited), new.time, new.waited))
        return {tid: share + waited.get(tid, 0.0) for tid, share in ran.items()}

    def now(self) -> dict[int, Load]:
        """{native id: Load} since the last look that is at least a second old; {} without one."""
        now = self.clock()
        for look in reversed(tuple(self._looks)):
            if now - look.time >= LEAST_SECONDS:
                return _loads(look, now, self.kernel.clocks())
        return {}

    def of_next_moment(self, tids: Collection[int]) -> dict[int, Load]:
        """{native id: Load} of those threads that last so long; sleeps for a tenth of a second."""
        before = _Look(self.clock(), self.kernel.clocks_of(tids), {})
        turns_before = self._turns(tids)
        self.sleep(MOMENT)
        loads = _loads(before, self.clock(), self.kernel.clocks_of(tids))
        turns = self._turns(tids)
        found = {}
        for tid in turns_before.keys() & turns.keys() & loads.keys():
            load = loads[tid]
            found[tid] = load._replace(turns=(turns[tid] - turns_before[tid]) / load.seconds)
        return found

    def _turns(self, tids: Iterable[int]) -> dict[int, int]:
        turns = {}
        for tid in tids:
            reading = self.kernel.reading(tid)
            if reading:
                turns[tid] = reading.turns
        return turns


def is_busy(cpu: float, busiest: float) -> bool:
    """Whether that CPU share is a fair part, compared with the thread that has the largest."""
    return cpu >= max(_BUSY, busiest / 2)


def _shares(before: _Look, now: float, clocks: dict[int, float]) -> Iterator[tuple[int, float]]:
    """(native id, share of the time since a look) of the threads that this look has."""
    elapsed = now - before.time
    if elapsed <= 0:
        return
    for tid, seconds in clocks.items():
        if seconds >= before.clocks.get(tid, math.inf):  # less: a new thread has its id
            yield tid, (seconds - before.clocks[tid]) / elapsed


def _loads(before: _Look, now: float, clocks: dict[int, float]) -> dict[int, Load]:
    return {tid: Load(share, now - before.time) for tid, share in _shares(before, now, clocks)}
