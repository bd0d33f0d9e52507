"""The tab in Chromium: a user clicks through it, and the process really dies in between."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from support.browsing import TAB
from support.browsing import click
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for

By = pytest.importorskip('selenium.webdriver.common.by').By
WebDriverException = pytest.importorskip('selenium.common.exceptions').WebDriverException

pytestmark = [pytest.mark.browser, pytest.mark.zope]


def headline(browser):
    return browser.find_element(By.CSS_SELECTOR, '.stability-last h2').text


def press(browser, drill):
    """Click the button of a drill; the browser loses its connection."""
    button = browser.find_element(By.ID, f'drill-{drill}')
    try:
        button.click()
    except WebDriverException:
        pass


def test_clicks_lead_from_the_control_panel_to_a_report_of_a_crash(browser, make_zope):
    zope = make_zope(options={'drills': 'on'}).start()
    log_in(browser, zope)
    click(browser, 'Stability')
    assert headline(browser) == 'No earlier runs yet'
    assert f'{zope.client_home} on' in shown(browser) and str(zope.pid) in shown(browser)
    assert browser.find_elements(By.CSS_SELECTOR, '.stability-timeline rect')

    click(browser, 'Drills')
    press(browser, 'segfault')
    assert zope.wait_exit() == -11
    zope.start()

    log_in(browser, zope)
    click(browser, 'Stability')
    assert headline(browser) == 'The last run crashed'
    assert 'SIGSEGV' in shown(browser) and 'Drill: Segmentation fault' in shown(browser)
    click(browser, 'Show details')
    assert headline(browser) == 'This run crashed'
    text = shown(browser)
    for words in (
        'Request in the crashed thread',
        f'POST {TAB}manage_drill',
        'Evidence',
        'Crashed thread',
        'string_at',
        'Last finished requests',
        'Compiled modules',
    ):
        assert words in text
    active = browser.find_element(By.CSS_SELECTOR, '.nav-link.active').text
    assert active == 'Incidents'

    click(browser, 'Download everything (ZIP)')
    (file,) = wait_for(lambda: list(browser.downloads.glob('stability-*.zip')), what='the download')
    with zipfile.ZipFile(file) as everything:
        names = {Path(name).name: name for name in everything.namelist()}
        report = json.loads(everything.read(names['report.json']))
        text = everything.read(names['report.txt']).decode()
    assert report['incident']['verdict'] == 'crashed' and report['process']['pid'] == zope.pid
    assert 'Segmentation fault' in text


@pytest.mark.thorough
def test_the_overview_uses_our_style_sheet_and_no_script_of_ours(browser, shared_zope):
    browser.get_log('browser')  # what other tests left there
    log_in(browser, shared_zope, TAB + 'manage_main')
    last = browser.find_element(By.CSS_SELECTOR, '.stability-last')
    assert last.value_of_css_property('border-left-width') == '8px'
    assert not browser.find_elements(By.CSS_SELECTOR, 'main script')
    assert [
        entry
        for entry in browser.get_log('browser')
        if TAB.rstrip('/') in entry['message'] and 'replaceState' not in entry['message']
    ] == []


@pytest.mark.thorough
def test_a_crash_loop_is_shown_above_the_last_run(browser, make_zope):
    zope = make_zope(options={'drills': 'on'})
    for _ in range(3):
        zope.start()
        zope.kill()
        zope.wait_exit()
    zope.start()
    log_in(browser, zope, TAB + 'manage_main')
    loop = browser.find_element(By.CSS_SELECTOR, '.stability-loop')
    assert loop.text.startswith('Crash loop: 3 incidents in a row')
    assert (
        loop.location['y'] < browser.find_element(By.CSS_SELECTOR, '.stability-last').location['y']
    )
    loop.find_element(By.TAG_NAME, 'a').click()
    assert 'vanished' in shown(browser) or 'startup' in shown(browser)


@pytest.mark.thorough
def test_clicks_sort_and_filter_the_table_of_incidents(browser, make_zope):
    zope = make_zope().start()
    zope.kill()
    zope.wait_exit()
    zope.start()
    zope.restart()
    log_in(browser, zope, TAB + 'manage_main')
    click(browser, 'Incidents')

    def rows():
        return [
            row.text for row in browser.find_elements(By.CSS_SELECTOR, '.stability-runs tbody tr')
        ]

    assert len(rows()) == 1
    click(browser, 'All runs')
    newest_first = rows()
    assert len(newest_first) == 2
    click(browser, 'Ended')
    assert rows() == newest_first[::-1]
    assert browser.find_element(By.CSS_SELECTOR, 'th[aria-sort=ascending]').text.strip() == 'Ended'


@pytest.mark.thorough
def test_the_incidents_page_says_that_the_archive_is_empty(browser, shared_zope):
    log_in(browser, shared_zope, TAB + 'manage_incidents')
    assert 'No runs are archived yet.' in shown(browser)


def test_the_drills_page_shows_how_to_turn_drills_on(browser, shared_zope):
    log_in(browser, shared_zope, TAB + 'manage_drills')
    assert '<product-config stabilitymonitor>\n  drills on\n</product-config>' in shown(browser)
    assert not browser.find_elements(By.CSS_SELECTOR, 'main button')


@pytest.mark.thorough
def test_a_form_of_an_earlier_process_is_refused_with_a_message(browser, make_zope):
    zope = make_zope(options={'drills': 'on'}).start()
    log_in(browser, zope, TAB + 'manage_drills')
    zope.restart()  # the page of the old process is still open, as behind a proxy
    press(browser, 'kill')
    wait_for(lambda: 'This form was made by the process' in browser.page_source, what='the message')
    assert 'Nothing was changed' in browser.find_element(By.CSS_SELECTOR, '.alert-warning').text
    assert zope.running


FORGED = """<form id=f method=post action="{url}"><input name=drill value=kill>
<input name=token value="{token}"><input name=run value="{run}"><button id=go>go</button></form>"""


@pytest.mark.thorough
def test_another_site_cannot_start_a_drill_with_the_login_of_the_browser(
    browser, make_zope, tmp_path
):
    """Even with the right token, because the browser says which site sent the form."""
    zope = make_zope(options={'drills': 'on'}).start()
    log_in(browser, zope, TAB + 'manage_drills')
    token, run = (
        browser.find_element(By.NAME, name).get_attribute('value') for name in ('token', 'run')
    )
    page = tmp_path / 'evil.html'
    page.write_text(FORGED.format(url=f'{zope.url}{TAB}manage_drill', token=token, run=run))
    browser.get(page.as_uri())
    browser.find_element(By.ID, 'go').click()
    wait_for(lambda: browser.current_url.startswith('http'), what='the answer')
    assert 'another site' in browser.page_source or 'Forbidden' in browser.page_source
    assert zope.running and os.path.exists(f'/proc/{zope.pid}')


@pytest.mark.thorough
def test_hostile_paths_and_log_lines_are_shown_as_text(browser, make_zope):
    zope = make_zope(options={'drills': 'on'})
    zope.publish(
        'def shout(self):\n    import logging\n'
        '    logging.getLogger("x").error("<script>document.title=\'owned\'</script><img src=x '
        'onerror=1>")\n'
        '    return "ok"\n'
    )
    zope.start()
    zope.get('/%3Cscript%3Edocument.title=%27owned%27%3C/script%3E')
    zope.get('/shout')
    log_in(browser, zope, TAB + 'manage_drills')
    press(browser, 'abort')
    zope.wait_exit()
    zope.start()
    log_in(browser, zope, TAB + 'manage_main')
    click(browser, 'Show details')
    assert '<script>' in shown(browser) and browser.title.startswith('Incident ')
    assert not browser.find_elements(By.CSS_SELECTOR, 'main script, main img')
