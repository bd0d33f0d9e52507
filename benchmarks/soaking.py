"""A soak test: a Zope answers the requests of a busy day one after another, and its resources are
counted from outside at intervals.

bench_soak and the tests use it: what grows from the first quarter of the day to the last is a leak.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / 'programs'
#: After thousands of requests, at most this many more may be there: files that the database opens
#: for more readers.
MORE = {'descriptors': 3, 'threads': 0, 'timers': 0}
#: The number of counts, and how many of these, from the first on, are warm-up.
LOOKS, WARM = 40, 8
OPTIONS = {'slow-request': '200ms', 'sample-interval': '100ms', 'stall': '30s'}


@dataclasses.dataclass(frozen=True)
class Held:
    """The resources of a process at one moment: bytes, numbers, and seconds of CPU time."""

    requests: int
    resident: int
    descriptors: int
    threads: int
    timers: int
    cpu: float


def held(pid: int, requests: int, proc: Path = Path('/proc')) -> Held:
    folder = proc / str(pid)
    status = (folder / 'status').read_text()
    resident, threads = (
        int(re.search(rf'^{name}:\s+(\d+)', status, re.MULTILINE)[1])
        for name in ('VmRSS', 'Threads')
    )
    ticks = (folder / 'stat').read_text().rpartition(') ')[2].split()[11:13]
    timers = (folder / 'timers').read_text().count('signal:') if (folder / 'timers').exists() else 0
    return Held(
        requests,
        resident << 10,
        len(os.listdir(folder / 'fd')),
        threads,
        timers,
        sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK'),
    )


class Soak:
    """A load for the running `zope`, which has the pages: call `start`, then `look` as often as
    `looks` says, then `end`.
    """

    def __init__(self, zope, requests: int, looks: int = LOOKS):
        self.zope, self.requests, self.looks = zope, requests, looks
        self.held, self.answered = [], {}

    def start(self) -> Soak:
        self.load = subprocess.Popen(
            [
                sys.executable,
                str(PROGRAMS / 'mixed_load.py'),
                str(self.zope.port),
                str(self.requests),
                str(self.looks),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def look(self) -> None:
        """Wait until the next share of the requests is answered, count the resources, and let the
        load continue.
        """
        self.held.append(held(self.zope.pid, int(self._line())))
        print(file=self.load.stdin, flush=True)

    def end(self) -> None:
        self.answered = json.loads(self._line())
        self.load.communicate()

    def kill(self) -> None:
        self.load.kill()
        self.load.communicate()

    def _line(self):
        line = self.load.stdout.readline()
        if not line:
            raise AssertionError(
                f'The load has ended with {self.load.wait()}; Zope says:\n{self.zope.last_words()}'
            )
        return line


def growth(helds: list[Held], what: str, warm: int = WARM) -> float:
    """Return how much the last quarter exceeds the first one, after the warm-up.

    Memory is compared by the median, other numbers by the minimum: connections that are just being
    closed may be counted, but a leak is always counted.
    """
    values = [getattr(one, what) for one in helds[warm:]]
    quarter, typical = max(1, len(values) // 4), statistics.median if what == 'resident' else min
    return typical(values[-quarter:]) - typical(values[:quarter])


def steady_growth(helds: list[Held], what: str, warm: int = WARM, once: int = 3) -> float:
    """Return the sum of all increments after the warm-up, without the `once` largest: a cache that
    fills only once is not a leak.
    """
    values = [getattr(one, what) for one in helds[warm:]]
    return sum(sorted(after - before for before, after in itertools.pairwise(values))[:-once])


def cost(helds: list[Held], warm: int = WARM) -> float:
    """Return the CPU time per request in microseconds, after the warm-up."""
    first, last = helds[warm - 1], helds[-1]
    return (last.cpu - first.cpu) / (last.requests - first.requests) * 1e6


def prepare(zope):
    """Add the pages to a ZopeInstance; the caller calls `create` next."""
    return zope.publish((PROGRAMS / 'mixed_pages.py').read_text())
