"""A busy day in compressed form: two Zopes side by side, with the product and without it, answer
the same mixed load.

    python benchmarks/bench_soak.py [REQUESTS]

Page templates, errors, conflicts that are retried, 404, forms, writes, streaming, slow requests.
What each process holds is counted forty times, after a warm-up, which must last a minute or so:
give it 50,000 requests or more.  The CPU time of a whole Zope differs by some per cent from
run to run: a few microseconds are told by bench_request.
"""

from __future__ import annotations

import sys
import tempfile

import environments
import soaking
from figures import Row
from figures import alone

#: Eight hours with 3.5 in a second, in some minutes.
REQUESTS = 100_000
OPTIONS = {'slow-request': '200ms'}
#: As much more may grow than without the product, in MiB: what allocators do by chance.
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
    """Both at once, so that whatever else the machine does disturbs both."""
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
        '  all growth of memory, caches too',
        '',
        f'{grown:.2f} MiB ({with_it.held[-1].resident / _MIB:.0f} MiB at the end)',
    )
    for what, most in soaking.MORE.items():
        grown, now = soaking.growth(with_it.held, what), getattr(with_it.held[-1], what)
        yield Row(f'  growth of {what}', f'<= {most}', f'{grown:g} (of {now})', grown <= most)
    costs = [soaking.cost(soak.held) for soak in (without, with_it)]
    yield Row(
        '  CPU time of a request, all of Zope',
        '',
        f'{costs[1]:.0f} us ({costs[0]:.0f} us without)',
    )


if __name__ == '__main__':
    alone(lambda: measure(*map(int, sys.argv[1:])))
