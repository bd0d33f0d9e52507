"""Time of pages and reports of a real Zope over HTTP, with few and with many archived runs.

The Zope knows as many slow requests as are kept, and each has many deep stacks.
"""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

import pasts
from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import ratio

from Products.StabilityMonitor.model.records import Instance

FEW, MANY = 100, 10_000
WARM = 15
#: A page with MANY runs may take at most this many times as long as with FEW.
GROWTH = 2
#: A report may take at most this many times as long as a plain page of the ZMI.
REPORT = 10
HOME = '/Control_Panel/StabilityMonitor'
PLAIN = '/manage_main'
OF_ALL_RUNS = {
    'overview page': f'{HOME}/manage_main',
    'incidents page': f'{HOME}/manage_incidents',
    'incidents page by signature': f'{HOME}/manage_incidents?by=signature',
}
SIGNATURE = 'page of a signature'
INCIDENT = 'page of an incident'
OF_THIS_PROCESS = {
    'Threads page, 50 slow requests kept': f'{HOME}/manage_threads',
    'Threads page, refreshed': f'{HOME}/threads_fragment?part=live',
}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix='bench-pages-') as folder:
        few = _times(Path(folder) / 'few', FEW)
        many = _times(Path(folder) / 'many', MANY)
    rows = []
    for what in (*OF_ALL_RUNS, SIGNATURE, INCIDENT):
        title = f'{what}, {MANY:,} archived runs'
        rows.append(ratio(title, GROWTH, many[what], f'that with {FEW}', few[what], 'ms', 0))
    for what in few:
        if what.startswith('report'):
            rows.append(ratio(what, REPORT, few[what], 'a plain ZMI page', few[PLAIN], 'ms', 0))
    for what in (*OF_THIS_PROCESS, 'where the time of a slow request went, as a picture'):
        rows.append(Row(what, '', f'{few[what]:.0f} ms'))
    return rows


def _times(folder: Path, count: int) -> dict[str, float]:
    """Return {page: milliseconds, the fastest of WARM} of a Zope with this many archived runs."""
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        folder / 'zope',
        stderr='null',
        options={'keep-runs': str(2 * MANY), 'keep-days': '9999', 'keep-bytes': '9GB'},
    ).create()
    address = f'127.0.0.1:{zope.port}'
    instance = Instance(socket.gethostname(), str(zope.client_home), address)
    zope.publish((PROGRAMS / 'slow_past.py').read_text())
    run = pasts.dead_run(folder / 'past', folder)
    pasts.archive(run, zope.stability, count - FEW, instance, whole=False)
    names = pasts.archive(run, zope.stability, FEW, instance, first=count - FEW)
    crashed = names[-4]  # see `pasts.archive`
    signature = pasts.sign(zope.stability)
    try:
        zope.start(wait='port')
        picture = zope.get('/remember_slow_requests').text
        pages = {PLAIN: PLAIN, **OF_ALL_RUNS, **OF_THIS_PROCESS, **_reports(crashed)}
        pages[SIGNATURE] = f'{HOME}/manage_signature?id={signature}'
        pages[INCIDENT] = f'{HOME}/manage_incident?run={crashed}'
        pages['where the time of a slow request went, as a picture'] = f'{HOME}/flames?{picture}'
        return {what: _fastest(zope, path) for what, path in pages.items()}
    finally:
        zope.destroy()


def _reports(run: str) -> dict[str, str]:
    from Products.StabilityMonitor.reporting.renderers import FORMATS

    found = {}
    for format in sorted(FORMATS):
        found[f'report, {format}'] = f'{HOME}/report?format={format}'
        found[f'report of an incident, {format}'] = f'{HOME}/report?format={format}&run={run}'
    return found


def _fastest(zope, path: str) -> float:
    times = []
    for _ in range(WARM):
        begun = time.perf_counter()
        answer = zope.get(path)
        times.append((time.perf_counter() - begun) * 1000)
        if answer.status != 200:
            raise SystemExit(f'{path} answers {answer.status}')
    return min(times)


if __name__ == '__main__':
    alone(measure)
