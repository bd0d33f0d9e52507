"""A package that handles SIGUSR1 itself, if the variable USR1 names it.

Zope imports products in alphabetical order: one before "StabilityMonitor" sets its handler before
the marks are registered; one after it replaces the handler of the mark.
"""

import os
import signal

SEEN = []


def _handler(number, frame):
    SEEN.append(number)


if os.environ.get('USR1') == __name__.rpartition('.')[2]:
    signal.signal(signal.SIGUSR1, _handler)
