"""Hushed findings: shown again in time, never lost, and a damaged file hushes nothing."""

import json
import os
import threading
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.checks.muted import FILE
from Products.StabilityMonitor.checks.muted import Hushed
from Products.StabilityMonitor.checks.muted import HushRefused
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.severities import SEVERITIES

TODAY = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = TODAY

    def __call__(self):
        return self.now.timestamp()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hushed(tmp_path, clock):
    return Hushed(tmp_path, 'site one', clock=clock)


def finding(id='terminal', severity='warning'):
    return Finding(id, SEVERITIES[severity], 'It is so.')


def ids(pair):
    shown, hidden = pair
    return [f.id for f in shown], [f.id for f, _ in hidden]


def test_hush_and_unhush(hushed):
    assert ids(hushed.partition([finding(), finding('other')])) == (['terminal', 'other'], [])
    hush = hushed.hush('terminal', ' a developer sits there ', '2026-12-24', 'admin', 'warning')
    assert (hush.reason, hush.until, hush.who, hush.since) == (
        'a developer sits there',
        '2026-12-24',
        'admin',
        '2026-11-23T23:30:00.000Z',
    )
    shown, hidden = hushed.partition([finding(), finding('other')])
    assert [f.id for f in shown] == ['other']
    assert hidden == [(finding(), hush)]
    assert hushed.unhush('terminal')
    assert not hushed.unhush('terminal')
    assert ids(hushed.partition([finding()])) == (['terminal'], [])


def test_the_file_is_private_and_whole(hushed, tmp_path):
    hushed.hush('x', 'r', '2026-12-01', 'w')
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == [FILE, f'{FILE}.lock']
    assert json.loads((tmp_path / FILE).read_text())['hushed'][0]['id'] == 'x'


def test_it_ends_after_its_last_day(hushed, clock):
    hushed.hush('terminal', 'r', date(2026, 11, 25), 'w')
    for days, counts in ((0, True), (1, True), (2, True), (3, False), (400, False)):
        clock.now = TODAY + timedelta(days=days)
        assert ids(hushed.partition([finding()]))[1] == (['terminal'] if counts else [])


def test_what_has_become_worse_is_shown(hushed):
    hushed.hush('terminal', 'r', '2026-12-01', 'w', 'warning')
    assert ids(hushed.partition([finding(severity='critical')])) == (['terminal'], [])
    assert ids(hushed.partition([finding(severity='info')])) == ([], ['terminal'])


def test_what_is_fine_is_never_hushed(hushed):
    hushed.hush('terminal', 'r', '2026-12-01', 'w')
    assert ids(hushed.partition([finding(severity='ok')])) == (['terminal'], [])


def test_each_instance_has_its_own(hushed, tmp_path, clock):
    other = Hushed(tmp_path, 'site two', clock=clock)
    hushed.hush('terminal', 'r', '2026-12-01', 'w')
    assert ids(other.partition([finding()])) == (['terminal'], [])
    assert not other.unhush('terminal')
    other.hush('terminal', 'too', '2026-12-02', 'w')
    assert hushed.partition([finding()])[1][0][1].reason == 'r'
    Hushed(tmp_path, '', clock=clock).hush('other', 'for all', '2026-12-01', 'w')
    assert ids(other.partition([finding('other')])) == ([], ['other'])


def test_a_second_hush_takes_the_place_of_the_first(hushed):
    hushed.hush('terminal', 'one', '2026-12-01', 'w')
    hushed.hush('terminal', 'two', '2026-12-02', 'w')
    assert [h.reason for h in hushed.rows()[0]] == ['two']


@pytest.mark.parametrize(
    'reason, until',
    [
        ('', '2026-12-01'),
        ('  ', '2026-12-01'),
        ('r', '2026-11-22'),
        ('r', '2028-01-01'),
        ('r', 'tomorrow'),
        ('r', ''),
        ('r', None),
        ('r', '2026-02-30'),
    ],
)
def test_refused(hushed, tmp_path, reason, until):
    with pytest.raises(HushRefused) as caught:
        hushed.hush('terminal', reason, until, 'w')
    assert 'reason, and an end date' in str(caught.value)
    assert not (tmp_path / FILE).exists()


def test_dates_of_all_kinds(hushed):
    for until in (date(2026, 12, 1), datetime(2026, 12, 1, 5), ' 2026-12-01 '):
        assert hushed.hush('x', 'r', until, 'w').until == '2026-12-01'


def test_long_words_are_cut(hushed):
    assert len(hushed.hush('x', 'r' * 100_000, '2026-12-01', 'w' * 100_000).reason) == 500


GOOD = {'id': 'terminal', 'reason': 'r', 'until': '2026-12-01', 'who': 'w'}


@pytest.mark.parametrize(
    'content, kept',
    [
        ('', 0),
        ('{', 0),
        ('[]', 0),
        ('null', 0),
        ('{"hushed": 5}', 0),
        ('{"hushed": null}', 0),
        ('\xff\xfe', 0),
        ('[' * 100_000, 0),
        (json.dumps({'hushed': [GOOD, 5, {}, None, 'x', {'id': 'x'}]}), 1),
        (
            json.dumps(
                {
                    'hushed': [
                        GOOD | {'until': 'never'},
                        GOOD | {'reason': 5},
                        GOOD | {'id': ''},
                        GOOD,
                    ]
                }
            ),
            1,
        ),
    ],
    ids=range(10),
)
def test_a_damaged_file_is_a_finding(hushed, tmp_path, content, kept):
    (tmp_path / FILE).write_text(content, encoding='latin-1')
    shown, hidden = hushed.partition([finding()])
    assert (
        shown[0].id == 'hushed'
        and shown[0].severity.code == 'warning'
        and str(tmp_path / FILE) in str(shown[0].action)
    )
    assert len(hidden) == kept
    hushed.hush('other', 'r', '2026-12-01', 'w')  # what was good stays, what was bad is put aside
    assert len(hushed.rows()[0]) == kept + 1 and hushed.rows()[1] is None
    assert (tmp_path / f'{FILE}.damaged').read_text(encoding='latin-1') == content


def test_fields_of_a_later_release_do_no_harm(hushed, tmp_path):
    (tmp_path / FILE).write_text(json.dumps({'hushed': [GOOD | {'colour': 'red'}], 'version': 9}))
    assert ids(hushed.partition([finding()])) == ([], ['terminal'])


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(['hushed', 'id', 'reason', 'until', 'who', 'severity']),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps({'hushed': value}).encode())
)
def test_no_content_raises(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp('fuzz')
    (folder / FILE).write_bytes(content)
    shown, hidden = Hushed(folder).partition([finding()])
    assert len([f for f in shown if f.id == 'terminal']) + len(hidden) == 1


def test_a_directory_in_its_place(hushed, tmp_path):
    (tmp_path / FILE).mkdir()
    assert ids(hushed.partition([finding()])) == (['hushed', 'terminal'], [])


def test_no_hush_is_lost_between_writers(tmp_path, clock):
    """Threads and their own Hushed objects, as of several processes on one directory."""

    def write(number):
        for step in range(5):
            Hushed(tmp_path, f'site {number}', clock=clock).hush(
                f'id-{step}', 'r', '2026-12-01', 'w'
            )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Hushed(tmp_path, clock=clock).rows()[0]) == 30


def test_another_process_that_keeps_the_lock(hushed, tmp_path, monkeypatch):
    import fcntl

    from Products.StabilityMonitor.checks import muted as module

    monkeypatch.setattr(module, '_PATIENCE', 0.05)
    with open(tmp_path / f'{FILE}.lock', 'w') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HushRefused, match='Another process .* Try again'):
            hushed.hush('x', 'r', '2026-12-01', 'w')
    hushed.hush('x', 'r', '2026-12-01', 'w')
