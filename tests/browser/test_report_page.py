"""A person files a report: from a crash by a drill to a file on disk, and to the page of a tracker.

The tracker is a local stand-in.
"""

import contextlib
import html
import http.server
import json
import threading
from urllib.parse import parse_qs
from urllib.parse import urlsplit

import pytest
from support.browsing import TAB
from support.browsing import click
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for

By = pytest.importorskip('selenium.webdriver.common.by').By
WebDriverException = pytest.importorskip('selenium.common.exceptions').WebDriverException

pytestmark = [pytest.mark.browser, pytest.mark.zope]


@pytest.fixture
def tracker():
    """A stand-in for the tracker, with the queries of the pages that were opened in it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            if parts.path == '/new':
                server.opened.append((parse_qs(parts.query), len(self.path)))
            self.send_response(200)
            self.end_headers()
            title, body = (parse_qs(parts.query).get(name, [''])[0] for name in ('title', 'body'))
            self.wfile.write(
                '<!doctype html><meta charset="utf-8"><title>New issue</title><h1>New issue</h1>'
                f'<p><input size="100" value="{html.escape(title)}"></p>'
                f'<textarea rows="40" cols="100">{html.escape(body)}</textarea>'.encode()
            )

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.opened = []
    server.address = f'http://127.0.0.1:{server.server_port}/new'
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def field(browser, name):
    return browser.find_element(By.ID, name)


def preview(browser):
    return field(browser, 'stability-preview').text


def put(browser, name, text):
    field(browser, name).clear()
    field(browser, name).send_keys(text)


def choose(browser, name, value):
    field(browser, name).find_element(By.CSS_SELECTOR, f'option[value^="{value}"]').click()


def picture(browser, folder, step):
    """Keep a picture of a step: someone should look at it.  A blank page is smaller."""
    file = folder / f'{step}.png'
    browser.save_screenshot(str(file))
    assert file.stat().st_size > 10_000


def test_from_a_crash_to_a_file_and_to_a_filled_in_issue(browser, make_zope, tracker, tmp_path):
    zope = make_zope(
        options={
            'drills': 'on',
            'tracker-url': tracker.address,
            'paid-support-name': 'Example Ltd.',
            'paid-support-contact': 'help@example.org',
        }
    ).start()
    log_in(browser, zope, TAB + 'manage_drills')
    picture(browser, tmp_path, '1-drills')
    with contextlib.suppress(WebDriverException):
        browser.find_element(By.ID, 'drill-segfault').click()
    assert zope.wait_exit() == -11
    zope.start()

    # First click: the page of the incident leads to its report.
    log_in(browser, zope, TAB + 'manage_main')
    click(browser, 'Show details')
    picture(browser, tmp_path, '2-incident')
    click(browser, 'Report this incident')
    picture(browser, tmp_path, '3-report')
    assert 'Zope crashed' in preview(browser) and 'string_at' in preview(browser)
    assert field(browser, 'title').get_attribute('value').startswith('Zope crashed')
    assert not browser.find_elements(By.ID, 'open-tracker')
    assert 'Enter your name' in shown(browser) and 'Paid support: Example Ltd.' in shown(browser)

    # The preview and the issue follow what is typed, without a click.
    put(browser, 'name', 'Ada Lovelace')
    put(browser, 'email', 'ada@example.org')
    put(browser, 'did', 'I ran a drill.')
    field(browser, 'remember').find_element(By.XPATH, 'following-sibling::label').click()
    wait_for(lambda: 'I ran a drill.' in preview(browser), what='the preview')
    wait_for(lambda: 'Ada Lovelace' in preview(browser), what='the name in the preview')
    assert 'Installed distributions' in preview(browser) or 'waitress' in preview(browser)

    picture(browser, tmp_path, '4-filled-in')

    # Second click: a file.
    choose(browser, 'format', 'json')
    wait_for(lambda: preview(browser).startswith('{'), what='the preview as JSON')
    field(browser, 'download').click()
    (file,) = wait_for(lambda: list(browser.downloads.glob('*.json')), what='the download')
    report = json.loads(file.read_text())
    assert report['reporter']['name'] == 'Ada Lovelace'
    assert report['incident']['drill'] == 'segfault'

    # An address without what was typed last cannot be opened.
    put(browser, 'expected', 'Nothing.')
    assert 'disabled' in field(browser, 'open-tracker').get_attribute('class')
    browser.execute_script('document.getElementById("open-tracker").click()')
    assert not tracker.opened

    # Third click: the tracker.  The text of the issue is in the clipboard, too, not the preview.
    def link_is_ready():
        return 'disabled' not in field(browser, 'open-tracker').get_attribute('class')

    wait_for(link_is_ready, what='the link with what was typed last')
    whole = field(browser, 'stability-issue').get_attribute('textContent')
    assert whole.startswith('# Zope crashed') and preview(browser).startswith('{')
    field(browser, 'open-tracker').click()
    wait_for(lambda: tracker.opened, what='the page of the tracker')
    wait_for(lambda: len(browser.window_handles) > 1, what='the window of the tracker')
    browser.switch_to.window(browser.window_handles[-1])
    picture(browser, tmp_path, '5-tracker')
    ((query, length),) = tracker.opened
    assert query['title'][0].startswith('Zope crashed')
    assert 'I ran a drill.' in query['body'][0] and 'Ada Lovelace' in query['body'][0]
    assert length <= 8000
    browser.switch_to.window(browser.window_handles[0])
    wait_for(lambda: field(browser, 'stability-done').text == 'Copied.', what='the copy')
    browser.execute_cdp_cmd(
        'Browser.grantPermissions',
        {'permissions': ['clipboardReadWrite', 'clipboardSanitizedWrite']},
    )
    copied = browser.execute_async_script(
        'navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))'
    )
    assert copied == whole
    for extra in browser.window_handles[1:]:
        browser.switch_to.window(extra)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])

    # Another click copies the preview.
    choose(browser, 'format', 'text')
    wait_for(lambda: preview(browser).startswith('Zope crashed'), what='the preview as text')
    field(browser, 'copy').click()
    wait_for(lambda: field(browser, 'stability-done').text == 'Copied.', what='the copy')

    # The browser remembers who files reports, and a part that is left out is not in the preview.
    log_in(browser, zope, TAB + 'manage_report')
    assert field(browser, 'name').get_attribute('value') == 'Ada Lovelace'
    assert 'example.org' in preview(browser)
    browser.find_element(By.CSS_SELECTOR, 'label[for=part-reporter]').click()
    wait_for(lambda: 'example.org' not in preview(browser), what='the preview without it')


@pytest.mark.thorough
def test_without_scripts_the_form_does_the_same(browser, make_zope):
    zope = make_zope().start()
    log_in(browser, zope, TAB + 'manage_report')
    browser.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': True})
    try:
        browser.get(f'{zope.url}{TAB}manage_report')
        assert not field(browser, 'copy').is_displayed()
        put(browser, 'did', 'I waited.')
        put(browser, 'email', 'nonsense@')
        field(browser, 'show-preview').click()
        assert field(browser, 'did').get_attribute('value') == 'I waited.'
        put(browser, 'email', 'ada@example.org')
        put(browser, 'name', 'Ada')
        field(browser, 'show-preview').click()
        wait_for(lambda: 'I waited.' in preview(browser), what='the preview')
        assert browser.find_elements(By.ID, 'open-tracker')
    finally:
        browser.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': False})
