"""The page of a snapshot, the list of snapshots, and the form that keeps one."""

import base64
import re
import time

import pytest
from support.browsing import TAB
from support.fakelife import FakeLife
from support.snapshots import snapshot
from support.stacksdocuments import document
from support.syntheticruns import HERE

from Products.StabilityMonitor.model.errors import NoSuchSnapshot
from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.snapshotrecord import BY_KERNEL
from Products.StabilityMonitor.model.snapshotrecord import READING
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.snapshotfiles import Snapshots

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.zmi import snapshotpages

pytestmark = [pytest.mark.zope]
in_process = pytest.mark.in_process

NATIVE = """Traceback for thread 12 (python) [Has the GIL] (most recent call last):
    (Python) File "/site/shop.py", line 7, in view
    (C) File "parser.c", line 9, in parse (libxml2.so.2)
"""


@pytest.fixture
def life(tmp_path):
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    life = FakeLife(tmp_path / 'stability', instance=HERE, recorder=recorder)
    life.base.prepare()
    life.stacks = lambda: from_json(Stacks, document())
    return life


class Taking:
    """Native stacks that are there at once; without output, the job cannot be started."""

    output = NATIVE

    def __init__(self, pid):
        self.result, self.error = self.output or '', '' if self.output else 'No thread is left.'

    def start(self, then):
        if self.output is not None:
            then()
        return self.output is not None


@pytest.fixture
def taking(monkeypatch):
    monkeypatch.setattr(snapshotpages.nativestacks, 'NativeStacks', Taking)
    return Taking


def keep(life, **form):
    return Snapshots(life.base).record(snapshotpages.keep(life, form, 'ada'))


@in_process
def test_the_button_keeps_this_moment(life):
    found = keep(life, note=' the search is slow ')
    assert (found.who, found.note, found.run) == ('ada', 'the search is slow', life.name)
    assert found.told_by == 'process' and found.threads and found.native_state == ''
    assert found.inventory['distributions'] and found.process['pid'] == life.pid
    with panel(life) as ask:
        page = ask('manage_snapshot', snapshot=found.id)
        assert b'the search is slow' in page and found.summary.encode() in page
        assert b'Native stacks' not in page
        assert f'manage_snapshot?snapshot={found.id}'.encode() in ask('manage_incidents')


@in_process
def test_native_stacks_come_later(life, taking):
    found = keep(life, native='yes')
    assert found.native_state == 'read'
    assert [frame.function for frame in found.native_threads[0].frames] == ['parse', 'view']
    with panel(life) as ask:
        page = ask('manage_snapshot', snapshot=found.id)
        assert b'parse (libxml2.so.2, parser.c:9)' in page and b'holds the GIL' in page


@in_process
def test_native_stacks_that_cannot_be_read_leave_the_snapshot(life, taking, monkeypatch):
    monkeypatch.setattr(taking, 'output', None)
    found = keep(life, native='yes')
    assert (found.native_state, found.native_error) == ('failed', 'No thread is left.')
    with panel(life) as ask:
        assert b'No thread is left.' in ask('manage_snapshot', snapshot=found.id)


@in_process
def test_the_page_leads_to_itself_until_the_native_stacks_are_there(life):
    for ago, words in ((1, 'Load this page again'), (3600, 'the process has ended meanwhile')):
        record = snapshot(ago, time=time.time() - ago, native_threads=(), native_state=READING)
        Snapshots(life.base).add(record)
        with panel(life) as ask:
            assert words.encode() in ask('manage_snapshot', snapshot=record.id)


@in_process
def test_nothing_is_kept_where_nothing_is_recorded(life):
    life.recorder = None
    with pytest.raises(snapshotpages.NothingToKeep):
        snapshotpages.keep(life, {}, 'ada')
    assert snapshotpages.form(life, True) == {'snapshot_form': None}
    assert Snapshots(life.base).names() == []


@in_process
def test_only_who_may_manage_gets_the_form(life):
    assert snapshotpages.form(life, False) == {'snapshot_form': None}
    form = snapshotpages.form(life, True)['snapshot_form']
    assert form['fields']['token'] and form['fields']['run'] == life.name


@in_process
def test_the_page_shows_all_that_was_kept(life):
    Snapshots(life.base).add(snapshot(1, note='<b>slow</b>'))
    with panel(life) as ask:
        page = ask('manage_snapshot', snapshot=snapshot(1).id).decode()
    for words in (
        '&lt;b&gt;slow&lt;/b&gt;',
        'Zope was swapped out.',
        '1 check found nothing.',
        'The disk is slow.',
        '/fast',
        'until the snapshot',
        'libxml2.so.2',
        'Deadlock',
    ):
        assert words in page, words
    assert 'serves this page' not in page and 'flames?' not in page


@in_process
def test_the_page_of_a_process_that_did_not_answer_says_so(life):
    record = snapshot(1, told_by=BY_KERNEL, reason='It is mute.', seen=('It is stopped.',))
    Snapshots(life.base).add(record)
    with panel(life) as ask:
        page = ask('manage_snapshot', snapshot=record.id)
    for words in (b'It is mute.', b'It is stopped.', b'from the black box', b'/slow'):
        assert words in page


@in_process
def test_the_list_shows_the_snapshots_of_the_wanted_instances(life):
    Snapshots(life.base).add(snapshot(1))
    Snapshots(life.base).add(snapshot(2, instance=Instance('there', '/b', '')))
    for choice, count in (('this', 1), ('all', 2)):
        with panel(life) as ask:
            page = ask('manage_incidents', instances=choice)
            assert page.count(b'manage_snapshot?snapshot=') == count


@in_process
def test_earlier_snapshots_are_folded(life):
    for number in range(12):
        Snapshots(life.base).add(snapshot(number))
    rows = snapshotpages.listed(life, False)['snapshots']
    assert (rows['count'], len(rows['first']), len(rows['rest'])) == (12, 10, 2)


@in_process
def test_a_report_is_about_the_snapshot(life):
    Snapshots(life.base).add(snapshot(1, note='the search is slow'))
    with panel(life) as ask:
        page = ask('manage_report', snapshot=snapshot(1).id)
        assert b'the search is slow' in page and b'Snapshot of' in page
        chosen = f'<option value="snapshot:{snapshot(1).id}" selected="selected"'
        assert chosen.encode() in page
        assert b'value="Zope: 2 of 4 workers are busy."' in page
        assert ask('manage_report', about=f'snapshot:{snapshot(1).id}').count(chosen.encode()) == 1
        assert chosen.encode() not in ask('manage_report', about='state', snapshot=snapshot(1).id)
        report = ask('report', snapshot=snapshot(1).id, format='json')
        assert b'"who": "user-1"' in report
        assert b'no snapshot' in ask('report', 404, snapshot=snapshot(2).id, format='json')


@in_process
@pytest.mark.parametrize('name', ['', 'x', '20200101T000000Z-1-abcd'])
def test_what_is_no_snapshot_is_refused(life, name):
    with pytest.raises(NoSuchSnapshot):
        snapshotpages.snapshot(life, name)
    with panel(life) as ask:
        ask('manage_snapshot', 404, snapshot=name)


def fields(zope):
    text = zope.get(f'{TAB}manage_main').text
    (form,) = re.findall('<form action="manage_keep_snapshot".*?</form>', text, re.S)
    return dict(re.findall(r'name="(token|run)" value="([^"]+)"', form))


def test_the_form_keeps_a_snapshot_in_a_real_zope_and_a_forged_one_does_not(zope_kept):
    zope = zope_kept
    sent = fields(zope) | {'note': 'the search is slow'}
    for change in ({'token': ''}, {'token': 'f' * 64}, {'run': ''}):
        assert zope.post(f'{TAB}manage_keep_snapshot', sent | change).status in (302, 403)
    nobody = {'Authorization': 'Basic ' + base64.b64encode(b'nobody:x').decode()}
    assert zope.post(f'{TAB}manage_keep_snapshot', sent, auth=False, headers=nobody).status == 401
    assert zope.get(f'{TAB}manage_keep_snapshot').status in (403, 404, 405)
    assert not (zope.stability / 'snapshots').exists()
    answer = zope.post(f'{TAB}manage_keep_snapshot', sent)
    (name,) = [path.name for path in (zope.stability / 'snapshots').iterdir()]
    assert answer.headers['Location'].endswith(f'/manage_snapshot?snapshot={name}')
    page = zope.get(f'{TAB}manage_snapshot?snapshot={name}').text
    assert 'the search is slow' in page and 'took this snapshot' in page
    assert 'StabilityMonitor heartbeat' in page


@pytest.fixture
def zope_kept(shared_zope):
    import shutil

    yield shared_zope
    shutil.rmtree(shared_zope.stability / 'snapshots', ignore_errors=True)
