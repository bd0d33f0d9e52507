"""The command `stabilitymonitor`, in this process and in a process of its own, and archived runs
for it.
"""

import os

import pytest

from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from support.childprograms import CHECKOUT
from support.childprograms import COMMAND
from support.childprograms import environment
from support.childprograms import run_python
from support.validreports import check_each


@pytest.fixture
def base(tmp_path, monkeypatch):
    for name in ('CLIENT_HOME', 'INSTANCE_HOME', 'STABILITYMONITOR_DIRECTORY'):
        monkeypatch.delenv(name, raising=False)
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


@pytest.fixture
def command(base, capsysbinary, monkeypatch):
    """A function that runs the command on `base`: (exit status, output, errors).

    Each report in JSON must fit its schema.
    """
    check_each(monkeypatch)

    def run(*words):
        status = cli.main(['--directory', str(base.path), *words])
        return status, *(text.decode() for text in capsysbinary.readouterr())

    return run


def archived(base, *records):
    for each in records:
        path = base.runs / each.run
        path.mkdir()
        Archive(base).add(path, each)
    return [each.run for each in records]


def process(*words, cwd=CHECKOUT / 'tests', **environ):
    """Run the command in a process of its own, as a person does; `cwd` has no data directory
    in it.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('STABILITY', 'CLIENT_HOME', 'INSTANCE_HOME'))
    }
    path = {'PYTHONPATH': environment()['PYTHONPATH']}
    return run_python(*COMMAND, *words, env=env | path | environ, cwd=cwd)
