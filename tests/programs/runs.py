"""Processes that use a run directory: `python runs.py ROLE BASE NAME`.

Each line on stdin starts the next step.

hold    create the run and say so
fork    create it, and fork a child that abandons the run and lives on
keep    create it, and fork a child that keeps it (shows why a child must abandon it)
claim   wait for a line, then try to claim the run, and keep it
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
    kept = ROLES[role](Base(base), name)  # kept as long as this process lives
    sys.stdin.read()
    del kept


main(*sys.argv[1:])
