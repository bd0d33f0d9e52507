from urllib.parse import parse_qs
from urllib.parse import urlsplit

import pytest

from Products.StabilityMonitor.model.suspects import Suspect
from Products.StabilityMonitor.reporting import trackers
from Products.StabilityMonitor.reporting.trackers import Tracker
from Products.StabilityMonitor.reporting.trackers import new_issue
from Products.StabilityMonitor.reporting.trackers import tracker_of
from Products.StabilityMonitor.reporting.trackers import urls_of

LXML = Suspect('lxml.etree', 'lxml', '6.0', strength='strong')
URLS = {
    'lxml': (
        ('homepage', 'https://lxml.de/'),
        ('Source', 'https://github.com/lxml/lxml'),
        ('Bug Tracker', 'https://bugs.launchpad.net/lxml'),
    ),
    'orjson': (('source', 'https://github.com/ijl/orjson.git'),),
    'plain': (('homepage', 'https://example.org/plain'),),
    'hostile': (('Issues', 'javascript:alert(1)'), ('Tracker', 'https://[')),
}


def urls(name):
    return URLS.get(name, ())


def suspect(distribution, strength='strong'):
    return Suspect(distribution, distribution, strength=strength)


class TestWhere:
    def test_the_option_comes_first(self):
        assert tracker_of('https://jira.example.org', [LXML], urls).address == (
            'https://jira.example.org'
        )

    def test_then_the_tracker_of_the_suspect(self):
        found = tracker_of('', [LXML], urls)
        assert found.address == 'https://bugs.launchpad.net/lxml'
        assert 'lxml' in found.why

    def test_its_code_has_a_tracker_beside_it(self):
        found = tracker_of('', [suspect('orjson')], urls)
        assert found.address == 'https://github.com/ijl/orjson/issues'

    @pytest.mark.parametrize('name', ['plain', 'unknown', 'hostile'])
    def test_else_that_of_zope(self, name):
        assert tracker_of('', [suspect(name)], urls).address == trackers.ZOPE
        assert tracker_of('').address == trackers.ZOPE

    def test_a_guess_bothers_nobody(self):
        assert tracker_of('', [suspect('lxml', 'weak')], urls).address == trackers.ZOPE

    def test_a_second_suspect_is_not_asked(self):
        found = tracker_of('', [suspect('unknown'), LXML], urls)
        assert found.address == trackers.ZOPE

    def test_the_metadata_of_a_real_distribution(self):
        found = tracker_of('', [suspect('zope.interface', 'likely')])
        assert found.address == 'https://github.com/zopefoundation/zope.interface/issues'

    def test_of_what_is_not_installed_nothing_is_known(self):
        assert urls_of('no-such-distribution') == ()


class TestAddress:
    def of(self, address, title='It crashed', body='# Why\n\n50 % & more', **more):
        return new_issue(Tracker(address, ''), title, body, **more)

    @pytest.mark.parametrize(
        ('address', 'path', 'title', 'body'),
        [
            (
                'https://github.com/zopefoundation/Zope/issues',
                '/zopefoundation/Zope/issues/new',
                'title',
                'body',
            ),
            ('https://github.com/lxml/lxml', '/lxml/lxml/issues/new', 'title', 'body'),
            ('https://github.com/lxml/lxml.git', '/lxml/lxml/issues/new', 'title', 'body'),
            ('https://github.com/a/b/issues/new/', '/a/b/issues/new', 'title', 'body'),
            (
                'https://gitlab.com/group/sub/project/-/issues',
                '/group/sub/project/-/issues/new',
                'issue[title]',
                'issue[description]',
            ),
            ('https://codeberg.org/a/b/issues', '/a/b/issues/new', 'title', 'body'),
            (
                'https://bugs.launchpad.net/lxml',
                '/lxml/+filebug',
                'field.title',
                'field.comment',
            ),
            ('http://127.0.0.1:8000/file', '/file', 'title', 'body'),
            ('https://x.org/new?kind=bug', '/new', 'title', 'body'),
            ('https://x.org/new?summary={title}&text={body}', '/new', 'summary', 'text'),
        ],
    )
    def test_each_kind_of_tracker_has_its_own_form(self, address, path, title, body):
        parts = urlsplit(self.of(address))
        assert parts.path == path
        found = parse_qs(parts.query)
        assert (found[title], found[body]) == (['It crashed'], ['# Why\n\n50 % & more'])

    def test_a_long_body_is_cut_at_the_end_of_a_line_and_says_so(self):
        lines = [f'line {number} ä' for number in range(2000)]
        found = self.of('https://github.com/a/b', body='\n'.join(lines))
        assert len(found.encode()) <= trackers.MOST
        (body,) = parse_qs(urlsplit(found).query)['body']
        *kept, end = body.split('\n\n(Cut here.')
        assert end.startswith(' The full text is in the clipboard')
        assert kept[0].split('\n') == lines[: kept[0].count('\n') + 1]
        assert len(found.encode()) > trackers.MOST - 200

    def test_an_open_block_of_code_is_closed(self):
        body = '# Stack\n\n```\n' + 'a frame\n' * 2000 + '```\n'
        (found,) = parse_qs(urlsplit(self.of('https://github.com/a/b', body=body)).query)['body']
        assert found.count('```') == 2

    @pytest.mark.parametrize(
        ('start', 'end'),
        [
            ('````text\n```\n', '\n````'),
            ('<details><summary><b>Other threads</b></summary>\n', '\n\n</details>'),
            ('<details><summary><b>Log</b></summary>\n\n```text\n', '\n```\n\n</details>'),
            ('<details>\n\n</details>\n```text\n<details>\n', '\n```'),
            ('', 'a frame'),
        ],
    )
    def test_the_note_is_neither_in_a_block_of_code_nor_folded(self, start, end):
        body = f'# Stack\n\n{start}' + 'a frame\n' * 2000 + '````\n'
        (found,) = parse_qs(urlsplit(self.of('https://github.com/a/b', body=body)).query)['body']
        kept, _, _ = found.partition('\n\n(Cut here.')
        assert kept.endswith(f'a frame{end.removeprefix("a frame")}')

    @pytest.mark.parametrize('word', ['保存した', 'enregistré '])
    def test_a_long_line_is_cut_within_it(self, word):
        text = word * 250
        body = '\n\n'.join(['# Zope crashed', text, text, text])
        found = self.of('https://github.com/a/b', title='題' * 200, body=body)
        assert trackers.MOST - 300 < len(found.encode()) <= trackers.MOST
        query = parse_qs(urlsplit(found).query)
        assert '題題題' in query['title'][0] and text[:400] in query['body'][0]
        assert ' ...\n\n(Cut here.' in query['body'][0]

    @pytest.mark.parametrize('address', ['https://x.org/', f'https://x.org/{"a" * 7000}'])
    def test_nothing_makes_the_address_longer(self, address):
        found = self.of(address, title='題' * 9999, body='保' * 99_999)
        assert len(found.encode()) <= trackers.MOST

    def test_braces_and_per_cent_in_the_option_are_kept(self):
        assert self.of('https://x.org/{a}?q=%20{b}').startswith('https://x.org/{a}?q=%20{b}&title=')

    @pytest.mark.parametrize(
        'address', ['', 'none', 'javascript:alert(1)', 'mailto:a@b', 'https://[']
    )
    def test_what_is_no_address_of_the_web_is_not_opened(self, address):
        assert self.of(address) == ''
