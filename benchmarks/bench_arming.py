"""How much time the import of the product adds to a start of Zope, and how much each dead run adds.

Two products, which Zope imports directly before and after this one, read the clock.  Real starts of
runwsgi take turns; the fastest of each kind counts.  The dead runs crashed with a full black box.
In other starts, without this product, a product imports and starts sentry-sdk.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import environments
import pasts
from figures import Row
from figures import alone
from figures import ratio
from figures import row
from figures import spread

from Products.StabilityMonitor.model.records import Instance

STARTS, DEAD, ARCHIVED = 7, 11, 200
BEFORE = 'import os, time\nos.environ["BENCH_BEFORE"] = str(time.perf_counter_ns())\n'
AFTER = """import os, time
_took = time.perf_counter_ns() - int(os.environ["BENCH_BEFORE"])
with open(os.environ["BENCH_FILE"], "w") as _file:
    _file.write(str(_took))
"""
_NEIGHBOURS = (('StabilityMonito', BEFORE), ('StabilityMonitorZ', AFTER))
_SENTRY = (('StabilityMonito', BEFORE + 'import sentry_sdk; sentry_sdk.init()\n' + AFTER),)


def _start(zope):
    """Start Zope, and return the milliseconds that the import of the product took."""
    from support.zopekit import wait_for

    file = Path(zope.env['BENCH_FILE'])
    file.unlink(missing_ok=True)
    zope.start(wait='port')
    wait_for(lambda: file.exists() and file.read_text(), 60, 'the import of the product')
    took = int(file.read_text()) / 1e6
    zope.stop()
    return took


def _instance(folder, run, archived, products=_NEIGHBOURS, **kind):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        folder,
        **kind,
        env={'BENCH_FILE': str(folder / 'took')},
        stderr='null',
        options={'keep-days': '9999', 'keep-bytes': '4GB'},
    )
    for name, source in products:
        zope.publish(source, name)
    zope.create()
    if archived:
        pasts.archive(run, zope.stability, archived, Instance('other', '/', ''))
    return zope


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix='bench-arming-') as folder:
        folder = Path(folder)
        run = pasts.dead_run(folder / 'past', folder)
        empty, full = _instance(folder / 'empty', run, 0), _instance(folder / 'full', run, ARCHIVED)
        sentry = _instance(
            folder / 'sentry',
            run,
            0,
            _SENTRY,
            checkout=False,
            python=environments.python('sentry-sdk'),
        )
        bare, after_dead, after_archive, peer = [], [], [], []
        try:
            for zope in (empty, full, sentry):
                _start(zope)  # warm-up: byte code, page cache
            for _ in range(STARTS):
                shutil.rmtree(empty.stability)
                bare.append(_start(empty))
                pasts.wait_for_triage(
                    run, empty.stability, DEAD - 1
                )  # the previous start left one more
                after_dead.append(_start(empty))
                after_archive.append(_start(full))
                peer.append(_start(sentry))
        finally:
            for zope in (empty, full, sentry):
                zope.destroy()
    each = (min(after_dead) - min(bare)) / DEAD
    return [
        ratio('arming at import', 3 / 4, min(bare), 'sentry-sdk and its init', min(peer), 'ms'),
        row(f"each dead run's triage, {DEAD - 1} of {DEAD} with all rings full", 50, each, 'ms', 1),
        row(
            f'arming with {ARCHIVED} archived runs, and triage of one',
            80,
            min(after_archive),
            'ms',
            1,
            spread(after_archive, 'ms'),
        ),
    ]


if __name__ == '__main__':
    alone(measure)
