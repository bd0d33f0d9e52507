"""Uses a file that all processes of a data directory share.  `shared_files.py WHAT DIRECTORY ...`

Run with PYTHONPATH of one release or of another: it imports what both have.  It answers in JSON.
"""

import io
import json
import os
import sys
import threading
from pathlib import Path

INSTANCE = {'host': 'test', 'client_home': '/nowhere', 'listen': ''}
STACK = 8 << 20


def commands(directory, questions):
    """[[exit status, output]] of the command for each list of words, in one process."""
    from Products.StabilityMonitor import cli

    answers, real = [], sys.stdout
    for words in json.loads(questions):
        sys.stdout = io.TextIOWrapper(io.BytesIO(), 'utf-8', write_through=True)
        status = cli.main(['--directory', str(directory), *words])
        answers.append([status, sys.stdout.buffer.getvalue().decode()])
    sys.stdout = real
    return answers


def hush(directory, id):
    from Products.StabilityMonitor.diagnosis.hushed import Hushed

    Hushed(directory, clock=lambda: 1e6).hush(id, f'the reason of {id}', '1970-02-01', 'somebody')


def unhush(directory, id):
    from Products.StabilityMonitor.diagnosis.hushed import Hushed

    return Hushed(directory, clock=lambda: 1e6).unhush(id)


def hushed(directory):
    from Products.StabilityMonitor.diagnosis.hushed import Hushed

    rows, problem = Hushed(directory, clock=lambda: 1e6).rows()
    assert problem is None, problem
    return {row.id: row.reason for row in rows}


def key(directory):
    from Products.StabilityMonitor.zmi import token

    return token.key(directory).hex()


def keep_probe(directory):
    from Products.StabilityMonitor.diagnosis import recursionprobe

    result = recursionprobe.ProbeResult(STACK, 1000)
    recursionprobe.keep(directory / 'recursion-probe.json', result)
    return told(result)


def read_probe(directory):
    from Products.StabilityMonitor.diagnosis import recursionprobe

    return told(recursionprobe.read(directory / 'recursion-probe.json', STACK, 1000))


def told(result):
    from Products.StabilityMonitor.diagnosis import recursionprobe

    return [result.stack_size, result.recursion_limit, recursionprobe.finding(result).title]


def check_and_die(directory):
    """A life that asks its checks, leaves their answers on disk, and ends without a trace."""
    from Products.StabilityMonitor.diagnosis import standing
    from Products.StabilityMonitor.recording import arming

    configured = {'directory': str(directory), 'sample-interval': '50ms'}
    life = arming.arm(configured, {}, INSTANCE, 'server', {'zope': '6.3'})
    life.armed()
    life.serving()
    assert standing.of(life).start()
    while not (life.path / 'runs' / life.name / 'checks.json').exists():
        threading.Event().wait(0.02)
    print(json.dumps(life.name), flush=True)
    os._exit(5)


if __name__ == '__main__':
    what, place, *more = sys.argv[1:]
    print(json.dumps(globals()[what](Path(place), *more)))
