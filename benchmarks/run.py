"""Every budget of the design in one run: prints the table and writes it to benchmarks/RESULTS.txt.

    make bench                 all of it, a few minutes on a quiet machine
    make bench ARGS=recorder   one benchmark only, without writing
"""
from __future__ import annotations

import importlib
import os
import platform
import sys
from datetime import UTC
from datetime import datetime
from importlib.metadata import version

from figures import CHECKOUT
from figures import TESTS
from figures import table

BENCHMARKS = ('recorder', 'request', 'heartbeat', 'arming', 'memory', 'pages')


def main(names) -> int:
    """0 when every budget is kept, else 1; 2 for a benchmark that there is not."""
    if set(names) - set(BENCHMARKS):
        print(f'There is no such benchmark; there are: {", ".join(BENCHMARKS)}.', file=sys.stderr)
        return 2
    sys.path[:0] = [str(CHECKOUT), str(TESTS)]
    rows = []
    for name in names or BENCHMARKS:
        print(f'{name} ...', flush=True)
        rows += importlib.import_module(f'bench_{name}').measure()
    text = f'{_circumstances()}\n\n{table(rows)}\n'
    print(text)
    if not names:
        (CHECKOUT / 'benchmarks' / 'RESULTS.txt').write_text(text)
    return int(any(row.fits is False for row in rows))


def _circumstances():
    return (f'make bench, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: Zope {version("Zope")}, '
            f'Python {platform.python_version()}, {platform.system()} {platform.machine()}, '
            f'{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
