"""A product that handles signals itself, if the variable SIGNAL_PRODUCT names it.

SIGNAL_DEED says what it does with the signals in SIGNALS, a list of numbers; `TAKEN` counts the
received ones.  Zope imports products in alphabetical order: one comes before "StabilityMonitor",
another one after it.
"""

import collections
import faulthandler
import os
import signal
import threading

TAKEN = collections.Counter()
EXIT_STATUS = 7


def _block(numbers):
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _wait(numbers):
    """Block the signals in the main thread, and so in all threads that it starts; one thread waits
    for them.
    """
    _block(numbers)
    threading.Thread(target=_wait_for_ever, args=(numbers,), daemon=True).start()


def _wait_for_ever(numbers):
    while True:
        TAKEN[signal.sigwait(numbers)] += 1


def _ignore(numbers):
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _count(numbers):
    for number in numbers:
        signal.signal(number, _counted)


def _counted(number, frame):
    TAKEN[number] += 1


def _leave(numbers):
    for number in numbers:
        signal.signal(number, _left)


def _left(number, frame):
    os._exit(EXIT_STATUS)


def _dump(numbers):
    """Set a handler in C code, which Python's `signal` does not know."""
    nowhere = open(os.devnull, 'w')
    for number in numbers:
        faulthandler.register(number, file=nowhere, chain=False)


DEEDS = {
    'block': _block,
    'wait': _wait,
    'ignore': _ignore,
    'count': _count,
    'leave': _leave,
    'dump': _dump,
}

if os.environ.get('SIGNAL_PRODUCT') == __name__.rpartition('.')[2]:
    DEEDS[os.environ['SIGNAL_DEED']]({int(number) for number in os.environ['SIGNALS'].split()})
