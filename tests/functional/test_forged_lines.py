"""Foreign text stays within one line of a log, and sends no control sequence to a terminal.

Foreign text is the path of a request, which anyone may send, and any text in a record.
"""

import json
import os
import re
import shutil
import time
import unicodedata
import urllib.parse

import pytest
from support import syntheticruns as synthetic
from support.childprograms import COMMAND
from support.childprograms import Program
from support.childprograms import environment
from support.deaths import PATIENCE
from support.deaths import Site
from support.zopekit import wait_for

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

pytestmark = pytest.mark.zope

LINE_ENDS = '\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029'
CONTROLS = '\x1b\x07\x08\x7f\x80\x9b\x9d'
BIDI = '\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c'
#: A forged line begins with this.
FORGED = 'CRITICAL forged'
#: For logs: each line end, followed by the text of the line that it would forge.
PATH = ''.join(f'{char}{FORGED}' for char in '\n\r\x85\u2028\x0b') + '\x1b[2J\x9b2J\u202e\x7f'
#: For records: all characters above, and plain text that is not English.
EVIL = f'é日本{LINE_ENDS}{CONTROLS}{BIDI}end'
_LINE_END = re.compile('[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]')

PAGES = '''
import threading
import time

_lock = threading.Lock()
_one = threading.Lock()
_two = threading.Lock()
_held = threading.Event()
_go_on = threading.Event()


def hold(self):
    """Hold the lock that `want` waits for, until `go_on` is requested."""
    with _lock:
        _held.set()
        _go_on.wait(120)


def want(self):
    _held.wait(60)  # a request is in flight before its page is called
    with _lock:
        pass


def go_on(self):
    _go_on.set()


def one_two(self):
    with _one:
        time.sleep(1)
        with _two:
            pass


def two_one(self):
    with _two:
        time.sleep(1)
        with _one:
            pass
'''


def forged(page):
    """Return the path of `page` behind a folder named PATH, which need not exist."""
    return '/' + urllib.parse.quote(PATH, safe='') + f'/..{page}'


def is_safe(char):
    """Return whether this is not a control character, a line end or a character that changes the
    text direction.
    """
    return unicodedata.category(char) not in ('Cc', 'Cf', 'Zl', 'Zp', 'Cs')


def unsafe_in(text):
    return sorted({f'U+{ord(char):04X}' for char in text if char != '\n' and not is_safe(char)})


# -- lines of the log ------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    options = {'sample-interval': '100ms', 'slow-request': '1s', 'stall': '1s'}
    site = Site(tmp_path / 'site', options=options, threads=3).create()
    site.publish(PAGES, 'TestForging')
    yield site
    site.destroy()


def logged(site, *words):
    """Return the lines of the event log that contain all of the words."""
    text = site.event_log.read_bytes().decode()
    return [line for line in text.split('\n') if all(word in line for word in words)]


def wait_for_line(site, *words):
    return wait_for(lambda: logged(site, *words), PATIENCE, f'a line with {words}')


def check_logs(site):
    """Assert that no line is forged, in the event log and on stderr, and that our lines have only
    safe characters.
    """
    for file in (site.event_log, site.stderr_path):
        text = file.read_bytes().decode()
        assert [line for line in _LINE_END.split(text) if line.startswith(FORGED)] == [], file.name
        ours = [line for line in text.split('\n') if '[StabilityMonitor:' in line]
        assert [line for line in ours if unsafe_in(line)] == [], file.name


def check_shown(*lines):
    """Assert that each line shows the path, with each unsafe character escaped."""
    for line in lines:
        assert FORGED in line
        for char in PATH:
            if not is_safe(char):
                escapes = {
                    char.encode('unicode_escape').decode(),
                    f'\\x{ord(char):02x}',
                    f'\\u{ord(char):04x}',
                }
                assert any(escape in line for escape in escapes), (f'U+{ord(char):04X}', line)


def test_a_slow_request_forges_no_line(site):
    site.start()
    site.background(forged('/hold'))
    wait_for_line(site, 'Slow request: GET /')
    check_logs(site)
    check_shown(*logged(site, 'Slow request: GET /'))


@pytest.mark.slow
def test_a_hang_forges_no_line(site):
    """The request that blocks the others is named when the hang begins and in the report of the
    last run.
    """
    site.start()
    site.background(forged('/hold'))
    wait_for(
        lambda: len(site.recording().in_flight) == 1, PATIENCE, 'the request that holds the lock'
    )
    for _ in range(2):
        site.background(forged('/want'))
    wait_for_line(site, 'All 3 workers have been busy')
    check_logs(site)
    site.kill()
    site.wait_exit()
    site.start()
    wait_for_line(site, 'The last run ')
    check_logs(site)
    check_shown(*logged(site, 'All 3 workers have been busy'), *logged(site, 'The last run '))


def test_the_end_of_a_hang_forges_no_line(site):
    site.threads = 2
    site.configure().start()
    site.background(forged('/hold'))
    wait_for(
        lambda: len(site.recording().in_flight) == 1, PATIENCE, 'the request that holds the lock'
    )
    site.background(forged('/want'))
    wait_for_line(site, 'All 2 workers have been busy')
    site.stop()
    check_logs(site)


@pytest.mark.slow
def test_a_deadlock_forges_no_line(site):
    site.start()
    site.background(forged('/one_two'))
    site.background(forged('/two_one'))
    wait_for_line(site, 'Deadlock (')
    site.kill()
    site.wait_exit()
    site.start()
    check_logs(site)
    check_shown(*logged(site, 'Deadlock ('))


def test_a_crash_forges_no_line(site):
    site.start()
    site.crash(forged('/segfault'))
    site.start()
    wait_for_line(site, 'The last run ', 'while serving GET /')
    check_logs(site)
    check_shown(*logged(site, 'The last run ', 'while serving GET /'))


def test_a_record_forges_no_line(site):
    """A start logs the record of the last run."""
    site.start()
    run = site.run_directory.name
    site.crash('/segfault')
    site.start()
    site.crash('/segfault')
    for name in ('incident.json', 'summary.json'):
        file = site.stability / 'archive' / run / name
        changes = {key: f'{PATH} {key}.' for key in ('summary', 'verdict', 'confidence', 'started')}
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    shutil.rmtree(site.run_directory)
    site.start()
    wait_for(lambda: len(logged(site, 'The last run ')) == 2, PATIENCE, 'the second such line')
    check_logs(site)
    check_shown(logged(site, 'The last run ')[-1])


def test_a_damaged_run_forges_no_line(site):
    """The context holds values of wrong types, and errors of Python quote them."""
    runs = site.stability / 'runs'
    for number, value in enumerate([PATH, {PATH: PATH}, [PATH], -1, 1e300]):
        for key in (
            'identity',
            'instance',
            'outputs',
            'cgroup',
            'started',
            'software',
            'main_ident',
        ):
            run = synthetic.DeadRun(
                site.stability, number, **({} if key == 'identity' else {key: value})
            ).crashed()
            if key == 'identity':
                run.change(identity=value)
    (site.stability / 'known-issues.toml').write_text(
        f'[[issue]]\nid = {json.dumps(PATH)}\n[[{PATH}]]\n'
    )
    (site.stability / 'muted.json').write_text(json.dumps({PATH: PATH}))
    site.start()
    wait_for(lambda: len(list(runs.iterdir())) == 1, PATIENCE, 'all runs archived')
    assert site.get('/Control_Panel/StabilityMonitor/manage_checks').status == 200
    assert site.get('/Control_Panel/StabilityMonitor/manage_main').status == 200
    check_logs(site)


# -- on a terminal ---------------------------------------------------------------------------------


def start_command(stability, *words):
    """Start the command; `said` and `errors` are what a terminal would get."""
    env = environment(PYTHONIOENCODING='utf-8')
    return Program(*COMMAND, '--directory', stability, *words, env=env)


def end_of(started):
    """Return (exit status, output, errors)."""
    status = started.end()
    return status, started.said, started.errors


def command(stability, *words):
    return end_of(start_command(stability, *words))


def evil_record(**values):
    """Return a record with foreign text in each field that can hold it."""
    return synthetic.record(
        verdict='crashed',
        summary=EVIL,
        confidence=EVIL,
        signal=EVIL,
        signature=EVIL,
        exception=EVIL,
        phase=EVIL,
        instance=Instance(EVIL, EVIL, EVIL),
        ruled_out=(EVIL,),
        candidates=(EVIL,),
        compiled_modules=(EVIL,),
        context={EVIL: EVIL, 'distributions': {EVIL: EVIL}},
        evidence=(synthetic_evidence(),),
        **values,
    )


def evil_lists():
    """Return foreign text for the lists of a record, also in places where it has the wrong type."""
    request = {
        'method': 'GET',
        'path': EVIL,
        'phase': EVIL,
        'user': EVIL,
        'thread': EVIL,
        'seconds': 1.0,
        'started': '2026-09-21T13:33:20.000Z',
        'ended': EVIL,
        'number': 1,
        'ident': 1,
    }
    frames = [{'file': EVIL, 'line': 1, 'function': EVIL}]
    return {
        'requests': (request,),
        'recent': (request,),
        'native': ({'binary': EVIL, 'symbol': EVIL, 'offset': None, 'address': None},),
        'threads': (
            {
                'ident': 1,
                'name': EVIL,
                'crashed': True,
                'frames': frames,
                'note': EVIL,
                'cut': False,
            },
        ),
        'notes': (
            {
                'kind': 'slow',
                'time': EVIL,
                'thread': EVIL,
                'seconds': 1.0,
                'title': EVIL,
                'detail': EVIL,
                'frames': frames,
            },
        ),
        'hangs': ({'kind': EVIL, 'started': EVIL, 'ended': None, 'seconds': 1.0, 'summary': EVIL},),
        'log': ({'time': EVIL, 'level': EVIL, 'logger': EVIL, 'message': EVIL},),
        'samples': (
            {'time': EVIL, 'rss': 1, 'cpu': 1.0, 'threads': 1, 'descriptors': 1, 'in_flight': 1},
        ),
        'known_issues': ({'id': EVIL, 'title': EVIL, 'strength': EVIL, 'matched': [EVIL]},),
    }


def synthetic_evidence():
    from Products.StabilityMonitor.model.records import Evidence

    return Evidence(EVIL, EVIL)


def evil_results():
    """Return the JSON of results of checks, with foreign text."""
    finding = {
        'severity': 'critical',
        **dict.fromkeys(('id', 'title', 'detail', 'action', 'source'), EVIL),
    }
    return json.dumps({'when': '2026-09-21T13:33:20.000Z', 'checks': [finding], 'error': EVIL})


@pytest.fixture
def evil(tmp_path):
    """Return a data directory with foreign text in each file, and the name of an archived run in
    it.
    """
    stability = tmp_path / 'stability'
    record = evil_record()
    folder = stability / 'archive' / record.run
    folder.mkdir(parents=True)
    (folder / 'incident.json').write_text(json.dumps(record.to_json() | evil_lists()))
    (folder / 'summary.json').write_text(json.dumps(record.summary_json()))
    (folder / 'checks.json').write_text(evil_results())
    (folder / 'context.json').write_text('{}')
    (stability / 'muted.json').write_text(json.dumps({'muted': [EVIL]}))
    (stability / 'known-issues.toml').write_text(
        f'[[issue]]\nid = {json.dumps(EVIL)}\n[[mute]]\nid = "\x1b"\n'
    )
    return stability, record.run


def add_dead_run(stability):
    def write(recorder):
        recorder.stamp('armed', dead.started + 1)
        recorder.stamp('serving', dead.started + 2)
        recorder.begin(EVIL, EVIL)
        recorder.user(EVIL)
        recorder.log(30, EVIL, EVIL, dead.started + 3)
        recorder.exception(EVIL)
        recorder.note(synthetic.note('slow', title=EVIL, detail=EVIL))

    dead = synthetic.DeadRun(
        stability, 5, instance={'host': EVIL, 'client_home': EVIL, 'listen': EVIL}
    )
    dead.box(write).marked('faults', synthetic.SEGFAULT.replace(b'bad.py', EVIL.encode()))
    (dead.path / 'checks.json').write_text(evil_results())
    return dead.name


def commands(run):
    return [
        ('status',),
        ('history',),
        ('show', run),
        ('report',),
        ('report', run),
        ('report', '--format', 'json'),
        ('report', run, '--format', 'json'),
        ('checks',),
        ('checks', '--all'),
        ('checks', '--json'),
        ('stacks',),
        ('trace',),
        ('trace', run),
        ('show', EVIL.replace('\0', '')),
        ('trace', EVIL),
        ('stacks', EVIL),
    ]


def check_output(stability, run):
    """Assert that no command prints an unsafe character."""
    found = {}
    started = {words: start_command(stability, *words) for words in commands(run)}
    for words, process in started.items():
        status, output, errors = end_of(process)
        assert 'Traceback' not in errors, (words, errors)
        if unsafe_in(output + errors):
            found[' '.join(words).replace(EVIL, 'EVIL')] = unsafe_in(output + errors)
    assert found == {}


def test_an_archived_run_sends_no_control_characters(evil):
    check_output(*evil)


def test_a_dead_run_sends_no_control_characters(evil):
    stability, _ = evil
    run = add_dead_run(stability)
    check_output(stability, run)
    status, output, errors = command(stability, 'triage')
    assert status in (0, 1)
    assert unsafe_in(output + errors) == []
    check_output(stability, run)


def test_json_keeps_the_original_text(evil):
    """JSON may escape characters, but a reader gets the original ones."""
    stability, run = evil
    status, output, _ = command(stability, 'report', run, '--format', 'json')
    assert status == 0
    incident = json.loads(output)['incident']
    assert incident['summary'] == EVIL
    assert incident['requests'][0]['path'] == EVIL
    assert incident['log'][0]['message'] == EVIL
    assert incident['hangs'][0]['summary'] == EVIL
    assert incident['context'][EVIL] == EVIL
    checks = json.loads(command(stability, 'checks', '--json')[1])
    assert EVIL in {check['title'] for subject in checks['subjects'] for check in subject['checks']}


def test_a_living_run_sends_no_control_characters(tmp_path):
    """The run answers no mailbox request, and its context has foreign text."""
    stability, name = tmp_path / 'stability', new_name(time.time(), os.getpid())
    directory = Base(stability).create(
        name,
        {
            'format': 1,
            'identity': identity(),
            'role': 'server',
            'started': time.time(),
            'executable': EVIL,
            'instance': {'host': EVIL, 'client_home': EVIL, 'listen': EVIL},
        },
    )
    try:
        (directory.path / 'checks.json').write_text(evil_results())
        check_output(stability, name)
    finally:
        directory.abandon()


def test_a_living_site_sends_no_control_characters(site):
    """One request is in flight, and one has ended."""
    site.start()
    site.get(forged('/clock'))
    site.background(forged('/hold'))
    wait_for_line(site, 'Slow request: GET /')
    check_output(site.stability, site.run_directory.name)
    report = site.report()
    assert any(PATH in request['path'] for request in report['in_flight'])
