"""A soak: a Zope answers the requests of a busy day in a row; what it holds is counted from
outside, again and again.

Used by `bench_soak` and by the tests: what grows from the first quarter of the day to its last
leaks.
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
#: So much more may be there at the end, of thousands of requests: files that the database opens for
#: more readers.
MORE = {'descriptors': 3, 'threads': 0, 'timers': 0}
#: So often the process is looked at; the first of these looks are warm-up.
LOOKS, WARM = 40, 8
OPTIONS = {'slow-request': '200ms', 'sample-interval': '100ms', 'stall': '30s'}


@dataclasses.dataclass(frozen=True)
class Held:
    """What a process holds at one moment: bytes, numbers, and seconds of CPU time."""

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
    """`zope` runs, with the pages published.  `start`, `look` so often as `looks` says, `end`."""

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
        """When the next share of the requests is answered, count, and let the load go on."""
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
    """Of the last quarter over the first, after the warm-up: of the median of memory, of the least
    of other numbers.

    What connections that are just being closed add to a number is chance; what leaks is never
    missing.
    """
    values = [getattr(one, what) for one in helds[warm:]]
    quarter, typical = max(1, len(values) // 4), statistics.median if what == 'resident' else min
    return typical(values[-quarter:]) - typical(values[:quarter])


def steady_growth(helds: list[Held], what: str, warm: int = WARM, once: int = 3) -> float:
    """The sum of all increments after the warm-up but the `once` largest: what is filled only once
    is no leak.
    """
    values = [getattr(one, what) for one in helds[warm:]]
    return sum(sorted(after - before for before, after in itertools.pairwise(values))[:-once])


def cost(helds: list[Held], warm: int = WARM) -> float:
    """CPU time per request in microseconds, after the warm-up."""
    first, last = helds[warm - 1], helds[-1]
    return (last.cpu - first.cpu) / (last.requests - first.requests) * 1e6


def prepare(zope):
    """A ZopeInstance with the pages; `create` comes next."""
    return zope.publish((PROGRAMS / 'mixed_pages.py').read_text())
