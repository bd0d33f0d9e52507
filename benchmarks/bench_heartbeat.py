"""CPU time that the heartbeat of a real Zope takes in a second, while its eight threads serve
and while it idles.

Each twentieth beat does more than the others, so each of the twenty is measured by itself, and of
each the fastest counts, as of the batches of requests: with no page fault and one change of
threads, the same beat is charged 140 us or 2,000 where a virtual machine is taken away from whom it
charges.  What was charged, all in all, is told beside it.
"""

from __future__ import annotations

import collections
import http.client
import tempfile
import threading
import time
from statistics import mean

from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import median
from figures import row

from Products.StabilityMonitor.recording.heartbeat import ROUND

THREADS, PAUSE = 8, 0.2
#: The first round sees eight new threads, which is not what a second costs.
WARM, SECONDS = 25, 200


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


def _beats(zope):
    """[(number of a beat, microseconds of the heartbeat, of the thread that only wakes)] of the
    next seconds.
    """
    begun = len(zope.get('/readings').json())
    time.sleep(SECONDS)
    readings = zope.get('/readings').json()[begun:]
    return [
        (number, (new - old) / 1000, (awake - asleep) / 1000)
        for (before, old, asleep), (number, new, awake) in zip(readings, readings[1:], strict=False)
        if number == before + 1
    ]


def measure() -> list[Row]:
    from support.zopekit import ZopeInstance

    if not hasattr(time, 'pthread_getcpuclockid'):
        return [Row('heartbeat with 8 threads', '<= 1000 us', 'no clocks of threads here')]
    with tempfile.TemporaryDirectory(prefix='bench-heartbeat-') as folder:
        zope = ZopeInstance(folder, threads=THREADS, stderr='null')
        zope.publish((PROGRAMS / 'beating.py').read_text(), 'Beating')
        zope.create()
        zope.start()
        try:
            zope.get('/watch')
            load = Load(zope.port)
            time.sleep(WARM)
            serving = _beats(zope)
            load.end()
            idle = _beats(zope)
        finally:
            zope.destroy()
    return [*_rows('while it serves', serving, 1000), *_rows('while it idles', idle)]


def _rows(when, beats, most=None):
    what = f'heartbeat with {THREADS} threads, CPU time of a second, {when}'
    _, charged, waking = zip(*beats, strict=True)
    more = f'charged: median {median(charged):.0f}, mean {mean(charged):.0f} us'
    if most:
        yield row(what, most, _undisturbed(beats), 'us', 0, more)
    else:
        yield Row(what, '', f'{_undisturbed(beats):.0f} us ({more})')
    yield Row(
        '  a thread that only wakes',
        '',
        f'{min(waking):.0f} us (charged: median {median(waking):.0f}, mean {mean(waking):.0f} us)',
    )


def _undisturbed(beats):
    """The mean of the beats of a round, of each the fastest."""
    fastest = collections.defaultdict(list)
    for number, charged, _ in beats:
        fastest[number % ROUND].append(charged)
    return mean(map(min, fastest.values()))


if __name__ == '__main__':
    alone(measure)
