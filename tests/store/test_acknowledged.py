"""Acknowledged incidents: kept with name and note; a damaged file acknowledges nothing."""

import json
import os

import pytest

from Products.StabilityMonitor.store.acknowledged import FILE
from Products.StabilityMonitor.store.acknowledged import Acknowledgement
from Products.StabilityMonitor.store.acknowledged import Acknowledgements
from Products.StabilityMonitor.store.rundirectory import Base

ONE = '20261123T020000Z-1-aaaa'
TWO = '20261123T030000Z-2-bbbb'
GOOD = {'runs': [ONE], 'who': 'ada'}


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    for run in (ONE, TWO):
        (base.archive / run).mkdir()
    return base


def acknowledgements(base):
    return Acknowledgements(base, clock=lambda: 1795419901.0)


def test_an_acknowledgement_has_name_note_and_time(base):
    assert acknowledgements(base).read() == ({}, None)
    assert acknowledgements(base).acknowledge([ONE], ' ada ', ' the disk was full ') == 1
    entry = Acknowledgement((ONE,), 'ada', 'the disk was full', '2026-11-23T07:45:01.000Z')
    assert acknowledgements(base).read() == ({ONE: entry}, None)
    assert os.stat(base.path / FILE).st_mode & 0o777 == 0o600


def test_the_first_acknowledgement_of_a_run_stays(base):
    acknowledgements(base).acknowledge([ONE], 'ada', 'first')
    assert acknowledgements(base).acknowledge([ONE, TWO], 'bob', 'second') == 1
    found, _ = acknowledgements(base).read()
    assert {run: entry.who for run, entry in found.items()} == {ONE: 'ada', TWO: 'bob'}


def test_thousands_of_runs_fit_into_one_acknowledgement(base):
    names = [f'20261123T020000Z-{number}-aaaa' for number in range(10, 2510)]
    for name in names:
        (base.archive / name).mkdir()
    acknowledgements(base).acknowledge(names, 'ada', '')
    found, problem = acknowledgements(base).read()
    assert (sorted(found), problem) == (sorted(names), None)


def test_entries_of_removed_runs_are_dropped(base):
    acknowledgements(base).acknowledge([ONE], 'ada', '')
    (base.archive / ONE).rmdir()
    acknowledgements(base).acknowledge([TWO], 'ada', '')
    assert list(acknowledgements(base).read()[0]) == [TWO]


@pytest.mark.parametrize(
    'content, kept',
    [
        ('', []),
        ('[', []),
        ('[]', []),
        ('{"acknowledged": 5}', []),
        (json.dumps({'acknowledged': [GOOD, 5, {}, None, {'runs': ['../x'], 'who': 'w'}]}), [ONE]),
        (json.dumps({'acknowledged': [GOOD, {'runs': [TWO], 'who': 5}]}), [ONE]),
        (json.dumps({'acknowledged': [GOOD, {'runs': TWO, 'who': 'ada'}]}), [ONE]),
    ],
)
def test_a_damaged_file_is_a_finding_and_is_kept_as_a_copy(base, content, kept):
    (base.path / FILE).write_text(content)
    found, problem = acknowledgements(base).read()
    assert list(found) == kept and problem.id == 'acknowledged'
    acknowledgements(base).acknowledge([TWO], 'ada', '')
    found, problem = acknowledgements(base).read()
    assert (sorted(found), problem) == (sorted({*kept, TWO}), None)
    assert (base.path / f'{FILE}.damaged').read_text() == content
