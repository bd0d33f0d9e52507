"""Breadcrumbs that are missing, damaged or not writable: Zope starts and serves, nothing raises,
and a finding names the trouble.
"""

import json
import os
import random
import shutil
import subprocess
import time

import pytest
from support import deaths
from support.deaths import Setting
from support.deaths import Site

from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.rundirectory import new_name

pytestmark = pytest.mark.zope

#: Start as root without capabilities, so that file permissions apply.
POWERLESS = Setting(prefix=('setpriv', '--bounding-set=-all', '--inh-caps=-all'))
HOURS_AGO = time.time() - 36_000


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / 'site', options={'sample-interval': '100ms'}).create()
    yield site
    site.destroy()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB, which tests fill and empty."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f'no file system can be mounted here: {done.stderr.decode().strip()}')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(folder):
    with open(folder / 'filling', 'wb', buffering=0) as file, deaths.contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def findings(site):
    return {check['id']: check for check in site.report()['checks']}


def said_how_it_ended(site, run):
    """Return the verdict on that run in each line of the event log that says how it ended."""
    lines = site.event_log.read_text().splitlines()
    said = [line for line in lines if 'The last run (pid' in line and run in line]
    return [line.rpartition('[')[2].partition(',')[0] for line in said]


def serves(site):
    assert site.get('/clock').status == 200
    assert 'Traceback' not in site.event_log.read_text()
    return True


# -- the disk --------------------------------------------------------------------------------------


@pytest.mark.root
def test_zope_starts_on_a_full_disk(site, small_disk):
    fill(small_disk)
    site.configure(directory=small_disk / 'stability')
    assert serves(site.start())
    assert 'run-directory' in findings(site)
    assert 'No space left' in findings(site)['run-directory']['detail']
    assert site.crash('/segfault') == -11


@pytest.mark.root
def test_a_crash_on_a_full_disk_is_archived_later(site, small_disk):
    """Dump and signal mark fit, since their space is preallocated; the run is archived as soon as
    there is space again.
    """
    site.configure(directory=small_disk / 'stability').start()
    run = site.run_directory.name
    fill(small_disk)
    assert serves(site)
    assert site.crash('/segfault') == -11
    site.start()
    assert serves(site) and run not in site.archived()
    finding = findings(site)[f'triage-{run}']
    assert 'No space left' in finding['detail'] and '[crashed, ' in finding['detail']
    assert f'Free space on the disk of {small_disk}' in finding['action']
    assert said_how_it_ended(site, run) == ['crashed']
    (small_disk / 'filling').unlink()
    site.restart()
    assert run in site.archived()
    (record,) = (record for record in site.archive() if record['run'] == run)
    assert (record['verdict'], record['signal'], record['requests'][0]['path']) == (
        'crashed',
        'SIGSEGV',
        '/segfault',
    )


@pytest.mark.root
def test_zope_starts_with_a_read_only_directory(site):
    site.stability.mkdir()
    site.stability.chmod(0o555)
    assert serves(site.run_as(POWERLESS))
    assert 'Permission denied' in findings(site)['run-directory']['detail']
    assert site.crash('/segfault') == -11


@pytest.mark.root
def test_dead_runs_in_a_read_only_directory_are_archived_later(site):
    site.start()
    run = site.run_directory.name
    assert site.crash('/segfault') == -11
    for folder in ('', 'runs', 'archive'):
        (site.stability / folder).chmod(0o555)
    assert serves(site.run_as(POWERLESS))
    assert {'run-directory'} <= findings(site).keys()
    site.stop()
    for folder in ('', 'runs', 'archive'):
        (site.stability / folder).chmod(0o755)
    assert serves(site.start()) and run in site.archived()


@pytest.mark.root
def test_a_crash_on_a_volume_that_became_read_only_is_told(site, small_disk):
    site.configure(directory=small_disk / 'stability').start()
    run = site.run_directory.name
    assert site.crash('/segfault') == -11
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    try:
        assert serves(site.start()) and run not in site.archived()
        finding = findings(site)[f'triage-{run}']
        assert 'Read-only file system' in finding['detail']
        assert finding['action'].startswith('Mount the volume of')
        assert said_how_it_ended(site, run) == ['crashed']
        site.stop()
    finally:
        subprocess.run(['mount', '-o', 'remount,rw', str(small_disk)], check=True)


@pytest.mark.root
def test_zope_starts_when_the_directory_has_another_owner(site):
    """As after Zope ran once as another user.  It makes one of its own; where it cannot, it keeps
    nothing on disk.
    """
    site.start()
    assert site.crash('/segfault') == -11
    run = site.run_directory.name
    subprocess.run(['chown', '-R', 'nobody', str(site.stability)], check=True)
    own = site.stability.with_name('stability-0')
    own.write_text('in the way')
    assert serves(site.run_as(POWERLESS))
    assert str(own) in findings(site)['run-directory']['detail']
    site.stop()
    own.unlink()
    assert serves(site.run_as(POWERLESS))
    assert str(own) in findings(site)['foreign-directory']['title']
    assert len(os.listdir(own / 'runs')) == 1 and os.listdir(site.stability / 'runs') == [run]
    site.stop()
    subprocess.run(['chown', '-R', 'root', str(site.stability)], check=True)
    assert serves(site.start()) and run in site.archived()


@pytest.mark.root
def test_a_dead_run_of_another_owner_is_named_in_a_finding(site):
    """Everything else works."""
    site.start()
    run = site.run_directory
    assert site.crash('/segfault') == -11
    for path in (run, *run.iterdir()):
        os.chown(path, 65534, 65534)
    assert serves(site.run_as(POWERLESS))
    assert run.exists() and not site.archived()
    assert 'user of Zope permission' in findings(site)[f'triage-{run.name}']['action']
    assert any(run.name in check['title'] + check['detail'] for check in findings(site).values())


def test_zope_starts_when_the_directory_is_a_file(site):
    site.stability.write_text('in the way')
    assert serves(site.start())
    assert 'run-directory' in findings(site)
    assert site.stability.read_text() == 'in the way'


# -- while it runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize('what', ['', 'runs'])
def test_a_directory_removed_while_running_is_a_finding(site, what):
    site.start()
    folder = site.stability / what
    while folder.exists():  # Zope may still write a file there
        shutil.rmtree(folder, ignore_errors=True)
    deaths.wait_for(lambda: 'breadcrumbs-gone' in findings(site), deaths.PATIENCE, 'the finding')
    assert serves(site)
    assert site.crash('/segfault') == -11
    assert serves(site.start())
    assert site.report()['previous'] is None and site.run_directory.exists()


def test_a_black_box_deleted_while_running_is_a_finding(site):
    site.start()
    (site.run_directory / 'blackbox.sbr').unlink()
    deaths.wait_for(lambda: 'breadcrumbs-gone' in findings(site), deaths.PATIENCE, 'the finding')
    assert serves(site)
    run = site.run_directory.name
    assert site.crash('/segfault') == -11
    assert serves(site.start())
    previous = site.previous()
    assert (previous['run'], previous['verdict'], previous['requests']) == (run, 'crashed', [])


def test_a_run_whose_breadcrumbs_were_deleted_is_unreadable(site):
    site.start()
    for path in site.run_directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = site.run_directory.name
    assert serves(site)
    site.kill()
    site.wait_exit()
    assert serves(site.start())
    (record,) = site.archive()
    assert (record['run'], record['verdict']) == (run, 'unreadable')


# -- dead runs that are damaged --------------------------------------------------------------------


@pytest.fixture(scope='module')
def dead(tmp_path_factory):
    """Two dead runs: {'crashed': its directory, 'vanished': its directory}."""
    site, made = Site(tmp_path_factory.mktemp('dead')).create(), {}
    for verdict, die in (('crashed', deaths.page('/segfault')), ('vanished', deaths.by('SIGKILL'))):
        site.start()
        die(site)
        site.wait_exit()
        made[verdict] = site.run_directory.rename(site.home / verdict)
    yield made
    site.destroy()


class Graveyard:
    """Dead runs that a test damages, in the data directory of a site; `wanted` has the possible
    verdicts of each.
    """

    def __init__(self, site):
        self.site, self.wanted = site, {}
        self.runs = site.stability / 'runs'
        self.runs.mkdir(parents=True)

    def bury(self, source, *verdicts):
        pid = json.loads((source / 'context.json').read_text())['identity']['pid']
        name = new_name(HOURS_AGO + len(self.wanted), pid)
        shutil.copytree(source, self.runs / name)
        self.wanted[name] = verdicts
        return self.runs / name

    def check(self):
        """Assert that one start archives each run once, with a possible verdict, and that the next
        start works too.
        """
        assert serves(self.site.start())
        assert self.site.archived() == set(self.wanted)
        verdicts = {record['run']: record['verdict'] for record in self.site.archive()}
        assert {name: v for name, v in verdicts.items() if v not in self.wanted[name]} == {}
        assert [finding for finding in findings(self.site) if 'triage' in finding] == []
        assert serves(self.site.restart())


DAMAGES = {
    'random bytes': lambda path: path.write_bytes(
        random.Random(path.name).randbytes(path.stat().st_size or 99)
    ),
    'nothing': lambda path: path.write_bytes(b''),
    'half of it': lambda path: os.truncate(path, path.stat().st_size // 2),
    'ones': lambda path: path.write_bytes(b'\xff' * path.stat().st_size),
    'gone': lambda path: path.unlink(),
}


def possible(verdict, file, damage):
    """Return the possible verdicts of a damaged run: undamaged files decide, and damage alone never
    makes a crash.
    """
    if file == 'faults.mark' and verdict == 'crashed':
        return ('crashed',) if damage == 'half of it' else ('vanished', 'startup-failed')
    if file == 'blackbox.sbr' and verdict == 'vanished':
        return 'unreadable', 'vanished'
    if file.startswith('SIG') and verdict == 'vanished' and damage in ('random bytes', 'ones'):
        return 'signalled', 'stopped'
    if file == 'watchdog.mark' and verdict == 'vanished' and damage in ('random bytes', 'ones'):
        return ('hung',)
    if file == 'context.json' and verdict == 'vanished':
        return 'vanished', 'unreadable'
    return (verdict,)


def test_dead_runs_with_damaged_files_get_a_plausible_verdict(site, dead):
    graves = Graveyard(site)
    for verdict, source in dead.items():
        for file in sorted(path.name for path in source.iterdir() if path.is_file()):
            for damage, spoil in DAMAGES.items():
                spoil(graves.bury(source, *possible(verdict, file, damage)) / file)
    graves.check()


def test_dead_runs_with_a_folder_in_place_of_a_file_get_a_plausible_verdict(site, dead):
    graves = Graveyard(site)
    for source in dead.values():
        for file in sorted(
            path.name for path in source.iterdir() if path.is_file() and path.name != 'lock'
        ):
            path = graves.bury(source, 'crashed', 'vanished', 'unreadable', 'startup-failed') / file
            path.unlink()
            path.mkdir()
    graves.check()


def test_breadcrumbs_of_a_future_version_are_judged(site, dead):
    graves = Graveyard(site)
    for verdict, source in dead.items():
        path = (
            graves.bury(source, 'crashed' if verdict == 'crashed' else 'unreadable')
            / 'blackbox.sbr'
        )
        with path.open('r+b') as file:
            file.seek(8)
            file.write((blackbox.VERSION + 1).to_bytes(2, 'little'))
        path = graves.bury(source, verdict) / 'context.json'
        context = json.loads(path.read_text())
        path.write_text(
            json.dumps({**context, 'format': 99, 'new': [1], 'cgroup': ['x'], 'outputs': 5})
        )
    graves.check()
    reason = [record for record in site.archive() if record['verdict'] == 'unreadable'][0][
        'evidence'
    ]
    words = f'format {blackbox.VERSION + 1}; this release reads format {blackbox.VERSION}'
    assert words in str(reason)


@pytest.mark.parametrize(
    'value',
    [
        *([], 1e300),
        *(
            pytest.param(value, marks=pytest.mark.sweep)
            for value in (None, 'x', -1, {'x': None}, True)
        ),
    ],
)
def test_a_crash_is_recognised_with_any_value_in_the_run_context(site, dead, value):
    graves = Graveyard(site)
    known = json.loads((dead['crashed'] / 'context.json').read_text())
    for key in known:
        path = graves.bury(dead['crashed'], 'crashed') / 'context.json'
        path.write_text(json.dumps(known | {key: value}))
    for key in known['identity']:
        path = graves.bury(dead['crashed'], 'crashed') / 'context.json'
        path.write_text(json.dumps(known | {'identity': known['identity'] | {key: value}}))
    graves.check()
