"""Processes around a run directory.  `python runs.py ROLE BASE NAME`; each line on stdin is one
step further.

hold    creates the run and says so
fork    creates it, forks a child that abandons it and stays
keep    creates it, forks a child that keeps it (what abandoning is good for)
claim   waits for a line, then tries to claim the run, and keeps it
"""

import os
import sys

from programs.handshake import Ways
from programs.handshake import say
from programs.handshake import wait_for_go

from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.processidentity import identity


def create(base, name):
    return base.create(name, {'identity': identity()})


def do_hold(base, name):
    run = create(base, name)
    say('created')
    return run


def do_fork(base, name):
    run = create(base, name)
    if os.fork() == 0:
        run.abandon()
        say(f'child {os.getpid()}')
    return run


def do_keep(base, name):
    run = create(base, name)
    if os.fork() == 0:
        say(f'child {os.getpid()}')
    return run


def do_claim(base, name):
    wait_for_go()
    claimed = base.claim(name)
    say('claimed' if claimed else 'refused')
    return claimed


ROLES = Ways(globals(), 'do_')


def main(role, base, name):
    kept = ROLES[role](Base(base), name)  # as long as this process lives
    sys.stdin.read()
    del kept


main(*sys.argv[1:])
