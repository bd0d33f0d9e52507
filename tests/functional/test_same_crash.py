"""Real Zopes end the same way again, with other threads, lines and folders: same ends are one group
of incidents, others are not.

Records of the same on Python 3.11 and 3.14 are in tests/data; tests/knowledge compares them.
"""

from collections import Counter

import pytest
from support import crashers
from support import deaths
from support.corefiles import why_no_core
from support.crashesagain import CIRCUMSTANCES
from support.crashesagain import Again
from support.crashesagain import moved
from support.crashtable import all_crashes
from support.deaths import PRODUCTS
from support.standstills import STANDING
from support.standstills import STANDSTILLS
from support.standstills import StandingSite
from support.zopekit import wait_for

from Products.StabilityMonitor.knowledge import crashgroups
from Products.StabilityMonitor.knowledge.diagnosis import source_reader
from Products.StabilityMonitor.knowledge.signatures import signature_of
from Products.StabilityMonitor.postmortem.hangnotes import lasting
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = [pytest.mark.zope, pytest.mark.gcc]
NO_CORE = why_no_core()
#: What CI tries; each takes seconds.
CHOSEN = ('null', 'import_one_of_two?name=prices', 'import_one_of_two?name=taxes')
#: Those of which other requests in progress, or an end without any stack, hide what it was.
HIDDEN = ('exit_in_c', 'null_in_native_thread')


@pytest.fixture
def site_in(tmp_path):
    """A function that makes a Zope in given circumstances and starts it."""
    sites = []

    def start(circumstances, cores):
        try:
            crashers.site(), crashers.innocents()
        except crashers.Unavailable as error:
            pytest.skip(str(error))
        site = Again(tmp_path / f'{circumstances.id}-{cores}', circumstances, cores)
        sites.append(site)
        return site.create().start()

    yield start
    for site in sites:
        site.destroy()


@pytest.mark.slow(40)
@pytest.mark.skipif(bool(NO_CORE), reason=NO_CORE)
def test_a_crash_is_known_again_also_without_a_core_file(site_in):
    crashes = [crash for crash in all_crashes() if crash.page in CHOSEN]
    _try(site_in, crashes, [('first', True), ('moved', True), ('elsewhere', False)])


@pytest.mark.sweep
@pytest.mark.slow(1200)
@pytest.mark.parametrize(
    'cores',
    [
        pytest.param(True, id='core', marks=pytest.mark.skipif(bool(NO_CORE), reason=NO_CORE)),
        pytest.param(False, id='no core'),
    ],
)
def test_that_holds_for_all_crashes(site_in, cores):
    by_name = [crash for crash in all_crashes() if crash.page.startswith('import_by_name')]
    crashes = [
        crash
        for crash in all_crashes()
        if crash.page not in HIDDEN and (cores or crash not in by_name)
    ]
    _try(site_in, crashes, [(id, cores) for id in CIRCUMSTANCES])


def _try(site_in, crashes, circumstances):
    signed = []
    for id, cores in circumstances:
        site = site_in(CIRCUMSTANCES[id], cores)
        signed += [(crash.page, site.record(crash)) for crash in crashes]
        site.stop()
    _compare(signed)


def _compare(ended):
    """Check that the records of one end are one group, and those of others are not in it.

    `ended` are pairs (end, record).
    """
    ends = {record.run: end for end, record in ended}
    signatures = {record.run: signature_of(record, source_reader(record)) for end, record in ended}
    told = '\n'.join(
        f'{end}: {signature.strict if (signature := signatures[run]) else None}'
        for run, end in ends.items()
    )
    groups = crashgroups.groups([record for end, record in ended], signatures)
    found = [sorted(ends[run.run] for run in group.runs) for group in groups]
    times = Counter(ends.values())
    assert sorted(found) == sorted([end] * count for end, count in times.items()), told


# -- ends without a stack --------------------------------------------------------------------------


class EndingSite(StandingSite):
    """One instance whose processes hang, exit, or do not even start, one after the other."""

    def __init__(self, folder, is_moved):
        super().__init__(folder)
        self.is_moved = is_moved

    def create(self):
        super().create()
        self.publish((PRODUCTS / 'ways_to_die.py').read_text(), 'TestDying')
        self.publish((PRODUCTS / 'unlucky.py').read_text(), 'Unlucky')
        if self.is_moved:
            for path in self.products_dir.glob('Products/*/__init__.py'):
                path.write_text(moved(path.read_text()))
        return self

    def judged(self, end):
        """Let it end so, start it again, and return the record of that run."""
        self.run_as(STANDING)
        run = end(self)
        self.run_as(STANDING)
        wait_for(lambda: run in self.archived(), what=f'the record of {run}')
        return Archive(Base(self.stability)).record(run)


def _exits(path):
    def end(site):
        run = site.run_directory.name
        site.crash(path)
        return run

    return end


def _hangs(id):
    (way,) = [way for way in STANDSTILLS if way.id == id]

    def end(site):
        way.begin(site)
        wait_for(lambda: lasting(site.recording().notes, way.kind), what=f'the note of {id}')
        run = site.run_directory.name
        site.end('SIGKILL')
        return run

    return end


def _fails_to_start(setting, trouble=deaths.no_trouble):
    def end(site):
        site.stop()
        with trouble(site):
            site.run_as(setting, wait=False)
            site.wait_exit()
        return site.run_directory.name

    return end


ENDS = {
    'an exit': _exits('/leave'),
    'an exit in C': _exits('/exit_in_c'),
    'an exception in the main thread': _exits('/raise_in_main'),
    'a deadlock': _hangs('a deadlock of two requests'),
    'all workers sleep': _hangs('all workers sleep'),
    'all workers ask': _hangs('all wait for a socket that never answers'),
    'the main thread spins': _hangs('the main thread spins'),
    'the loop waits': _hangs('the loop of the server waits for a lock of a request'),
    'an error at import': _fails_to_start(deaths.unlucky('raise-import')),
    'an error in the ZCML': _fails_to_start(STANDING, deaths.bad_zcml),
    'a port in use': _fails_to_start(STANDING, deaths.port_in_use),
    'a locked database': _fails_to_start(STANDING, deaths.locked_database),
}


@pytest.mark.sweep
@pytest.mark.slow(200)
def test_other_ends_are_known_again(tmp_path):
    ended = []
    for name, is_moved in (('first', False), ('again', True)):
        site = EndingSite(tmp_path / name, is_moved).create()
        try:
            ended += [(id, site.judged(end)) for id, end in ENDS.items()]
        finally:
            site.destroy()
    _compare(ended)
