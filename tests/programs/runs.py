"""Processes around a run directory.  `python runs.py ROLE BASE NAME`; each line on stdin is one
step further.

hold    creates the run and says so
fork    creates it, forks a child that abandons it and stays
keep    creates it, forks a child that keeps it (what abandoning is good for)
claim   waits for a line, then tries to claim the run, and keeps it
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.processidentity import identity


def say(word):
    print(word, flush=True)


def main(role, base, name):
    base = Base(base)
    if role == 'claim':
        say('ready')
        sys.stdin.readline()
        kept = base.claim(name)
        say('claimed' if kept else 'refused')
    else:
        kept = base.create(name, {'identity': identity()})
        if role in ('fork', 'keep') and os.fork() == 0:
            if role == 'fork':
                kept.abandon()
            say(f'child {os.getpid()}')
        elif role == 'hold':
            say('created')
    sys.stdin.read()


main(*sys.argv[1:])
