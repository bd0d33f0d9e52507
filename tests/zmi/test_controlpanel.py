"""The tab over HTTP in a real Zope: pages, downloads, permissions, forms, and hostile text."""

import html
import json
import re
import shutil
import urllib.parse

import pytest
from support.syntheticruns import keep_core
from support.tracelogs import GRAMMAR

from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.jsonform import items_from_json
from Products.StabilityMonitor.model.records import Evidence
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.records import Request
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.runrecord import KnownIssue
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.model.suspects import DeathClass
from Products.StabilityMonitor.model.suspects import Suspect
from Products.StabilityMonitor.model.threadstates import ThreadState

pytestmark = pytest.mark.zope

TAB = '/Control_Panel/StabilityMonitor/'
PAGES = ('manage_main', 'manage_incidents', 'manage_report', 'manage_drills')
PANELS = (
    '',
    'Database/',
    'Configuration/',
    'DavLocks/',
    'DebugInfo/',
    'ZODBConnections/',
    'Database/main/',
)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&'
NIGHT = 1_795_400_000

SOURCE = """
def grant(self):
    self._addRole("Watcher")
    self.manage_permission("View stability monitor", ["Manager", "Watcher"], 1)
    self.acl_users._doAddUser("watcher", "secret", ["Watcher"], [])
    return "granted"
"""


def record(number, zope, **values):
    values = {
        'instance': instance(zope),
        'started': NIGHT + 1000 * number,
        'ended': NIGHT + 1000 * number + 500,
        'uptime_seconds': 500.0,
        'pid': 17,
        'verdict': 'crashed',
        'confidence': 'certain',
        'summary': f'Crash number {number}.',
        **values,
    }
    return RunRecord(run=f'2026112{number % 10}T074501Z-{number}-abcd', **values)


def instance(zope):
    report = zope.report()
    return Instance(**report['instance'])


def archived(zope, found):
    folder = zope.stability / 'archive' / found.run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'incident.json').write_text(json.dumps(found.to_json()))
    if found.core:
        keep_core(zope.stability, found.run, found.core)
    return found.run


def hostile_record(zope):
    request = {
        'thread': HOSTILE,
        'ident': 1,
        'method': HOSTILE,
        'path': HOSTILE,
        'started': HOSTILE,
        'seconds': 1,
        'phase': HOSTILE,
        'crashed': True,
        'status': 200,
        'count': 2,
        'retry': 1,
        'user': HOSTILE,
        'cut': True,
    }
    return record(
        1,
        zope,
        summary=HOSTILE,
        verdict='crashed',
        confidence=HOSTILE,
        signal=HOSTILE,
        role='server',
        phase=HOSTILE,
        evidence=(Evidence(HOSTILE, HOSTILE),),
        ruled_out=(HOSTILE,),
        candidates=(HOSTILE,),
        signature=HOSTILE,
        requests=items_from_json(Request, [request, request | {'crashed': False}]),
        recent=items_from_json(Request, [request]),
        exception=HOSTILE,
        drill=HOSTILE,
        threads=(
            ThreadState(1, HOSTILE, True, (Frame(HOSTILE, 1, HOSTILE),), cut=True, note=HOSTILE),
        ),
        native=(NativeFrame(HOSTILE, HOSTILE, 1, None),),
        suspects=(Suspect(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, HOSTILE),),
        death=DeathClass(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        shared_objects=(SharedObject(HOSTILE, (HOSTILE,), HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        core=CoreFile(
            f'/{HOSTILE}',
            NIGHT,
            match=BY_CONTENT,
            abort_message=HOSTILE,
            signal=HOSTILE,
            code=HOSTILE,
            address=1,
            code_at=Mapping(0, 1, HOSTILE, HOSTILE),
            program_counter=1,
            reader=HOSTILE,
            threads=(
                CoreThread(1, HOSTILE, True, True, (MergedFrame(HOSTILE, True, HOSTILE, HOSTILE),)),
            ),
            incomplete=(HOSTILE,),
            command=HOSTILE,
        ),
        known_issues=(KnownIssue(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, (HOSTILE,), (HOSTILE,)),),
        compiled_modules=(HOSTILE,),
        log=(LogLine(NIGHT, HOSTILE, HOSTILE, HOSTILE, cut=True, count=59_350, last=NIGHT + 9),),
        samples=tuple(Sample(NIGHT + n, float(n), rss=1000 * n, cpu=0.1 * n) for n in range(9)),
        context={
            'python': HOSTILE,
            'platform': HOSTILE,
            'libc': HOSTILE,
            'supervisor': HOSTILE,
            'software': {'zope': HOSTILE},
        },
    )


def harmless(text):
    return (
        '<script>alert' not in text
        and '<img src=x' not in text
        and '"><' not in re.sub(r'="[^"]*"><', '', text)
    )


@pytest.fixture(scope='module')
def zope(tmp_path_factory):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        tmp_path_factory.mktemp('zmi'), env={'ZPUBLISHER_DEPRECATE_DOCSTRINGS': 'error'}
    )
    zope.publish(SOURCE)
    with zope:
        yield zope


@pytest.fixture(scope='module')
def drilling(tmp_path_factory):
    from support.zopekit import ZopeInstance

    with ZopeInstance(tmp_path_factory.mktemp('drills'), options={'drills': 'on'}) as zope:
        yield zope


def page(zope, name, **query):
    return zope.get(TAB + name + ('?' + urllib.parse.urlencode(query) if query else ''))


def fields(zope):
    return dict(re.findall(r'name="(token|run)" value="([^"]+)"', page(zope, 'manage_drills').text))


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('panel', PANELS)
def test_every_panel_has_the_tab_with_a_link_to_its_page(zope, panel):
    text = zope.get(f'/Control_Panel/{panel}manage_main').text
    (href,) = re.findall(r'href="([^"]+)"\s*>Stability</a>', text)
    target = urllib.parse.urljoin(f'/Control_Panel/{panel}manage_main', href)
    assert target == f'{TAB}manage_main'


@pytest.mark.parametrize('name', PAGES)
def test_every_page_works_and_names_the_instance(zope, name):
    answer = page(zope, name)
    assert answer.status == 200
    assert (
        f'{zope.client_home} on ' in answer.text and '<main class="container-fluid' in answer.text
    )
    assert 'nav-link active' in answer.text


def test_the_url_without_a_page_leads_to_the_overview(zope):
    assert zope.get(TAB + 'manage_workspace').headers['Location'].endswith('/manage_main')
    assert zope.get(TAB.rstrip('/')).status in (200, 302, 404)


def test_the_overview_has_paths_versions_pid_and_uptime(zope):
    text = page(zope, 'manage_main').text
    for label in (
        'Zope Version',
        'Python Version',
        'System Platform',
        'SOFTWARE_HOME',
        'INSTANCE_HOME',
        'CLIENT_HOME',
        'Process Id',
        'Running For',
    ):
        assert f'>{label}</th>' in text
    assert f'>{zope.pid}</td>' in text and f'>{zope.home}</td>' in text and '<svg' in text


def test_the_linked_style_sheet_exists(zope):
    (path,) = re.findall(r'href="([^"]+stability\.css)"', page(zope, 'manage_main').text)
    assert zope.get(path, auth=False).status == 200


def test_no_template_can_be_read_through_the_folder_of_the_style_sheet(zope):
    for path in (
        '/++resource++stabilitymonitor/../overview.pt',
        '/++resource++stabilitymonitor/overview.pt',
    ):
        assert zope.get(path).status in (400, 403, 404)


def test_the_message_in_the_query_is_shown_as_text(zope):
    text = page(zope, 'manage_main', manage_tabs_message=HOSTILE, manage_tabs_type=HOSTILE).text
    assert 'alert alert-success' in text and '&lt;script&gt;alert(1)' in text and harmless(text)


def test_pages_are_not_cached(zope):
    assert page(zope, 'manage_main').headers['Cache-Control'] == 'no-store'


def test_nothing_is_stored_in_the_database(zope):
    assert b'StabilityMonitor' not in (zope.client_home / 'Data.fs').read_bytes()


# -- incidents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'query',
    [
        {'sort': 'nonsense'},
        {'dir': 'sideways'},
        {'page': '-1'},
        {'page': '9' * 40},
        {'page': 'x'},
        {'page': '٣'},
        {'show': HOSTILE},
        {'instances': HOSTILE},
        {'sort': '', 'dir': '', 'show': ''},
        {'sort:list': 'a'},
        {'show.x:record': 'a'},
        {'page:list': '1'},
        {'sort:int': '1'},
    ],
)
def test_invalid_parameters_of_the_table_mean_the_default(zope, query):
    answer = page(zope, 'manage_incidents', **query)
    assert answer.status == 200 and harmless(answer.text)


def test_the_table_filters_and_sorts(zope):
    other = Instance('elsewhere', '/srv/other/var', '')
    runs = [
        archived(zope, record(n, zope, uptime_seconds=float(n), **values))
        for n, values in enumerate(
            (
                {},
                {'verdict': 'stopped', 'summary': 'Stopped.'},
                {'role': 'script'},
                {'instance': other},
            ),
            2,
        )
    ]

    def shown(**query):
        found = re.findall(
            r'run=(2026\w+-\w+-\w+)">\d{4}-', page(zope, 'manage_incidents', **query).text
        )
        return [runs.index(run) for run in found if run in runs]

    assert shown() == [2, 0]
    assert shown(show='all') == [2, 1, 0]
    assert shown(show='servers') == [1, 0]
    assert shown(show='all', instances='all') == [3, 2, 1, 0]
    assert shown(show='all', instances='all', sort='uptime') == [0, 1, 2, 3]
    assert shown(show='all', instances='all', sort='uptime', dir='desc') == [3, 2, 1, 0]
    assert '/srv/other/var on elsewhere' in page(zope, 'manage_incidents', instances='all').text
    assert '/srv/other/var on elsewhere' not in page(zope, 'manage_incidents').text


@pytest.mark.parametrize(
    'run', ['', 'nonsense', '../../../etc/passwd', '20200101T000000Z-1-abcd', HOSTILE]
)
def test_an_unknown_run_is_a_page_with_a_next_step(zope, run):
    answer = page(zope, 'manage_incident', run=run)
    assert answer.status == 404 and harmless(answer.text)
    assert (
        'Choose a run from the list of incidents.' in answer.text
        and 'href="manage_incidents"' in answer.text
    )


def test_a_repeated_run_parameter_is_refused(zope):
    assert zope.get(f'{TAB}manage_incident?run=a&run=b').status == 404
    assert zope.get(f'{TAB}report?format=json&run=a&run=b').status == 404


def test_the_page_report_shows_what_leaves_beside_what_was_recorded(zope):
    line = LogLine(NIGHT, 'ERROR', 'shop', 'no access for ada.l@example.org with password=h4nter2')
    run = archived(zope, record(2, zope, log=(line,), exception='KeyError: ada.l@example.org'))
    incident = page(zope, 'manage_incident', run=run).text
    assert 'password=h4nter2' in incident, "the site's own page shows what was recorded"
    shown = page(zope, 'manage_report', run=run).text
    preview = shown[shown.index('stability-preview') :]
    assert 'password=<mark title="h4nter2">password-1</mark>' in preview
    assert '<mark title="ada.l@example.org">email-1</mark>' in preview
    assert 'ada.l@' not in re.sub(r'title="[^"]*"', '', preview)
    assert re.search(
        r'<td><mark>email-1</mark></td>\s*<td class="code">ada.l@example.org</td>', shown
    )
    for format in ('text', 'json'):
        sent = zope.get(f'{TAB}report?run={run}&format={format}').text
        assert 'email-1' in sent and 'ada.l' not in sent and 'h4nter2' not in sent


def test_foreign_text_stays_text(zope):
    run = archived(zope, hostile_record(zope))
    for name, query in (
        ('manage_incident', {'run': run}),
        ('manage_incidents', {'show': 'all'}),
        ('manage_main', {}),
        ('manage_report', {}),
    ):
        answer = page(zope, name, **query)
        assert answer.status == 200 and harmless(answer.text), name
    text = page(zope, 'manage_incident', run=run).text
    assert text.count('&lt;script&gt;alert(1)') > 20
    assert 'Core file</h3>' in text and 'Kind of death' in text
    assert '>59350 times, last 20' in text, 'a log line that repeats has a count'


@pytest.mark.parametrize(
    'nonsense',
    [
        None,
        5,
        'x',
        [None, 5, 'x', []],
        [{}],
        [
            {
                'frames': [None, 5],
                'path': None,
                'message': 5,
                'name': 5,
                'ident': 'x',
                'seconds': 'x',
                'count': 'x',
            }
        ],
    ],
)
def test_a_damaged_record_is_shown_without_its_damaged_parts(zope, nonsense):
    found = record(8, zope).to_json()
    for key in (
        'requests',
        'recent',
        'threads',
        'native',
        'suspects',
        'known_issues',
        'samples',
        'log',
        'evidence',
        'ruled_out',
        'candidates',
        'compiled_modules',
        'context',
        'counters',
    ):
        found[key] = nonsense
    folder = zope.stability / 'archive' / found['run']
    folder.mkdir(exist_ok=True)
    (folder / 'incident.json').write_text(json.dumps(found))
    answer = page(zope, 'manage_incident', run=found['run'])
    shutil.rmtree(folder)
    assert answer.status == 200 and 'Crash number 8.' in answer.text


def test_hostile_requests_and_log_lines_are_shown_as_text(zope):
    zope.get('/' + urllib.parse.quote(HOSTILE))
    for name in ('manage_main', 'manage_report'):
        assert harmless(page(zope, name).text)


# -- downloads -------------------------------------------------------------------------------------


def test_the_report_can_be_downloaded(zope):
    answer = page(zope, 'report', format='json')
    assert answer.headers.get_content_type() == 'application/json'
    assert re.fullmatch(
        r'attachment; filename="stability-[\w.-]+\.json"', answer.headers['Content-Disposition']
    )
    assert answer.json()['process']['pid'] == zope.pid
    text = page(zope, 'report', format='text')
    assert text.headers.get_content_type() == 'text/plain' and 'Stability report' in text.text


def test_a_report_about_one_incident_can_be_downloaded(zope):
    run = archived(zope, record(7, zope))
    assert page(zope, 'report', format='json', run=run).json()['incident']['run'] == run
    assert run in page(zope, 'report', format='text', run=run).text


@pytest.mark.parametrize(
    'query',
    [
        {'format': 'pdf'},
        {'format': HOSTILE},
        {'format': 'json', 'run': 'nonsense'},
        {'format': 'json', 'run': '20200101T000000Z-1-abcd'},
    ],
)
def test_a_report_that_does_not_exist_is_a_page_with_a_message(zope, query):
    answer = page(zope, 'report', **query)
    assert answer.status == 404 and harmless(answer.text) and '<main' in answer.text


def test_the_trace_log_of_an_incident_can_be_downloaded(zope):
    request = {
        'ident': 7,
        'number': 3,
        'method': 'GET',
        'path': '/of the night',
        'phase': 'publishing',
        'status': 500,
        'started': NIGHT,
        'ended': NIGHT + 1,
        'seconds': 1.0,
    }
    run = archived(zope, record(6, zope, recent=(from_json(Request, request),)))
    (href,) = re.findall(r'href="(trace[^"]*)"', page(zope, 'manage_incident', run=run).text)
    answer = zope.get(TAB + html.unescape(href))
    assert (answer.status, answer.headers.get_content_type()) == (200, 'text/plain')
    assert answer.headers['Content-Disposition'] == f'attachment; filename="trace-{run}.txt"'
    assert [line for line in answer.text.splitlines() if not GRAMMAR.fullmatch(line)] == []
    assert (
        ' GET /of\\x20the\\x20night\n' in answer.text
        and ' the process ended: crashed, certain\n' in answer.text
    )


def test_the_trace_log_of_this_process_is_found_by_its_run(zope):
    text = page(zope, 'trace', run=zope.report()['process']['run']).text
    assert re.search(r'^B \S+ \S+ GET /Control_Panel/StabilityMonitor/trace$', text, re.MULTILINE)
    assert ' has been in progress for ' in text and 'the process ended' not in text


def test_hostile_requests_do_not_break_the_format_of_a_trace_log(zope):
    run = archived(zope, hostile_record(zope))
    answer = page(zope, 'trace', run=run)
    assert answer.status == 200 and answer.headers['X-Content-Type-Options'] == 'nosniff'
    assert [line for line in answer.text.splitlines() if not GRAMMAR.fullmatch(line)] == []


@pytest.mark.parametrize(
    'query',
    [
        'run=nonsense',
        'run=20200101T000000Z-1-abcd',
        'run=../../etc/passwd',
        'run=a&run=b',
        f'run={urllib.parse.quote(HOSTILE)}',
    ],
)
def test_the_trace_log_of_an_unknown_run_is_a_page_with_a_next_step(zope, query):
    answer = zope.get(f'{TAB}trace?{query}')
    assert (
        answer.status == 404 and harmless(answer.text) and 'href="manage_incidents"' in answer.text
    )
    assert 'Choose a run from the list of incidents.' in answer.text


# -- permissions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'name', [*PAGES, 'manage_incident', 'report', 'trace?run=20200101T000000Z-1-abcd', '']
)
def test_pages_need_a_login(zope, name):
    assert zope.get(TAB + name, auth=False).status == 401


def test_a_drill_needs_a_login(zope):
    assert zope.post(TAB + 'manage_drill', {'drill': 'kill'}, auth=False).status == 401
    assert zope.running


def test_a_user_who_may_only_view_cannot_start_a_drill(zope):
    import base64

    assert zope.get('/grant').status == 200
    watcher = {'Authorization': 'Basic ' + base64.b64encode(b'watcher:secret').decode()}
    for name in ('manage_main', 'manage_incidents', 'manage_report', 'report?format=json'):
        assert zope.get(TAB + name, auth=False, headers=watcher).status == 200, name
    assert zope.get(TAB + 'manage_drills', auth=False, headers=watcher).status == 401
    assert (
        zope.post(TAB + 'manage_drill', {'drill': 'kill'}, auth=False, headers=watcher).status
        == 401
    )


@pytest.mark.parametrize(
    'name',
    [
        '_page',
        '_overview',
        '_labels',
        '_refused',
        'security',
        'id',
        'title',
        'meta_type',
        'manage_options',
        'zmi_icon',
        'zmi_additional_css_paths',
    ],
)
def test_no_helper_is_published(zope, name):
    assert zope.get(TAB + name).status in (403, 404)


# -- forms -----------------------------------------------------------------------------------------


def test_the_drills_page_shows_how_to_turn_drills_on(zope):
    text = page(zope, 'manage_drills').text
    assert '&lt;product-config stabilitymonitor&gt;\n  drills on\n&lt;/product-config&gt;' in text
    assert '<form action="manage_drill"' not in text


def test_a_drill_is_refused_while_drills_are_off(zope, drilling):
    """Even with a valid token, from an instance that shares the key."""
    key = (drilling.stability / 'token.key').read_bytes() if fields(drilling) else b''
    (zope.stability / 'token.key').write_bytes(key)
    run = zope.report()['process']['run']
    answer = zope.post(TAB + 'manage_drill', {**fields(drilling), 'run': run, 'drill': 'kill'})
    assert answer.status == 302 and 'Drills+are+off' in answer.headers['Location']
    assert zope.running


def refused(zope, status, data, headers=None):
    answer = zope.post(TAB + 'manage_drill', data, headers=headers)
    assert answer.status == status and zope.running
    return answer


def test_a_drill_is_refused_with_get(drilling):
    query = urllib.parse.urlencode({**fields(drilling), 'drill': 'kill'})
    assert drilling.get(f'{TAB}manage_drill?{query}').status in (403, 404, 405)
    assert drilling.running


def test_a_forged_form_changes_nothing(drilling):
    good = fields(drilling) | {'drill': 'kill'}
    for forged in (
        {'drill': 'kill'},
        good | {'token': 'x' * 64},
        good | {'token': ''},
        good | {'run': ''},
    ):
        refused(drilling, 403, forged)


@pytest.mark.parametrize(
    'headers',
    [
        {'Sec-Fetch-Site': 'cross-site'},
        {'Sec-Fetch-Site': 'same-site'},
        {'Origin': 'http://evil.example'},
        {'Origin': 'null'},
    ],
)
def test_a_form_from_another_site_changes_nothing(drilling, headers):
    refused(drilling, 403, fields(drilling) | {'drill': 'kill'}, headers)


def test_a_form_of_another_process_is_refused_with_a_message(drilling):
    answer = refused(
        drilling, 302, fields(drilling) | {'drill': 'kill', 'run': '20261123T074501Z-17-abcd'}
    )
    page_after = drilling.get(
        urllib.parse.urlsplit(answer.headers['Location'])._replace(scheme='', netloc='').geturl()
    )
    assert 'This form was made by the process 20261123T074501Z-17-abcd' in page_after.text
    assert 'alert alert-warning' in page_after.text and 'Nothing was changed' in page_after.text


@pytest.mark.parametrize('drill', ['', 'nonsense', HOSTILE, 'memory'])
def test_an_unknown_or_impossible_drill_is_refused_with_a_reason(drilling, drill):
    answer = refused(drilling, 302, fields(drilling) | {'drill': drill})
    assert 'manage_tabs_message=' in answer.headers['Location']


def test_links_and_forms_work_with_virtual_hosting(drilling):
    host = '/VirtualHostBase/https/www.example.org:443/VirtualHostRoot'
    text = drilling.get(host + TAB + 'manage_drills').text
    assert 'href="/++resource++stabilitymonitor/stability.css"' in text
    data = fields(drilling) | {'drill': 'nonsense'}
    ours = drilling.post(
        host + TAB + 'manage_drill', data, headers={'Origin': 'https://www.example.org'}
    )
    assert ours.headers['Location'].startswith(
        'https://www.example.org/Control_Panel/StabilityMonitor/manage_drills?'
    )
    assert (
        drilling.post(
            host + TAB + 'manage_drill', data, headers={'Origin': 'https://evil.example'}
        ).status
        == 403
    )


def test_links_work_below_a_path_of_the_proxy(drilling):
    host = '/VirtualHostBase/http/www.example.org:80/VirtualHostRoot/_vh_zope'
    assert (
        'href="/zope/++resource++stabilitymonitor/stability.css"'
        in drilling.get(host + TAB + 'manage_main').text
    )


# -- switched off ----------------------------------------------------------------------------------


def test_the_tab_works_when_the_product_is_off(make_zope):
    zope = make_zope(options={'enabled': 'off', 'drills': 'on'}).start()
    for name in PAGES:
        assert page(zope, name).status == 200, name


# -- adding the tab --------------------------------------------------------------------------------


@pytest.mark.in_process
def test_the_tab_is_added_once_and_can_be_removed():
    pytest.importorskip('App')
    from Products.StabilityMonitor.zmi import tab

    before = [panel.manage_options for panel, _ in tab.PANELS]
    tab.hang()
    tab.hang()
    try:
        for panel, _ in tab.PANELS:
            assert [option['label'] for option in panel.manage_options].count('Stability') == 1
    finally:
        tab.take_down()
        tab.take_down()
    assert [panel.manage_options for panel, _ in tab.PANELS] == before
    assert not hasattr(tab.ApplicationManager, tab.ID)


@pytest.mark.in_process
def test_the_panel_is_not_persistent():
    pytest.importorskip('App')
    from persistent import Persistent

    from Products.StabilityMonitor.zmi.controlpanel import StabilityMonitor

    assert not issubclass(StabilityMonitor, Persistent)
