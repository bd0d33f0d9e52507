"""The Threads page in Chromium: its content, folded stacks, refresh, and no free worker."""

import itertools
import json

import pytest
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for
from support.stacksdocuments import document

By = pytest.importorskip('selenium.webdriver.common.by').By
pytestmark = [pytest.mark.browser, pytest.mark.zope]
PAGE = '/Control_Panel/StabilityMonitor/manage_threads'
OPTIONS = {'slow-request': '0.5s', 'stall': '1s', 'sample-interval': '0.1s'}

#: A request that waits until `let_go`, two that wait for each other's locks, one that computes.
SOURCE = """
import threading, time
A, B, met, release = threading.Lock(), threading.Lock(), threading.Barrier(2), threading.Event()

def wait_here(self):
    release.wait(60)
    return "released"

def let_go(self):
    release.set()
    return "ok"

def checkout(self):
    with A:
        met.wait(30)
        with B:
            return "never"

def stock(self):
    with B:
        met.wait(30)
        with A:
            return "never"

def prices(self):
    until = time.monotonic() + 60
    while time.monotonic() < until and not release.is_set():
        _cheapest(), _dearest()
    return "ok"

def _cheapest():
    return min(number * number for number in range(30000))

def _dearest():
    return max(range(30000))
"""
#: A strict content policy, as a proxy may send it.  It blocks inline scripts of the ZMI, but must
#: not block ours.
POLICY = (
    SOURCE
    + """

def _policed(event):
    policy = "script-src 'self'; style-src 'self'"
    event.request.response.setHeader("Content-Security-Policy", policy)

from zope.component import provideHandler
from ZPublisher.interfaces import IPubAfterTraversal
provideHandler(_policed, (IPubAfterTraversal,))
"""
)


@pytest.fixture
def site(make_zope):
    def start(threads=6, source=SOURCE):
        return make_zope(threads=threads, options=OPTIONS).publish(source).start()

    return start


def find(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def text_of(browser, selector):
    """Return the text of an element, read in one script call, as the element may be replaced."""
    return browser.execute_script('return document.querySelector(arguments[0]).innerText', selector)


def refresh_on(browser):
    browser.find_element(By.CSS_SELECTOR, 'label[for=stability-refresh-switch]').click()


def seen_at(browser):
    return text_of(browser, '.stability-seen')


def test_a_deadlock_is_shown_above_the_threads(browser, site):
    zope = site()
    for path in ('/checkout', '/stock', '/prices'):
        zope.background(path)

    def deadlock():
        log_in(browser, zope, PAGE)
        return [alert for alert in find(browser, '.stability-hang') if '/checkout' in alert.text]

    alert = wait_for(deadlock, what='the deadlock')[0]
    assert alert.text.startswith(('Deadlock for ', 'Deadlock seen just now'))
    assert '/stock' in alert.text
    first = browser.find_element(By.CSS_SELECTOR, '.stability-card')
    assert alert.location['y'] < first.location['y'] and 'deadlock' in first.text
    holder = first.find_element(By.CSS_SELECTOR, '.stability-detail a')
    holder.click()
    other = browser.find_element(By.ID, holder.get_attribute('href').partition('#')[2])
    assert other.id != first.id and 'deadlock' in other.text


@pytest.mark.thorough
def test_a_stack_unfolds_in_two_steps_and_highlights_code_of_the_site(browser, site):
    zope = site()
    zope.background('/wait_here')
    wait_for(
        lambda: '/wait_here' in zope.get('/Control_Panel/StabilityMonitor/stacks').text,
        what='the request',
    )
    log_in(browser, zope, PAGE)
    card = next(card for card in find(browser, '.stability-card') if '/wait_here' in card.text)
    assert 'handler_thread' not in card.text
    card.find_element(By.CSS_SELECTOR, '.stability-frames > summary').click()
    own = card.find_element(By.CSS_SELECTOR, 'li.stability-site')
    assert own.text.startswith('wait_here') and 'handler_thread' not in card.text
    card.find_elements(By.CSS_SELECTOR, '.stability-folded > summary')[-1].click()
    assert 'handler_thread' in card.text
    dim = card.find_element(By.CSS_SELECTOR, 'li.stability-carrier')
    assert dim.value_of_css_property('color') != own.find_element(
        By.TAG_NAME, 'b'
    ).value_of_css_property('color')
    zope.get('/let_go')


@pytest.mark.thorough
def test_the_page_refreshes_only_when_asked_and_open_details_stay_open(browser, site):
    zope = site()
    zope.background('/wait_here')
    wait_for(
        lambda: '/wait_here' in zope.get('/Control_Panel/StabilityMonitor/stacks').text,
        what='the request',
    )
    log_in(browser, zope, PAGE)
    browser.execute_script(
        'window.isTheSamePage = true; document.querySelector(".stability-frames").open = true;'
        'document.querySelector(".stability-quiet").open = true'
    )
    before = seen_at(browser)
    assert not browser.execute_script(
        'return performance.getEntriesByType("resource")'
        '.some(entry => entry.name.includes("threads_fragment"))'
    )
    refresh_on(browser)
    wait_for(lambda: seen_at(browser) != before, what='a refresh')
    assert browser.execute_script('return document.querySelector(".stability-frames").open')
    assert browser.execute_script('return document.querySelector(".stability-quiet").open')
    zope.get('/let_go')
    wait_for(
        lambda: (
            '/wait_here' not in text_of(browser, '#stability-live').partition('Slow requests')[0]
        ),
        what='the end of the request',
    )
    assert browser.execute_script('return window.isTheSamePage')


def shares_of_prices(text):
    """Return the functions in which samples found the slow request."""
    lines = text.partition('GET /prices: ')[2].splitlines()[1:]
    shares = itertools.takewhile(lambda line: line.startswith('    '), lines)
    return {line.split()[2] for line in shares}


def key_of(browser, path):
    """Return the key that the page gives to the finished slow request for `path`."""
    ended = browser.find_elements(By.CSS_SELECTOR, 'details.stability-slow')
    return next(
        one.get_attribute('data-key')
        for one in ended
        if path in one.find_element(By.TAG_NAME, 'summary').text
    )


@pytest.mark.thorough
def test_a_flame_graph_is_loaded_when_its_request_is_unfolded(browser, site):
    zope = site(source=POLICY)

    def stacks():
        return zope.get('/Control_Panel/StabilityMonitor/stacks').text

    zope.get(
        PAGE
    )  # this first page compiles the templates; on a busy machine that makes it a slow request
    zope.background('/prices')
    wait_for(lambda: shares_of_prices(stacks()) >= {'<genexpr>', '_dearest'}, what='both calls')
    assert 'flames?' in zope.get(PAGE).text
    zope.get('/let_go')
    wait_for(lambda: '/prices' in stacks().partition('Finished slow requests:')[2], what='its end')
    log_in(browser, zope, PAGE)
    asked = (
        'return performance.getEntriesByType("resource").filter(e => '
        'e.name.includes("flames")).length'
    )
    # On a busy machine the pages themselves are slow requests too.
    slow = f'details.stability-slow[data-key="{key_of(browser, "/prices")}"]'
    width = f"return document.querySelector('{slow} img').naturalWidth"
    browser.execute_script(f"document.querySelector('{slow}').scrollIntoView()")
    assert (browser.execute_script(asked), browser.execute_script(width)) == (0, 0)
    browser.find_element(By.CSS_SELECTOR, f'{slow} > summary').click()
    browser.execute_script(f"document.querySelector('{slow} img').scrollIntoView()")
    wait_for(lambda: browser.execute_script(width) > 0, what='the picture')
    refresh_on(browser)
    browser.execute_script(f"document.querySelector('{slow} .stability-picture a').focus()")
    before = seen_at(browser)
    wait_for(lambda: seen_at(browser) != before, what='a refresh')
    assert browser.execute_script('return document.activeElement.matches(".stability-picture a")')
    wait_for(lambda: browser.execute_script(width) > 0, what='the picture after the refresh')
    refresh_on(browser)  # off again, because an element that is replaced cannot be clicked
    browser.find_element(By.CSS_SELECTOR, f'{slow} .stability-picture a').click()
    wait_for(
        lambda: 'prices' in browser.find_element(By.TAG_NAME, 'svg').text,
        what='the picture on its own page',
    )


@pytest.mark.thorough
def test_without_a_free_worker_the_page_shows_the_command_for_a_shell(browser, site):
    zope = site(threads=2)
    log_in(browser, zope, PAGE)
    refresh_on(browser)
    for _ in range(2):
        zope.background('/wait_here')

    def no_answer():
        alert = browser.find_element(By.ID, 'stability-no-answer')
        return alert.is_displayed() and alert.text

    text = wait_for(no_answer, what='the message')
    assert text.startswith('No answer for ') and 'all workers may be busy' in text
    assert f'stabilitymonitor --directory {zope.stability} stacks ' in text
    zope.kill()
    zope.wait_exit()
    wait_for(lambda: 'cannot be reached' in (no_answer() or ''), what='the end of the server')
    zope.start()
    wait_for(lambda: 'Another process answers now' in (no_answer() or ''), what='the new process')
    refresh_on(browser)
    assert not no_answer()


@pytest.mark.thorough
def test_the_button_takes_native_stacks_without_a_reload(browser, site):
    pytest.importorskip('pystack', reason='without pystack there is no button')
    zope = site()
    log_in(browser, zope, PAGE)
    browser.find_element(By.ID, 'native-stacks').click()
    text = wait_for(
        lambda: (text := text_of(browser, '#stability-native')) and 'Taken' in text and text,
        timeout=60,
        what='the native stacks',
    )
    assert '(C) File' in text and 'handler_thread' in text
    assert (
        0
        <= browser.execute_script(
            'return document.getElementById("native").getBoundingClientRect().top'
        )
        < 1000
    )


@pytest.mark.thorough
def test_the_page_works_under_a_strict_content_policy(browser, site):
    zope = site(source=POLICY)
    zope.background('/prices')
    wait_for(
        lambda: '% in ' in zope.get('/Control_Panel/StabilityMonitor/stacks').text,
        what='the slow request',
    )
    log_in(browser, zope, PAGE)
    before = seen_at(browser)
    refresh_on(browser)
    wait_for(lambda: seen_at(browser) != before, what='a refresh')
    (bar,) = browser.execute_script(
        'return [...document.querySelectorAll(".stability-share rect:last-of-type")]'
        '.map(rect => rect.getBoundingClientRect().width).slice(0, 1)'
    )
    assert bar > 10
    zope.get('/let_go')


#: Lets the page show a document of the test.
PRETENDING = (
    SOURCE
    + """
def pretend(self, stacks):
    import json
    from Products.StabilityMonitor.recording.arming import STATE
    from Products.StabilityMonitor.model.jsonform import from_json
    from Products.StabilityMonitor.model.threadstates import Stacks
    STATE.life.rounds.stacks = lambda: from_json(Stacks, json.loads(stacks))
    return "ok"
"""
)


@pytest.mark.thorough
@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_is_not_wider_than_the_window(browser, site, width):
    zope = site(source=PRETENDING)
    zope.post('/pretend', {'stacks': json.dumps(document())})
    size = browser.get_window_size()
    try:
        browser.set_window_size(width, 1000)
        log_in(browser, zope, PAGE)
        browser.execute_script(
            'document.querySelectorAll("main details").forEach(each => { each.open = true; })'
        )
        assert browser.execute_script(
            'return document.documentElement.scrollWidth <= window.innerWidth'
        )
        assert browser.execute_script('return window.innerWidth') == width
        assert 'Slow requests' in shown(browser) and 'Earlier hangs and deadlocks' in shown(browser)
    finally:
        browser.set_window_size(size['width'], size['height'])
