"""A snapshot of a real Zope whose workers are all busy, by the command."""

import json
import shutil

import pytest
from support.commandline import process
from support.zopekit import wait_for

pytestmark = [pytest.mark.zope, pytest.mark.thorough]

SOURCE = """
def busy(self):
    import time
    while True:
        time.sleep(.1)
"""


def test_the_command_keeps_the_moment_while_no_worker_is_free(make_zope):
    zope = make_zope().publish(SOURCE).start()
    for _ in range(4):
        zope.background('/busy')
    directory = ['--directory', str(zope.stability)]

    def all_are_busy():
        told = process(*directory, 'stacks', '--format', 'json')
        (found,) = json.loads(told.stdout)['processes']
        return sum(bool(thread['request']) for thread in found['stacks']['threads']) == 4

    wait_for(all_are_busy, what='four busy workers')
    native = ['--native'] if shutil.which('pystack') else []
    ended = process(*directory, 'snapshot', '--note', 'It is slow.', *native)
    assert ended.returncode == 0, ended.stderr
    (folder,) = (zope.stability / 'snapshots').iterdir()
    kept = json.loads((folder / 'snapshot.json').read_text())
    assert kept['told_by'] == 'process' and kept['summary'].startswith('4 of 4 workers are busy')
    assert {request['path'] for request in kept['requests']} == {'/busy'}
    assert kept['samples'] and kept['inventory']['distributions'] and kept['findings']
    assert bool(kept['native_threads']) == bool(native)

    zope.kill()
    zope.wait_exit()
    zope.start()
    shown = process(*directory, 'show', folder.name)
    assert shown.returncode == 0 and 'serves GET /busy for' in shown.stdout
    report = json.loads(process(*directory, 'report', folder.name, '--format', 'json').stdout)
    assert report['snapshot']['id'] == folder.name and len(report['in_flight']) == 4
    (run,) = json.loads(process(*directory, 'history', '--format', 'json').stdout)['runs']
    assert run['run'] == kept['run'] != folder.name
