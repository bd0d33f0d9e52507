"""Starts as Zope does when it imports the product: arms, judges dead runs, is armed; then waits to
be let go.

    starter.py DIRECTORY CLIENT_HOME [how]      `how` it ends when let go: exit (usual), leave,
    crash

It says "ready", waits for a line, starts, answers with a line of JSON, waits for another line or
the end of input.
"""

import json
import os
import signal
import sys

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.recording import arming


def main(directory, client_home, how='exit'):
    print('ready', flush=True)
    sys.stdin.readline()
    life = arming.arm(
        {'directory': directory},
        {},
        Instance('here', client_home, ''),
        'server',
        {},
    )
    triage.at_start(life)
    life.armed()
    print(
        json.dumps({'run': life.name, 'findings': [finding.id for finding in life.findings]}),
        flush=True,
    )
    sys.stdin.readline()
    if how == 'leave':
        os._exit(0)
    if how == 'crash':
        signal.raise_signal(signal.SIGSEGV)


main(*sys.argv[1:])
