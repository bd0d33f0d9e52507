"""The tab "Checks" in Chromium: findings, run again, mute and unmute, probe, a narrow window."""

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
    """The page of a site whose checks have run."""
    return opened(browser, shared_zope)


def opened(browser, zope):
    log_in(browser, zope, TAB + 'manage_main')
    click(browser, 'Checks')
    rest(browser)
    browser.zope = zope
    return browser


def rest(browser):
    """Wait until there are results and no check is running: until then a button may be disabled."""
    wait_for(
        lambda: (
            'checks took' in shown(browser)
            and not browser.find_elements(By.CSS_SELECTOR, '[data-busy]')
        ),
        what='the results',
    )


def steadily(action):
    """Do this on the page; do it again if the page was replaced meanwhile."""
    wait_for(lambda: (action(), True), what='a page that stays')


def unfold_fine_findings(browser):
    next(
        each
        for each in browser.find_elements(By.TAG_NAME, 'summary')
        if each.text.startswith('Fine')
    ).click()


def card(browser, title):
    """Return the card with this title; None if it does not exist, or while the page is replaced."""
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
    """Return the count with this word, read in one script call, as the page may be replaced."""
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


def test_findings_are_grouped_by_severity_and_show_what_to_write(checks):
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
    unfold_fine_findings(checks)
    assert 'Thread stacks are large enough.' in shown(checks)
    assert len(checks.find_elements(By.CSS_SELECTOR, 'details[open] li')) == count(checks, 'fine')


@pytest.mark.thorough
def test_a_finding_can_be_muted_and_unmuted(checks):
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
def test_a_mute_needs_a_reason(checks):
    card(checks, TITLE).find_element(By.TAG_NAME, 'summary').click()
    card(checks, TITLE).find_element(By.CSS_SELECTOR, 'form button').click()
    assert (
        checks.execute_script('return document.activeElement.name') == 'reason'
        and count(checks, 'muted') == 0
    )


@pytest.mark.thorough
def test_the_probe_shows_its_progress_and_its_result_without_a_reload(checks):
    steadily(lambda: checks.find_element(By.ID, 'recursion-probe').click())
    wait_for(
        lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] progress'),
        what='the progress',
    )
    checks.execute_script('window.stayed = true')
    steadily(lambda: unfold_fine_findings(checks))
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
    """Type a reason into the form of a finding; it is folded again after the page was replaced."""
    if not card.find_elements(By.CSS_SELECTOR, 'details[open]'):
        card.find_element(By.TAG_NAME, 'summary').click()
    card.find_element(By.NAME, 'reason').send_keys(reason)


@pytest.mark.thorough
def test_text_being_typed_is_kept_when_new_results_arrive(checks):
    for _ in range(5):  # on a busy machine the probe may end before the text is typed
        steadily(lambda: checks.find_element(By.ID, 'recursion-probe').click())
        wait_for(
            lambda: checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] progress'),
            what='the progress',
        )
        steadily(lambda: _write(_card(checks, TITLE), 'half a rea'))
        if checks.find_elements(By.CSS_SELECTOR, '[data-part=probe] progress'):
            break
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
    wait_for(lambda: 'Newer results are available.' in shown(checks), what='the hint')


@pytest.mark.thorough
def test_the_button_runs_the_checks_again(checks):
    (file,) = checks.zope.stability.glob('runs/*/checks.json')
    before = file.read_text()
    checks.find_element(By.ID, 'run-checks').click()
    wait_for(lambda: file.read_text() != before, what='a later run')
    rest(checks)


@pytest.mark.thorough
def test_a_known_issue_links_to_the_finding_with_its_action(browser, make_zope):
    checks = opened(browser, make_zope().start())
    (checks.zope.stability / 'known-issues.toml').write_text(
        '[[issue]]\nid = "shop"\ntitle = "Our shop"\nhappens = "It crashes."\neffect = '
        '"crash"\nseverity = "critical"\n'
        'action = "`Zope >= 99.0`"\nsource = "x"\nfixed = "99.0"\ndistributions = {Zope = "<99"}\n'
    )
    checks.find_element(By.ID, 'run-checks').click()
    wait_for(lambda: card(checks, 'Our shop'), what='the known issue')
    wait_for(
        lambda: checks.find_elements(By.LINK_TEXT, 'Our shop'),
        what='the known issues, which are checked in the background',
    )
    steadily(lambda: checks.find_element(By.LINK_TEXT, 'Our shop').click())
    target = checks.find_element(By.CSS_SELECTOR, 'article:target')
    assert (
        'known issue' in target.text
        and target.find_element(By.TAG_NAME, 'code').text == 'Zope >= 99.0'
    )


@pytest.mark.thorough
def test_the_page_fits_into_a_narrow_window(checks):
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
