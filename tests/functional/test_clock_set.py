"""A real Zope whose clock is set while it runs.

Only the process's own view of the clock changes, because a test cannot set that of the machine.
"""

import pytest
from support.deaths import PATIENCE
from support.deaths import Site
from support.zopekit import wait_for

pytestmark = pytest.mark.zope
DAY = 86400
#: A product that is imported before this one.
AHEAD = """
import time
real = time.time
time.time = lambda: real() + 3 * 365 * 86400
"""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / 'site', options={'sample-interval': '100ms'}).create()
    yield site
    site.destroy()


@pytest.mark.parametrize('days', [-1095, 90, 20454])
def test_a_clock_that_is_set_does_not_change_how_long_zope_was_up(site, days):
    site.start()
    assert site.get(f'/set_clock?seconds={days * DAY}').status == 204
    step = abs(days) * DAY

    def is_seen():
        (first, *_, last) = site.recording().samples
        return abs(last.time - first.time) > step / 2

    wait_for(is_seen, PATIENCE, 'a sample of the clock that was set')
    assert 0 <= site.report()['process']['uptime_seconds'] < DAY
    site.kill()
    site.wait_exit()
    site.start()
    assert 0 < site.previous()['uptime_seconds'] < DAY
    (line,) = [line for line in site.event_log.read_text().splitlines() if 'The last run (' in line]
    assert ' days ' not in line
    assert 'The clock was set ' in str(site.previous()['evidence'])
    assert '/set_clock' in [request['path'] for request in site.previous()['recent']]


def test_a_clock_that_is_ahead_at_a_start_removes_no_run_for_its_age(site):
    """The oldest run goes, because of `keep-runs`: so the others were looked at, and stay."""
    runs = []
    for _ in range(3):
        site.start()
        runs.append(site.run_directory.name)
        assert site.crash('/segfault') == -11
    product = site.products_dir / 'Products' / 'AheadOfTime'
    product.mkdir()
    (product / '__init__.py').write_text(AHEAD)
    site.options['keep-runs'] = '2'
    site.configure().start()
    assert int(site.run_directory.name[:4]) > int(runs[0][:4]), 'the clock is not ahead'
    wait_for(lambda: site.archived() == set(runs[1:]), PATIENCE, 'the oldest run is removed')
