"""Two real Zopes on one data directory: one sees how the other ends, without any configuration."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from programs.handshake import until
from support import deaths
from support.zopekit import wait_for

from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system import processend

pytestmark = [
    pytest.mark.zope,
    pytest.mark.skipif(not processend.is_possible(), reason='no pidfd here'),
]
OPTIONS = {'sample-interval': '100ms'}


def run_of(site):
    return site.report()['process']['run']


def watches(site):
    """Return how many processes this Zope watches."""
    number = 0
    for file in os.listdir(f'/proc/{site.pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            number += os.readlink(f'/proc/{site.pid}/fd/{file}') == 'anon_inode:[pidfd]'
    return number


@pytest.fixture
def pair(tmp_path):
    """Two running Zopes that watch each other."""
    options = OPTIONS | {'directory': str(tmp_path / 'shared')}
    sites = [
        deaths.Site(tmp_path / name, options=dict(options)).create() for name in ('one', 'two')
    ]
    with contextlib.ExitStack() as stack:
        for site in sites:
            stack.callback(site.destroy)
            site.start()
        wait_for(lambda: [watches(site) for site in sites] == [1, 1], what='both watch')
        yield sites


def seen(site, run):
    """Return what was seen of the end of this run, once it was."""
    folders = [site.stability / above / run for above in ('runs', 'archive')]
    return until(lambda: [*map(witnessfiles.of_run, folders)] != [(), ()] and folders, 'witness')


def judged(site, run):
    """Start the Zope again, and return (verdict, confidence, exit code, signal) of that run."""
    site.start()
    record = Archive(Base(site.stability)).record(run)
    assert [amendment.source for amendment in record.amendments] == ['sibling']
    return record.verdict, record.confidence, record.exit_code, record.signal


WAYS = {
    'kill -9': (deaths.by('SIGKILL'), ('killed', 'certain', None, 'SIGKILL')),
    'os._exit': (deaths.page('/leave?status=7'), ('exited', 'certain', 7, None)),
    'exit() in C': (deaths.page('/exit_in_c'), ('exited', 'certain', 6, None)),
    'a crash': (deaths.page('/segfault'), ('crashed', 'certain', None, 'SIGSEGV')),
    'SIGTERM': (deaths.by('SIGTERM'), ('stopped', 'certain', None, 'SIGTERM')),
    'SIGINT': (deaths.by('SIGINT'), ('stopped', 'certain', 0, 'SIGINT')),
}


def test_each_end_is_judged_with_what_the_other_saw(pair):
    one, two = pair
    found = {}
    for way, (end, _) in WAYS.items():
        run = run_of(one)
        end(one)
        one.wait_exit()
        seen(two, run)
        found[way] = judged(one, run)
        wait_for(lambda: (watches(one), watches(two)) == (1, 1), what='both watch again')
    assert found == {way: expected for way, (_, expected) in WAYS.items()}


def test_what_the_other_saw_stays_when_it_dies_too(pair):
    one, two = pair
    run = run_of(one)
    one.kill().wait_exit()
    seen(two, run)
    two.kill().wait_exit()
    assert judged(one, run) == ('killed', 'certain', None, 'SIGKILL')


def test_of_three_that_die_at_once_each_is_seen_by_the_one_that_lives(pair, tmp_path):
    one, two = pair
    third = deaths.Site(tmp_path / 'three', options=dict(one.options)).create().start()
    try:
        wait_for(lambda: watches(two) == 2, what='both are watched')
        runs = [run_of(one), run_of(third)]
        for site in (one, third):
            site.kill()
        for site in (one, third):
            site.wait_exit()
        for run in runs:
            seen(two, run)
        assert judged(one, runs[0])[0] == 'killed'
    finally:
        third.destroy()


def test_a_verdict_that_changes_after_the_start_is_told_once(make_zope):
    """The one who saw it writes later than the next start judges."""
    site = make_zope(options=OPTIONS).start()
    run = run_of(site)
    site.kill().wait_exit()
    site.start()
    wait_for(lambda: f'[vanished, weak] {run}' in site.event_log.read_text(), what='the verdict')
    base = Base(site.stability)
    late = Witness('sibling', 1.8e9, 'It was seen.', signal='SIGKILL')
    assert witnessfiles.add(base, run, late)
    told = f'[killed, certain] {run}'
    wait_for(lambda: told in site.event_log.read_text(), what='the new verdict')
    rounds = 3 * 20 * 0.1  # seconds
    wait_for(lambda: site.report()['process']['uptime_seconds'] > 2 * rounds, what='more rounds')
    assert site.event_log.read_text().count(told) == 1


class RootAndNobody:
    """Two Zopes on one data directory, of which nobody can enter each folder.

    The directory belongs to root, and `nobody` may make a run there.
    """

    def __init__(self, place):
        self.root = deaths.Site(place / 'root').create()
        self.nobody = deaths.Site(place / 'nobody').create()
        shared = str(place / 'shared')
        for site in (self.root, self.nobody):
            site.configure(directory=shared, sample_interval='100ms', group='nogroup')
        self.root.start()
        for folder in ('.', 'runs', 'archive', 'installed'):
            (Path(shared) / folder).chmod(0o2770)
        for path in (self.nobody.home, *self.nobody.home.rglob('*')):
            os.chown(path, 65534, 65534)
        self.nobody.prefix = ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups')
        self.nobody.start()


@pytest.mark.root
def test_what_the_user_may_not_write_is_left_and_nothing_is_logged(request):
    """`nobody` sees how the Zope of root ends, and root does not look at the run of `nobody`."""
    place = Path(tempfile.mkdtemp(prefix='users-'))
    place.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(place))
    pair = RootAndNobody(place)
    request.addfinalizer(pair.root.destroy)
    request.addfinalizer(pair.nobody.destroy)
    wait_for(lambda: watches(pair.nobody) == 1, what='the Zope of root is watched')
    assert watches(pair.root) == 0
    run = run_of(pair.root)
    pair.root.kill().wait_exit()
    wait_for(lambda: watches(pair.nobody) == 0, what='its end was seen')
    assert witnessfiles.of_run(pair.root.stability / 'runs' / run) == ()
    assert 'another Zope' not in pair.nobody.event_log.read_text()
    assert 'heartbeat' not in pair.nobody.event_log.read_text()
