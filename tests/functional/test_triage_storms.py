"""Many processes start at once with many dead runs: each run is judged and archived exactly
once.
"""

import json
import shutil
import time

import pytest
from support import deaths
from support.childprograms import PROGRAMS
from support.childprograms import Program

from Products.StabilityMonitor.store.rundirectory import new_name

DEAD, STARTERS, ZOPES = 50, 20, 4
HOURS_AGO = time.time() - 36_000


class Starter(Program):
    """A process that starts as Zope does, when the test says "go"."""

    def __init__(self, directory, how='exit'):
        super().__init__(PROGRAMS / 'starter.py', directory, directory / 'home', how)

    def ends(self):
        """Start it, and wait until it has ended."""
        self.go().hear()
        return self.end()


@pytest.fixture
def dead_runs(tmp_path):
    """A data directory with 50 dead runs: every second one crashed, the others left by os._exit."""
    folder = tmp_path / 'made'
    templates = []
    for how in ('crash', 'leave'):
        Starter(folder / how, how).ends()
        templates += (folder / how / 'runs').glob('2*')
    runs = tmp_path / 'stability' / 'runs'
    runs.mkdir(parents=True)
    for number in range(DEAD):
        shutil.copytree(templates[number % 2], runs / new_name(HOURS_AGO + number, number + 1))
    return runs.parent


def names(folder):
    return sorted(path.name for path in folder.glob('[!.]*') if path.is_dir())


def check_archive(directory, dead):
    """Assert that the archive has exactly the dead runs, complete and with the right verdicts."""
    assert names(directory / 'archive') == dead
    verdicts = [
        json.loads((directory / 'archive' / name / 'incident.json').read_text())['verdict']
        for name in dead
    ]
    assert verdicts == ['crashed', 'startup-failed'] * (DEAD // 2)
    boxes = [path.parent.name for path in (directory / 'archive').glob('*/blackbox.sbr*')]
    assert sorted(set(boxes)) == dead  # compressed, or not yet if the triage was killed


def test_twenty_simultaneous_starts_archive_each_run_once(dead_runs):
    dead = names(dead_runs / 'runs')
    starters = [Starter(dead_runs) for _ in range(STARTERS)]
    for starter in starters:
        starter.expect('ready')
    for starter in starters:
        starter.tell('go')
    answers = [json.loads(starter.hear()) for starter in starters]
    check_archive(dead_runs, dead)
    assert names(dead_runs / 'runs') == sorted(answer['run'] for answer in answers)
    assert [answer['findings'] for answer in answers if 'triage' in str(answer['findings'])] == []
    assert {starter.end() for starter in starters} == {0}


def test_a_killed_triage_loses_no_run(dead_runs):
    """SIGKILL in the middle of the triage, several times: the next triage completes it."""
    dead, killed = names(dead_runs / 'runs'), []
    for archived in (1, 10, 20, 30):
        starter = Starter(dead_runs)
        starter.go()
        deaths.wait_for(
            lambda n=archived: len(names(dead_runs / 'archive')) >= n, what=f'{archived} archived'
        )
        starter.clean_up()
        killed += set(names(dead_runs / 'runs')) - {*dead, *killed}
    Starter(dead_runs).ends()
    kept = set(names(dead_runs / 'archive'))
    assert kept >= set(dead) and len(kept) <= DEAD + len(killed)
    for name in kept.difference(dead):
        shutil.rmtree(dead_runs / 'archive' / name)
    check_archive(dead_runs, dead)


@pytest.mark.zope
def test_four_simultaneous_zopes_archive_each_run_once(dead_runs, tmp_path):
    dead = names(dead_runs / 'runs')
    zopes = [
        deaths.Site(tmp_path / f'client{n}', options={'directory': str(dead_runs)}).create()
        for n in range(ZOPES)
    ]
    try:
        for zope in zopes:
            zope.start(wait=False)
        for zope in zopes:
            zope.wait_ready()
        check_archive(dead_runs, dead)
        assert len(names(dead_runs / 'runs')) == ZOPES
    finally:
        for zope in zopes:
            zope.destroy()
