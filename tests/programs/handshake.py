"""How tests and their programs talk: lines that are said and heard, conditions that are awaited,
never a fixed time that is hoped for.

A program stands on this alone: the test's side of it is support/childprograms.py.
"""

import sys
import time
from types import FunctionType

PATIENCE = 60


def until(condition, what='the condition', patience=PATIENCE, pause=0.005):
    """The first true value of `condition()`; AssertionError when it stays false for `patience`
    seconds.  It is asked each `pause` seconds.
    """
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f'{what} did not come true within {patience} s'
        time.sleep(pause)
    return value


def say(*words):
    """One line to the test."""
    print(*words, flush=True)


def hear():
    """The next line from the test; '' when there are no more."""
    return sys.stdin.readline().strip()


def wait_for_go():
    """Say that all is ready, and wait until the test lets this program go its way."""
    say('ready')
    hear()


class Ways(dict):
    """{name: function}: what a program can be told to do by a word of its command line.

    These are the functions of that program, in its `globals()`, whose names begin with `prefix`; it
    is no part of the word.  Private ones are none.  An unknown word ends the program with a
    sentence.
    """

    def __init__(self, namespace, prefix=''):
        for name, value in namespace.items():
            is_own = isinstance(value, FunctionType) and value.__module__ == namespace['__name__']
            if is_own and name.startswith(prefix) and not name.startswith('_'):
                self[name.removeprefix(prefix)] = value

    def __missing__(self, word):
        sys.exit(f'No such way: {word!r}. There are: {", ".join(sorted(self))}.')
