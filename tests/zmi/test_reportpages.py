"""The page "Report": what it is about, who files it, which parts, and where it goes."""

import html
import json
import re
from urllib.parse import parse_qs
from urllib.parse import urlsplit

import pytest
from support.fakelife import FakeLife
from support.snapshots import snapshot
from support.syntheticruns import HERE
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.errors import NoSuchSignature
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.siteparts import SitesRead
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting.reportchoice import PARTS
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.snapshotfiles import Snapshots

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.zmi import plonesites
from Products.StabilityMonitor.zmi import reportform
from Products.StabilityMonitor.zmi import reportpages

pytestmark = [pytest.mark.zope, pytest.mark.in_process]

FRAME = Frame('/srv/lib/python3.11/site-packages/shop/views.py', 12, 'render')
THREADS = (ThreadState(ident=1, crashed=True, frames=(FRAME,)),)
SECRET = '/members/jane@example.org'
FORM = {
    'sent': '1',
    'name': 'Ada',
    'email': 'ada@example.org',
    'did': 'I saved a page.\r\nTwice.',
    'expected': 'That it is saved.',
    'parts': list(PARTS),
}


class Response:
    def __init__(self):
        self.cookies = []

    def setCookie(self, name, value, **more):
        self.cookies.append((value, more))

    def expireCookie(self, name, **more):
        self.cookies.append((None, more))


class OnlyViews:
    """A security manager of a user who may view, and nothing else."""

    def checkPermission(self, permission, panel):
        return permission == 'View stability monitor'


class Request(dict):
    def __init__(self, form, cookies=()):
        self.form = dict(form)
        self.cookies = dict(cookies)
        self.RESPONSE = Response()


class Site:
    def __init__(self, folder):
        self.archive = Archive(Base(folder / 'stability'))
        self.archive.base.prepare()
        self.life = FakeLife(self.archive.base.path, instance=HERE)
        self.runs = []
        for number in (1, 2):
            run = record(
                number,
                'crashed',
                signal='SIGSEGV',
                threads=THREADS,
                requests=(request(path=SECRET),),
            )
            (self.archive.base.runs / run.run).mkdir()
            self.archive.add(self.archive.base.runs / run.run, run)
            self.runs.append(run.run)

    def asked(self, cookies=(), **form):
        return reportform.wanted(self.life, Request(form, cookies))

    def values(self, cookies=(), may_manage=True, **form):
        asked = self.asked(cookies, **form)
        return reportpages.values(self.life, self.archive, asked, SitesRead(), may_manage)

    def preview(self, **form):
        return ''.join(piece['text'] for piece in self.values(**form)['pieces'])


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def ask(site, monkeypatch):
    monkeypatch.setattr(plonesites, 'read', lambda root, life: SitesRead())
    with panel(site.life) as ask:
        yield ask


class TestWhatItIsAbout:
    def test_this_process_unless_something_else_is_chosen(self, site):
        found = site.values()
        assert [row['id'] for row in found['choices'] if row['on']] == ['state']
        assert found['page'] == ''

    def test_the_incidents_and_their_signature_can_be_chosen(self, site):
        rows = {row['id']: row['label'] for row in site.values()['choices']}
        assert {f'run:{run}' for run in site.runs} < rows.keys()
        (signature,) = [label for id, label in rows.items() if id.startswith('signature:')]
        assert signature == 'All 2 incidents of: SIGSEGV shop.views:render'

    @pytest.mark.parametrize('named', ['run', 'about'])
    def test_an_incident(self, site, named):
        value = site.runs[0] if named == 'run' else f'run:{site.runs[0]}'
        found = site.values(**{named: value})
        assert [row['id'] for row in found['choices'] if row['on']] == [f'run:{site.runs[0]}']
        assert found['page'].endswith(site.runs[0])
        assert found['title_of_issue'] == 'Zope crashed: SIGSEGV shop.views:render'

    def test_a_signature_with_all_its_incidents(self, site):
        choices = site.values()['choices']
        (id,) = [row['id'] for row in choices if row['id'].startswith('signature:')]
        report = json.loads(site.preview(about=id, format='json'))
        assert {run['run'] for run in report['signature']['incidents']} == set(site.runs)
        assert report['about']['kind'] == 'signature' and report['incident']['run'] == site.runs[1]

    def test_a_snapshot(self, site):
        kept = snapshot()
        Snapshots(site.archive.base).add(kept)
        assert f'snapshot:{kept.id}' in [row['id'] for row in site.values()['choices']]
        found = site.values(snapshot=kept.id)
        assert found['page'] == f'manage_snapshot?snapshot={kept.id}'
        assert found['title_of_issue'] == f'Zope: {kept.summary}'

    @pytest.mark.parametrize(
        'form',
        [
            {'run': 'x'},
            {'about': 'run:'},
            {'about': 'x:20260921T160000Z-1-abcd'},
            {'run': ['a', 'b']},
            {'snapshot': '../x'},
            {'about': 'snapshot:<script>'},
        ],
    )
    def test_what_is_no_name_is_refused(self, site, form):
        with pytest.raises(NoSuchRun):
            site.asked(**form)

    @pytest.mark.parametrize('id', ['x', '~', '0123456789', '~0123456789'])
    def test_a_signature_that_is_not_there_is_refused(self, site, id):
        with pytest.raises(NoSuchSignature):
            site.values(signature=id)


class TestWhoFilesIt:
    def test_the_options_are_the_default(self, site):
        site.life.options.support_name = 'The site'
        assert site.asked().reporter.name == 'The site'
        assert site.asked(sent='1', name='').reporter.name == ''

    def test_what_is_typed_is_kept_as_it_is(self, site):
        found = site.values(**FORM)
        assert found['reporter']['did'] == 'I saved a page.\nTwice.'
        text = site.preview(**FORM | {'format': 'text'})
        assert 'I saved a page.' in text and 'ada@example.org' in text

    def test_too_much_is_cut(self, site):
        asked = site.asked(sent='1', name='n' * 999, did='d' * 99_999)
        assert (len(asked.reporter.name), len(asked.reporter.did)) == (200, 10_000)

    def test_the_browser_remembers_if_wished(self, site):
        request = Request(FORM | {'remember': '1'})
        asked = reportform.wanted(site.life, request)
        reportform.remember(request, asked, '/tab')
        ((value, how),) = request.RESPONSE.cookies
        assert how['path'] == '/tab' and how['http_only'] and how['same_site'] == 'Strict'
        again = site.asked({reportform._COOKIE: value})
        assert (again.reporter.name, again.reporter.email) == ('Ada', 'ada@example.org')
        assert again.remembers

    def test_the_browser_forgets_if_wished(self, site):
        request = Request(FORM, {reportform._COOKIE: '%7B%7D'})
        reportform.remember(request, reportform.wanted(site.life, request), '/tab')
        assert request.RESPONSE.cookies == [(None, {'path': '/tab'})]

    @pytest.mark.parametrize('cookie', ['', '{', '[]', '7', '%FF', '[' * 1900, 'x' * 9999])
    def test_a_strange_cookie_is_ignored(self, site, cookie):
        assert site.asked({reportform._COOKIE: cookie}).reporter.name == ''


class TestWhatIsInIt:
    def test_everything_unless_the_form_says_else(self, site):
        assert site.asked().parts == tuple(PARTS)
        assert site.asked(sent='1').parts == ()
        assert site.asked(sent='1', parts='log').parts == ('log',)

    def test_what_was_not_chosen_is_not_in_the_preview(self, site):
        def preview(parts):
            return site.preview(**FORM | {'run': site.runs[0], 'parts': parts, 'format': 'json'})

        assert '"path": "/members/' in preview(['requests'])
        assert '"path": "/members/' not in preview(['log'])
        assert 'ada@example.org' not in preview(['log'])
        assert 'render' in preview([]), 'the crashed thread is always there'

    def test_the_preview_is_what_leaves_with_pseudonyms_marked(self, site, ask):
        form = {'run': site.runs[0], 'format': 'json'}
        found = site.values(**form)
        text = ''.join(piece['text'] for piece in found['pieces'])
        assert 'jane@example.org' not in text
        assert 'jane@example.org' in [piece['original'] for piece in found['pieces']]
        body = ask('report', **form).decode()

        def plain(text):
            return re.sub(r'"(generated|as_of|uptime_seconds)": ["\d][^,}]*', '', text)

        assert plain(body) == plain(text)

    def test_who_may_only_view_sees_the_marks_and_not_what_was_taken_out(
        self, site, ask, monkeypatch
    ):
        found = site.values(run=site.runs[0], may_manage=False)
        assert 'email-1' in [piece['text'] for piece in found['pieces'] if piece['is_marked']]
        assert found['counts'] and not found['taken'] and 'jane@' not in str(found)
        monkeypatch.setattr(reportpages, 'getSecurityManager', OnlyViews)
        text = ask('manage_report', run=site.runs[0]).decode()
        assert '<mark>email-1</mark>' in text and 'jane@' not in text
        assert 'shown to those with the permission "Manage' in text

    @pytest.mark.parametrize('format', ['html', 'zip', 'nonsense', ''])
    def test_a_format_without_text_shows_that_of_the_text(self, site, format):
        assert 'SIGSEGV' in site.preview(run=site.runs[0], format=format)


class TestWhereItGoes:
    def test_name_and_address_are_asked_for_first(self, site):
        found = site.values(run=site.runs[0])['tracker']
        assert found['new'] == '' and 'your name' in found['problem']
        wrong = site.values(**FORM | {'email': 'ada'})['tracker']
        assert wrong['new'] == '' and wrong['problem'] == '"ada" is not an e-mail address.'

    def test_the_issue_is_filled_in_with_what_the_preview_shows(self, site):
        site.life.options.tracker_url = 'http://tracker.example.org/new?t={title}&b={body}'
        found = site.values(**FORM | {'run': site.runs[0]})['tracker']
        parts = urlsplit(found['new'])
        query = parse_qs(parts.query)
        assert parts.netloc == 'tracker.example.org'
        assert query['t'] == ['Zope crashed: SIGSEGV shop.views:render']
        assert 'I saved a page.' in query['b'][0] and 'jane@example.org' not in query['b'][0]
        assert len(found['new']) <= 8000

    def test_the_title_can_be_changed(self, site):
        found = site.values(**FORM | {'run': site.runs[0], 'title': 'My shop died'})
        assert found['title_of_issue'] == 'My shop died'
        assert 'title=My%20shop%20died' in found['tracker']['new']

    def test_a_title_that_was_suggested_goes_with_what_the_report_is_about(self, site, ask):
        suggested = site.values()['title_of_issue']
        assert f'name="suggested" value="{suggested}"' in ask('manage_report').decode()
        form = FORM | {'run': site.runs[0], 'suggested': suggested}
        found = site.values(**form | {'title': suggested})
        assert found['title_of_issue'] == 'Zope crashed: SIGSEGV shop.views:render'
        assert site.values(**form | {'title': 'Mine'})['title_of_issue'] == 'Mine'

    def test_paid_support_is_shown_if_it_is_set(self, site):
        assert site.values()['paid'] is None
        site.life.options.paid_support_name = 'Example Ltd.'
        site.life.options.paid_support_contact = 'help@example.org'
        assert site.values()['paid'] == {
            'name': 'Example Ltd.',
            'contact': 'help@example.org',
            'link': 'mailto:help@example.org',
        }
        site.life.options.paid_support_contact = '+1 555'
        assert site.values()['paid']['link'] == ''
        site.life.options.paid_support_contact = 'javascript:alert(1)'
        assert site.values()['paid']['link'] == ''


class TestPage:
    def test_it_has_the_form_the_tracker_and_the_preview(self, site, ask):
        site.life.options.paid_support_name = 'Example <Ltd.>'
        text = ask('manage_report', **FORM | {'run': site.runs[0]}).decode()
        assert 'Example &lt;Ltd.&gt;' in text
        assert 'I saved a page.\nTwice.</textarea>' in text
        new = html.unescape(re.search(r'href="(https://github[^"]*)"', text)[1])
        assert urlsplit(new).path == '/zopefoundation/Zope/issues/new'
        assert '<mark title="jane@example.org">' in text

    def test_foreign_text_stays_text(self, site, ask):
        evil = '</textarea><script>alert(1)</script>'
        form = dict.fromkeys(('name', 'email', 'did', 'expected', 'title', 'format'), evil)
        text = ask('manage_report', sent='1', **form).decode()
        assert '<script>alert' not in text

    def test_a_download_in_each_format(self, site, ask):
        assert ask('report', run=site.runs[0], format='text').startswith(b'')
        assert json.loads(ask('report', run=site.runs[0], format='json'))['incident']
        ask('report', 404, format='nonsense')
        ask('report', 404, run='nonsense')
