"""The tables of verdicts, severities and events are complete, and there are no second ones."""

import ast
from pathlib import Path

import pytest

from Products.StabilityMonitor.knowledge.rules import EFFECTS
from Products.StabilityMonitor.model.eventkinds import EVENT_KINDS
from Products.StabilityMonitor.model.eventkinds import event_kind
from Products.StabilityMonitor.model.severities import SEVERITIES
from Products.StabilityMonitor.model.severities import WORST_FIRST
from Products.StabilityMonitor.model.severities import severity_of
from Products.StabilityMonitor.model.verdicts import VERDICTS
from Products.StabilityMonitor.model.verdicts import verdict
from Products.StabilityMonitor.store.blackbox import NOTES

HOUSE = Path(__file__).resolve().parents[2] / 'Products' / 'StabilityMonitor'
TABLES = {
    'verdicts.py': set(VERDICTS),
    'severities.py': set(SEVERITIES),
    'eventkinds.py': set(EVENT_KINDS),
}


def test_all_promised_verdicts_are_in_the_table():
    assert set(VERDICTS) == {
        'running',
        'crashed',
        'stack-overflow',
        'aborted',
        'out-of-memory',
        'startup-failed',
        'unhandled-exception',
        'hung',
        'signalled',
        'stopped',
        'host-restarted',
        'killed',
        'exited',
        'vanished',
        'unreadable',
    }


def test_a_verdict_of_a_later_release_is_an_incident_that_shows_its_code():
    later = verdict('abducted')
    assert (later.ending, later.is_wanted, later.is_crash) == ('abducted', False, False)


def test_the_effects_of_known_issues_name_existing_verdicts():
    assert {code for codes in EFFECTS.values() for code in codes} <= set(VERDICTS)


def test_severities_have_an_order():
    assert [row.code for row in WORST_FIRST] == ['critical', 'warning', 'info', 'ok']
    assert [row.rank for row in WORST_FIRST] == [3, 2, 1, 0]
    assert [row.code for row in WORST_FIRST if row.presses] == ['critical', 'warning']
    assert [severity_of(row.code) for row in WORST_FIRST] == [*WORST_FIRST]


def test_a_severity_of_a_later_release_is_the_least_serious_and_shows_its_code():
    later = severity_of('strange')
    assert (later.rank, later.presses) == (0, False)
    assert {later.code, later.heading, later.one, later.many} == {'strange'}
    assert later not in WORST_FIRST


def test_the_black_box_can_note_begin_and_end_of_each_event():
    for kind in EVENT_KINDS:
        assert {kind, f'{kind}-ended'} <= set(NOTES)
    assert event_kind('strange').headline == 'strange'


@pytest.mark.parametrize('table', TABLES)
def test_no_other_module_has_a_table_of_the_same_codes(table):
    """A dict in the source with two or more of the codes as keys is a second table."""
    second = []
    for path in HOUSE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                if len(keys & TABLES[table]) > 1 and 'error' not in keys:  # levels of logging
                    second.append(f'{path.relative_to(HOUSE)}:{node.lineno}')
    assert second == []
