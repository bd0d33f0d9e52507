"""CPU time per second of the heartbeat of a real Zope: while its eight threads serve, and while it
is idle.

Each 20th beat does more than the others, so the 20 beats of a round are measured separately, and
the fastest of each counts, as with the batches of requests.  The reason: without a page fault and
with one context switch, the same beat is charged 140 us, or 2,000 us if the host takes the CPU away
from a virtual machine while it is charged.  The total that was charged is shown too.
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
#: Seconds of warm-up, since the first round sees eight new threads, which is not a normal second;
#: and seconds of measurement.
WARM, SECONDS = 25, 200


class Load:
    """Eight clients that pause after each answer."""

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
    """Measure the next seconds: [(number of a beat, microseconds of the heartbeat, microseconds of
    the thread that only wakes)].
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
        return [
            Row(
                'heartbeat with 8 threads', '<= 1000 us', 'this system has no CPU clocks of threads'
            )
        ]
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
    what = f'heartbeat with {THREADS} threads, CPU time per second, {when}'
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
    """Return the mean over the beats of a round, with the fastest time of each."""
    fastest = collections.defaultdict(list)
    for number, charged, _ in beats:
        fastest[number % ROUND].append(charged)
    return mean(map(min, fastest.values()))


if __name__ == '__main__':
    alone(measure)
