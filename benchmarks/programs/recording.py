"""The recorder in a process of its own: `recording.py BOX serve REQUESTS | time`."""

import json
import mmap
import os
import sys
import time
from pathlib import Path

from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.rundirectory import preallocate

PATHS = [f'/site/folder/page{number:03}/index_html' for number in range(100)]


def made(path):
    descriptor = preallocate(path, blackbox.SIZE)
    buffer = mmap.mmap(descriptor, blackbox.SIZE)
    os.close(descriptor)
    blackbox.lay_out(buffer)
    blackbox.seal(buffer)
    return Recorder(buffer)


def serve(recorder, requests, paths=PATHS):
    begin, end = recorder.begin, recorder.end
    for _ in range(requests // len(paths)):
        for path in paths:
            begin('GET', path, 0, 4711)
            end(200, 4711)


def fastest(recorder, paths=PATHS, batches=300, requests=1000):
    """Return nanoseconds for begin and end in the fastest of many batches, including the loop."""
    times = []
    for _ in range(batches):
        begun = time.perf_counter_ns()
        serve(recorder, requests, paths)
        times.append((time.perf_counter_ns() - begun) / requests)
    return min(times)


def main(path, what, requests='0'):
    path = Path(path)
    path.unlink(missing_ok=True)
    recorder = made(path)
    if what == 'serve':
        serve(recorder, int(requests))
    else:
        print(
            json.dumps(
                {
                    'changing': fastest(recorder),
                    'same': fastest(recorder, ['/probe'] * 100),
                    'size': path.stat().st_size,
                }
            )
        )


main(*sys.argv[1:])
