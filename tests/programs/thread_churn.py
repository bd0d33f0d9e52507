"""Start threads that serve one request and end, by the hundred thousand, while the whole product
watches them.

    thread_churn.py DIRECTORY THREADS

The living run is complete: recorder, heartbeat, slow requests, watchdog, alternate stacks and stack
gauge, with a beat of 3 ms.  Some requests are slow; sometimes there are more threads than slots.
Prints JSON: what process and kernel held after a warm-up and at the end, and how the requests
ended.
"""

import _thread
import gc
import json
import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from programs.handshake import say
from programs.handshake import until

from Products.StabilityMonitor.model.options import load
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording.livingrun import LivingRun
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

BEAT, SLOW, STALL = 0.003, 0.02, 30
BATCH, CROWD = 56, blackbox.SLOT_COUNT + 16
#: A crowd, which fills all slots, comes after this many batches; a slow request after this many
#: threads.  WARM is the share of the threads that are warm-up.
CROWDED, SLOWLY, WARM = 20, 1000, 0.2
MOMENTS = 20


def live(directory):
    options, problems = load({'directory': directory, 'stall': f'{STALL}s'}, {})
    assert not problems, problems
    options.sample_interval, options.slow_request = (
        BEAT,
        SLOW,
    )  # shorter than the options allow
    life = LivingRun(options, Instance('test', directory, ''), 'server', {})
    life.start()
    life.armed()
    life.serving()
    return life


class Churn:
    """Threads that each record one request; `done` counts those that found a slot and those that
    did not.
    """

    def __init__(self, life):
        self.life, self.recorder = life, life.recorder
        self.done, self.odd = Counter(), []
        self.tasks = len(
            os.listdir('/proc/self/task')
        )  # MainThread and the threads of the living run, which stay

    def all_slots_are_free(self):
        return not self.recorder.slots and len(self.recorder._free) == blackbox.SLOT_COUNT

    def serve(self, number, together):
        """The work of one thread."""
        try:
            self.recorder.begin('GET', f'/page/{number % 1000}')
            self.recorder.phase(blackbox.PHASES.index('publishing'))
            if together is not None:
                together.wait()
            elif number % SLOWLY == 0:
                time.sleep(2 * SLOW)
            self.done['slot' if hasattr(self.recorder._local, 'slot') else 'none'] += 1
            self.recorder.end(200)
        except Exception as error:  # else it would only be printed
            self.odd.append(repr(error))

    def batch(self, first, size, together=None):
        """Run `size` threads: seven of eight with `threading`, the others with `_thread`.

        The latter are like threads that C code starts.
        """
        threads = [
            threading.Thread(target=self.serve, args=(first + n, together))
            for n in range(size - size // 8)
        ]
        for thread in threads:
            thread.start()
        for n in range(len(threads), size):
            _thread.start_new_thread(self.serve, (first + n, together))
        for thread in threads:
            thread.join()
        until(lambda: sum(self.done.values()) >= first + size, 'the threads of a batch')

    def run(self, threads):
        """Return (what is held after the warm-up, what is held at the end)."""
        first, warm, batches = 0, None, 0
        while first < threads:
            until(self.all_slots_are_free, f'all slots free, after {first} threads')
            if warm is None and first >= WARM * threads:
                warm = held(self.tasks)
            crowded = batches % CROWDED == CROWDED - 1
            size = CROWD if crowded else BATCH
            self.batch(first, size, threading.Barrier(size) if crowded else None)
            first, batches = first + size, batches + 1
        until(self.all_slots_are_free, 'all slots free at the end')
        return warm, held(self.tasks)


def timers():
    """Return the number of timers that the kernel has for this process.

    Where the kernel does not report them: 1, that of the heartbeat.
    """
    path = Path('/proc/self/timers')
    return path.read_text().count('signal:') if path.exists() else 1


def descriptors():
    """Return the lowest count of several moments, since the heartbeat opens and closes files of
    /proc.
    """
    counts = []
    for _ in range(MOMENTS):
        time.sleep(BEAT)
        counts.append(len(os.listdir('/proc/self/fd')))
    return min(counts)


def held(tasks):
    """Return what this process holds when only this many threads and one timer are left."""
    until(
        lambda: (len(os.listdir('/proc/self/task')), timers()) == (tasks, 1),
        'the end of threads and their timers',
    )
    gc.collect()
    status = Path('/proc/self/status').read_text()
    return {
        'descriptors': descriptors(),
        'tasks': len(os.listdir('/proc/self/task')),
        'timers': timers(),
        'mappings': Path('/proc/self/maps').read_text().count('\n'),
        'resident': int(re.search(r'VmRSS:\s+(\d+)', status)[1]) << 10,
        'virtual': int(re.search(r'VmSize:\s+(\d+)', status)[1]) << 10,
        'objects': len(gc.get_objects()),
    }


def main(directory, threads):
    logging.getLogger().addHandler(logging.NullHandler())
    life = live(directory)
    churn, began = Churn(life), time.monotonic()
    warm, end = churn.run(threads)
    until(lambda: not life.rounds.slow.watched, 'the last look at requests that have ended')
    box = blackboxreader.read(bytes(life.recorder.buffer))
    say(
        json.dumps(
            {
                'warm': warm,
                'end': end,
                'seconds': time.monotonic() - began,
                'threads': sum(churn.done.values()),
                'done': churn.done,
                'odd': churn.odd,
                'overflow': box.words['overflow'],
                'numbers': next(life.recorder._numbers) - 1,
                'in_flight': len(box.in_flight),
                'last': max(request.number for request in box.finished),
                'slow': len(life.rounds.slow.known()),
                'beats': life.rounds.heartbeat.beats,
                'hangs': [hang.kind for hang in life.rounds.hangs.known()],
                'lives': life.rounds.heartbeat.is_alive(),
                'findings': [
                    finding.id for finding in life.findings if finding.severity.code != 'info'
                ],
            }
        )
    )
    life.finish()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
