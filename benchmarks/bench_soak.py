"""A compressed busy day: two Zopes side by side, with and without the product, answer the same
mixed load.

    python benchmarks/bench_soak.py [REQUESTS]

Page templates, errors, retried conflicts, 404, forms, writes, streaming, slow requests.  The
resources of each process are counted forty times.  The warm-up must last about a minute: use 50,000
requests or more.  The CPU time of a whole Zope differs by some per cent from run to run;
bench_request measures a few microseconds.
"""

from __future__ import annotations

import sys
import tempfile

import environments
import soaking
from figures import Row
from figures import alone

#: Eight hours with 3.5 requests per second, in some minutes.
REQUESTS = 100_000
OPTIONS = {'slow-request': '200ms'}
#: MiB that may be added in comparison with no product, for random behaviour of allocators.
MEMORY = 0.5
_MIB = 1 << 20


def measure(requests: int = REQUESTS) -> list[Row]:
    from support.zopekit import ZopeInstance

    with tempfile.TemporaryDirectory(prefix='bench-soak-') as folder:
        zopes = [
            soaking.prepare(
                ZopeInstance(
                    f'{folder}/{name}',
                    python=environments.python(name),
                    stderr='null',
                    options=OPTIONS if name != 'none' else None,
                    checkout=name != 'none',
                )
            )
            for name in ('none', 'stabilitymonitor')
        ]
        try:
            return list(_rows(*_soak([zope.create().start() for zope in zopes], requests)))
        finally:
            for zope in zopes:
                zope.destroy()


def _soak(zopes, requests):
    """Run both at the same time, so that other load of the machine disturbs both."""
    soaks = [soaking.Soak(zope, requests).start() for zope in zopes]
    try:
        for _ in range(soaking.LOOKS):
            for soak in soaks:
                soak.look()
        for soak in soaks:
            soak.end()
    finally:
        for soak in soaks:
            soak.kill()
    return soaks


def _rows(without, with_it):
    requests, grown = with_it.held[-1].requests, soaking.growth(with_it.held, 'resident') / _MIB
    steady, usual = (
        soaking.steady_growth(soak.held, 'resident') / _MIB for soak in (with_it, without)
    )
    yield Row(
        f'a day of {requests:,} mixed requests: steady growth of memory',
        f'<= {MEMORY:g} MiB more',
        f'{steady:.2f} MiB ({usual:.2f} MiB without)',
        steady - usual <= MEMORY,
    )
    yield Row(
        '  total growth of memory, with caches',
        '',
        f'{grown:.2f} MiB ({with_it.held[-1].resident / _MIB:.0f} MiB at the end)',
    )
    for what, most in soaking.MORE.items():
        grown, now = soaking.growth(with_it.held, what), getattr(with_it.held[-1], what)
        yield Row(f'  growth of {what}', f'<= {most}', f'{grown:g} (of {now})', grown <= most)
    costs = [soaking.cost(soak.held) for soak in (without, with_it)]
    yield Row(
        '  CPU time per request, all of Zope',
        '',
        f'{costs[1]:.0f} us ({costs[0]:.0f} us without)',
    )


if __name__ == '__main__':
    alone(lambda: measure(*map(int, sys.argv[1:])))
