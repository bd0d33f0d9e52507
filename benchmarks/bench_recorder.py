"""The time of `begin` and `end` of the recorder, and a check that they make no system call.

For the check, strace compares a process that records 1,000 requests with one that records 101,000:
both must make the same number of calls.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from figures import CHECKOUT
from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import row

FEW, MANY = 1000, 101000


def _program(folder, *arguments, before=()):
    environ = os.environ | {'PYTHONPATH': str(CHECKOUT), 'PYTHONHASHSEED': '0'}
    return subprocess.run(
        [
            *before,
            sys.executable,
            str(PROGRAMS / 'recording.py'),
            os.path.join(folder, 'box'),
            *arguments,
        ],
        env=environ,
        capture_output=True,
        text=True,
    )


def _system_calls(folder, requests):
    summary = os.path.join(folder, 'strace')
    done = _program(folder, 'serve', str(requests), before=('strace', '-f', '-c', '-o', summary))
    with open(summary) as file:
        total = re.search(r'(\d+)(?:\s+\d+)?\s+total$', file.read(), re.MULTILINE)
    return int(total[1]) if done.returncode == 0 and total else None


def _calls_row(folder):
    what = 'system calls per request in the recorder'
    if not shutil.which('strace'):
        return Row(what, '0', 'strace is not installed here')
    few, many = _system_calls(folder, FEW), _system_calls(folder, MANY)
    if few is None or many is None:
        return Row(what, '0', 'strace is not allowed to trace here')
    # a growing heap may need a page or two more
    return Row(
        what,
        '0',
        f'{max(0, many - few) / (MANY - FEW):.4f} ({few} calls with {FEW:,} requests, '
        f'{many} with {MANY:,})',
        many - few <= 10,
    )


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix='bench-recorder-') as folder:
        runs = [json.loads(_program(folder, 'time').stdout) for _ in range(5)]
        changing, same = (min(run[what] for run in runs) / 1000 for what in ('changing', 'same'))
        return [
            row('begin and end of the recorder, changing paths', 1.5, changing, 'us', 2),
            row('begin and end of the recorder, always the same path', 1.5, same, 'us', 2),
            _calls_row(folder),
            row('black box file', 1024, runs[0]['size'] / 1024, 'KiB', 0),
        ]


if __name__ == '__main__':
    alone(measure)
