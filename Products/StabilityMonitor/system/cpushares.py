"""The CPU share of each thread: the difference between two readings of the kernel's CPU clocks.

The heartbeat takes the readings (`Loads.look`), which are cheap.  For more detail on some threads,
`Loads.of_next_moment` measures them during the next tenth of a second.
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

#: A CPU share is measured over at least this many seconds, if there is a reading that old.
LEAST_SECONDS = 1.0
#: `of_next_moment` measures for this many seconds.
MOMENT = 0.1
#: A thread with a smaller CPU share is not busy, even if all others have less.
_BUSY = 0.1
#: For threads above this CPU share, also read how long they waited for a CPU.
_NOTABLE = 0.05


class Load(NamedTuple):
    """A thread's CPU share over `seconds`, and how many times a second it was given a CPU.

    `cpu` is None if not known.  `turns` is 0.0 if it was not measured.
    """

    cpu: float | None = None
    seconds: float = 0.0
    turns: float = 0.0


#: The load of a thread about which nothing is known.
UNKNOWN = Load()


#: {native id: seconds}
_Clocks = dict[int, float]


class _Look(NamedTuple):
    """A reading: the CPU time of all threads, and the run-queue wait of those above _NOTABLE."""

    time: float
    clocks: _Clocks
    waited: _Clocks


_NEVER = _Look(-math.inf, {}, {})


class Loads:
    """CPU shares of threads.  Call `look` periodically; any thread may read them at any time."""

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
        """Take a reading: the total CPU time of each thread so far."""
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
        """{native id: CPU time} of the last reading; {} if it is a second old or older."""
        last = self._looks[-1]
        age = self.clock() - last.time
        if age < LEAST_SECONDS:
            return last.clocks
        return {}

    def busiest(self) -> dict[int, float]:
        """Return {native id: share of the time between the last two readings}.

        In this share of the time the thread had a CPU or waited for one.
        """
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
        """Return {native id: Load}, measured from an earlier reading until now.

        It is the newest reading that is at least a second old; {} if there is none.
        """
        now = self.clock()
        for look in reversed(tuple(self._looks)):
            elapsed = now - look.time
            if elapsed >= LEAST_SECONDS:
                return _loads(look.clocks, self.kernel.clocks(), elapsed)
        return {}

    def of_next_moment(self, tids: Collection[int]) -> dict[int, Load]:
        """Measure these threads for a tenth of a second and return {native id: Load}.

        Threads that end meanwhile are left out.
        """
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
    """Return whether a CPU share is at least half of the largest share, and at least 10 %."""
    fair = busiest / 2
    return cpu >= max(_BUSY, fair)


def _shares(
    before: _Clocks,
    now: _Clocks,
    elapsed: float,
) -> dict[int, float]:
    """Return {native id: share of `elapsed` seconds} of the threads in both readings."""
    shares: dict[int, float] = {}
    if elapsed <= 0:
        return shares
    for tid, seconds in now.items():
        earlier = before.get(tid, math.inf)
        if seconds >= earlier:  # if it is less, a new thread has got the same id
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
