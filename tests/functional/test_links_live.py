"""Root runs the command in a data directory whose owner has planted links in it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.childprograms import CHECKOUT
from support.hostiledirectory import HostileDirectory
from support.syntheticruns import DeadRun

from Products.StabilityMonitor.store.runmailbox import BELL
from Products.StabilityMonitor.store.runmailbox import FOLDER

pytestmark = pytest.mark.root
COMMAND = 60  # seconds after which a command counts as hanging


@pytest.fixture
def hostile():
    """A data directory of `nobody` in a folder that every user can enter."""
    place = Path(tempfile.mkdtemp(prefix='links-'))
    place.chmod(0o755)
    yield HostileDirectory(place)
    shutil.rmtree(place)


def plant_in_the_run(hostile, run):
    for name in ('blackbox.sbr.gz', 'evil.mark', 'claim', BELL, 'incident.json', 'summary.json'):
        hostile.plant(run / name, hostile.victim / name)
    hostile.plant(run / FOLDER)


def plant_in_the_directory(hostile, run):
    for name in ('muted.json', 'muted.json.lock', 'token.key', 'trace.log', 'recursion-probe.json'):
        hostile.plant(hostile.path / name, hostile.victim / name)
    hostile.plant(hostile.path / 'archive' / 'clean-scripts', hostile.victim / 'clean-scripts')
    hostile.plant(hostile.path / 'installed')
    hostile.plant(hostile.path / 'arming')


PLANTED = {
    'in the run': plant_in_the_run,
    'in the directory': plant_in_the_directory,
    'the run': lambda hostile, run: hostile.plant(run),
    'runs': lambda hostile, run: hostile.plant(run.parent),
    'archive': lambda hostile, run: hostile.plant(hostile.path / 'archive'),
}


@pytest.mark.parametrize('planted', PLANTED)
def test_a_command_of_root_changes_no_file_of_root(hostile, planted):
    run = DeadRun(hostile.path, role='script').crashed()
    DeadRun(hostile.path, number=1).crashed()
    inside = f'{run.name}/faults.mark', f'{run.name}/lock', f'{run.name}/context.json'
    hostile.hand_over()
    hostile.fill_victim(
        *inside, 'blackbox.sbr.gz', 'evil.mark', 'claim', BELL, 'incident.json', 'summary.json',
        'muted.json', 'muted.json.lock', 'token.key', 'trace.log', 'clean-scripts', 'lock',
    )  # fmt: skip
    PLANTED[planted](hostile, run.path)
    for words in (('status',), ('stacks', run.name), ('checks',), ('triage',), ('report',)):
        done = subprocess.run(
            [
                sys.executable,
                '-m',
                'Products.StabilityMonitor',
                '--directory',
                hostile.path,
                *words,
            ],
            env=os.environ | {'PYTHONPATH': str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=COMMAND,
        )
        assert done.returncode in (0, 1, 2) and 'Traceback' not in done.stderr, done.stderr
        hostile.check()
