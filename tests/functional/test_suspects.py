"""Compiled modules crash in requests of a real Zope, and the next process names them.

Ten innocent compiled modules, and Zope's own, are loaded and used in the same requests.  `python
tests/functional/measure_suspects.py` prints the table of all crashes.
"""

import pytest
from support import crashers
from support.corefiles import why_no_core
from support.crashmeasure import CrashSite
from support.crashmeasure import share
from support.crashmeasure import table
from support.crashtable import OF_OTHERS
from support.crashtable import OF_PRODUCTS

pytestmark = [pytest.mark.zope, pytest.mark.gcc]
#: At least this share of the first suspects is right, {with a core file: share}.
SHARES = {True: 0.9, False: 0.7}
#: What CI tries, {with a core file: pages}; each takes seconds.
CHOSEN = {
    True: {
        'stack_overflow',
        'null_in_native_thread',
        'double_free',
        'through_cffi',
        'null_in_rust',
        'below_lxml',
        'damaged_btree',
        'damaged_list',
    },
    False: {'double_free', 'through_cffi', 'null_in_rust', 'below_lxml', 'damaged_list'},
}
NO_CORE = why_no_core()
needs_core = pytest.mark.skipif(bool(NO_CORE), reason=NO_CORE)
CORES = pytest.mark.parametrize(
    'cores', [pytest.param(True, id='core', marks=needs_core), pytest.param(False, id='no core')]
)


@pytest.fixture
def crash_site(tmp_path):
    """A function that starts a Zope with the compiled modules, with or without core files."""
    sites = []

    def start(cores):
        try:
            crashers.site(), crashers.innocents()
        except crashers.Unavailable as error:
            pytest.skip(str(error))
        site = CrashSite(tmp_path / 'zope', cores)
        sites.append(site)
        return site.create().start()

    yield start
    for site in sites:
        site.destroy()


@pytest.mark.slow(60)
@CORES
def test_the_culprit_is_the_first_suspect_and_no_innocent_module_is_accused(crash_site, cores):
    chosen = [crash for crash in OF_PRODUCTS + OF_OTHERS if crash.page in CHOSEN[cores]]
    _try(crash_site(cores), cores, chosen)


@pytest.mark.sweep
@pytest.mark.slow(600)
@CORES
def test_that_holds_for_all_crashes(crash_site, cores):
    _try(crash_site(cores), cores, OF_PRODUCTS + OF_OTHERS)


def _try(site, cores, crashes):
    absent = crashers.lacking()
    outcomes = [site.outcome(crash) for crash in crashes if crash.culprit not in absent]
    told = table(outcomes)
    print(told)
    assert share(outcomes) >= SHARES[cores], told
    assert [each.crash.page for each in outcomes if each.accused] == [], told
    wrong = [each.crash.page for each in outcomes if not each.has_right_class]
    assert wrong == [], told
