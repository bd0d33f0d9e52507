"""What a monitor adds to the time of a request, compared with other monitors in the same run.

Each monitor has its own environment and process; the processes take turns, in several generations.
In each round a process answers batches with its monitor on and off in turn, and the fastest batch
of each counts.  The result is the median of the differences of all rounds.  "none" has nothing to
switch on, so its result is the noise.  The other monitors note the begin and the end of a request;
ours is measured with only these, and also with the marks of the phases between them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import environments
from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import median
from figures import ratio
from figures import spread

GENERATIONS, ROUNDS, BATCHES, REQUESTS = 24, 9, 6, 100
US = 'us'
#: {what is switched on and off: its environment}
MONITORS = {'begin-and-end': 'stabilitymonitor'} | {name: name for name in environments.PEERS}


class Process:
    """One Zope with one monitor."""

    def __init__(self, monitor, folder):
        from support.zopekit import ZopeInstance

        zope = ZopeInstance(folder, python=environments.python(MONITORS[monitor]), stderr='null')
        zope.checkout = MONITORS[monitor] == 'stabilitymonitor'
        zope.create()
        self.log = open(Path(folder) / 'stderr', 'w+')
        self.process = subprocess.Popen(
            [zope.python, str(PROGRAMS / 'published.py'), str(zope.zope_conf), monitor],
            env=zope.environment(),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self._line('ready')

    def _line(self, wanted=''):
        line = self.process.stdout.readline().strip()
        if not line or (wanted and line != wanted):
            self.log.seek(0)
            raise SystemExit(f'{self.process.args} failed:\n{self.log.read()[-4000:]}')
        return line

    def round(self, batches=BATCHES, requests=REQUESTS):
        """Return microseconds per request: (with the monitor, without)."""
        print(batches, requests, file=self.process.stdin, flush=True)
        with_it, without = json.loads(self._line())
        return with_it / 1000, without / 1000

    def end(self):
        self.process.kill()
        self.process.communicate()
        self.log.close()


def measure() -> list[Row]:
    added, pages = {name: [] for name in MONITORS}, {name: [] for name in MONITORS}
    for _ in range(GENERATIONS):
        with tempfile.TemporaryDirectory(prefix='bench-request-') as folder:
            processes = {name: Process(name, os.path.join(folder, name)) for name in added}
            try:
                for process in processes.values():
                    process.round(2)  # warm-up
                for turn in range(ROUNDS):
                    names = list(processes)
                    for name in names[turn % len(names) :] + names[: turn % len(names)]:
                        with_it, without = processes[name].round()
                        added[name].append(with_it - without)
                        pages[name].append(with_it)
            finally:
                for process in processes.values():
                    process.end()
    return list(_rows({name: median(values) for name, values in added.items()}, added, pages))


def _rows(figures, added, pages):
    ours, haufe, sentry = (
        figures[name] for name in ('begin-and-end', 'haufe.requestmonitoring', 'sentry-sdk')
    )
    page = median(pages['none'])
    between = median([a - b for a, b in zip(pages['stabilitymonitor'], pages['none'], strict=True)])
    yield ratio(
        "a request, begin and end, through Zope's events",
        0.04,
        ours,
        'the cheapest page',
        page,
        US,
        2,
    )
    yield Row('  with the marks of two phases', '', f'{figures["stabilitymonitor"]:.2f} us')
    yield Row(
        '  haufe.requestmonitoring 0.6.0, its monitor',
        'at least 4 times that',
        f'{haufe:.1f} us, {haufe / ours:.1f} times',
        haufe >= 4 * ours,
    )
    yield Row(
        '  sentry-sdk, its WSGI middleware',
        'at least 20 times that',
        f'{sentry:.1f} us, {sentry / ours:.0f} times',
        sentry >= 20 * ours,
    )
    yield Row(
        '  no monitor, switched on and off (noise)',
        '',
        f'{figures["none"]:.2f} us ({spread(added["none"], US)})',
    )
    yield Row('  a process with this monitor, minus one with none', '', f'{between:.1f} us')


if __name__ == '__main__':
    alone(measure)
