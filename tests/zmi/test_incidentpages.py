"""The values of the table of incidents and of the page of one incident."""

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import record

from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytest.importorskip('AccessControl')

from Products.StabilityMonitor.zmi import incidenttable
from Products.StabilityMonitor.zmi import pages

pytestmark = [pytest.mark.zope, pytest.mark.in_process]


@pytest.mark.parametrize('direction', ['asc', 'desc'])
def test_the_table_can_be_sorted_by_confidence(tmp_path, direction):
    base = Base(tmp_path / 'stability')
    base.prepare()
    words = ['certain', 'weak', 'a word of a later release', 'strong', 'likely']
    for number, word in enumerate(words):
        crashed = record(number, 'crashed', confidence=word)
        (base.runs / crashed.run).mkdir()
        Archive(base).add(base.runs / crashed.run, crashed)
    life = FakeLife(tmp_path, instance=HERE)
    form = {'sort': 'confidence', 'dir': direction}
    rows = incidenttable.table(life, Archive(base), form)['rows']
    expected = ['weak', 'likely', 'strong']
    found = [row['confidence'] for row in rows]
    if direction == 'desc':
        found.reverse()
    assert found[:3] == expected and set(found[3:]) == {words[0], words[2]}


@pytest.mark.parametrize(
    'ended, lasted',
    [(None, '30 s, until the run ended'), (1795419931.0, '30 s, then it ended')],
)
def test_a_hang_shows_whether_it_lasted_until_the_end(ended, lasted):
    words = 'Two threads wait for each other.'
    hang = Event('deadlock', 1795419901.0, ended, seconds=30.0, summary=words)
    row = pages.hang_row(hang)
    assert (row['kind'], row['lasts'], row['lasted']) == ('Deadlock', ended is None, lasted)
    assert row['summary'] == words and '2026-11-23 07:45:01' in row['started']
