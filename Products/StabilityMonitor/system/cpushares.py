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


#: {native id: seconds}
_Clocks = dict[int, float]


class _Look(NamedTuple):
    """CPU time of all threads at one time, and the run-queue wait of the notable ones."""

    time: float
    clocks: _Clocks
    waited: _Clocks


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
        last = self._looks[-1]
        elapsed = now - last.time
        shares = _shares(last.clocks, clocks, elapsed)
        waited = {}
        for tid, share in shares.items():
            if share < _NOTABLE:
                continue
            reading = self.kernel.reading(tid)
            if reading:
                waited[tid] = reading.waited
        self._looks.append(_Look(now, clocks, waited))

    @property
    def fresh(self) -> _Clocks:
        """{native id: CPU time} as of the last look; {} when that is a second or more ago."""
        last = self._looks[-1]
        age = self.clock() - last.time
        if age < LEAST_SECONDS:
            return last.clocks
        return {}

    def busiest(self) -> dict[int, float]:
        """{native id: share of the time between the last two looks that it had or wanted a CPU}"""
        old = self._looks[0]
        new = self._looks[-1]
        elapsed = new.time - old.time
        shares = _shares(old.clocks, new.clocks, elapsed)
        waited = _shares(old.waited, new.waited, elapsed)
        for tid, share in waited.items():
            if tid in shares:
                shares[tid] += share
        return shares

    def now(self) -> dict[int, Load]:
        """{native id: Load} since the last look that is at least a second old; {} without one."""
        now = self.clock()
        for look in reversed(tuple(self._looks)):
            elapsed = now - look.time
            if elapsed >= LEAST_SECONDS:
                return _loads(look.clocks, self.kernel.clocks(), elapsed)
        return {}

    def of_next_moment(self, tids: Collection[int]) -> dict[int, Load]:
        """{native id: Load} of those threads that last so long; sleeps for a tenth of a second."""
        began = self.clock()
        clocks_before = self.kernel.clocks_of(tids)
        turns_before = self._turns(tids)
        self.sleep(MOMENT)
        elapsed = self.clock() - began
        loads = _loads(clocks_before, self.kernel.clocks_of(tids), elapsed)
        turns = self._turns(tids)
        found = {}
        for tid, load in loads.items():
            if tid in turns and tid in turns_before:
                new = turns[tid] - turns_before[tid]
                found[tid] = load._replace(turns=new / elapsed)
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
    fair = busiest / 2
    return cpu >= max(_BUSY, fair)


def _shares(
    before: _Clocks,
    now: _Clocks,
    elapsed: float,
) -> dict[int, float]:
    """{native id: share of so many seconds} of the threads that were there before and are now."""
    shares: dict[int, float] = {}
    if elapsed <= 0:
        return shares
    for tid, seconds in now.items():
        earlier = before.get(tid, math.inf)
        if seconds >= earlier:  # less: a new thread has its id
            shares[tid] = (seconds - earlier) / elapsed
    return shares


def _loads(
    before: _Clocks,
    now: _Clocks,
    elapsed: float,
) -> dict[int, Load]:
    loads = {}
    for tid, share in _shares(before, now, elapsed).items():
        loads[tid] = Load(share, elapsed)
    return loads
