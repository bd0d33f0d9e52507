"""Processor time that the heartbeat of a real Zope takes in a second, while its eight threads serve and while it idles.

Beside it a thread of the same process that does nothing but wake once a second: that is what the machine itself takes
for a thread that comes from rest, hundreds of microseconds on an idle virtual one.
"""
from __future__ import annotations

import http.client
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean

from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import median
from figures import row

THREADS, PAUSE = 8, 0.2
#: The first round sees eight new threads, which is not what a second costs.
WARM, SECONDS = 15, 60


class Load:
    """Eight clients, each with a pause after each answer."""

    def __init__(self, port):
        self.port, self.goes_on = port, True
        self.clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(THREADS)]
        for client in self.clients:
            client.start()

    def _ask(self):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        while self.goes_on:
            connection.request('GET', '/page')
            assert connection.getresponse().read()
            time.sleep(PAUSE)
        connection.close()

    def end(self):
        self.goes_on = False
        for client in self.clients:
            client.join()


def _spent(pid, tids):
    """Microseconds of processor time so far."""
    return [int(Path(f'/proc/{pid}/task/{tid}/schedstat').read_text().split()[0]) / 1000 for tid in tids]


def _seconds(pid, tids):
    """For each thread what it took in each second."""
    readings = []
    for _ in range(SECONDS + 1):
        readings.append(_spent(pid, tids))
        time.sleep(1)
    return list(zip(*([now - before for before, now in zip(old, new, strict=True)]
                      for old, new in zip(readings, readings[1:], strict=False)), strict=True))


def measure() -> list[Row]:
    from zopekit import ZopeInstance
    if not Path('/proc/self/schedstat').exists():
        return [Row('heartbeat with 8 threads', '<= 200 us', 'no /proc/self/schedstat here')]
    with tempfile.TemporaryDirectory(prefix='bench-heartbeat-') as folder:
        zope = ZopeInstance(folder, threads=THREADS, stderr='null')
        zope.publish((PROGRAMS / 'beating.py').read_text(), 'Beating')
        zope.create()
        zope.start()
        try:
            tids = zope.get('/threads').json()
            load = Load(zope.port)
            time.sleep(WARM)
            serving = _seconds(zope.pid, tids)
            load.end()
            idle = _seconds(zope.pid, tids)
        finally:
            zope.destroy()
    return [*_rows('while it serves', *serving, 200), *_rows('while it idles', *idle)]


def _rows(when, heartbeat, waking, most=None):
    what = f'heartbeat with {THREADS} threads, processor time of a second, {when}'
    if most:
        yield row(what, most, mean(heartbeat), 'us', 0, f'median {median(heartbeat):.0f} us')
    else:
        yield Row(what, '', f'{mean(heartbeat):.0f} us (median {median(heartbeat):.0f} us)')
    yield Row('  a thread that only wakes', '', f'{mean(waking):.0f} us (median {median(waking):.0f} us)')


if __name__ == '__main__':
    alone(measure)
