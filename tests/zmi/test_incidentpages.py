"""The values of the table of incidents and of the page of one incident."""

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import record
from support.syntheticruns import sample

from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.recording.lifecurve import LifeCurve
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
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
    [(None, 'for 30 s, until the run ended'), (1795419931.0, 'for 30 s, then it ended')],
)
def test_a_hang_shows_whether_it_lasted_until_the_end(ended, lasted):
    words = 'Two threads wait for each other.'
    hang = Event('deadlock', 1795419901.0, ended, seconds=30.0, summary=words)
    row = pages.hang_row(hang, RunRecord('x'))
    assert (row['kind'], row['lasts'], row['lasted']) == ('Deadlock', ended is None, lasted)
    told = words if ended else ''  # the evidence says it
    assert row['summary'] == told and '2026-11-23 07:45:01' in row['started']


# -- vital signs -----------------------------------------------------------------------------------

SERVING = {
    'queue': 2,
    'waited': 1.5,
    'connections': 40,
    'connection_limit': 100,
    'descriptors': 60,
    'descriptor_limit': 80,
}


def captions(charts):
    return {chart.caption for chart in charts if chart.picture}


def test_the_vital_signs_of_a_dead_run_are_drawn_with_its_option_stall(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    dead = record(
        samples=tuple(sample(n, **SERVING) for n in range(9)),
        context={'options': {'stall': 30}},
    )
    (base.runs / dead.run).mkdir()
    Archive(base).add(base.runs / dead.run, dead)
    life = FakeLife(tmp_path, instance=HERE)
    shown = pages.incident(life, Archive(base), dead.run)['charts']
    drawn = {'Memory', 'Visitors who wait', 'Age of the oldest in the queue', 'Connections'}
    assert drawn | {'Open descriptors'} <= captions(shown)
    (age,) = [chart for chart in shown if chart.caption.startswith('Age')]
    assert 'option stall 30 s' in age.picture


def test_the_overview_has_the_vital_signs_of_this_process(tmp_path):
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    life = FakeLife(tmp_path, instance=HERE, recorder=recorder)
    empty = pages.overview(life, Archive(life.base))['vitals']
    assert empty == {'facts': [], 'charts': []}
    curve = LifeCurve(recorder.buffer)
    for n in range(9):
        recorder.sample(sample(n, **SERVING))
        curve.add(sample(n * 60))
    vitals = pages.overview(life, Archive(life.base))['vitals']
    facts = {fact['label']: fact['value'] for fact in vitals['facts']}
    assert facts['Connections'] == '40 of 100' and facts['Open descriptors'] == '60 of 80'
    assert facts['Requests that wait for a worker'] == '2, the oldest for 1.5 s'
    assert {'Connections', 'Memory over the whole life'} <= captions(vitals['charts'])


def test_a_process_that_is_not_recorded_has_no_vital_signs(tmp_path):
    life = FakeLife(tmp_path, instance=HERE)
    vitals = pages.overview(life, Archive(life.base))['vitals']
    assert vitals == {'facts': [], 'charts': []}


@pytest.mark.parametrize('context', [{}, {'options': 7}, {'options': {'stall': 'x'}}])
def test_a_run_without_its_options_has_charts_all_the_same(context):
    assert pages._stall(context) == -1.0
