"""Muted findings: they are shown again after the end date, and a damaged file mutes nothing."""

import errno
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
from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.checks.muted import MuteRefused
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.severities import SEVERITIES
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.store import editedlist

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
def muted(tmp_path, clock):
    return MuteList(tmp_path, 'site one', clock=clock)


def finding(id='terminal', severity='warning'):
    return Finding(id, SEVERITIES[severity], 'It is so.')


def ids(pair):
    shown, hidden = pair
    return [f.id for f in shown], [f.id for f, _ in hidden]


def test_a_finding_can_be_muted_and_unmuted(muted):
    assert ids(muted.partition([finding(), finding('other')])) == (['terminal', 'other'], [])
    mute = muted.mute('terminal', ' a developer sits there ', '2026-12-24', 'admin', 'warning')
    assert (mute.reason, mute.until, mute.who, mute.since) == (
        'a developer sits there',
        '2026-12-24',
        'admin',
        '2026-11-23T23:30:00.000Z',
    )
    shown, hidden = muted.partition([finding(), finding('other')])
    assert [f.id for f in shown] == ['other']
    assert hidden == [(finding(), mute)]
    assert muted.unmute('terminal')
    assert not muted.unmute('terminal')
    assert ids(muted.partition([finding()])) == (['terminal'], [])


def test_the_file_is_private_and_whole(muted, tmp_path):
    muted.mute('x', 'r', '2026-12-01', 'w')
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == [FILE, f'{FILE}.lock']
    assert json.loads((tmp_path / FILE).read_text())['muted'][0]['id'] == 'x'


def test_a_mute_ends_after_its_last_day(muted, clock):
    muted.mute('terminal', 'r', date(2026, 11, 25), 'w')
    for days, counts in ((0, True), (1, True), (2, True), (3, False), (400, False)):
        clock.now = TODAY + timedelta(days=days)
        assert ids(muted.partition([finding()]))[1] == (['terminal'] if counts else [])


def test_a_muted_finding_that_became_worse_is_shown(muted):
    muted.mute('terminal', 'r', '2026-12-01', 'w', 'warning')
    assert ids(muted.partition([finding(severity='critical')])) == (['terminal'], [])
    assert ids(muted.partition([finding(severity='info')])) == ([], ['terminal'])


def test_an_ok_finding_is_never_muted(muted):
    muted.mute('terminal', 'r', '2026-12-01', 'w')
    assert ids(muted.partition([finding(severity='ok')])) == (['terminal'], [])


def test_each_instance_has_its_own_mutes(muted, tmp_path, clock):
    other = MuteList(tmp_path, 'site two', clock=clock)
    muted.mute('terminal', 'r', '2026-12-01', 'w')
    assert ids(other.partition([finding()])) == (['terminal'], [])
    assert not other.unmute('terminal')
    other.mute('terminal', 'too', '2026-12-02', 'w')
    assert muted.partition([finding()])[1][0][1].reason == 'r'
    MuteList(tmp_path, '', clock=clock).mute('other', 'for all', '2026-12-01', 'w')
    assert ids(other.partition([finding('other')])) == ([], ['other'])


def test_a_second_mute_replaces_the_first(muted):
    muted.mute('terminal', 'one', '2026-12-01', 'w')
    muted.mute('terminal', 'two', '2026-12-02', 'w')
    assert [h.reason for h in muted.rows()[0]] == ['two']


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
def test_a_mute_without_a_reason_or_a_valid_end_is_refused(muted, tmp_path, reason, until):
    with pytest.raises(MuteRefused) as caught:
        muted.mute('terminal', reason, until, 'w')
    assert 'reason, and an end date' in str(caught.value)
    assert not (tmp_path / FILE).exists()


def test_an_end_date_may_be_a_date_a_datetime_or_text(muted):
    for until in (date(2026, 12, 1), datetime(2026, 12, 1, 5), ' 2026-12-01 '):
        assert muted.mute('x', 'r', until, 'w').until == '2026-12-01'


def test_a_long_reason_is_cut(muted):
    assert len(muted.mute('x', 'r' * 100_000, '2026-12-01', 'w' * 100_000).reason) == 500


GOOD = {'id': 'terminal', 'reason': 'r', 'until': '2026-12-01', 'who': 'w'}


@pytest.mark.parametrize(
    'content, kept',
    [
        ('', 0),
        ('{', 0),
        ('[]', 0),
        ('null', 0),
        ('{"muted": 5}', 0),
        ('{"muted": null}', 0),
        ('\xff\xfe', 0),
        ('[' * 100_000, 0),
        (json.dumps({'muted': [GOOD, 5, {}, None, 'x', {'id': 'x'}]}), 1),
        (
            json.dumps(
                {
                    'muted': [
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
def test_a_damaged_file_is_a_finding(muted, tmp_path, content, kept):
    (tmp_path / FILE).write_text(content, encoding='latin-1')
    shown, hidden = muted.partition([finding()])
    assert (
        shown[0].id == 'muted'
        and shown[0].severity.code == 'warning'
        and str(tmp_path / FILE) in str(shown[0].action)
    )
    assert len(hidden) == kept
    muted.mute('other', 'r', '2026-12-01', 'w')  # good entries stay; the bad file is kept as a copy
    assert len(muted.rows()[0]) == kept + 1 and muted.rows()[1] is None
    assert (tmp_path / f'{FILE}.damaged').read_text(encoding='latin-1') == content


def test_fields_of_a_later_release_do_no_harm(muted, tmp_path):
    (tmp_path / FILE).write_text(json.dumps({'muted': [GOOD | {'colour': 'red'}], 'version': 9}))
    assert ids(muted.partition([finding()])) == ([], ['terminal'])


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(['muted', 'id', 'reason', 'until', 'who', 'severity']),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps({'muted': value}).encode())
)
def test_no_content_of_the_file_raises(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp('fuzz')
    (folder / FILE).write_bytes(content)
    shown, hidden = MuteList(folder).partition([finding()])
    assert len([f for f in shown if f.id == 'terminal']) + len(hidden) == 1


def test_a_directory_instead_of_the_file_is_a_finding(muted, tmp_path):
    (tmp_path / FILE).mkdir()
    assert ids(muted.partition([finding()])) == (['muted', 'terminal'], [])


def test_no_mute_is_lost_between_writers(tmp_path, clock):
    """Each thread makes its own MuteLists, like several processes on one directory."""

    def write(number):
        for step in range(5):
            MuteList(tmp_path, f'site {number}', clock=clock).mute(
                f'id-{step}', 'r', '2026-12-01', 'w'
            )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(MuteList(tmp_path, clock=clock).rows()[0]) == 30


def test_a_lock_held_by_another_process_refuses_the_mute(muted, tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(editedlist, '_PATIENCE', 0.05)
    with open(tmp_path / f'{FILE}.lock', 'w') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(editedlist.ListIsBusy, match='Another process .* Try again'):
            muted.mute('x', 'r', '2026-12-01', 'w')
    muted.mute('x', 'r', '2026-12-01', 'w')


OLD_ROW = {'id': 'terminal', 'reason': 'r', 'until': '2026-12-24', 'who': 'ada'}


def test_the_file_of_an_older_release_is_read_until_there_is_a_new_one(muted, tmp_path):
    (tmp_path / 'hushed.json').write_text(json.dumps({'hushed': [OLD_ROW]}))
    assert ids(muted.partition([finding()])) == ([], ['terminal'])
    muted.mute('other', 'r', '2026-12-01', 'w')
    assert ids(muted.partition([finding(), finding('other')])) == ([], ['terminal', 'other'])
    assert muted.unmute('terminal')
    assert ids(muted.partition([finding()])) == (['terminal'], [])


def test_a_finding_that_had_another_id_stays_muted(muted, tmp_path):
    (tmp_path / 'hushed.json').write_text(json.dumps({'hushed': [OLD_ROW | {'id': 'dead-man'}]}))
    assert ids(muted.partition([finding('watchdog')])) == ([], ['watchdog'])


def test_a_damaged_file_of_an_older_release_mutes_nothing(muted, tmp_path):
    (tmp_path / 'hushed.json').write_text('[')
    assert ids(muted.partition([finding()])) == (['muted', 'terminal'], [])


def test_a_list_that_cannot_be_opened_now_is_not_damaged(muted, monkeypatch):
    """No descriptor is left: nothing is known of the list, and it must not be replaced."""

    def refused(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    muted.mute('a', 'known', '2026-12-24', 'me')
    before = muted.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(editedlist, 'read_whole', refused)
        found = Finding('a', WARNING, 'It is a.')
        assert muted.partition([found]) == ([found], [])
        with pytest.raises(OSError):
            muted.mute('b', 'known', '2026-12-24', 'me')
    assert muted.path.read_bytes() == before
    assert [mute.id for mute in muted.rows()[0]] == ['a']
