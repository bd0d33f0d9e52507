"""Processor time of the heartbeat, once a second, in a process with eight serving threads: the mean of two rounds."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import mean

from figures import CHECKOUT
from figures import PROGRAMS
from figures import Row
from figures import alone
from figures import median
from figures import row
from figures import spread

BEATS = 20


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix='bench-heartbeat-') as folder:
        done = subprocess.run([sys.executable, str(PROGRAMS / 'beating.py'), folder, str(BEATS)], text=True,
                              env=os.environ | {'PYTHONPATH': str(CHECKOUT)}, capture_output=True)
    if done.returncode:
        return [Row('heartbeat, 8 threads', '<= 200 us', f'not measured: {done.stderr.splitlines()[-1:]}')]
    ours, empty = zip(*json.loads(done.stdout)['microseconds'], strict=True)
    return [row('heartbeat with 8 threads, processor time of a second', 200, mean(ours), 'us', 0,
                spread(ours, 'us', 0)),
            Row('  its median; that of a thread that only wakes', '', f'{median(ours):.0f} us; {median(empty):.0f} us')]


if __name__ == '__main__':
    alone(measure)
