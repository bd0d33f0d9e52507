"""Resident memory of a Zope that serves: with the product, with sentry-sdk, and with neither.

Real starts take turns.  With the product, the checks that run once after each start are included.
"""

from __future__ import annotations

import http.client
import re
import tempfile
import threading
from pathlib import Path

import environments
from figures import Row
from figures import alone
from figures import median
from figures import ratio

PAIRS, REQUESTS, CLIENTS = 5, 100, 8


def _ask(port):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
    for _ in range(REQUESTS):
        connection.request('GET', '/')
        connection.getresponse().read()
    connection.close()


def _resident(zope):
    """Return the resident memory after the same requests, in MiB, including memory shared with
    other processes.
    """
    from support.zopekit import wait_for

    from Products.StabilityMonitor.checks.allfindings import LAST_WORD

    zope.start()
    try:
        clients = [threading.Thread(target=_ask, args=(zope.port,)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        if zope.checkout:
            wait_for(lambda: list(zope.stability.glob(f'runs/*/{LAST_WORD}')), 60, 'the checks')
        status = Path(f'/proc/{zope.pid}/status').read_text()
        return int(re.search(r'^VmRSS:\s+(\d+) kB', status, re.MULTILINE)[1]) / 1024
    finally:
        zope.stop()


def measure() -> list[Row]:
    from support.zopekit import ZopeInstance

    if not Path('/proc/self/status').exists():
        return [Row('resident memory', '', 'no /proc here')]
    with tempfile.TemporaryDirectory(prefix='bench-memory-') as folder:
        zopes = [
            ZopeInstance(
                f'{folder}/{name}',
                python=environments.python(name),
                stderr='null',
                checkout=name == 'stabilitymonitor',
            )
            for name in ('none', 'stabilitymonitor', 'sentry-sdk')
        ]
        zopes[2].publish('import sentry_sdk\nsentry_sdk.init()\n')
        for zope in zopes:
            zope.create()
        try:
            for zope in zopes:
                _resident(zope)
            rounds = [[*map(_resident, zopes)] for _ in range(PAIRS)]
        finally:
            for zope in zopes:
                zope.destroy()
    without = median([its[0] for its in rounds])
    ours, peer = (median([its[number] - its[0] for its in rounds]) for number in (1, 2))
    what = f'resident memory, after 800 requests, beyond {without:.0f} MiB'
    return [ratio(what, 3 / 4, ours, 'sentry-sdk and its init', peer, 'MiB', 2)]


if __name__ == '__main__':
    alone(measure)
