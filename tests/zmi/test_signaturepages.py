"""The incidents by signature: the table, the page of one signature, and "seen before"."""

import re
from dataclasses import replace

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge import signedruns
from Products.StabilityMonitor.model.errors import NoSuchSignature
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store.acknowledged import Acknowledgements
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.zmi import signaturepages

pytestmark = [pytest.mark.zope, pytest.mark.in_process]

ELSEWHERE = replace(HERE, client_home='/home/other/var')
EVIL = '<script>alert(1)</script>'


class Site:
    """An archive, and the pages that show it."""

    def __init__(self, folder, ask):
        self.archive = Archive(Base(folder / 'stability'))
        self.life = FakeLife(self.archive.base.path, instance=HERE)
        self.ask = ask

    def keep(self, *runs):
        for run in runs:
            folder = self.archive.base.runs / run.run
            folder.mkdir()
            versions = run.context.get('distributions')
            if versions:
                digest = distributionsets.keep(self.archive.base, folder, versions, {})
                run = replace(run, context=run.context | {'installed': digest})
            self.archive.add(folder, run)
        return [run.run for run in runs]

    def table(self, **form):
        return signaturepages.table(self.life, self.archive, {'by': 'signature', **form})

    def page(self, **form):
        (row, *_) = self.table(instances='all')['rows']
        return signaturepages.signature(self.archive, {'id': row['id'], **form})


@pytest.fixture
def site(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    with panel(FakeLife(base.path, instance=HERE)) as ask:
        yield Site(tmp_path, ask)


def crash(number, function='render', verdict='crashed', **values):
    frames = (Frame('/site/shop.py', number + 1, function),)
    crashed = ThreadState(1, 'waitress-0', True, frames)
    return record(number, verdict, signal='SIGSEGV', threads=(crashed,), **values)


# -- the table -------------------------------------------------------------------------------------


def test_a_row_counts_the_incidents_of_a_signature(site):
    site.keep(crash(0), crash(30), crash(60), record(61), crash(62, 'other'))
    other, first = site.table()['rows']
    assert (first['signature'], first['count']) == ('SIGSEGV shop:render', '3')
    assert first['last'] > first['first'] and first['rate']
    assert '3 incidents between' in first['picture'] and first['open'] == 3
    assert (other['count'], other['is_one'], other['rate']) == ('1', True, '')


@pytest.mark.parametrize('sort', signaturepages.COLUMNS)
def test_each_column_sorts_in_both_directions(site, sort):
    site.keep(crash(0), crash(1), crash(2, 'a'), crash(3, 'b'), crash(9, 'a'), crash(10, 'a'))
    down = [row['id'] for row in site.table(sort=sort, dir='desc')['rows']]
    up = [row['id'] for row in site.table(sort=sort, dir='asc')['rows']]
    assert up == down[::-1] and len(set(up)) == 3


def test_a_signature_of_this_instance_also_counts_elsewhere(site):
    site.keep(crash(0), crash(1, instance=ELSEWHERE), crash(2, 'other', instance=ELSEWHERE))
    (row,) = site.table()['rows']
    assert (row['count'], row['here']) == ('2', '1 here')
    assert [row['here'] for row in site.table(instances='all')['rows']] == ['', '']


def test_drills_and_incidents_without_a_signature_are_rows_at_the_end(site):
    site.keep(
        crash(0, drill='segfault'), crash(1, drill='segfault'), record(2, 'unreadable'), crash(3)
    )
    page = site.table()
    assert [(row['label'], row['count']) for row in page['rest']] == [
        ('Drills', '2'),
        ('Without a signature', '1'),
    ]
    assert page['count'] == '1 signature'


def test_acknowledged_incidents_are_not_open(site):
    first, _ = site.keep(crash(0), crash(1))
    Acknowledgements(site.archive.base).acknowledge([first], 'ada', '')
    (row,) = site.table()['rows']
    assert row['open'] == 1


def test_the_page_shows_how_far_the_signing_is(site, monkeypatch):
    site.keep(*[crash(number) for number in range(4)])
    monkeypatch.setattr(signedruns, 'MOST_AT_ONCE', 1)
    monkeypatch.setattr(signedruns.SignedRuns, 'sign_later', lambda *ignored: None)
    text = site.ask('manage_incidents', by='signature').decode()
    assert 'Signing past incidents: 1 of 4 done.' in text
    assert re.search(r'<progress[^>]* value="1" max="4"', text)


def test_what_is_still_to_be_signed_is_signed_in_the_background(site, monkeypatch):
    asked = []
    monkeypatch.setattr(
        signedruns.SignedRuns, 'sign_later', lambda self, runs: asked.append(len(runs))
    )
    site.keep(crash(0), crash(1))
    site.page()
    site.ask('manage_incident', run=crash(0).run, status=404)
    site.ask('manage_incident', run=site.archive.summaries()[0].run)
    assert asked == [2, 2, 2]


@pytest.mark.parametrize('runs', [[], [record(0)]])
def test_without_incidents_the_page_says_so(site, runs):
    site.keep(*runs)
    text = site.ask('manage_incidents', by='signature').decode()
    assert 'No incidents yet.' in text and '<table' not in text


def test_each_table_leads_to_the_other(site):
    site.keep(crash(0))
    for by, other in (('run', 'signature'), ('signature', 'run')):
        text = site.ask('manage_incidents', by=by, sort='last', instances='all').decode()
        assert f'manage_incidents?by={other}&amp;show=incidents&amp;sort=&amp;instances=all' in text


def test_more_signatures_than_fit_on_a_page_are_on_the_next(site, monkeypatch):
    monkeypatch.setattr(signaturepages, 'BATCH', 2)
    site.keep(crash(0), crash(1, 'b'), crash(2, 'c'))
    first = site.table()
    assert (len(first['rows']), first['pages'], first['earlier']) == (2, 2, '')
    second = site.table(page='2')
    assert (len(second['rows']), second['later']) == (1, '')


# -- one signature ---------------------------------------------------------------------------------


def test_the_page_of_a_signature_has_its_incidents_and_no_others(site):
    names = site.keep(crash(0), crash(1), crash(2, 'other'))
    (_, row) = site.table()['rows']
    text = site.ask('manage_signature', id=row['id']).decode()
    assert set(re.findall(r'manage_incident\?run=([\w-]+)', text)) == set(names[:2])
    assert '2 incidents' in text and 'The mark ~' in text


@pytest.mark.parametrize('id', ['', 'nonsense', '~0123456789', EVIL])
def test_an_unknown_signature_is_not_found(site, id):
    site.keep(crash(0))
    with pytest.raises(NoSuchSignature):
        signaturepages.signature(site.archive, {'id': id})
    text = site.ask('manage_signature', id=id, status=404).decode()
    assert 'no such signature' in text and EVIL not in text


def test_what_the_incidents_share_is_told_with_counts(site):
    paths = [request(path=f'/orders/{number}/pdf') for number in range(8)]
    site.keep(*[crash(n, requests=(paths[n],)) for n in range(8)])
    site.keep(*[crash(n, 'other', requests=(request(path='/'),)) for n in range(20, 30)])
    id = site.table()['rows'][1]['id']
    (shared,) = [
        each
        for each in signaturepages.signature(site.archive, {'id': id})['shared']
        if each['what'] == 'Request in progress'
    ]
    assert (shared['names'], shared['these']) == ('/orders/*/pdf', '8 of 8')
    assert shared['others'] == '0 of 10 other incidents'
    assert '/orders/*/pdf' in site.ask('manage_signature', id=id).decode()


def test_versions_are_counted_with_and_without_it(site):
    site.keep(*[crash(n, context={'distributions': {'lxml': '6.0'}}) for n in range(3)])
    site.keep(*[record(n, context={'distributions': {'lxml': '6.1'}}) for n in range(5, 9)])
    page = site.page()
    rows = {row['version']: row for row in page['versions']['first']}
    assert (rows['6.0']['having'], rows['6.0']['others_having']) == (3, 0)
    assert (rows['6.1']['having'], rows['6.1']['others_having']) == (0, 4)
    assert page['since'] == ['Since lxml 6.0 -> 6.1: none in 4 runs, 4 min of uptime.']


def test_many_incidents_are_on_several_pages(site, monkeypatch):
    monkeypatch.setattr(signaturepages, 'BATCH', 2)
    site.keep(*[crash(number) for number in range(5)])
    assert [len(site.page(page=page)['rows']) for page in ('1', '2', '3', '9')] == [2, 2, 1, 1]
    assert 'page=3' in site.page(page='2')['later']


def test_foreign_text_stays_text(site):
    site.keep(
        crash(0, EVIL, summary=EVIL, context={'python': EVIL}),
        crash(1, EVIL, requests=(request(path=f'/{EVIL}', user=EVIL),)),
    )
    row = site.table()['rows'][0]
    run = site.archive.summaries()[0].run
    for page, form in (
        ('manage_incidents', {'by': 'signature'}),
        ('manage_signature', {'id': row['id']}),
        ('manage_incident', {'run': run}),
    ):
        text = site.ask(page, **form).decode()
        assert '<script>alert' not in text and 'alert(1)' in text, page


# -- seen before -----------------------------------------------------------------------------------


def test_the_page_of_an_incident_begins_with_what_was_seen_before(site):
    site.keep(crash(0, context={'python': '3.11.6'}), crash(1, context={'python': '3.14.0'}))
    newest, oldest = (run.run for run in site.archive.summaries())
    text = site.ask('manage_incident', run=newest).decode()
    assert 'Seen before: once' in text and 'manage_signature?id=' in text
    assert text.index('Seen before') < text.index('Uptime:') and '3.11.6' in text
    assert 'Not seen before; seen once since' in site.ask('manage_incident', run=oldest).decode()


@pytest.mark.parametrize('run', [record(0), crash(0, drill='abort')])
def test_a_run_without_a_signature_says_nothing_of_it(site, run):
    site.keep(run)
    assert 'stability-again' not in site.ask('manage_incident', run=run.run).decode()
