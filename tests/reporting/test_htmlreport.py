"""The report as one HTML file: nothing foreign in it is more than text, and it needs no network."""

import base64
import re
from html.parser import HTMLParser

import pytest
from support.samplereports import incident
from support.samplereports import of_run
from support.samplereports import state
from support.samplereports import with_texts

from Products.StabilityMonitor.reporting.htmlreport import as_html
from Products.StabilityMonitor.reporting.sections import sections

HOSTILE = (
    '</title></style></pre><script>x()</script><img src=http://a.example onerror=x()> &amp; "\''
)
#: An A4 page without the margins of the style, in CSS pixels.
A4 = int((210 - 2 * 15) / 25.4 * 96)
EMPTY = ('meta', 'circle', 'line', 'polyline', 'br')


class Page(HTMLParser):
    """[(tag, {attribute: value})] of a page, and its text.  Fails if tags are not nested."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text, self.open = [], '', []
        self.feed(content.decode())
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY or tag in ('circle', 'line', 'polyline'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def names(page):
    return [tag for tag, _ in page.tags]


@pytest.mark.parametrize(
    'report', [incident(), state(previous=of_run())], ids=['incident', 'state']
)
def test_all_sections_are_shown_and_can_be_reached(report):
    page = Page(as_html(report))
    ids = [attributes['id'] for tag, attributes in page.tags if tag in ('section', 'details')]
    assert ids == [section.id for section in sections(report).sections]
    links = [attributes['href'] for tag, attributes in page.tags if tag == 'a']
    assert links == [f'#{each}' for each in ids]


def test_hostile_text_stays_text():
    harmless = Page(as_html(incident()))
    page = Page(as_html(with_texts(incident(), lambda text: f'{text}{HOSTILE}')))
    assert set(names(page)) == set(names(harmless))
    assert page.text.count(HOSTILE) > 20


def test_the_file_asks_for_nothing():
    page = Page(as_html(incident()))
    for tag, attributes in page.tags:
        assert tag not in ('script', 'link', 'img', 'iframe', 'object', 'form')
        for name, value in attributes.items():
            assert not name.startswith('on') and name not in ('src', 'action', 'data')
            if name.endswith('href'):
                assert value.startswith('#')
    policy = [each['content'] for tag, each in page.tags if tag == 'meta' and 'http-equiv' in each]
    assert policy and policy[0].startswith("default-src 'none'")
    assert b'url(' not in as_html(incident()) and b'@import' not in as_html(incident())


def test_the_pictures_are_in_the_file_with_their_words():
    page = Page(as_html(incident()))
    assert names(page).count('svg') == 2 and 'Memory before the end: ' in page.text


def test_the_function_of_a_frame_stands_out():
    assert b', line 12, in <b>render</b>' in as_html(incident())


def test_control_characters_are_escaped():
    content = as_html(with_texts(incident(), lambda text: f'{text}\x1b[2J\u202e')).decode()
    assert '\x1b' not in content and '\u202e' not in content


# -- in a browser ----------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, tmp_path):
    """The browser, offline, with a report that has long words in it."""
    long = 'x' * 300
    report = with_texts(incident(), lambda text: f'{text} /a/{long}' if ' ' in text else text)
    path = tmp_path / 'report.html'
    path.write_bytes(as_html(report))
    offline = {'offline': True, 'latency': 0, 'downloadThroughput': 0, 'uploadThroughput': 0}
    browser.execute_cdp_cmd('Network.enable', {})
    browser.execute_cdp_cmd('Network.emulateNetworkConditions', offline)
    browser.get(path.as_uri())
    yield browser
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': ''})
    browser.execute_cdp_cmd('Network.emulateNetworkConditions', offline | {'offline': False})
    browser.set_window_size(1280, 1000)


WIDTHS = 'return [document.documentElement.scrollWidth, document.documentElement.clientWidth]'
REQUESTS = "return performance.getEntriesByType('resource').length"
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true })"


@pytest.mark.thorough
@pytest.mark.browser
def test_it_opens_offline_passes_axe_core_and_fits_narrow_windows_and_paper(opened):
    axe = pytest.importorskip('support.accessible').Axe(opened)
    assert opened.execute_script(REQUESTS) == 0
    opened.execute_script(OPEN)
    axe.inject()
    violations = axe.run()['violations']
    assert [(rule['id'], rule['nodes'][0]['html'][:200]) for rule in violations] == []
    for width in (1300, 800):
        opened.set_window_size(width, 900)
        whole, seen = opened.execute_script(WIDTHS)
        assert whole <= seen
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print'})
    opened.set_window_size(A4, 900)
    whole, seen = opened.execute_script(WIDTHS)
    assert whole <= seen <= A4
    printed = opened.execute_cdp_cmd('Page.printToPDF', {'preferCSSPageSize': True})
    pages = re.findall(rb'/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]', base64.b64decode(printed['data']))
    assert pages and {(round(float(w)), round(float(h))) for w, h in pages} <= {(595, 842)}


@pytest.mark.thorough
@pytest.mark.browser
def test_what_is_folded_is_printed(opened):
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print'})
    height = "return document.querySelector('#history table').getBoundingClientRect().height"
    assert opened.execute_script(height) > 0
