"""The time of all checks of a living Zope together: the first run after a start, and later runs;
real starts of runwsgi.

With PLONE_PYTHON (the Python of an environment with Plone, as made by `make plone`) also in a full
Plone.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from figures import Row
from figures import alone
from figures import median
from figures import row
from figures import spread

BUDGET, STARTS, AGAIN = 200, 5, 5
#: The checks run as in the background: facts of Zope are read first, then each check runs in its
#: own thread.
ASKING = '''
import json, time
from Products.StabilityMonitor.checks.allfindings import Standing
from Products.StabilityMonitor.recording.arming import STATE
from Products.StabilityMonitor.zmi import zopechecks as checksofzope

start, Standing.start = Standing.start, lambda self: False              # no run starts by itself


def measured_checks(self):
    """[milliseconds in total, milliseconds for reading facts first, {check: milliseconds}]"""
    here = checksofzope.standing_of(STATE.life)
    began = time.perf_counter()
    start(here)
    here.checks.wait(60)
    took, results = (time.perf_counter() - began) * 1000, here.checks.results
    each = {id: seconds * 1000 for id, seconds in results.seconds}
    return json.dumps([took, took - results.took * 1000, each])
'''


def _lives(zope):
    """Yield (first, [again ...]) of real starts, in the form that the page returns."""
    for _ in range(STARTS):
        zope.start()
        first, *again = [zope.get('/measured_checks', timeout=60).json() for _ in range(1 + AGAIN)]
        zope.stop()
        yield first, again


def _rows(what, zope):
    lives = list(_lives(zope.publish(ASKING, 'ZMeasuring')))
    first = [life[0][0] for life in lives]
    again = [min(took for took, _, _ in life[1]) for life in lives]
    costly = sorted((life[0] for life in lives), key=lambda told: told[0])[len(lives) // 2]
    most = sorted(costly[2].items(), key=lambda check: -check[1])[:4]
    yield row(
        f'all checks together, {what}, first time',
        BUDGET,
        median(first),
        'ms',
        0,
        spread(first, 'ms', 0),
    )
    yield Row(
        '  of that',
        '',
        f'reading first {costly[1]:.0f}, ' + ', '.join(f'{id} {ms:.0f}' for id, ms in most) + ' ms',
    )
    yield row(
        f'all checks together, {what}, again',
        BUDGET,
        median(again),
        'ms',
        0,
        spread(again, 'ms', 0),
    )


def measure() -> list[Row]:
    from support.zopekit import ZopeInstance

    rows = []
    with tempfile.TemporaryDirectory(prefix='bench-checks-') as folder:
        zope = ZopeInstance(Path(folder) / 'zope', stderr='null').create()
        try:
            rows += _rows('plain Zope', zope)
        finally:
            zope.destroy()
        if os.environ.get('PLONE_PYTHON'):
            rows += _plone(Path(folder) / 'plone')
    return rows


def _plone(folder):
    from support import plone_site

    plone = plone_site.PloneSite(folder, stderr='null').create()
    try:
        yield from _rows('Plone', plone)
    finally:
        plone.destroy()


if __name__ == '__main__':
    alone(measure)
