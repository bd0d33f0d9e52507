"""The report: its keys are promised, it survives JSON, and its text is complete and safe."""

import inspect
import json
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.contract import RUN
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record
from support.validreports import build
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.checks import allfindings
from Products.StabilityMonitor.checks import limits
from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.checks.runner import Background
from Products.StabilityMonitor.checks.runner import Results
from Products.StabilityMonitor.knowledge import systemfacts
from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.errors import UnknownFormat
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.interfaces import IRenderer
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.options import load
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.records import clocktime
from Products.StabilityMonitor.model.records import from_isotime
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.severities import OK
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.model.siteparts import AddOn
from Products.StabilityMonitor.model.siteparts import ConfiguredDatabase
from Products.StabilityMonitor.model.siteparts import PloneSite
from Products.StabilityMonitor.model.siteparts import SitesRead
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.reporting.renderers import FORMATS
from Products.StabilityMonitor.reporting.renderers import render
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.processidentity import identity

#: The promised keys; keys are only ever added.
REPORT = {
    'schema',
    'generated',
    'instance',
    'process',
    'previous',
    'history',
    'checks',
    'workarounds',
    'inventory',
    'sites',
}
INSTANCE = {'host', 'client_home', 'listen'}
PROCESS = {
    'run',
    'pid',
    'zope',
    'python',
    'platform',
    'software_home',
    'instance_home',
    'client_home',
    'debug_mode',
    'started',
    'uptime_seconds',
    'server_software',
    'threads',
    'supervisor',
    'plone',
}
CHECK = {'id', 'severity', 'title', 'detail', 'action', 'source'}
INVENTORY = {'distributions', 'products', 'compiled_modules', 'databases', 'system'}
REQUEST = {'thread', 'method', 'path', 'started', 'seconds', 'phase', 'crashed'}
THREAD = {'ident', 'name', 'crashed', 'frames'}
#: Fields of a record that the list of runs leaves out.
LARGE = {'threads', 'native', 'samples', 'log', 'recent'}


def crash(base, number=0, path='/fatal'):
    """A dead run with everything that a crash can leave."""
    run = DeadRun(base.path, number)

    def write(recorder):
        recorder.stamp('serving', run.started)
        recorder.begin('GET', '/before', _now=lambda: run.started + 1)
        recorder.end(200, _now=lambda: run.started + 2)
        recorder.begin('GET', path, _now=lambda: run.started + 3)
        for second in (4, 5, 6):
            recorder.log(40, 'site', 'low on luck', run.started + second)

    run.box(write)
    (ident,) = blackboxreader.read((run.path / 'blackbox.sbr').read_bytes()).threads
    return run.marked(
        'faults',
        b'Fatal Python error: Segmentation fault\n\nCurrent thread 0x%016x (most recent call '
        b'first):\n  File "/site/bad.py", line 7 in crash\n\n'
        b'Extension modules: a._b (total: 1)\n' % ident,
    )


@pytest.fixture
def archive(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    crash(base)
    triage(base, world=quiet_world(tmp_path))
    return Archive(base)


@pytest.fixture
def life(tmp_path):
    """A living run of instance HERE with one request in flight and one finding."""
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    recorder.begin('GET', '/now', _now=lambda: STARTED + 9000)
    options, _ = load({'support-name': 'Ada', 'support-contact': 'ada@example.org'}, {})
    findings = Findings()
    findings.add('something', 'Something is off.', 'Why.', Action('Mend it.'))
    return FakeLife(
        tmp_path,
        instance=HERE,
        options=options,
        findings=findings,
        recorder=recorder,
        software={
            'zope': '6.3',
            'client_home': HERE.client_home,
            'threads': 4,
            'debug_mode': False,
        },
        context={},
        started=STARTED + 8000,
        started_monotonic=0.0,
    )


def test_the_report_has_all_promised_keys(life, archive):
    report = build(life, archive, clock=lambda: STARTED + 9001)
    previous = report['previous']
    assert report['schema'] == 'stabilitymonitor/1' and report['generated'].endswith('Z')
    for wanted, found in (
        (REPORT, report),
        (INSTANCE, report['instance']),
        (PROCESS, report['process']),
        (RUN, previous),
        (INSTANCE, previous['instance']),
        (CHECK, report['checks'][0]),
        (INVENTORY, report['inventory']),
        (REQUEST, previous['requests'][0]),
        (REQUEST, report['in_flight'][0]),
        (THREAD, previous['threads'][0]),
        ({'file', 'line', 'function'}, previous['threads'][0]['frames'][0]),
        ({'source', 'fact'}, previous['evidence'][0]),
        ({'name', 'version'}, report['inventory']['distributions'][0]),
    ):
        assert wanted - set(found) == set()
    (history,) = report['history']
    assert RUN - LARGE - set(history) == set() and not LARGE & set(history)
    assert report['workarounds'] == []


def test_the_report_has_the_facts_of_the_living_run(life, archive):
    report = build(life, archive, clock=lambda: STARTED + 9001)
    assert report['instance'] == to_json(HERE)
    assert [(r['path'], r['seconds']) for r in report['in_flight']] == [('/now', 1.0)]
    assert [(r['path'], r['crashed']) for r in report['previous']['requests']] == [('/fatal', True)]
    assert (
        report['checks'][0]['action'] == 'Mend it.' and report['support']['support_name'] == 'Ada'
    )
    assert report['crash_loop'] == []


def test_the_json_report_can_be_read_back(life, archive):
    report = build(life, archive)
    name, kind, body = render(report, 'json')
    assert (kind, name[-5:]) == ('application/json', '.json')
    read = json.loads(body)
    assert read.pop('redacted')['off'] == []
    assert read == json.loads(json.dumps(report))
    assert b'stability-' in name.encode() and ':' not in name


def test_a_report_of_one_incident_is_named_after_its_run(life, archive):
    run = archive.summaries()[0].run
    report = build(life, archive, run)
    assert report['incident'] == report['previous'] and report['incident']['run'] == run
    assert render(report, 'text')[0] == f'stability-{run}.txt'
    with pytest.raises(NoSuchRun):
        build(life, archive, '20260921T160000Z-1-abcd')


DATABASE = ConfiguredDatabase(
    'main', ('/',), 'relstorage', ('db1:5433',), 'postgresql', 'psycopg2', 10 << 20, 5000, 0, 7
)
DATABASE_LINE = (
    'main at /: relstorage; postgresql with the driver psycopg2; server db1:5433; shared cache '
    '10 MiB; cache of each connection 5,000 objects; pool of 7 connections'
)


def test_the_report_lists_the_databases(life, archive):
    life.software['databases'] = [to_json(DATABASE)]
    report = build(life, archive)
    assert report['inventory']['databases'] == [to_json(DATABASE)]
    head, body = section(report, 'Databases')
    assert (head, ' '.join(body.split())) == ('Databases', f'- {DATABASE_LINE}')


def test_the_databases_of_a_dead_run_are_those_of_its_start(tmp_path):
    base = Base(tmp_path / 'stability')
    run = crash(base).change(software={'plone': '6.2.2', 'databases': [to_json(DATABASE), 5]})
    triage(base, world=quiet_world(tmp_path))
    report = build(None, Archive(base), run=run.name, instance=HERE)
    assert report['last_process']['plone'] == '6.2.2'
    head, body = section(report, 'Databases')
    assert (head, ' '.join(body.split())) == ('Databases', f'- {DATABASE_LINE}')


def test_the_report_lists_the_add_ons_of_each_site(life, archive):
    add_ons = (AddOn('shop:default', '21'), AddOn('blog:default', 'unknown'))
    sites = SitesRead((PloneSite('/Plone', add_ons),), STARTED, 'Some are missing.')
    report = build(life, archive, sites=sites)
    assert report['sites'] == [to_json(sites.sites[0])]
    assert report['sources']['sites'] == {
        'source': 'process',
        'run': life.name,
        'as_of': isotime(STARTED),
        'note': 'Some are missing.',
    }
    _, body = section(report, 'Add-ons of the Plone sites')
    assert body.splitlines() == [
        '/Plone:',
        '  shop:default 21',
        '  blog:default unknown',
        '',
        'Some are missing.',
    ]


def test_the_report_says_why_no_site_was_read(life, archive):
    report = build(life, archive, sites=SitesRead(note='Not read: the site hangs.'))
    assert report['sources']['sites']['source'] == 'nobody'
    assert section(report, 'Add-ons of the Plone sites')[1] == 'Not read: the site hangs.'


def test_a_report_without_databases_and_sites_has_no_sections_for_them(life, archive):
    text = render(build(life, archive), 'text')[2].decode()
    assert 'Databases' not in text and 'Add-ons' not in text


def test_a_report_while_zope_is_down_shows_how_the_last_run_ended(archive):
    report = build(None, archive, instance=HERE)
    assert report['process'] is None and report['previous']['verdict'] == 'crashed'
    assert b'How the last run ended' in render(report, 'text')[2]


# -- while Zope is down ----------------------------------------------------------------------------


def recorded(run, **context):
    """Write what a living process writes into its run directory."""
    software = {'zope': '5.14', 'threads': 4, 'client_home': HERE.client_home}
    run.change(software=software, python='3.11.7 (main) [GCC 12]', platform='Linux-6-x', **context)
    serving = {'compiled_modules': ['a._b'], 'products': ['Shop']}
    (run.path / 'serving.json').write_text(json.dumps(serving))
    distributionsets.keep(
        Base(run.path.parent.parent), run.path, {'lxml': '6.1.3', 'gone': '1'}, {}
    )
    return run


def told_of_checks(run, *rows, **values):
    word = {'when': isotime(STARTED + 500), 'checks': rows} | values
    (run.path / 'checks.json').write_text(json.dumps(word))
    return run


def row(id='disk', severity='warning'):
    return {'id': id, 'severity': severity, 'title': f'The {id} is full.', 'detail': 'Why.'}


def down(tmp_path, *rows, **values):
    """(document, text, run) of a report about a site whose last run is archived."""
    base = Base(tmp_path / 'stability')
    run = told_of_checks(recorded(crash(base)), *rows, **values)
    triage(base, world=quiet_world(tmp_path))
    report = build(None, Archive(base), instance=HERE)
    return report, render(report, 'text')[2].decode(), run.name


def test_while_zope_is_down_the_report_has_the_last_process(tmp_path):
    report, text, run = down(tmp_path)
    last, told = report['last_process'], {'source': 'run', 'run': run, 'as_of': isotime(STARTED)}
    assert report['process'] is None and PROCESS - set(last) == set()
    assert (last['run'], last['pid'], last['zope'], last['threads']) == (run, 100, '5.14', 4)
    assert (last['platform'], last['uptime_seconds']) == ('linux', 60.0)
    assert report['sources']['process'] == report['sources']['inventory'] == told
    assert 'No process of this instance runs here.' in text
    assert f'of the last one, {clocktime(STARTED)}:' in ' '.join(text.split())


def test_while_zope_is_down_the_findings_are_the_last_results(tmp_path):
    report, text, run = down(tmp_path, row(), {'id': 'nonsense'}, 5)
    assert [(c['id'], c['title']) for c in report['checks']] == [('disk', 'The disk is full.')]
    when = isotime(STARTED + 500)
    assert report['sources']['checks'] == {
        'source': 'run',
        'run': run,
        'as_of': when,
        'running': False,
        'error': '',
    }
    when = clocktime(STARTED + 500)
    assert f'\nAs of {when}, recorded by the run {run}:\n\n- [warning] The disk is full.' in text


def test_a_recorded_finding_that_is_muted_today_is_marked(tmp_path):
    tomorrow = time.strftime('%Y-%m-%d', time.gmtime(time.time() + 86400))
    (tmp_path / 'stability').mkdir()
    MuteList(tmp_path / 'stability', HERE.label).mute('disk', 'It is known.', tomorrow, 'ada')
    report, _, _ = down(tmp_path, row())
    assert report['checks'][0]['muted']['reason'] == 'It is known.'


@pytest.mark.parametrize('word', [{'when': None}, {'when': 7}, {'when': 'nonsense'}, {'when': []}])
def test_findings_are_not_known_if_the_run_recorded_no_results(tmp_path, word):
    report, text, _ = down(tmp_path, **word)
    assert (report['checks'], report['sources']['checks']['source']) == ([], 'nobody')
    assert 'Not known: the last process recorded no results of its checks.' in text


def test_the_report_says_that_the_checks_of_the_last_run_failed(tmp_path):
    _, text, _ = down(tmp_path, error='The checks could not be run: OSError.')
    assert '\nThe checks could not be run: OSError.\n' in text


def test_while_zope_is_down_requests_are_not_known_instead_of_none(tmp_path):
    report, text, _ = down(tmp_path, row())
    assert report['in_flight'] == [] and report['sources']['in_flight']['source'] == 'nobody'
    assert 'Not known: only a living process knows its requests, what its threads do' in text
    assert '\nNone.\n' not in text


def test_while_zope_is_down_the_inventory_is_that_of_the_last_run(tmp_path):
    report, text, _ = down(tmp_path)
    inventory = report['inventory']
    assert inventory['distributions'] == [
        {'name': 'gone', 'version': '1'},
        {'name': 'lxml', 'version': '6.1.3'},
    ]
    assert (inventory['products'], inventory['compiled_modules']) == (['Shop'], ['a._b'])
    assert inventory['system']['compiler'] == 'GCC 12'
    assert f'\nVersions, system and products as of {clocktime(STARTED)}\n' in text
    assert '\n  lxml 6.1.3\n' in text and '\n  pytest ' not in text


def test_an_inventory_that_was_not_recorded_is_marked(archive):
    report = build(None, archive, instance=HERE)
    assert report['inventory']['distributions'] == report['inventory']['products'] == []
    assert section(report, 'All distributions')[1] == 'Not recorded.'
    assert 'not recorded' in section(report, 'Versions')[1]


def test_a_dead_run_that_waits_for_triage_is_the_last_run(archive):
    waiting = told_of_checks(recorded(crash(archive.base, 1)), row())
    report = build(None, archive, instance=HERE)
    assert report['last_process']['run'] == waiting.name
    assert report['last_process']['uptime_seconds'] is None
    assert report['checks'][0]['id'] == 'disk'


def test_scripts_and_other_instances_are_not_the_last_run(archive):
    recorded(DeadRun(archive.base.path, 1), role='script')
    recorded(DeadRun(archive.base.path, 2), instance={'host': 'elsewhere'})
    (last,) = archive.summaries()
    assert build(None, archive, instance=HERE)['last_process']['run'] == last.run


def living(base, **context):
    """The run directory of this process."""
    run = recorded(crash(base, 2, '/slow'), **context)
    known = identity()
    name = f'{run.name.split("-")[0]}-{known["pid"]}-abcd'
    run.path = run.path.rename(run.path.with_name(name))
    # No lock: its process, this one, tells that it lives, though it does not map the black box.
    return run.change(identity=known, locked=False)


def test_the_command_reads_the_files_of_a_living_process(archive):
    run = told_of_checks(living(archive.base), row())
    report = build(None, archive, instance=HERE, clock=lambda: STARTED + 8000)
    assert report['process']['run'] == run.path.name and report['last_process'] is None
    assert [(r['path'], r['thread'][:2]) for r in report['in_flight']] == [('/slow', '0x')]
    assert report['sources']['in_flight'] == {
        'source': 'run',
        'run': run.path.name,
        'as_of': isotime(STARTED + 8000),
    }
    text = render(report, 'text')[2].decode()
    assert (
        f'A process of this instance is alive. As of its start, {clocktime(run.started)}:' in text
    )
    assert 'from the black box of the living process:\n\nRequest' in text
    assert '\nGET /slow ' in text
    (run.path / 'blackbox.sbr').unlink()
    report = build(None, archive, instance=HERE)
    assert (report['in_flight'], report['sources']['in_flight']['source']) == ([], 'nobody')


def test_a_report_without_any_run_is_not_an_error(tmp_path):
    report = build(None, Archive(Base(tmp_path)), instance=HERE)
    assert (report['process'], report['last_process'], report['checks']) == (None, None, [])
    assert INVENTORY <= set(report['inventory'])
    assert {told['source'] for told in report['sources'].values()} == {'nobody'}
    assert render(report, 'text')[2] and render(report, 'json')[2]


@pytest.mark.parametrize('nonsense', [None, 5, 'x', [], {}, {'x': [1]}, [[]], 1e999])
def test_nonsense_in_the_files_of_the_last_run_does_not_break_the_report(tmp_path, nonsense):
    base = Base(tmp_path / 'stability')
    run = told_of_checks(recorded(crash(base)), row(), checks=nonsense, when=nonsense)
    keys = ('software', 'python', 'platform', 'libc', 'started', 'thread_stack', 'executable')
    run.change(**dict.fromkeys(keys, nonsense))
    (run.path / 'serving.json').write_text(
        json.dumps({'products': nonsense, 'compiled_modules': nonsense})
    )
    waiting = build(None, Archive(base), instance=HERE)
    triage(base, world=quiet_world(tmp_path))
    for report in (waiting, build(None, Archive(base), instance=HERE)):
        assert render(report, 'text')[2] and render(report, 'json')[2]


# -- versions then and now -------------------------------------------------------------------------


def archived_crash(tmp_path, **context):
    base = Base(tmp_path / 'stability')
    run = recorded(crash(base), **context)
    triage(base, world=quiet_world(tmp_path))
    return Archive(base), run.name


@pytest.fixture
def installed_now(monkeypatch):
    """The versions in the environment of these tests."""
    now = replace(systemfacts.here(), distributions={'lxml': '6.0.2', 'new': '2'})
    monkeypatch.setattr(systemfacts, 'here', lambda: now)


CHANGED = [
    {'name': 'gone', 'then': '1', 'now': None},
    {'name': 'lxml', 'then': '6.1.3', 'now': '6.0.2'},
    {'name': 'new', 'then': None, 'now': '2'},
]
CHANGES = ['- gone 1 -> not installed', '- lxml 6.1.3 -> 6.0.2', '- new: not installed -> 2']


def section(report, title):
    """(heading, body) of the section whose heading begins with these words."""
    text = render(report, 'text')[2].decode()
    head, _, rest = text.partition(f'\n{RULE}\n{title}')[2].partition(f'\n{RULE}\n')
    return f'{title}{head}', rest.partition(f'\n\n{RULE}\n')[0]


RULE = '=' * 78


def test_the_versions_of_a_crash_are_the_versions_at_that_time(life, tmp_path, installed_now):
    archive, run = archived_crash(tmp_path)
    report = build(life, archive, run)
    assert report['incident']['versions'] == {'known': True, 'with': 'process', 'changed': CHANGED}
    assert report['incident']['inventory']['products'] == ['Shop']
    assert report['incident']['context']['distributions'] == {'lxml': '6.1.3', 'gone': '1'}
    head, _ = section(report, 'Versions')
    assert head == 'Versions, system and products at the time of the crash'
    _, body = section(report, 'All distributions')
    assert body.splitlines() == ['  gone 1', '  lxml 6.1.3']
    _, body = section(report, 'What changed')
    first, _, *lines = body.splitlines()
    assert first == 'Changed since, compared with the living process:' and lines == CHANGES


def test_versions_of_a_run_that_did_not_crash_are_those_at_its_end(life, tmp_path):
    archive, run = archived_crash(tmp_path)
    report = build(life, archive, run)
    report['incident'] |= {'verdict': 'vanished'}
    assert section(report, 'Versions')[0] == (
        'Versions, system and products at the time of the end'
    )


def test_the_command_compares_with_its_environment_if_the_python_is_the_same(
    tmp_path, installed_now
):
    archive, run = archived_crash(tmp_path, executable=sys.executable)
    report = build(None, archive, run, HERE)
    assert report['incident']['versions'] == {'known': True, 'with': 'command', 'changed': CHANGED}
    assert 'compared with the environment of this command' in section(report, 'What changed')[1]


def test_the_command_knows_no_changes_if_it_runs_another_python(tmp_path, installed_now):
    archive, run = archived_crash(tmp_path, executable='/elsewhere/python')
    report = build(None, archive, run, HERE)
    assert report['incident']['versions'] == {'known': True, 'with': 'nobody', 'changed': None}
    assert 'What has changed since is not known' in section(report, 'What changed')[1]
    assert 'lxml 6.1.3' in section(report, 'All distributions')[1]


def test_the_command_compares_with_the_living_process(tmp_path, installed_now):
    archive, run = archived_crash(tmp_path, executable='/elsewhere/python')
    living(archive.base, executable='/elsewhere/python')
    report = build(None, archive, run, HERE)
    assert report['incident']['versions'] == {'known': True, 'with': 'process', 'changed': []}
    assert (
        'No version has changed since: the living process has the same'
        in section(report, 'What changed')[1]
    )


def test_a_run_without_versions_is_not_compared(life, archive):
    run = archive.summaries()[0].run
    report = build(life, archive, run)
    assert report['incident']['versions'] == {'known': False, 'with': 'process', 'changed': None}
    _, body = section(report, 'What changed')
    assert 'The versions at the time of the crash were not recorded.' in body


def test_a_living_process_compares_with_its_versions_at_its_start(life, tmp_path, installed_now):
    archive, run = archived_crash(tmp_path)
    own = archive.base.runs / life.name
    own.mkdir()
    distributionsets.keep(archive.base, own, {'lxml': '6.1.3', 'gone': '1'}, {})
    life.directory = SimpleNamespace(path=own)
    assert build(life, archive, run)['incident']['versions']['changed'] == []


# -- while the checks run --------------------------------------------------------------------------


class Waits:
    id = 'waits'
    question, source = 'Is it so?', 'a test'

    def __init__(self):
        self.go = threading.Event()

    def look(self, site):
        self.go.wait(60)
        return Finding('waits', WARNING, 'It is so.')


def findings(report):
    return section(report, 'Findings')[1].replace('\n\n', '\n')


def test_a_report_while_the_checks_still_run_says_so(life, archive):
    life.findings = Findings()
    here, check = allfindings.of(life), Waits()
    here.checks = Background(lambda: None, [check], time_limit=60)
    report = build(life, archive)
    assert report['checks'] == [] and report['sources']['checks']['as_of'] is None
    assert 'The checks have not run yet in this process.' in findings(report)
    assert here.start()
    report = build(life, archive)
    assert report['sources']['checks']['running'] is True
    assert 'The checks are still running: there are no results yet.' in findings(report)
    assert 'Nothing was found' not in findings(report)
    check.go.set()
    assert here.checks.wait(20)
    report = build(life, archive)
    told = report['sources']['checks']
    assert (told['running'], told['error'], told['source']) == (False, '', 'process')
    when = clocktime(from_isotime(told['as_of']))
    assert findings(report).startswith(f'As of {when}:\n- [warn')
    check.go.clear()
    assert here.start()
    assert 'The checks are running again; these are the results of 2' in findings(
        build(life, archive)
    )
    check.go.set()
    assert here.checks.wait(20)


def test_the_report_says_why_the_checks_could_not_run(life, archive):
    allfindings.of(life).checks.error = 'The checks could not be run: OSError.'
    report = build(life, archive)
    assert report['sources']['checks']['error'] and 'could not be run: OSError' in findings(report)


def test_without_descriptors_the_checks_do_not_run_and_the_last_results_stay(
    life, archive, monkeypatch
):
    """They would only report files that cannot be opened."""
    life.findings = Findings()
    here = allfindings.of(life)
    enough = Finding('descriptors', OK, 'There are enough descriptors.', check='descriptors')
    kept = Finding('kept', WARNING, 'It is kept.')
    here.checks.results = Results((enough, kept), 0.1, time.time() - 60)
    monkeypatch.setattr(limits, 'descriptor_limit', lambda: 100)
    for used, is_scarce in ((80, False), (92, False), (93, True), (100, True)):
        monkeypatch.setattr(limits, 'descriptors_now', lambda used=used: used)
        monkeypatch.setattr(here.checks, 'start', lambda write: True)
        assert here.start() is not is_scarce
        rows = {row['id']: row for row in here.answer()['checks']}
        assert set(rows) == {'kept', 'descriptors'}
        assert (rows['descriptors']['severity'] == 'ok') is not is_scarce
        if is_scarce:
            assert f'{used} of 100 descriptors are open.' in rows['descriptors']['detail']
            assert 'the checks do not run' in rows['descriptors']['detail']


def test_the_report_says_none_if_finished_checks_found_nothing(life, archive):
    life.findings = Findings()
    here = allfindings.of(life)
    here.checks = Background(lambda: None, [])
    assert here.start() and here.checks.wait(20)
    assert findings(build(life, archive)).endswith(':\nNothing was found by the checks.')


def test_the_history_is_only_of_this_instance(life, archive):
    other = record(3, 'hung', instance=Instance('here', '/elsewhere', ''))
    path = archive.base.runs / other.run
    path.mkdir()
    archive.add(path, other)
    report = build(life, archive)
    assert [run['verdict'] for run in report['history']] == ['crashed']
    life.instance = replace(HERE, listen='127.0.0.1:1')
    report = build(life, archive)
    assert (report['previous'], report['history']) == (None, [])
    assert b'No earlier run of this instance' in render(report, 'text')[2]


def test_scripts_are_in_the_history_but_not_the_last_run(life, archive):
    script = record(3, 'crashed', role='script')
    path = archive.base.runs / script.run
    path.mkdir()
    archive.add(path, script)
    report = build(life, archive)
    assert [run['role'] for run in report['history']] == ['script', 'server']
    assert report['previous']['role'] == 'server'


def test_a_living_run_without_recorder_and_history_can_be_reported(life, tmp_path):
    life.recorder = None
    report = build(life, Archive(Base(tmp_path / 'nowhere')))
    assert (report['previous'], report['history'], report['in_flight']) == (None, [], [])
    assert render(report, 'text')[2] and render(report, 'json')[2]


def test_the_text_has_all_sections(life, archive):
    text = render(build(life, archive, clock=lambda: STARTED + 9001), 'text')[2].decode()
    for words in (
        '6.3',
        'Segmentation fault',
        'GET /fatal',
        '(crashed here)',
        'Crashed thread',
        'in crash',
        '[warning] Something is off.',
        'low on luck [3 times, last ',
        'GET /now',
        'Ada',
        '127.0.0.1:8080',
    ):
        assert words in text, words


def test_a_log_line_that_repeats_has_a_count_in_json(life, archive):
    report = json.loads(render(build(life, archive), 'json')[2])
    (line,) = report['previous']['log']
    assert (line['message'], line['count']) == ('low on luck', 3)
    assert line['time'] < line['last']


def test_control_characters_in_foreign_text_are_escaped(life, archive, tmp_path):
    crash(archive.base, 1, '/\x1b[2J\r\nFORGED')
    triage(archive.base, world=quiet_world(tmp_path))
    text = render(build(life, archive), 'text')[2].decode()
    assert '\x1b' not in text and '\r' not in text and '\nFORGED' not in text
    assert '\\x1b[2J\\r\\nFORGED' in text


def test_an_unknown_format_is_an_error(life, archive):
    with pytest.raises(UnknownFormat, match='report --help'):
        render(build(life, archive), 'pdf')
    assert set(FORMATS) >= {'text', 'json'}


@pytest.mark.parametrize('format', FORMATS)
def test_every_renderer_keeps_the_contract(life, archive, format):
    _, _, renderer = FORMATS[format]
    assert verifyObject(IRenderer, renderer)
    # `verifyObject` does not check the arguments of a function.
    assert tuple(inspect.signature(renderer).parameters) == IRenderer['__call__'].positional
    assert isinstance(renderer(build(life, archive)), bytes)


def test_the_history_of_a_report_contains_no_stacks(life, archive):
    """The history of many runs is a list of short entries."""
    for number in range(1, 1000):
        each = record(
            number, 'crashed', threads=(ThreadState(frames=(Frame('x' * 1000, 1, 'f'),)),)
        )
        path = archive.base.runs / each.run
        path.mkdir()
        archive.add(path, each)
    report = build(life, archive)
    assert len(report['history']) == 1000 and 'frames' not in json.dumps(report['history'])
