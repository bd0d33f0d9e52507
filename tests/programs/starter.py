"""Start as Zope does when it imports the product: arm, judge dead runs, note that arming is
complete; then wait.

    starter.py DIRECTORY CLIENT_HOME [how]      `how` it ends: exit (default), leave, crash

It says "ready", starts after a line, answers with a line of JSON, and ends after another line or
the end of input.  Unlike armed.py it arms only when told to, and judges the dead runs that it
finds.
"""

import json
import os
import signal
import sys

from programs.handshake import Ways
from programs.handshake import hear
from programs.handshake import say
from programs.handshake import wait_for_go

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.recording import arming


def end_by_exit():
    pass


def end_by_leave():
    os._exit(0)


def end_by_crash():
    signal.raise_signal(signal.SIGSEGV)


ENDS = Ways(globals(), 'end_by_')


def main(directory, client_home, how='exit'):
    end = ENDS[how]
    wait_for_go()
    life = arming.arm(
        {'directory': directory},
        {},
        Instance('here', client_home, ''),
        'server',
        {},
    )
    triage.at_start(life)
    life.armed()
    say(json.dumps({'run': life.name, 'findings': [finding.id for finding in life.findings]}))
    hear()
    end()


main(*sys.argv[1:])
