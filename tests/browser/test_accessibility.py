"""Every page in Chromium, with all that it can show: axe-core, titles, a narrow window, names of
controls, and the keyboard alone.

A fault is ours if its element is inside `main.stability`, which our templates write.  Outside of
it is Zope's frame: there a fault is ours only if a page of Zope alone does not break that rule.
"""

import socket

import pytest
from support.browsing import TAB
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for
from support.crowdedsite import OPTIONS
from support.crowdedsite import CrowdedSite
from support.zopekit import ZopeInstance

By = pytest.importorskip('selenium.webdriver.common.by').By
Keys = pytest.importorskip('selenium.webdriver.common.keys').Keys
pytest.importorskip('selenium_axe_python')
accessible = pytest.importorskip('support.accessible')
pytestmark = [
    pytest.mark.browser,
    pytest.mark.zope,
    pytest.mark.xdist_group('accessibility'),  # one site for all of them
]

OF_ZOPE = '/Control_Panel/manage_main'
#: {page: its query strings, each with other content}
PAGES = {
    'manage_main': ('',),
    'manage_incidents': ('', '?show=all&instances=all&page=2', '?by=signature'),
    'manage_signature': ('?id={signature}',),
    'manage_incident': ('?run={incident}', '?run={again}', '?run=nonsense'),
    'manage_snapshot': ('?snapshot={snapshot}', '?snapshot=nonsense'),
    'manage_threads': ('',),
    'manage_checks': ('',),
    'manage_report': ('',),
    'manage_drills': ('',),
}
ADDRESSES = [page + query for page, queries in PAGES.items() for query in queries]
each_page = pytest.mark.parametrize('address', ADDRESSES)


@pytest.fixture(scope='module')
def crowded(tmp_path_factory):
    zope = ZopeInstance(tmp_path_factory.mktemp('crowded'), options=OPTIONS).create()
    yield CrowdedSite(zope).start()
    zope.destroy()


@pytest.fixture
def visit(browser, crowded):
    """Return a function that shows a page, complete, in a window of this width."""
    size = browser.get_window_size()

    def open_page(address, width=1280):
        browser.set_window_size(width, 1000)
        browser.get(f'{crowded.zope.url}{TAB}{address.format(**crowded.known)}')
        if address == 'manage_checks':
            wait_for(lambda: is_at_rest(browser), what='the results')

    log_in(browser, crowded.zope, OF_ZOPE)
    browser.set_script_timeout(120)
    yield open_page
    browser.set_window_size(size['width'], size['height'])


def is_at_rest(browser):
    return 'checks took' in shown(browser) and not browser.find_elements(
        By.CSS_SELECTOR, '[data-busy]'
    )


def test_the_list_names_every_page_that_zope_publishes():
    pytest.importorskip('Zope2')
    from support.publishedmethods import pages

    assert pages() == PAGES.keys()


@pytest.mark.thorough
@each_page
def test_axe_core_finds_nothing_of_ours(browser, visit, crowded, address):
    browser.get(crowded.zope.url + OF_ZOPE)
    of_zope = {rule for rule, _, _ in accessible.faults(browser)}
    visit(address)
    accessible.unfold(browser)
    found = accessible.faults(browser)
    assert [fault for fault in found if fault[1] or fault[0] not in of_zope] == []


@pytest.mark.thorough
@each_page
def test_the_title_names_the_page_and_the_host(browser, visit, address):
    visit(address)
    page, monitor, host = browser.title.split(' - ')
    active = browser.find_element(By.CSS_SELECTOR, '.nav-link.active').text
    assert monitor == 'Stability' and host == socket.gethostname()
    names = ('Incident 20', 'Incidents by signature', 'Signature ', 'Snapshot 20')
    assert page in (active, 'Overview', 'Message') or page.startswith(names)


@pytest.mark.thorough
def test_the_title_of_a_flame_graph_names_the_request_and_the_host(browser, visit, crowded):
    visit(f'flames?run={crowded.run}&request={crowded.slow}')
    title = 'Flame graph of GET /shop/prices?sort=cheapest - '
    assert browser.title == title + socket.gethostname()


@pytest.mark.thorough
@each_page
def test_nothing_is_cut_in_a_window_of_800_pixels(browser, visit, address):
    visit(address, width=800)
    accessible.unfold(browser)
    assert browser.execute_script('return window.innerWidth') == 800
    assert accessible.cut(browser) == []


@pytest.mark.thorough
@each_page
def test_controls_with_one_name_do_the_same(browser, visit, address):
    visit(address)
    accessible.unfold(browser)
    effects = {}
    for control in browser.find_elements(By.CSS_SELECTOR, 'main :is(a[href], button, summary)'):
        if control.get_attribute('aria-hidden') != 'true':
            effect = control.get_dom_attribute('href') or control.id
            effects.setdefault(control.accessible_name, set()).add(effect)
    assert '' not in effects
    assert {name: several for name, several in effects.items() if len(several) > 1} == {}


@pytest.mark.thorough
@each_page
def test_the_keyboard_reaches_every_control_in_order(browser, visit, address):
    visit(address)
    controls, reached, unmarked = accessible.controls_by_keyboard(browser)
    assert controls == reached
    assert unmarked == []


@pytest.mark.thorough
def test_a_finding_is_muted_by_keys_alone(browser, visit):
    visit('manage_checks')

    def focused(css):
        return browser.execute_script('return document.activeElement.matches(arguments[0])', css)

    for _ in range(100):
        accessible.press(browser, Keys.TAB)
        if focused('article summary'):
            break
    accessible.press(browser, Keys.ENTER)
    accessible.press(browser, Keys.TAB)
    assert focused('[name=reason]')
    accessible.press(browser, 'The container restarts it.', Keys.ENTER)
    wait_for(lambda: 'Muted until' in browser.page_source, what='the message')
    assert 'The container restarts it.' in shown(browser)
