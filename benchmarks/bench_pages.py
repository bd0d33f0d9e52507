"""Pages and reports of a real Zope with 1,000 archived runs, asked over HTTP: the first time, and
later.

It knows as many slow requests as are kept, each of which was seen in many deep stacks.
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

from Products.StabilityMonitor.model.records import Instance

RUNS, WARM = 1000, 15
HOME = '/Control_Panel/StabilityMonitor'
OVERVIEW, REPORT = 50, 300


def _pages(run):
    """What, its address, and the budget in ms."""
    yield 'overview page', f'{HOME}/manage_main', OVERVIEW
    yield 'incidents page', f'{HOME}/manage_incidents', None
    yield 'incident page', f'{HOME}/manage_incident?run={run}', None
    yield 'Threads page, 50 slow requests kept', f'{HOME}/manage_threads', OVERVIEW
    yield 'Threads page, refreshed', f'{HOME}/threads_fragment?part=live', OVERVIEW
    from Products.StabilityMonitor.reporting.renderers import FORMATS

    for format in sorted(FORMATS):
        yield f'report, {format}', f'{HOME}/report?format={format}', REPORT
        yield f'report of an incident, {format}', f'{HOME}/report?format={format}&run={run}', REPORT


def _ask(zope, path):
    begun = time.perf_counter()
    answer = zope.get(path)
    return (time.perf_counter() - begun) * 1000, answer


def _row(zope, what, path, budget, cold):
    first, answer = cold
    if answer.status != 200:
        return Row(what, f'<= {budget} ms' if budget else '', f'page missing ({answer.status})')
    warm = min(_ask(zope, path)[0] for _ in range(WARM))
    measured = f'{warm:.0f} ms (first time {first:.0f} ms, {len(answer.body) / 1024:.0f} KiB)'
    return Row(
        what, f'<= {budget} ms' if budget else '', measured, warm <= budget if budget else None
    )


def _picture(zope, request):
    took, answer = min(
        (_ask(zope, f'{HOME}/flames?{request}') for _ in range(WARM)), key=lambda asked: asked[0]
    )
    return Row(
        'where the time of a slow request went, as a picture',
        '',
        f'{took:.0f} ms ({len(answer.body) / 1024:.0f} KiB)' if answer.status == 200 else 'missing',
    )


def measure() -> list[Row]:
    from support.zopekit import ZopeInstance

    with tempfile.TemporaryDirectory(prefix='bench-pages-') as folder:
        folder = Path(folder)
        zope = ZopeInstance(
            folder / 'zope',
            stderr='null',
            options={'keep-runs': str(2 * RUNS), 'keep-days': '9999', 'keep-bytes': '9GB'},
        ).create()
        address = f'127.0.0.1:{zope.port}'
        instance = Instance(socket.gethostname(), str(zope.client_home), address)
        zope.publish((PROGRAMS / 'slow_past.py').read_text())
        names = pasts.archive(
            pasts.dead_run(folder / 'past', folder), zope.stability, RUNS, instance
        )
        try:
            return list(_measured(zope, names[(RUNS - 1) // 6 * 6]))
        finally:
            zope.destroy()


def _measured(zope, run):
    begun = time.perf_counter()
    zope.start(wait='port')
    yield Row(
        f'a start of Zope with {RUNS:,} archived runs', '', f'{time.perf_counter() - begun:.1f} s'
    )
    pages = list(_pages(run))
    yield _picture(zope, zope.get('/remember_slow_requests').text)
    cold = {path: _ask(zope, path) for _, path, _ in pages}
    for what, path, budget in pages:
        yield _row(zope, f'{what}, {RUNS:,} runs', path, budget, cold[path])
    zope.stop()


if __name__ == '__main__':
    alone(measure)
