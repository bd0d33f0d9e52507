"""The product in a full Plone 6.2, used as an administrator would; `make plone` runs this.

plone.protect is active: it examines each response, and refuses writes to the database without its
token.
"""

import html
import json
import re
import signal
import subprocess
from base64 import b64encode
from datetime import date
from datetime import timedelta

import pytest
from support import plone_site
from support.plainzope import what_is_so
from support.plone_site import DOCUMENT
from support.plone_site import PATIENCE
from support.plone_site import TAB
from support.zopekit import PASSWORD
from support.zopekit import USER
from support.zopekit import wait_for

plone_site.needs_plone()
pytestmark = [pytest.mark.zope, pytest.mark.slow]

PAGES = (
    'manage_main',
    'manage_incidents',
    'manage_threads',
    'manage_checks',
    'manage_report',
    'manage_drills',
)
OPTIONS = {'slow-request': '1s', 'sample-interval': '200ms', 'drills': 'on'}
BOSS = {'Authorization': 'Basic ' + b64encode(':'.join(plone_site.BOSS).encode()).decode()}
#: Optional libraries of the product that Plone does not install.
OPTIONAL = ('psutil', 'pystack')


@pytest.fixture(scope='module')
def plone(tmp_path_factory):
    """One Plone for all tests; a test that kills it starts it again."""
    plone = plone_site.PloneSite(tmp_path_factory.mktemp('plone'), options=OPTIONS).create().start()
    yield plone
    plone.destroy()


@pytest.fixture(autouse=True)
def running(plone):
    if not plone.running:
        plone.start()


# -- findings --------------------------------------------------------------------------------------


def test_plone_6_2_with_plone_protect_serves_its_front_page(plone):
    front = plone.get(DOCUMENT, auth=False, timeout=PATIENCE)
    assert front.status == 200 and 'The front page' in front.text and 'portal-footer' in front.text
    assert plone_site.installed('Plone').startswith('6.2.') and plone_site.installed(
        'plone.protect'
    )


def test_plone_has_exactly_the_expected_findings(plone):
    findings = plone.findings()
    told = {id: finding for id, finding in findings.items() if finding['severity'] != 'ok'}
    known = {id for id in told if id.startswith('known-issues:')}
    expected = {id for id in what_is_so(plone) if not id.startswith('optional')}
    expected |= {
        f'optional-libraries:{name}' for name in OPTIONAL if not plone_site.installed(name)
    }
    # a clock may be corrected between the start of the tests and that of the site
    differing = ((set(told) - known) ^ expected) - {'clock-jumps'}
    assert not differing, {id: told.get(id, 'missing') for id in differing}
    for id in known:  # only of this Python: all libraries are current
        assert re.search(rf'Here: Python {python_version()} is ', told[id]['detail']), told[id]
    for id in (
        'versions',
        'compiled-modules',
        'replaced-libraries',
        'fault-handler',
        'connection-pools',
        'storage',
        'event-log',
        'outputs',
        'recursion-limit',
        'thread-stacks',
        'garbage-collector',
        'dbapi',
    ):
        assert findings[id]['severity'] == 'ok', findings[id]


def python_version():
    return subprocess.run(
        [plone_site.PYTHON, '-c', 'import platform; print(platform.python_version())'],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout.strip()


def test_no_check_fails_or_times_out_in_plone(plone):
    """The benchmark bench_checks measures the time itself."""
    titles = [finding['title'] for finding in plone.findings().values()]
    assert not [title for title in titles if title.startswith('A check ')]


def test_the_versions_check_agrees_with_pip_check(plone):
    done = subprocess.run(
        [plone_site.PYTHON, '-m', 'pip', 'check'], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode == 0) == (plone.findings()['versions']['severity'] == 'ok'), done.stdout


# -- what is known of Plone ------------------------------------------------------------------------


def test_the_version_of_plone_is_on_the_overview_and_in_the_report(plone):
    version = plone_site.installed('Products.CMFPlone')
    assert plone.report()['process']['plone'] == version
    page = plone.get(f'{TAB}manage_main', timeout=PATIENCE).text
    assert 'Plone Version' in page and version in page
    text = plone.ask('report', '--format', 'text').stdout
    assert re.search(rf'^Plone +{re.escape(version)}$', text, re.MULTILINE)


def test_the_report_lists_the_add_ons_of_each_site_and_writes_nothing(plone):
    before = plone.transactions()
    report = plone.report()
    assert report['sources']['sites']['source'] == 'process', report['sources']['sites']
    (site,) = report['sites']
    versions = {add_on['profile']: add_on['version'] for add_on in site['add_ons']}
    assert site['path'] == '/Plone' and versions['Products.CMFPlone:plone'].isdigit()
    assert plone.transactions() == before


def test_the_report_of_the_command_has_no_add_ons(plone):
    """The command never opens the database."""
    report = json.loads(plone.ask('report', '--format', 'json').stdout)
    assert (report['sites'], report['sources']['sites']['source']) == ([], 'nobody')
    (database,) = report['inventory']['databases']
    assert (database['name'], database['storage']) == ('main', 'filestorage')


def test_the_profile_adds_a_link_to_site_setup_and_its_uninstall_profile_removes_it(plone):
    link = f'{plone.url}/Plone{TAB}manage_main'
    before = plone.links_of_site_setup()
    assert link not in before
    plone.add_on('install')
    assert plone.links_of_site_setup() == before | {link}
    assert plone.get(f'/Plone{TAB}manage_main', timeout=PATIENCE).status == 200
    # A manager of only the site may not follow it.
    assert link not in plone.links_of_site_setup(auth=False, headers=BOSS)
    plone.add_on('uninstall')
    assert plone.links_of_site_setup() == before
    (site,) = plone.report()['sites']
    profiles = [add_on['profile'] for add_on in site['add_ons']]
    assert not [profile for profile in profiles if 'StabilityMonitor' in profile]


# -- pages and forms -------------------------------------------------------------------------------


def test_plone_protect_is_active(plone):
    refused = plone.get(f'{DOCUMENT}/careless', auth=False, headers=BOSS, timeout=PATIENCE)
    assert refused.status == 302 and 'confirm-action' in refused.headers['Location'], refused
    assert 'Written without asking' not in plone.get(DOCUMENT, timeout=PATIENCE).text


@pytest.mark.parametrize('place', ['', '/Plone'], ids=['at the root', 'through the site'])
@pytest.mark.parametrize('page', PAGES)
def test_each_page_is_shown_and_writes_nothing(plone, page, place):
    before = plone.transactions()
    answer = plone.get(f'{place}{TAB}{page}', timeout=PATIENCE)
    assert answer.status == 200 and '<main class="container-fluid' in answer.text
    assert plone.transactions() == before
    assert 'name="_authenticator"' in answer.text, 'plone.protect has examined the page'


def test_visitors_and_managers_of_only_the_site_have_no_access(plone):
    assert (
        plone.get('/Plone/overview-controlpanel', auth=False, headers=BOSS, timeout=PATIENCE).status
        == 200
    )
    for place in ('', '/Plone'):
        for page in (*PAGES, 'report', 'stacks'):
            for headers in (None, BOSS):
                answer = plone.get(
                    f'{place}{TAB}{page}', auth=False, headers=headers, timeout=PATIENCE
                )
                assert answer.status in (302, 401) and 'Data directory' not in answer.text, (
                    place,
                    page,
                    answer,
                )


def test_a_form_runs_the_checks_again(plone):
    plone.findings()
    answer = plone.post(f'{TAB}manage_run_checks', plone.form('manage_checks', 'manage_run_checks'))
    assert (answer.status, answer.headers['Location']) == (302, f'{plone.url}{TAB}manage_checks')


def test_forms_mute_a_finding_and_show_it_again(plone):
    plone.findings()
    until = (date.today() + timedelta(30)).isoformat()
    words = {
        'id': 'supervisor',
        'reason': 'pytest looks after it',
        'until': until,
        'severity': 'warning',
    }
    answer = plone.post(
        f'{TAB}manage_mute', {**plone.form('manage_checks', 'manage_mute'), **words}
    )
    assert answer.status == 302 and 'Muted+until' in answer.headers['Location'], answer.headers[
        'Location'
    ]
    muted = plone.findings()['supervisor']['muted']
    assert (muted['reason'], muted['until']) == (
        'pytest looks after it',
        until,
    ) and 'admin' in muted['who']
    form = plone.form('manage_checks', 'manage_show_again')
    assert plone.post(f'{TAB}manage_show_again', {**form, 'id': 'supervisor'}).status == 302
    assert 'muted' not in plone.findings()['supervisor']


def test_a_form_takes_native_stacks(plone):
    if not plone_site.installed('pystack'):
        pytest.skip('pystack is not installed beside this Plone')
    answer = plone.post(
        f'{TAB}manage_native_stacks', plone.form('manage_threads', 'manage_native_stacks')
    )
    assert answer.status == 302 and 'warning' not in answer.headers['Location'], answer.headers[
        'Location'
    ]

    def taken():
        page = plone.get(f'{TAB}threads_fragment?part=native', timeout=PATIENCE).text
        return page if '(C)' in page and '(Python)' in page else None

    assert 'waitress' in wait_for(taken, PATIENCE, 'C and Python frames of the running Plone')


@pytest.mark.parametrize(
    'form', ['manage_run_checks', 'manage_mute', 'manage_native_stacks', 'manage_drill']
)
def test_a_forged_form_changes_nothing(plone, form):
    answer = plone.post(
        f'{TAB}{form}', {'id': 'supervisor', 'drill': 'kill', 'token': 'x' * 64, 'run': 'x'}
    )
    assert answer.status == 403 and plone.running


# -- a slow request, and deaths --------------------------------------------------------------------


@pytest.mark.restarts
def test_a_slow_plone_request_is_reported_while_it_runs_and_after_a_kill(plone):
    run = plone.report()['process']['run']
    plone.background('/Plone/slow-listing?seconds=600')
    slow = wait_for(
        lambda: [s for s in plone.report()['slow_requests'] if s['path'] == '/Plone/slow-listing'],
        PATIENCE,
        'the slow request',
    )[0]
    assert slow['ended'] is None and 'one' in [frame['function'] for frame in slow['frames']]
    page = html.unescape(plone.get(f'{TAB}manage_threads', timeout=PATIENCE).text)
    assert '/Plone/slow-listing' in page and 'SlowAddOn' in page
    told = plone.ask('stacks')
    assert '/Plone/slow-listing' in told.stdout, told.stderr

    plone.kill(signal.SIGKILL)
    assert plone.wait_exit() == -signal.SIGKILL
    plone.start()
    previous = plone.report()['previous']
    assert (previous['run'], previous['verdict'], previous['signal']) == (run, 'vanished', None)
    assert ['/Plone/slow-listing'] == [request['path'] for request in previous['requests']]
    assert 'one' in {frame['function'] for note in previous['notes'] for frame in note['frames']}
    assert 'vanished without a trace' in plone.get(f'{TAB}manage_main', timeout=PATIENCE).text


@pytest.mark.restarts
def test_a_crash_in_plone_is_reported_with_its_request(plone):
    assert plone.crash(f'{DOCUMENT}/crash') == -signal.SIGSEGV
    plone.start()
    previous = plone.report()['previous']
    assert (previous['verdict'], previous['signal']) == ('crashed', 'SIGSEGV')
    (crashed,) = [request for request in previous['requests'] if request['crashed']]
    assert crashed['path'] == f'{DOCUMENT}/crash'
    (thread,) = [thread for thread in previous['threads'] if thread['crashed']]
    assert 'string_at' in [frame['function'] for frame in thread['frames'][:3]]
    done = plone.ask('show', previous['run'])
    assert done.returncode == 1 and f'{DOCUMENT}/crash' in done.stdout


@pytest.mark.restarts
def test_known_issues_match_the_crash_at_most_as_possible(plone):
    previous = plone.report()['previous']
    for issue in previous['known_issues']:
        assert issue['strength'] in ('possible', 'weak'), issue


@pytest.mark.restarts
def test_a_stop_is_not_an_incident(plone):
    incidents = len(plone.archive())
    assert plone.stop() == 0
    plone.start()
    previous = plone.report()['previous']
    assert (previous['verdict'], len(plone.archive())) == ('stopped', incidents + 1)
    assert 'Traceback' not in plone.event_log.read_text().rpartition('Ready to handle requests')[2]


# -- as a person sees it ---------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    pytest.importorskip('selenium')
    browser = plone_site.chromium(tmp_path)
    yield browser
    browser.quit()


@pytest.mark.browser
def test_each_page_renders_in_a_browser_and_a_form_works(plone, browser, tmp_path):
    """No page has an error of JavaScript, and a form works together with the script of
    plone.protect.
    """
    plone.findings()
    browser.get(f'{plone.url}{TAB}manage_main'.replace('//', f'//{USER}:{PASSWORD}@', 1))
    browser.get_log('browser')  # drop the complaint of the ZMI about an address with a password
    for page in PAGES:
        browser.get(f'{plone.url}{TAB}{page}')
        assert browser.find_element('css selector', '.nav-link.active').text
        assert len(browser.find_element('tag name', 'main').text) > 100
        browser.save_screenshot(str(tmp_path / f'{page}.png'))  # for a person to look at
        assert [
            entry['message'] for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'
        ] == []
    browser.get(f'{plone.url}{TAB}manage_checks')
    browser.find_element('css selector', 'form[action$="manage_run_checks"] button').click()
    wait_for(
        lambda: browser.current_url.endswith('/manage_checks'), PATIENCE, 'the page after the form'
    )
    assert browser.find_element('css selector', '.nav-link.active').text == 'Checks'
