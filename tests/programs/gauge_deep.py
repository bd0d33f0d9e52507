"""Recurse nearly to the end of a stack, and say what the stack gauge measures, as a line of JSON.

    gauge_deep.py WHERE SIZE KEEP       WHERE is `thread` or `main`; of SIZE bytes, KEEP stay free

Each level reads its stack pointer from the kernel, so that the true depth does not come from the
gauge.
"""

import json
import resource
import sys
import threading

from programs.handshake import Ways
from programs.handshake import say

from Products.StabilityMonitor.system.stackdepth import StackGauge
from Products.StabilityMonitor.system.stackdepth import headroom

STEP = 10 << 10


class Deeper:
    """Recursion through C: a sort whose key function sorts again, the way with the most stack per
    level.
    """

    def __init__(self, floor):
        self.floor, self.lowest = floor, None

    def key(self, item):
        self.lowest = pointer()
        return sorted([item], key=self.key) if self.lowest > self.floor else ''


def pointer():
    with open('/proc/thread-self/syscall') as file:
        return int(file.read().split()[-2], 16)


def measure(gauge, keep, answer):
    stack = gauge.own()
    before = gauge.used(stack)
    Deeper(stack.address + keep + STEP).key('')
    first = gauge.rise(stack, before)
    deeper = Deeper(
        stack.address + keep
    )  # the kernel has mapped the main thread's stack only as far as `first`
    deeper.key('')
    answer.update(
        size=stack.size,
        before=before,
        truth=stack.top - deeper.lowest,
        first=first,
        known=gauge.rise(stack, first),
        own=gauge.used(stack),
    )
    answer['again'] = gauge.rise(stack, answer['known'])


def watched(gauge, native_id, ident, name):
    """Return what another thread measures of this stack."""
    stack = gauge.of_thread(native_id, ident)
    used = gauge.used(stack)
    return {
        'other_size': stack.size,
        'other': used,
        'severity': headroom(stack.size, used, name, gauge.granule).severity.code,
    }


def in_thread(gauge, size, keep, answer):
    threading.stack_size(size)
    done, over = threading.Event(), threading.Event()

    def run():
        try:
            measure(gauge, keep, answer)
        finally:
            done.set()
        over.wait()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    done.wait()
    answer.update(watched(gauge, thread.native_id, thread.ident, 'Worker'))
    over.set()
    thread.join()


def in_main(gauge, size, keep, answer):
    resource.setrlimit(resource.RLIMIT_STACK, (size, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    measure(gauge, keep, answer)
    main = threading.main_thread()
    thread = threading.Thread(
        target=lambda: answer.update(watched(gauge, main.native_id, main.ident, 'MainThread'))
    )
    thread.start()
    thread.join()


PLACES = Ways(globals(), 'in_')


def main(where, size, keep):
    sys.setrecursionlimit(100000)
    answer = {}
    PLACES[where](StackGauge(), int(size), int(keep), answer)
    say(json.dumps(answer))


main(*sys.argv[1:])
