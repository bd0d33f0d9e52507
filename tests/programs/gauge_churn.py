"""Start and end threads by the thousand while another thread reads the stack gauges of all of them,
living or dead.

    gauge_churn.py THREADS
"""

import itertools
import json
import random
import sys
import threading

from programs.handshake import say
from programs.handshake import until

from Products.StabilityMonitor.system.stackdepth import StackGauge


def main(threads):
    gauge, known, over, left = StackGauge(), {}, threading.Event(), itertools.count()
    strange, readings = [], itertools.count()

    def short_life():
        known[threading.get_native_id()] = (threading.get_ident(), gauge.own())
        next(left)

    def read():
        while not over.is_set():
            recent = dict(list(known.items())[-20:])
            found = gauge.of_threads(
                {
                    native_id: ident * random.choice((0, 1))
                    for native_id, (ident, _) in recent.items()
                }
            )
            for stack in [*found.values(), *(stack for _, stack in recent.values())]:
                used = gauge.used(stack)
                risen = gauge.rise(stack, used)
                next(readings)
                if not (0 <= used <= stack.size and risen <= stack.size):
                    strange.append((stack.size, used, risen))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(threads):
        thread = threading.Thread(target=short_life)
        thread.start()
        if random.random() < 0.8:
            thread.join()
    until(lambda: threading.active_count() <= 2, 'the end of all threads but the reader')
    over.set()
    reader.join()
    say(json.dumps({'lives': next(left), 'readings': next(readings), 'strange': strange}))


main(int(sys.argv[1]))
