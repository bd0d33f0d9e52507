"""Use a file that all processes of a data directory share: `shared_files.py WHAT DIRECTORY ...`

It runs with PYTHONPATH of today's or of the older release, so it uses only what both have.  The
answer is a line of JSON.
"""

import importlib
import io
import json
import os
import sys
from pathlib import Path

# This module comes from today's checkout, the folder of this file; the path has the release under
# test.
from handshake import Ways
from handshake import say
from handshake import until

STACK = 8 << 20


def instance():
    """Return an instance as this release needs it: the older one needs a dict."""
    known = {'host': 'test', 'client_home': '/nowhere', 'listen': ''}
    try:
        module('model.threadstates')
    except ModuleNotFoundError:
        return known
    return module('model.records').Instance(**known)


def module(*names):
    """Return the first of these modules that this release has; some have moved since the older
    release.
    """
    for name in names:
        try:
            return importlib.import_module(f'Products.StabilityMonitor.{name}')
        except ModuleNotFoundError as error:
            if name == names[-1] or 'StabilityMonitor' not in error.name:
                raise


def muted_in(directory):
    found = module('checks.muted', 'diagnosis.hushed')
    mute_list = getattr(found, 'MuteList', None) or found.Hushed
    return mute_list(directory, clock=lambda: 1e6)


def commands(directory, questions):
    """Run the command for each list of words, in one process: [[exit status, output]]."""
    command = module('cli.command', 'cli')
    answers, real = [], sys.stdout
    for words in json.loads(questions):
        sys.stdout = io.TextIOWrapper(io.BytesIO(), 'utf-8', write_through=True)
        status = command.main(['--directory', str(directory), *words])
        answers.append([status, sys.stdout.buffer.getvalue().decode()])
    sys.stdout = real
    return answers


def mute(directory, id):
    mutes = muted_in(directory)
    mute = getattr(mutes, 'mute', None) or mutes.hush
    mute(id, f'the reason of {id}', '1970-02-01', 'somebody')


def unmute(directory, id):
    mutes = muted_in(directory)
    return (getattr(mutes, 'unmute', None) or mutes.unhush)(id)


def muted(directory):
    rows, problem = muted_in(directory).rows()
    assert problem is None, problem
    return {row.id: row.reason for row in rows}


def key(directory):
    return module('zmi.csrftoken', 'zmi.token').key(directory).hex()


def probe_module():
    return module('inspection.recursionresult', 'diagnosis.recursionprobe')


def keep_probe(directory):
    probe = probe_module()
    result = probe.ProbeResult(STACK, 1000)
    probe.keep(directory / 'recursion-probe.json', result)
    return told(result)


def read_probe(directory):
    probe = probe_module()
    return told(probe.read(directory / 'recursion-probe.json', STACK, 1000))


def told(result):
    probe = probe_module()
    return [result.stack_size, result.recursion_limit, probe.finding(result).title]


def check_and_die(directory):
    """Arm, run the checks, wait for their results on disk, and end without a trace."""
    standing = module('checks.allfindings', 'diagnosis.standing')
    from Products.StabilityMonitor.recording import arming

    configured = {'directory': str(directory), 'sample-interval': '50ms'}
    life = arming.arm(configured, {}, instance(), 'server', {'zope': '6.3'})
    life.armed()
    life.serving()
    assert standing.of(life).start()
    until((life.path / 'runs' / life.name / 'checks.json').exists, 'the answers of the checks')
    say(json.dumps(life.name))
    os._exit(5)


if __name__ == '__main__':
    what, place, *more = sys.argv[1:]
    say(json.dumps(Ways(globals())[what](Path(place), *more)))
