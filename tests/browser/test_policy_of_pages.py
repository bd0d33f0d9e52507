"""The pages in Chromium: their content policy hinders neither them nor Zope's frame, only what is
planted in them.
"""

import pytest
from support.browsing import TAB
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for

By = pytest.importorskip('selenium.webdriver.common.by').By
pytestmark = [pytest.mark.browser, pytest.mark.zope]

#: What each page shows, so that a page of an error is no page without violations.
PAGES = {
    'manage_main': 'This process',
    'manage_incidents?show=all': 'vanished',
    'manage_incident?run={run}': 'Evidence',
    'manage_threads': 'Native stacks',
    'manage_checks': 'Recursion probe',
    'manage_report': 'Preview',
    'manage_drills': 'Segmentation fault',
    'manage_incident?run=nonsense': 'This is not the name of a run.',
}
#: Makes a slow request; plants foreign code in the overview and in the picture of that request, as
#: if a template or a picture forgot to escape.
SOURCE = """
import threading, time
DONE = threading.Event()

def slow(self):
    while not DONE.is_set():
        _one(), _two()
    return "ok"

def _one():
    return DONE.wait(0.02)

def _two():
    return DONE.wait(0.02)

def let_go(self):
    DONE.set()
    return "ok"

def plant(self):
    from Products.StabilityMonitor.reporting import charts
    from Products.StabilityMonitor.zmi import threadpages
    real = threadpages.flames
    threadpages.flames = lambda *args: real(*args).replace(
        "</svg>", "<script>document.documentElement.id = 'run'</script></svg>")
    charts.timeline = lambda *args: (
        "<script>window.planted = 'script'</script>"
        "<img src='missing' onerror=\\"window.planted = 'handler'\\" />"
        "<p id='styled' style='position: fixed'>planted</p>"
        "<script src='https://example.invalid/x.js'></script>")
    return "ok"

def unpolice(self):
    from Products.StabilityMonitor.zmi import contentpolicy
    contentpolicy.send = lambda response, policy: None
    return "ok"
"""
OPTIONS = {
    'drills': 'on',
    'slow-request': '0.5s',
    'stall': '1s',
    'sample-interval': '0.1s',
}


@pytest.fixture
def site(make_zope):
    zope = make_zope(options=OPTIONS, threads=6).publish(SOURCE).start()
    zope.kill()
    zope.wait_exit()
    zope.start()
    (zope.dead_run,) = (path.name for path in (zope.stability / 'archive').glob('2*'))
    yield zope


def violations(browser):
    """Return what the browser has refused since the last call."""
    return [
        entry['message']
        for entry in browser.get_log('browser')
        if 'Content Security Policy' in entry['message'] or 'sandboxed' in entry['message']
    ]


@pytest.mark.thorough
def test_no_page_violates_its_policy(browser, site):
    log_in(browser, site, TAB + 'manage_main')
    violations(browser)
    for path, words in PAGES.items():
        browser.get(site.url + TAB + path.format(run=site.dead_run))
        assert words in shown(browser), path
        # Zope's inline script has run; it tells whether the page is in Zope's set of frames.
        assert browser.execute_script('return manage_menu') is False, path
        assert violations(browser) == [], path


@pytest.mark.thorough
def test_pages_that_renew_themselves_violate_no_policy(browser, site):
    site.background('/slow')
    wait_for(lambda: 'flames?' in site.get(TAB + 'manage_threads').text, what='the picture')
    log_in(browser, site, TAB + 'manage_threads')
    violations(browser)
    browser.find_element(By.CSS_SELECTOR, 'label[for=stability-refresh-switch]').click()
    seen = 'return document.querySelector(".stability-seen").innerText'
    before = browser.execute_script(seen)
    wait_for(lambda: browser.execute_script(seen) != before, what='a refresh')
    width = 'return document.querySelector("img.stability-flames").naturalWidth'
    browser.execute_script('document.querySelector("img.stability-flames").scrollIntoView()')
    wait_for(lambda: browser.execute_script(width) > 0, what='the picture')
    browser.get(site.url + TAB + 'manage_checks')
    wait_for(lambda: 'checks took' in shown(browser), what='the results')
    # The page renews this part: an element that was found before may be gone at the click.
    browser.execute_script('document.getElementById("recursion-probe").click()')
    bar = wait_for(
        lambda: browser.find_elements(By.CSS_SELECTOR, '[data-part=probe] progress'),
        what='the progress',
    )
    assert bar
    wait_for(
        lambda: browser.find_elements(By.CSS_SELECTOR, '[data-part=probe] article'),
        what='the result',
    )
    assert violations(browser) == []
    site.get('/let_go')


@pytest.mark.thorough
def test_a_page_works_in_the_frames_of_zope(browser, site):
    """The icon in the navigation bar narrows the frame with the tree; its handler is inline."""
    log_in(browser, site, TAB + 'manage_main')
    violations(browser)
    browser.get(f'{site.url}/manage?came_from={site.url}{TAB}manage_main')
    columns = 'return document.querySelector("frameset").cols'

    def toggled():
        browser.switch_to.frame('manage_main')
        assert 'This process' in shown(browser)
        browser.find_element(By.CSS_SELECTOR, '#toggle_menu a').click()
        browser.switch_to.default_content()
        return browser.execute_script(columns)

    narrow = toggled()
    assert narrow != toggled()
    ours = [message for message in violations(browser) if TAB in message]
    assert ours == []


@pytest.mark.thorough
def test_what_is_planted_in_a_page_neither_runs_nor_loads(browser, site):
    site.get('/plant')
    log_in(browser, site, TAB + 'manage_main')
    assert browser.find_element(By.ID, 'styled').text == 'planted'
    assert browser.execute_script('return window.planted') is None
    styled = browser.find_element(By.ID, 'styled')
    assert styled.value_of_css_property('position') == 'static'
    refused = ' '.join(violations(browser))
    for words in ('inline script', 'inline event handler', 'inline style', 'example.invalid'):
        assert words in refused
    # The same page without its policy: there all of it runs.
    site.get('/unpolice')
    browser.refresh()
    assert browser.execute_script('return window.planted') is not None
    styled = browser.find_element(By.ID, 'styled')
    assert styled.value_of_css_property('position') == 'fixed'


@pytest.mark.thorough
def test_what_is_planted_in_a_flame_graph_does_not_run(browser, site):
    site.get('/plant')
    site.background('/slow')
    page = wait_for(
        lambda: 'flames?' in (text := site.get(TAB + 'manage_threads').text) and text,
        what='the picture',
    )
    address = page.partition('href="flames?')[2].partition('"')[0].replace('&amp;', '&')
    assert "document.documentElement.id = 'run'" in site.get(f'{TAB}flames?{address}').text
    log_in(browser, site, TAB + 'manage_main')
    violations(browser)
    browser.get(f'{site.url}{TAB}flames?{address}')
    assert 'Flame graph of GET ' in browser.find_element(By.TAG_NAME, 'svg').text
    assert browser.find_element(By.TAG_NAME, 'svg').get_attribute('id') != 'run'
    assert violations(browser)
    # The same picture without its policy, not from the cache of the browser: there the script runs.
    site.get('/unpolice')
    browser.get(f'{site.url}{TAB}flames?{address}&again=1')
    assert browser.find_element(By.TAG_NAME, 'svg').get_attribute('id') == 'run'
    site.get('/let_go')
