"""How much of a processor each thread has, from two looks at the kernel's clocks.

The looks are those of the heartbeat's rounds, and cost it little; who wants to know more of some
threads watches their next moment.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from .tasks import KernelThreads

#: A share of the processor is taken over at least so many seconds, if there is a look so old.
LEAST_SECONDS = 1.0
#: The next moment lasts so many seconds.
MOMENT = 0.1
#: Who has less of a processor is not busy, however idle all others are.
_BUSY = 0.1
#: Of who has so much of a processor, it is read too for how long he was kept from it by others.
_NOTABLE = 0.05


class Load(NamedTuple):
    """A thread's share of a processor over so many seconds, and how often a second it came to one
    (0.0 where that was not watched).
    """

    cpu: float | None = None
    seconds: float = 0.0
    turns: float = 0.0


#: That of a thread of which nothing is known.
UNKNOWN = Load()


class _Look(NamedTuple):
    """{native id: seconds}: processor time of all threads, and waits for a processor of those that
    have much of one.
    """

    time: float
    clocks: dict[int, float]
    waited: dict[int, float]


_NEVER = _Look(-math.inf, {}, {})


class Loads:
    """`look` now and then, then ask.  Any thread may.  `kernel` is a KernelThreads."""

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
        """Read how much of the processor each thread has had by now."""
        now, clocks = self.clock(), self.kernel.clocks()
        notable = [tid for tid, share in _shares(self._looks[-1], now, clocks) if share >= _NOTABLE]
        self._looks.append(
            _Look(
                now,
                clocks,
                {tid: reading.waited for tid in notable if (reading := self.kernel.reading(tid))},
            )
        )

    @property
    def fresh(self) -> dict[int, float]:
        """{native id: processor time} as of the last look; {} when that is not just now."""
        last = self._looks[-1]
        return last.clocks if self.clock() - last.time < LEAST_SECONDS else {}

    def busiest(self) -> dict[int, float]:
        """{native id: share of the time between the last two looks that it had a processor, or was
        ready for one}
        """
        old, new = self._looks[0], self._looks[-1]
        waited = dict(_shares(old._replace(clocks=old.waited), new.time, new.waited))
        return {
            tid: share + waited.get(tid, 0.0) for tid, share in _shares(old, new.time, new.clocks)
        }

    def now(self) -> dict[int, Load]:
        """{native id: Load} since the last look that is at least a second old; {} without one."""
        now, looks = self.clock(), tuple(self._looks)
        before = next((look for look in looks[::-1] if now - look.time >= LEAST_SECONDS), _NEVER)
        return _loads(before, now, self.kernel.clocks())

    def of_next_moment(self, tids: Iterable[int]) -> dict[int, Load]:
        """{native id: Load} of those threads that last so long; sleeps for a tenth of a second."""
        before, turns = _Look(self.clock(), self.kernel.clocks_of(tids), {}), self._turns(tids)
        self.sleep(MOMENT)
        loads, later = _loads(before, self.clock(), self.kernel.clocks_of(tids)), self._turns(tids)
        return {
            tid: loads[tid]._replace(turns=(later[tid] - turns[tid]) / loads[tid].seconds)
            for tid in turns.keys() & later.keys() & loads.keys()
        }

    def _turns(self, tids: Iterable[int]) -> dict[int, int]:
        return {tid: reading.turns for tid in tids if (reading := self.kernel.reading(tid))}


def is_busy(cpu: float, busiest: float) -> bool:
    """Whether a thread with such a share has its part of a processor, beside the one that has
    most.
    """
    return cpu >= max(_BUSY, busiest / 2)


def _shares(before: _Look, now: float, clocks: dict[int, float]) -> Iterator[tuple[int, float]]:
    """(native id, share of the time since a look) of those whose clocks were read then."""
    for tid, seconds in clocks.items() if now > before.time else ():
        if seconds >= before.clocks.get(tid, math.inf):  # less: another thread has got its id
            yield tid, (seconds - before.clocks[tid]) / (now - before.time)


def _loads(before: _Look, now: float, clocks: dict[int, float]) -> dict[int, Load]:
    return {tid: Load(share, now - before.time) for tid, share in _shares(before, now, clocks)}
