"""Every form variable of every page and download with hostile values, over HTTP in a real Zope."""

import itertools
import re
import urllib.parse
from datetime import UTC
from datetime import datetime
from datetime import timedelta

import pytest
from support.zopekit import wait_for

pytestmark = pytest.mark.zope

TAB = '/Control_Panel/StabilityMonitor/'
#: {page or download: its variables}.
READING = {
    'manage_main': ('manage_tabs_message', 'manage_tabs_type'),
    'manage_incidents': ('by', 'show', 'sort', 'instances', 'dir', 'page'),
    'manage_signature': ('id', 'page'),
    'manage_incident': ('run',),
    'manage_snapshot': ('snapshot',),
    'manage_report': ('run', 'snapshot'),
    'manage_checks': ('manage_tabs_message', 'id'),
    'manage_threads': ('manage_tabs_message', 'run'),
    'manage_drills': ('drill', 'manage_tabs_message'),
    'report': ('run', 'snapshot', 'format'),
    'threads_fragment': ('part',),
    'flames': ('run', 'request'),
    'stacks': ('run',),
    'trace': ('run',),
}
#: The others are tried with the thorough tests.
QUICK = ('manage_main', 'manage_incidents', 'manage_threads', 'report', 'trace')
#: {form: the variables that it uses besides token and run}.
ACTING = {
    'manage_acknowledge': ('incident', 'older', 'note'),
    'manage_mute': ('id', 'reason', 'until', 'severity'),
    'manage_show_again': ('id',),
    'manage_run_checks': ('id',),
    'manage_recursion_probe': ('id',),
    'manage_native_stacks': ('id',),
    'manage_keep_snapshot': ('note', 'native'),
    'manage_drill': ('drill',),
}
#: Percent-encoded, as a browser or an attacker sends them.
VALUES = {
    'digits': '9' * 5000,
    'a name with digits': f'20260101T000000Z-{"9" * 5000}-abcd',
    'minus digits': '-' + '9' * 5000,
    'Arabic-Indic digits': '%D9%A3',
    'a name in Arabic-Indic digits': '%D9%A2%D9%A0%D9%A2%D9%A60101T000000Z-1-abcd',
    'NUL': 'a%00b',
    'newline': '20260101T000000Z-1-abcd%0A',
    'CR LF': '1%0D%0ASet-Cookie:%20x=y',
    'invalid UTF-8': '%FF%FE',
    'a surrogate in UTF-8': '20260101T000000Z-1-%ED%B3%BF',
    'beyond Unicode': '%F4%90%80%80',
    'two dots': '..',
    'a path': '../../../../etc/passwd',
    'a slash': '/',
    'nothing': '',
    'quotes': '%22%27%3E%3Cscript%3E',
    'a word for infinity': 'Infinity',
    'not a number': 'NaN',
    'a float': '1e999',
    'an impossible moment': '99999999T999999Z-4242-abcd',
    'pid 0': '20260101T000000Z-0-abcd',
    'a pid of ten digits': '20260101T000000Z-9999999999-abcd',
    'a date that does not exist': '2026-02-30',
    'the last date': '9999-12-31',
}
KINDS = ('', ':list', ':tuple', '.x:record', ':tokens', ':lines')


def queries(variables):
    for variable, value in itertools.product(variables, VALUES.values()):
        yield f'{variable}={value}'
    for variable, kind in itertools.product(variables, KINDS):
        yield f'{variable}{kind}=20260101T000000Z-1-abcd'
        yield f'{variable}{kind}=1&{variable}{kind}=2'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    from support.zopekit import ZopeInstance

    with ZopeInstance(tmp_path_factory.mktemp('hostile'), options={'drills': 'on'}) as zope:
        zope.kill()  # leaves an incident
        zope.wait_exit()
        zope.start()
        yield zope


def test_the_lists_name_every_method_that_zope_publishes():
    pytest.importorskip('Zope2')
    from support.publishedmethods import published

    assert published().keys() - {'manage_workspace'} == READING.keys() | ACTING.keys()


@pytest.mark.parametrize(
    'page',
    [pytest.param(page, marks=[] if page in QUICK else pytest.mark.thorough) for page in READING],
)
def test_no_variable_of_a_page_is_an_error_of_the_server(site, page):
    troubles = []
    for query in queries(READING[page]):
        answer = site.get(f'{TAB}{page}?{query}')
        if answer.status not in (200, 302, 404) or 'Set-Cookie' in str(answer.headers):
            troubles.append((answer.status, query[:80]))
    assert troubles == []
    assert 'Traceback' not in site.event_log.read_text()


def test_archived_folders_with_impossible_names_stop_no_page(site):
    for name in ('99999999T999999Z-4242-abcd', '20260101T000000Z-9999999999-abcd'):
        (site.stability / 'archive' / name).mkdir()
        for page in ('manage_incident', 'report', 'trace'):
            answer = site.get(f'{TAB}{page}?run={name}')
            assert answer.status == 200 and 'unreadable' in answer.text, (page, name)
    for page in READING:
        assert site.get(TAB + page).status in (200, 404), page
    assert 'Traceback' not in site.event_log.read_text()


@pytest.mark.parametrize('form', ACTING)
def test_no_variable_of_a_form_is_an_error_of_the_server(site, form):
    """Only one variable is not valid; a form with a hostile token or run is refused."""
    source = 'manage_drills' if form == 'manage_drill' else 'manage_checks'
    source = 'manage_threads' if form == 'manage_native_stacks' else source
    source = 'manage_main' if form in ('manage_acknowledge', 'manage_keep_snapshot') else source
    text = site.get(TAB + source).text  # the page may have another form
    text = text.partition(f'action="{form}"')[2] or text
    token = re.search(r'name="token" value="([0-9a-f]{64})"', text)[1]
    run = re.search(r'name="run" value="([^"]+)"', text)[1]
    found = wait_for(
        lambda: re.search(r'name="id" value="([^"]+)"', site.get(f'{TAB}manage_checks').text),
        what='a finding',
    )
    valid = {
        'id': found[1],
        'reason': 'x',
        'until': (datetime.now(UTC) + timedelta(30)).date().isoformat(),
    }
    troubles = []
    for query in queries(ACTING[form]):
        others = valid.keys() - {re.match(r'\w+', query)[0]}
        rest = urllib.parse.urlencode({name: valid[name] for name in sorted(others)})
        body = f'token={token}&run={run}&{rest}&{query}'
        status = site.post(TAB + form, body.encode()).status
        if status != 302:
            troubles.append((status, query[:80]))
    for query in queries(('run',)):
        status = site.post(TAB + form, f'token={token}&{query}'.encode()).status
        if status not in (302, 403):
            troubles.append((status, query[:80]))
    for query in queries(('token',)):
        status = site.post(TAB + form, f'run={run}&{query}'.encode()).status
        if status != 403:
            troubles.append((status, query[:80]))
    assert troubles == []
    for page in ('manage_main', 'manage_checks', 'manage_report'):
        assert site.get(TAB + page).status == 200
    assert 'Traceback' not in site.event_log.read_text()
