"""How programs and tests talk: they exchange lines and wait for conditions, instead of sleeping for
a fixed time.

Programs use only this module; the side of the test is support/childprograms.py.
"""

import sys
import time
from types import FunctionType

PATIENCE = 60


def until(condition, what='the condition', patience=PATIENCE, pause=0.005):
    """Return the first true value of `condition()`, which is called each `pause` seconds;
    AssertionError after `patience` seconds.
    """
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f'{what} did not come true within {patience} s'
        time.sleep(pause)
    return value


def say(*words):
    """Send one line to the test."""
    print(*words, flush=True)


def hear():
    """Return the next line from the test; '' at the end."""
    return sys.stdin.readline().strip()


def wait_for_go():
    """Say "ready", and wait for a line of the test."""
    say('ready')
    hear()


class Ways(dict):
    """{name: function} of what a program can be told to do by a word on its command line.

    Contains the public functions of `globals()` of the program whose names begin with `prefix`,
    without that prefix.  An unknown word ends the program with a sentence that lists the words.
    """

    def __init__(self, namespace, prefix=''):
        for name, value in namespace.items():
            is_own = isinstance(value, FunctionType) and value.__module__ == namespace['__name__']
            if is_own and name.startswith(prefix) and not name.startswith('_'):
                self[name.removeprefix(prefix)] = value

    def __missing__(self, word):
        sys.exit(f'No such way: {word!r}. There are: {", ".join(sorted(self))}.')
