"""How long a living run is up, as another process tells it: the clock may have been set."""

import time

import pytest

from Products.StabilityMonitor.reporting import fromdisk
from Products.StabilityMonitor.reporting.fromdisk import RecordedRun
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

DAY = 86400


def uptime(folder, step, **context):
    """Return the uptime of a run that began a minute ago, by a clock set by `step` since."""
    now = time.time()
    known = {'started': now - 60, 'monotonic': time.monotonic() - 60, 'identity': identity()}
    base = Base(folder)
    path = base.runs / new_name(now - 60, 1)
    living = RecordedRun(path, known | context, alive=True)
    return fromdisk.process(living, Archive(base), lambda: now + step)['uptime_seconds']


@pytest.mark.parametrize('step', [-1095 * DAY, -70, 0, 90 * DAY])
def test_the_uptime_comes_from_the_monotonic_clock(tmp_path, step):
    assert 60 <= uptime(tmp_path, step) < DAY


@pytest.mark.parametrize(
    'context',
    [
        {'identity': {'boot_id': 'another'}},
        {'identity': 5},
        {'monotonic': None},
        {'monotonic': 'x'},
        {'monotonic': 1e300},
        {'monotonic': float('nan')},
    ],
    ids=str,
)
def test_else_from_the_wall_clock_and_is_never_negative(tmp_path, context):
    assert uptime(tmp_path, 0, **context) == pytest.approx(60)
    assert uptime(tmp_path, 5 * DAY, **context) == pytest.approx(60 + 5 * DAY)
    assert uptime(tmp_path, -5 * DAY, **context) == 0
