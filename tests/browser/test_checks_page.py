"""The tab "Checks" as a person meets it: read, run again, muted and shown again, probed; on a
telephone too.
"""

import contextlib
import datetime

import pytest
from support.browsing import TAB
from support.browsing import click
from support.browsing import log_in
from support.browsing import shown
from support.browsing import wait_for

By = pytest.importorskip('selenium.webdriver.common.by').By
StaleElementReferenceException = pytest.importorskip(
    'selenium.common.exceptions'
).StaleElementReferenceException

pytestmark = [pytest.mark.browser, pytest.mark.zope]
TITLE = 'Nothing restarts this process when it dies.'


@pytest.fixture
def checks(browser, shared_zope):
    """The page of a site that has been checked."""
    return opened(browser, shared_zope)


def opened(browser, zope):
    log_in(browser, zope, TAB + 'manage_main')
    click(browser, 'Checks')
    rest(browser)
    browser.zope = zope
    return browser


def rest(browser):
    """Until there are results and nothing is being run: a button may be disabled till then."""
    wait_for(
        lambda: (
            'checks took' in shown(browser)
            and not browser.find_elements(By.CSS_SELECTOR, '[data-busy]')
        ),
        what='the results',
    )


def steadily(action):
    """What that does to the page; done again when the page was renewed meanwhile."""
    wait_for(lambda: (action(), True), what='a page that stays')


def unfold_what_is_fine(browser):
    next(
        each
        for each in browser.find_elements(By.TAG_NAME, 'summary')
        if each.text.startswith('Fine')
    ).click()


def card(browser, title):
    """None while the page is being renewed, too."""
    with contextlib.suppress(StaleElementReferenceException):
        return _card(browser, title)
    return None


def _card(browser, title):
    return next(
        (
            each
            for each in browser.find_elements(By.CSS_SELECTOR, 'article')
            if each.find_element(By.TAG_NAME, 'h4').text.startswith(title)
        ),
        None,
    )


def count(browser, word):
    """At one moment: the page may be renewed in the next."""
    items = browser.execute_script(
        'return [...document.querySelectorAll(".stability-counts li")].map(each => each.innerText)'
    )
    return next((int(text.split()[0]) for text in items if word in text), None)


def mute(browser, title, reason):
    found = card(browser, title)
    found.find_element(By.TAG_NAME, 'summary').click()
    found.find_element(By.NAME, 'reason').send_keys(reason)
    found.find_element(By.CSS_SELECTOR, 'form button').click()
    wait_for(lambda: 'Muted until' in browser.page_source, what='the message')


def test_what_was_found_is_sorted_and_says_what_to_write(checks):
    assert checks.find_element(By.CSS_SELECTOR, '.nav-link.active').text == 'Checks'
    headings = [each.text for each in checks.find_elements(By.CSS_SELECTOR, 'main h3')]
    groups = [
        heading for heading in ('Critical', 'Warnings', 'For information') if heading in headings
    ]
    assert headings[: len(groups)] == groups and 'Warnings' in groups
    assert headings[-2:] == ['Known issues', 'Recursion probe']
    codes = [each.text for each in card(checks, TITLE).find_elements(By.TAG_NAME, 'code')]
    assert codes[:2] == ['Restart=on-failure', 'RestartSec=5']
    assert 'Thread stacks are large enough.' not in shown(checks)
    unfold_what_is_fine(checks)
    assert 'Thread stacks are large enough.' in shown(checks)
    assert len(checks.find_elements(By.CSS_SELECTOR, 'details[open] li')) == count(checks, 'fine')


@pytest.mark.thorough
def test_a_finding_is_muted_and_shown_again(checks):
    before = count(checks, 'warning')
    mute(checks, TITLE, 'The <b>container</b> restarts it.')
    assert count(checks, 'muted') == 1 and count(checks, 'warning') == before - 1
    until = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(30)).isoformat()
    assert (
        'The <b>container</b> restarts it.' in card(checks, TITLE).text
        and until in card(checks, TITLE).text
    )
    click(checks, 'Stability')
    assert TITLE not in shown(checks)
    click(checks, 'Checks')
    card(checks, TITLE).find_element(By.TAG_NAME, 'button').click()
    wait_for(lambda: count(checks, 'muted') == 0, what='the finding')
    assert count(checks, 'warning') == before
    click(checks, 'Stability')
    assert TITLE in shown(checks)


@pytest.mark.thorough
def test_a_mute_wants_a_reason(checks):
    card(checks, TITLE).find_element(By.TAG_NAME, 'summary').click()
    card(checks, TITLE).find_element(By.CSS_SELECTOR, 'form button').click()
    assert (
        checks.execute_script('return document.activeElement.name') == 'reason'
        and count(checks, 'muted') == 0
    )


@pytest.mark.thorough
def test_the_probe_shows_how_far_it_is_and_then_its_result_without_a_reload(checks):
    checks.find_element(By.ID, 'recursion-probe').click()
    wait_for(
        lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] .progress-bar'),
        what='the progress',
    )
    checks.execute_script('window.stayed = true')
    steadily(lambda: unfold_what_is_fine(checks))
    wait_for(
        lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] article'),
        timeout=60,
        what='the result',
    )
    assert 'recursion' in checks.execute_script(
        'return document.querySelector("[data-part=probe] article h4").textContent'
    )
    assert checks.execute_script('return window.stayed') and checks.find_elements(
        By.CSS_SELECTOR, 'details[open]'
    )
    assert not checks.find_elements(By.CSS_SELECTOR, '[data-busy]')


def _write(card, reason):
    """Into the form of a finding, which a page that was renewed has folded."""
    if not card.find_elements(By.CSS_SELECTOR, 'details[open]'):
        card.find_element(By.TAG_NAME, 'summary').click()
    card.find_element(By.NAME, 'reason').send_keys(reason)


@pytest.mark.thorough
def test_what_is_being_written_is_not_lost_when_results_come(checks):
    checks.find_element(By.ID, 'recursion-probe').click()
    wait_for(
        lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] .progress-bar'),
        what='the progress',
    )
    steadily(lambda: _write(_card(checks, TITLE), 'half a rea'))
    wait_for(
        lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] article'),
        timeout=60,
        what='the result',
    )
    assert (
        checks.execute_script(
            'return [...document.querySelectorAll("[name=reason]")].map(each => each.value)'
        ).count('half a rea')
        == 1
    )
    assert 'There are newer results' in shown(checks)


@pytest.mark.thorough
def test_it_runs_again(checks):
    (file,) = checks.zope.stability.glob('runs/*/checks.json')
    before = file.read_text()
    checks.find_element(By.ID, 'run-checks').click()
    wait_for(lambda: file.read_text() != before, what='a later run')
    rest(checks)


@pytest.mark.thorough
def test_a_known_issue_leads_to_what_to_do(browser, make_zope):
    checks = opened(browser, make_zope().start())
    (checks.zope.stability / 'known-issues.toml').write_text(
        '[[issue]]\nid = "shop"\ntitle = "Our shop"\nhappens = "It crashes."\neffect = '
        '"crash"\nseverity = "critical"\n'
        'action = "`Zope >= 99.0`"\nsource = "x"\nfixed = "99.0"\ndistributions = {Zope = "<99"}\n'
    )
    checks.find_element(By.ID, 'run-checks').click()
    wait_for(lambda: card(checks, 'Our shop'), what='the known issue')
    (link,) = wait_for(
        lambda: checks.find_elements(By.LINK_TEXT, 'Our shop'),
        what='the known issues, which are looked up in the background',
    )
    link.click()
    target = checks.find_element(By.CSS_SELECTOR, 'article:target')
    assert (
        'known issue' in target.text
        and target.find_element(By.TAG_NAME, 'code').text == 'Zope >= 99.0'
    )


@pytest.mark.thorough
def test_it_fits_on_a_telephone(checks):
    checks.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        {'width': 390, 'height': 844, 'deviceScaleFactor': 1, 'mobile': True},
    )
    try:
        checks.refresh()
        checks.execute_script(
            'document.querySelectorAll("details").forEach(each => each.open = true)'
        )
        assert checks.execute_script('return document.documentElement.scrollWidth') <= 390
        assert card(checks, TITLE).find_element(By.NAME, 'reason').is_displayed()
    finally:
        checks.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
