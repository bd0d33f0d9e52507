"""The report of a living site still has each key that an older release wrote."""

import json
import signal

import pytest
from golden import recorded
from support.zopekit import ZopeInstance

pytestmark = pytest.mark.zope

#: Lists of similar rows: each row must have the keys that all golden rows have.
ROWS = ('history', 'checks', 'threads', 'in_flight')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A Zope whose previous process was killed."""
    with ZopeInstance(tmp_path_factory.mktemp('site')) as site:
        site.get('/')
        site.kill(signal.SIGKILL)
        site.wait_exit()
        site.start()
        yield site


@pytest.fixture(scope='module')
def golden():
    return json.loads(recorded.stored('reports/living.json.xz'))


@pytest.fixture(scope='module')
def report(site):
    return site.report()


def keys_of_all(rows):
    return set.intersection(*(set(row) for row in rows))


def test_the_report_has_all_keys_of_the_older_release(golden, report):
    assert golden.keys() <= report.keys()
    assert golden['schema'] == report['schema']


@pytest.mark.parametrize('key', ['instance', 'process', 'previous', 'inventory', 'support'])
def test_each_part_has_all_keys_of_the_older_release(golden, report, key):
    assert golden[key].keys() <= report[key].keys()


@pytest.mark.parametrize('key', ROWS)
def test_each_row_has_all_keys_of_the_older_release(golden, report, key):
    assert report[key] or key == 'checks'  # the checks may still be running
    for row in report[key]:
        assert keys_of_all(golden[key]) <= row.keys()
