"""The report: its keys are a contract, it survives JSON, and its text is safe and says what
matters.
"""

import json
from types import SimpleNamespace

import pytest
from synthetic import HERE
from synthetic import STARTED
from synthetic import DeadRun
from synthetic import quiet_world
from synthetic import record

from Products.StabilityMonitor import blackbox
from Products.StabilityMonitor import blackboxreader
from Products.StabilityMonitor.errors import NoSuchRun
from Products.StabilityMonitor.errors import UnknownFormat
from Products.StabilityMonitor.options import load
from Products.StabilityMonitor.postmortem.archive import Archive
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.recording.guard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.records import Instance
from Products.StabilityMonitor.records import shallow
from Products.StabilityMonitor.reporting.renderers import FORMATS
from Products.StabilityMonitor.reporting.renderers import render
from Products.StabilityMonitor.reporting.report import build
from Products.StabilityMonitor.rundirectory import Base

#: DESIGN, section 4; keys are only ever added.
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
}
RUN = {
    'run',
    'instance',
    'role',
    'pid',
    'started',
    'ended',
    'uptime_seconds',
    'verdict',
    'confidence',
    'summary',
    'signal',
    'exit_code',
    'evidence',
    'ruled_out',
    'candidates',
    'requests',
    'recent',
    'threads',
    'native',
    'suspects',
    'known_issues',
    'samples',
    'log',
    'signature',
}
CHECK = {'id', 'severity', 'title', 'detail', 'action', 'source'}
INVENTORY = {'distributions', 'products', 'compiled_modules', 'system'}
REQUEST = {'thread', 'method', 'path', 'started', 'seconds', 'phase', 'crashed'}
THREAD = {'ident', 'name', 'crashed', 'frames'}
#: What a list leaves out.
LARGE = {'threads', 'native', 'samples', 'log', 'recent'}


def crash(base, number=0, path='/fatal'):
    """A dead run with everything a crash can leave."""
    run = DeadRun(base.path, number)

    def write(recorder):
        recorder.stamp('serving', run.started)
        recorder.begin('GET', '/before', _now=lambda: run.started + 1)
        recorder.end(200, _now=lambda: run.started + 2)
        recorder.begin('GET', path, _now=lambda: run.started + 3)
        recorder.log(40, 'site', 'low on luck', run.started + 4)

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
    findings.add('something', 'Something is off.', 'Why.', 'Mend it.')
    return SimpleNamespace(
        instance=shallow(HERE),
        options=options,
        findings=findings,
        recorder=recorder,
        role='server',
        software={
            'zope': '6.3',
            'client_home': HERE.client_home,
            'threads': 4,
            'debug_mode': False,
        },
        context={},
        started=STARTED + 8000,
        started_monotonic=0.0,
        name='20260921T160000Z-1-abcd',
        safe_mode=False,
        path=tmp_path,
        rounds=None,
    )


def test_the_keys_of_the_contract(life, archive):
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


def test_the_values(life, archive):
    report = build(life, archive, clock=lambda: STARTED + 9001)
    assert report['instance'] == shallow(HERE)
    assert [(r['path'], r['seconds']) for r in report['in_flight']] == [('/now', 1.0)]
    assert [(r['path'], r['crashed']) for r in report['previous']['requests']] == [('/fatal', True)]
    assert (
        report['checks'][0]['action'] == 'Mend it.' and report['support']['support_name'] == 'Ada'
    )
    assert report['crash_loop'] == []


def test_json_there_and_back(life, archive):
    report = build(life, archive)
    name, kind, body = render(report, 'json')
    assert (kind, name[-5:]) == ('application/json', '.json')
    assert json.loads(body) == json.loads(json.dumps(report))
    assert b'stability-' in name.encode() and ':' not in name


def test_of_one_incident(life, archive):
    run = archive.summaries()[0].run
    report = build(life, archive, run)
    assert report['incident'] == report['previous'] and report['incident']['run'] == run
    assert render(report, 'text')[0] == f'stability-{run}.txt'
    with pytest.raises(NoSuchRun):
        build(life, archive, '20260921T160000Z-1-abcd')


def test_of_a_zope_that_is_down(archive):
    report = build(None, archive, instance=HERE)
    assert report['process'] is None and report['previous']['verdict'] == 'crashed'
    assert b'How the last run ended' in render(report, 'text')[2]


def test_of_the_past_of_this_instance_only(life, archive):
    other = record(3, 'hung', instance=Instance('here', '/elsewhere', ''))
    path = archive.base.runs / other.run
    path.mkdir()
    archive.add(path, other)
    report = build(life, archive)
    assert [run['verdict'] for run in report['history']] == ['crashed']
    life.instance['listen'] = '127.0.0.1:1'
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


def test_nothing_at_all(life, tmp_path):
    life.recorder = None
    report = build(life, Archive(Base(tmp_path / 'nowhere')))
    assert (report['previous'], report['history'], report['in_flight']) == (None, [], [])
    assert render(report, 'text')[2] and render(report, 'json')[2]


def test_the_text(life, archive):
    text = render(build(life, archive, clock=lambda: STARTED + 9001), 'text')[2].decode()
    for words in (
        '6.3',
        'Segmentation fault',
        'GET /fatal',
        '<== the crash',
        'Crashed thread',
        'in crash',
        '[warning] Something is off.',
        'low on luck',
        'a._b',
        'GET /now',
        'Ada',
        '127.0.0.1:8080',
    ):
        assert words in text, words


def test_foreign_text_cannot_steer_a_terminal(life, archive, tmp_path):
    crash(archive.base, 1, '/\x1b[2J\r\nFORGED')
    triage(archive.base, world=quiet_world(tmp_path))
    text = render(build(life, archive), 'text')[2].decode()
    assert '\x1b' not in text and '\r' not in text and '\nFORGED' not in text
    assert '\\x1b[2J\\r\\nFORGED' in text


def test_no_such_format(life, archive):
    with pytest.raises(UnknownFormat, match='Use text or json'):
        render(build(life, archive), 'pdf')
    assert set(FORMATS) >= {'text', 'json'}


def test_a_thousand_runs_and_their_frames(life, archive):
    """The history of a long life stays a list of short entries."""
    for number in range(1, 1000):
        each = record(number, 'crashed', threads=({'frames': ['x' * 1000]},))
        path = archive.base.runs / each.run
        path.mkdir()
        archive.add(path, each)
    report = build(life, archive)
    assert len(report['history']) == 1000 and 'frames' not in json.dumps(report['history'])
