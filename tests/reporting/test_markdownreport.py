"""The report as Markdown: GitHub's own renderer shows it as intended, whatever is in it."""

import json
import re
from html.parser import HTMLParser

import pytest
from support.samplereports import CRASH
from support.samplereports import INVENTORY
from support.samplereports import incident
from support.samplereports import of_run
from support.samplereports import state
from support.samplereports import with_texts

from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.reporting import markdownreport
from Products.StabilityMonitor.reporting.markdownreport import LIMIT
from Products.StabilityMonitor.reporting.sections import sections

cmarkgfm = pytest.importorskip('cmarkgfm')

#: All that Markdown reacts to.
HOSTILE = (
    '</details><script>x</script> <!-- --> ``` ~~~~ `a` | b || \\| \\ * _x_ __y__ [a](http://b) '
    '![i](j) &lt; &#64; # $a$ ~z~ @ada #12 GH-3 a@b.example www.c.example'
)
#: What it does at the start of a line.
STARTS = (
    '# h',
    '- i',
    '1. n',
    '2) n',
    '+ p',
    '> q',
    '===',
    '---',
    '    code',
    '\ttab',
    '|a|',
    '#1',
)
TAGS = {
    'h1', 'h2', 'p', 'ul', 'ol', 'li', 'strong', 'pre', 'code', 'table', 'thead', 'tbody', 'tr',
    'th', 'td', 'details', 'summary', 'b', 'a',
}  # fmt: skip


class Page(HTMLParser):
    """The tags of a page, its links, the text in it, and that of each block of code."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.text, self.code = [], [], '', []
        self.is_code = self.is_link = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [[value, ''] for name, value in attributes if name == 'href']
        self.is_link = tag == 'a'
        if tag == 'pre':
            self.is_code = True
            self.code.append('')

    def handle_endtag(self, tag):
        self.is_code = self.is_code and tag != 'pre'
        self.is_link = self.is_link and tag != 'a'

    def handle_data(self, data):
        self.text += data
        if self.is_link:
            self.links[-1][1] += data
        if self.is_code:
            self.code[-1] += data


def rendered(report):
    """The page that GitHub makes of a report."""
    text = markdownreport.as_markdown(report).decode()
    options = cmarkgfm.cmark.Options.CMARK_OPT_UNSAFE
    return Page(cmarkgfm.github_flavored_markdown_to_html(text, options=options))


def state_after_crash():
    return state(previous=of_run())


def flat(text):
    return ''.join(text.split())


@pytest.mark.parametrize(
    'report', [incident(), state(previous=of_run())], ids=['incident', 'state']
)
def test_all_sections_are_shown(report):
    page = rendered(report)
    for section in sections(report).sections:
        assert section.title in page.text
    assert set(page.tags) <= TAGS and page.tags.count('h1') == 1
    assert page.tags.count('details') == sum(not each.is_open for each in sections(report).sections)


def test_a_table_has_all_its_cells():
    page = rendered(incident())
    assert page.tags.count('td') == sum(
        len(row)
        for section in sections(incident()).sections
        for block in section.blocks
        for row in getattr(block, 'rows', ())
        if hasattr(block, 'head')
    )


def test_an_address_is_a_link():
    assert rendered(incident()).links == [['https://bugs.example.org/lxml/1?a=b#c2'] * 2]


def test_hostile_text_stays_text():
    harmless = rendered(incident())
    page = rendered(with_texts(incident(), lambda text: f'{text} {HOSTILE}'))
    assert set(page.tags) <= TAGS
    for tag in ('table', 'td', 'th', 'h1', 'h2', 'pre', 'details'):
        assert page.tags.count(tag) == harmless.tags.count(tag), tag
    assert flat(HOSTILE) in flat(page.text)
    # An address is a link, but no text is a link to somewhere else.
    assert all(link.endswith(shown) for link, shown in page.links)


@pytest.mark.parametrize('start', STARTS)
def test_hostile_text_at_the_start_of_a_line_stays_text(start):
    harmless = rendered(incident())
    page = rendered(with_texts(incident(), lambda text: f'{start} {text}'))
    for tag in ('h1', 'h2', 'ul', 'ol', 'pre', 'blockquote', 'table', 'td', 'hr'):
        assert page.tags.count(tag) == harmless.tags.count(tag), tag


def test_text_breaks_out_of_no_block_of_code():
    lines = ('```', '````` text', '~~~', '</code></pre>', '    x', '', '<b>')
    text = '\n'.join(lines)
    page = rendered(incident(logs=[{'name': 'event-log', 'text': text}]))
    assert f'{text}\n' in page.code


def test_a_report_mentions_and_refers_to_nobody():
    text = markdownreport.as_markdown(with_texts(incident(), lambda text: f'@ada #1 GH-2 {text}'))
    outside = re.sub(r'(?ms)^(`{3,})text$.*?^\1$|<https[^>]*>', '', text.decode())
    assert not re.search(r'[@#](?=\w)|GH-(?=\w)', outside)


def test_control_characters_are_escaped():
    text = markdownreport.as_markdown(with_texts(incident(), lambda text: f'{text}\x1b[2J\r\u202e'))
    assert '\x1b' not in text.decode() and '\r' not in text.decode()
    assert '\u202e' not in text.decode()


# -- the limit -------------------------------------------------------------------------------------


def test_a_report_is_shorter_than_the_limit_and_loses_the_worst_first():
    portion = {'name': 'event-log', 'text': '\n'.join(f'line {n}' for n in range(50_000))}
    text = markdownreport.as_markdown(incident(logs=[portion])).decode()
    assert len(text) < LIMIT
    assert 'line 49999' in text and 'line 0\n' not in text
    assert 'lines cut, since the report would be too long' in text
    for title in ('What happened', 'Where it happened', 'Known issues', 'Reported by'):
        assert f'## {title}\n' in text
    assert 'in render\n' in text


def test_sections_for_those_who_search_are_cut_before_others():
    many = [{'name': f'package-{n}', 'version': '1.0'} for n in range(500)]
    report = incident()
    report['incident']['inventory'] = INVENTORY | {'distributions': many}
    whole = markdownreport.text(report)
    text = markdownreport.text(report, len(whole) - 3000)
    assert 'package-299 1.0' in text and '200 lines cut' in text and 'package-300' not in text
    assert 'The stock is low.' in text and len(text) <= len(whole) - 3000


@pytest.mark.parametrize('length', [100, 10_000])
def test_very_long_texts_do_not_pass_the_limit(length):
    log = tuple(LogLine(1.0, 'ERROR', 'x', '`' * length) for _ in range(100))
    report = incident(logs=[], configuration=[])
    report['incident'] = of_run(CRASH, log=log)
    report = with_texts(report, lambda text: text * (length // max(1, len(text))))
    assert len(markdownreport.as_markdown(report).decode()) < LIMIT
    assert len(rendered(report).text) > 1000


def test_a_report_that_was_read_back_is_the_same():
    report = json.loads(json.dumps(incident()))
    assert markdownreport.as_markdown(report) == markdownreport.as_markdown(incident())
