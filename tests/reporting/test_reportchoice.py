import copy

import pytest

from Products.StabilityMonitor.reporting.reportchoice import PARTS
from Products.StabilityMonitor.reporting.reportchoice import Reporter
from Products.StabilityMonitor.reporting.reportchoice import chosen

ADA = Reporter('Ada', 'ada@example.org', 'I saved a page.', 'That it is saved.')
RUN = {
    'run': 'r',
    'requests': [{'path': '/secret'}],
    'threads': [{'ident': 1, 'crashed': True}, {'ident': 2, 'crashed': False}],
    'core': {'threads': [{'native_id': 1, 'crashed': True}, {'native_id': 2}]},
    'context': {'distributions': {'lxml': '6'}, 'python': '3.11'},
    'log': [{'message': 'secret'}],
    'seen_before': {
        'count': 1,
        'different': [
            {'kind': 'path', 'before': '/secret', 'after': '/secret/2'},
            {'kind': 'user', 'who': ['secret']},
            {'kind': 'uptime', 'before': '1', 'after': '90'},
        ],
    },
}
REPORT = {
    'schema': 'stabilitymonitor/1',
    'history': [{'run': 'r'}],
    'incident': RUN,
    'previous': None,
    'logs': [{'text': 'secret'}],
    'threads': [{'ident': 3}],
    'inventory': {'distributions': [{'name': 'lxml'}], 'products': ['Shop']},
}


def test_everything_chosen_changes_nothing_but_adds_who_reports():
    found = chosen(REPORT, PARTS, ADA)
    assert found == REPORT | {'reporter': vars(ADA), 'parts': list(PARTS)}


def test_what_was_not_chosen_is_empty_and_the_shape_is_kept():
    found = chosen(REPORT, (), ADA)
    assert 'secret' not in str(found)
    assert found.keys() == REPORT.keys() | {'reporter', 'parts'}
    incident = found['incident']
    assert incident['threads'] == [{'ident': 1, 'crashed': True}]
    assert incident['core']['threads'] == [{'native_id': 1, 'crashed': True}]
    assert incident['context'] == {'distributions': {}, 'python': '3.11'}
    assert [each['kind'] for each in incident['seen_before']['different']] == ['uptime']
    assert found['inventory'] == {'distributions': [], 'products': ['Shop']}
    assert found['reporter'] == vars(ADA) | {'name': '', 'email': ''}


def test_the_report_itself_is_not_changed():
    before = copy.deepcopy(REPORT)
    chosen(REPORT, (), ADA)
    assert before == REPORT


@pytest.mark.parametrize('part', PARTS)
def test_each_part_can_be_left_out_alone(part):
    rest = [name for name in PARTS if name != part]
    assert chosen(REPORT, rest, ADA)['parts'] == rest


def test_unknown_parts_and_odd_values_do_no_harm():
    odd = REPORT | {'incident': {'core': None, 'context': 7, 'threads': 'x', 'log': None}}
    assert chosen(odd, ['unknown'], ADA)['parts'] == []


def test_what_was_not_chosen_is_empty_in_the_lists_of_runs_too():
    """They have the requests that were in progress at the end."""
    rows = [{'run': 'a', 'requests': [{'path': '/private'}]}, 'damaged']
    report = {'history': rows, 'signature': {'id': 'x', 'incidents': rows}}
    found = chosen(report, [part for part in PARTS if part != 'requests'], ADA)
    for kept in (found['history'], found['signature']['incidents']):
        assert kept == [{'run': 'a', 'requests': []}, 'damaged']
    assert report['signature']['incidents'][0]['requests']
