"""The first screen tells of open incidents until they are acknowledged, and of the workers now."""

import json
import re
import threading
import time
from html import unescape

import pytest
from support.browsing import TAB
from support.commandline import archived
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.store.archive import Archive

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.zmi import acknowledging
from Products.StabilityMonitor.zmi import pages

pytestmark = [pytest.mark.zope, pytest.mark.in_process]


@pytest.fixture
def life(tmp_path):
    life = FakeLife(tmp_path / 'stability', instance=HERE)
    life.base.prepare()
    return life


def ended(number, verdict='stopped', **values):
    started = time.time() - 3600 + 60 * number
    return record(number, verdict, started=started, ended=started + 30, **values)


def overview(life):
    return pages.overview(life, Archive(life.base), may_manage=True)


def send(life, **form):
    return acknowledging.acknowledge(life, Archive(life.base), form, 'ada')


def test_an_orderly_restart_does_not_hide_the_incidents_of_the_night(life):
    names = archived(life.base, ended(0, 'crashed'), ended(1, 'hung'), ended(2))
    shown = overview(life)
    form = shown['open_form']
    assert shown['mood']['look'] == 'stability-warned'
    assert form['before'].startswith('Before that: 2 incidents in 24 h, the last: hung, ')
    assert form['incident'] == names[1] and form['fields']['token']
    with panel(life) as ask:
        assert form['before'].encode() in ask('manage_main')
    answer = send(life, incident=form['incident'], older=form['older'], note='the disk was full')
    assert answer == 'Acknowledged: 2 incidents.'
    shown = overview(life)
    assert (shown['open_form'], shown['mood']['look']) == (None, 'stability-good')
    with panel(life) as ask:
        page = ask('manage_incident', run=names[0])
        assert b'Acknowledged by ada, ' in page and b': the disk was full' in page
        assert b'name="note"' not in page
        assert b'acknowledged' in ask('manage_incidents')


def test_an_incident_that_the_page_did_not_show_stays_open(life):
    archived(life.base, ended(0, 'crashed'), ended(1, 'crashed'))
    form = overview(life)['open_form']
    (later,) = archived(life.base, ended(2, 'crashed'))
    send(life, incident=form['incident'], older=form['older'])
    assert overview(life)['last']['open'] and overview(life)['open_form']['incident'] == later


def test_one_incident_is_acknowledged_alone(life):
    names = archived(life.base, ended(0, 'crashed'), ended(1, 'crashed'))
    page = pages.incident(life, Archive(life.base), names[1])
    assert send(life, incident=page['open_form']['incident'], older='').endswith('1 incident.')
    assert pages.incident(life, Archive(life.base), names[1])['open_form'] is None
    shown = overview(life)
    assert shown['last']['acknowledged'].startswith('Acknowledged by ada, ')
    assert shown['open_form']['incident'] == names[0]


def test_acknowledged_incidents_and_drills_are_no_crash_loop(life):
    archived(life.base, *(ended(number, 'crashed') for number in range(3)))
    assert overview(life)['loop']['count'] == 3
    form = overview(life)['open_form']
    send(life, incident=form['incident'], older=form['older'])
    assert overview(life)['loop'] is None
    archived(life.base, *(ended(number, 'crashed', drill='kill') for number in range(3, 6)))
    assert (overview(life)['loop'], overview(life)['open_form']) == (None, None)


def test_who_may_only_look_gets_no_form(life):
    archived(life.base, ended(0, 'crashed'))
    assert pages.overview(life, Archive(life.base))['open_form']['fields'] is None


@pytest.mark.parametrize('name', ['', 'x', '20200101T000000Z-1-abcd'])
def test_what_is_no_incident_is_refused(life, name):
    archived(life.base, ended(0))
    with pytest.raises(NoSuchRun):
        send(life, incident=name, older='yes')


def test_a_damaged_list_is_a_finding_on_the_overview(life):
    archived(life.base, ended(0, 'crashed'))
    (life.path / 'acknowledged.json').write_text('[')
    (group,) = overview(life)['findings']
    assert [finding['id'] for finding in group['findings']] == ['acknowledged']
    assert overview(life)['last']['open']


@pytest.mark.parametrize(
    'threads, seconds, words, slow',
    [
        (4, (17.2, 3.0, 2.0), '3 of 4 threads busy, the oldest for 17 s', True),
        (4, (3.0,), '1 of 4 threads busy, the oldest for 3 s', False),
        (4, (), 'none of 4 threads busy', False),
        (None, (3.0, 2.0), '2 threads busy, the oldest for 3 s', False),
    ],
)
def test_the_overview_says_how_many_threads_are_busy(life, threads, seconds, words, slow):
    own = threading.get_ident()
    requests = [request(number, ident=number, seconds=age) for number, age in enumerate(seconds)]
    requests.append(request(9, ident=own, seconds=99.0))
    life.recorder, life.software = object(), {'threads': threads}
    assert pages.now_words(requests, own, life) == {'words': words, 'slow': slow}


def test_the_overview_names_a_deadlock_while_it_lasts(life, monkeypatch):
    hangs = (Event('deadlock', time.time() - 35.0), Event('hang', 1.0, ended=9.0))
    monkeypatch.setattr(life, 'stacks', lambda: Stacks(hangs=hangs))
    life.recorder, life.software = object(), {'threads': 4}
    found = pages.now_words([request(1, ident=7, seconds=3.0)], threading.get_ident(), life)
    words = 'deadlock for 35 s; 1 of 4 threads busy, the oldest for 3 s'
    assert found == {'words': words, 'slow': True}


def test_five_facts_are_shown_and_the_others_are_folded(life):
    facts = overview(life)['facts']
    assert [fact['label'] for fact in facts['first']] == [
        'Stability Monitor',
        'Zope Version',
        'Python Version',
        'Process Id',
        'Running For',
    ]
    assert {'CLIENT_HOME', 'System Platform'} <= {fact['label'] for fact in facts['rest']}


def hidden_fields(text):
    """Return the hidden fields of the form in a page."""
    form = text.partition('action="manage_acknowledge"')[2].partition('</form>')[0]
    inputs = re.findall(r'<input[^>]*type="hidden"[^>]*>', form)
    fields = {}
    for each in inputs:
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', each))
        fields[attributes['name']] = unescape(attributes.get('value', ''))
    return fields


def test_the_form_acknowledges_in_a_real_zope_and_a_forged_one_does_not(make_zope):
    zope = make_zope().start()
    zope.kill()
    zope.wait_exit()
    zope.start()
    (killed,) = zope.archive()
    sent = hidden_fields(zope.get(TAB + 'manage_main').text) | {'note': '<b>a full disk</b>'}
    assert sent['incident'] == killed['run']
    for forged in (sent | {'token': 'x'}, {'incident': sent['incident']}):
        assert zope.post(TAB + 'manage_acknowledge', forged).status == 403
    assert zope.post(TAB + 'manage_acknowledge', sent, auth=False).status == 401
    assert not (zope.stability / 'acknowledged.json').exists()
    answer = zope.post(TAB + 'manage_acknowledge', sent)
    assert answer.status == 302 and 'Acknowledged%3A+1+incident.' in answer.headers['Location']
    (entry,) = json.loads((zope.stability / 'acknowledged.json').read_text())['acknowledged']
    assert (entry['who'], entry['runs']) == ('admin', [killed['run']])
    text = zope.get(TAB + 'manage_main').text
    assert 'Acknowledged by admin, ' in text and ': &lt;b&gt;a full disk' in text
    assert 'action="manage_acknowledge"' not in text
