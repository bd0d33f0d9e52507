"""Measure each budget with a number (docs/design.rst, "Budgets") in one run, as `make bench` does.

    python benchmarks/run.py [--only request,recorder,...] [--no-file]

Prints one table, and writes it with machine, versions and date to benchmarks/RESULTS.txt.  Use a
machine that does nothing else; the table notes if there was other load.  The exit status is 1 if a
budget is not kept.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import shlex
import sys
import time
import timeit
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path

from figures import CHECKOUT
from figures import TESTS
from figures import Row
from figures import table

BENCHES = ('request', 'recorder', 'heartbeat', 'arming', 'memory', 'pages', 'checks', 'soak')
RESULTS = Path(__file__).resolve().parent / 'RESULTS.txt'
_VERSIONS = ('Zope', 'waitress', 'ZODB', 'zope.component')


def machine() -> list[str]:
    now = datetime.datetime.now(datetime.UTC)
    return [
        f'date      {now:%Y-%m-%d %H:%M} UTC',
        f'command   {shlex.join(["python", *map(_short, sys.argv)])}',
        f'machine   {_cpu()}, {os.cpu_count()} cores, {_memory()}, {platform.platform()}',
        f'python    {platform.python_version()} ({platform.python_compiler()}; a fixed loop '
        f'takes {_speed():.1f} ms)',
        f'versions  {", ".join(f"{name} {_version(name)}" for name in _VERSIONS)}; peers: '
        'haufe.requestmonitoring '
        f'0.6.0, sentry-sdk {_pinned("sentry-sdk")}',
    ]


def _short(path):
    return os.path.relpath(path) if os.path.exists(path) else path


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return '?'


def _pinned(name):
    lines = (CHECKOUT / f'constraints-{_version("Zope")}.txt').read_text().split()
    return next((line.split('==')[1] for line in lines if line.startswith(f'{name}==')), '?')


def _speed():
    """Return the milliseconds of a fixed loop, with which results of two machines or Pythons can be
    compared.
    """
    return 1000 * min(
        timeit.repeat(
            'for i in range(200_000): found[i & 255] = found.get(i & 255, 0) + len(str(i))',
            'found = {}',
            time.thread_time,
            repeat=7,
            number=1,
        )
    )


def _cpu():
    return _found('/proc/cpuinfo', 'model name') or platform.processor() or platform.machine()


def _memory():
    kilobytes = _found('/proc/meminfo', 'MemTotal').split()
    return f'{int(kilobytes[0]) / (1 << 20):.0f} GiB' if kilobytes else 'unknown memory'


def _found(path, name):
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ''
    return next((line.partition(':')[2].strip() for line in lines if line.startswith(name)), '')


def _load():
    return os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default=','.join(BENCHES), help='some of: ' + ','.join(BENCHES))
    parser.add_argument(
        '--no-file', action='store_true', help='do not write benchmarks/RESULTS.txt'
    )
    arguments = parser.parse_args()
    sys.path[:0] = [str(CHECKOUT), str(TESTS)]
    load, begun, rows = _load(), time.monotonic(), []
    for name in arguments.only.split(','):
        print(f'{time.monotonic() - begun:4.0f} s: {name} ...', file=sys.stderr, flush=True)
        rows += importlib.import_module(f'bench_{name}').measure() or [
            Row(name, '', 'nothing measured')
        ]
    head = machine()
    if load > 0.5:
        head.append(f'note      the machine was not quiet: load {load:.1f} at the beginning')
    text = '\n'.join([*head, f'took      {time.monotonic() - begun:.0f} s', '', table(rows), ''])
    print(text)
    if not arguments.no_file:
        RESULTS.write_text(text)
    return 1 if any(row.fits is False for row in rows) else 0


if __name__ == '__main__':
    sys.exit(main())
