"""Hostile values in the other files of a data directory: contexts, sets of distributions, results
of checks, answers of the mailbox, muted findings, the end of standard error.

The runs are dead, archived or seem to live.  Each command and page still shows all of them.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import threading
import time

import pytest
from support import hostile
from support import syntheticruns as synthetic
from support.effort import lines_run
from support.fakelife import FakeLife
from support.syntheticruns import HERE

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.checks import allfindings
from Products.StabilityMonitor.checks.muted import Mute
from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.inspection import recursionresult
from Products.StabilityMonitor.inspection.recursionresult import ProbeResult
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.postmortem.triage import examine
from Products.StabilityMonitor.reporting import threadtext
from Products.StabilityMonitor.reporting.stacksdocument import is_well
from Products.StabilityMonitor.reporting.stacksdocument import tidy
from Products.StabilityMonitor.store import damagedrecords
from Products.StabilityMonitor.store import rundirectory
from Products.StabilityMonitor.store import runmailbox
from Products.StabilityMonitor.store.acknowledged import Acknowledgement
from Products.StabilityMonitor.store.acknowledged import Acknowledgements
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.store.rundirectory import read_json
from Products.StabilityMonitor.system import runcontext
from Products.StabilityMonitor.system.processidentity import identity
from Products.StabilityMonitor.zmi import threadpages

pytestmark = [pytest.mark.zope, pytest.mark.in_process]


def a_context(**more):
    """What a run notes about itself when it begins."""
    return runcontext.collect({'zope': '5.14', 'threads': 4}, HERE, 'server') | {
        'options': {'sample-interval': 1.0},
        'locked': True,
        **more,
    }


def results(folder):
    """What a run notes of its checks: a finding that is shown, and one that is muted."""
    life = FakeLife(folder / 'elsewhere', instance=HERE)
    life.path.mkdir()
    for id in ('one', 'two'):
        life.findings.add(id, 'A title', 'A detail')
    MuteList(life.path, HERE.label).mute('two', 'why', _tomorrow(), 'admin')
    return allfindings.of(life).to_json() | {'when': '2026-11-23T07:45:01.123Z'}


def _tomorrow():
    return time.strftime('%Y-%m-%d', time.gmtime(time.time() + 86400))


VERSIONS = {'distributions': {'Zope': '5.14'}, 'builds': {'Zope': 'x'}}


@pytest.fixture
def files(tmp_path):
    """{file of a run: what a healthy one holds}"""
    return {
        'context.json': a_context(started=synthetic.STARTED),
        'serving.json': {'compiled_modules': ['a._b'], 'products': ['Products.X']} | VERSIONS,
        'installed.json': {'installed': 'a' * 32} | VERSIONS,
        'checks.json': results(tmp_path),
        'installed/': VERSIONS,  # the set to which installed.json refers
    }


class Directory:
    """A data directory with two healthy dead runs.  `living` holds the locks of living runs."""

    def __init__(self, path):
        self.base = Base(path)
        self.base.prepare()
        self.count = 0
        self.living = []
        self.healthy = [self.dead().name, self.dead().name]

    def dead(self):
        self.count += 1
        context = a_context(started=synthetic.STARTED + self.count * 3600)
        for key in ('identity', 'role', 'started', 'instance', 'main_ident'):
            del context[key]
        return synthetic.DeadRun(self.base.path, self.count, **context).crashed()

    def alive(self):
        self.count += 1
        name = new_name(synthetic.STARTED + self.count * 3600, os.getpid())
        self.living.append(self.base.create(name, a_context(identity=identity())))
        path = self.living[-1].path
        shutil.copy(self.base.runs / self.healthy[0] / BLACKBOX, path)
        return path

    def write(self, path, file, text):
        if file == 'installed/':
            digest = hashlib.sha256(text.encode()).hexdigest()[:32]
            (self.base.path / file).mkdir(exist_ok=True)
            (self.base.path / file / f'{digest}.json').write_text(text)
            file, text = 'installed.json', json.dumps({'installed': digest})
        (path / file).write_text(text)

    def command(self, *words):
        output = io.TextIOWrapper(io.BytesIO(), 'utf-8')
        errors = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = cli.main(['--directory', str(self.base.path), *words])
        output.flush()
        assert status in (0, 1), (words, errors.getvalue())
        text = output.buffer.getvalue().decode()
        assert '\x1b' not in text
        return text


@pytest.fixture
def directory(tmp_path):
    directory = Directory(tmp_path / 'stability')
    yield directory
    for run in directory.living:
        run.abandon()


@pytest.fixture(autouse=True)
def _nothing_is_logged(monkeypatch, caplog):
    """No run is logged as one that cannot be judged or shown."""
    monkeypatch.setattr(damagedrecords, '_LOGGED', set())
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    return json.loads(text, parse_constant=refuse)


def slices(document):
    """Yield sets of places that can be damaged at once, because none contains another."""
    inner = hostile.leaves(document)
    yield inner
    outer = [place for place in hostile.places(document) if place not in inner]
    for depth in sorted({len(place) for place in outer}):
        yield [place for place in outer if len(place) == depth]


def check(directory, names):
    """All runs of the directory are shown, by each command."""
    for words in (['status'], ['history'], ['checks'], ['report'], ['show'], ['trace']):
        directory.command(*words)
    for words in (['status', '--format'], ['report', '--format']):
        strict_json(directory.command(*words, 'json'))
    strict_json(directory.command('checks', '--json'))
    lines = directory.command('history').splitlines()[1:]
    shown = {line.replace('  (not yet archived)', '').split()[-1] for line in lines}
    # A run whose context says that it had no lock counts as living until it has been silent.
    living = json.loads(directory.command('status', '--format', 'json'))['living']
    assert shown | {process['run'] for process in living} >= set(names) >= shown


#: Values that tell the kinds of harm apart; the sweep tries the others.
QUICK = ('NaN',)
THOROUGH = ('a lone surrogate', 'a huge integer', 'an object')
values = pytest.mark.parametrize(
    'name',
    [
        *QUICK,
        *[pytest.param(name, marks=pytest.mark.thorough) for name in THOROUGH],
        *[
            pytest.param(name, marks=pytest.mark.sweep)
            for name in hostile.VALUES
            if name not in QUICK + THOROUGH
        ],
    ],
)


@values
def test_hostile_values_in_the_files_of_dead_runs_do_no_harm(directory, files, name):
    made = []
    for file, document in files.items():
        for places in slices(document):
            run = directory.dead()
            values = dict.fromkeys(places, hostile.VALUES[name])
            directory.write(run.path, file, hostile.with_values(document, values))
            made.append(run.name)
        run = directory.dead()
        directory.write(run.path, file, hostile.VALUES[name])  # instead of the whole document
        made.append(run.name)
    names = {*directory.healthy, *made}
    check(directory, names)
    # A run whose context says that it had no lock counts as dead when it has been silent for long.
    long_ago = time.time() - 2 * rundirectory.SILENCE
    for run in made:
        for path in (directory.base.runs / run).iterdir():
            os.utime(path, (long_ago, long_ago))
    directory.command('triage')  # then they are archived
    assert {run for run in os.listdir(directory.base.archive) if run[0] != '.'} == names
    check(directory, names)
    with panel(FakeLife(directory.base.path, instance=HERE)) as ask:
        for run in made:
            directory.command('trace', run)
            assert run in directory.command('show', run)
            assert run in ask('manage_incident', run=run).decode()
            assert strict_json(ask('report', run=run, format='json'))['incident']['run'] == run
        table = ask('manage_incidents', show='all', instances='all').decode()
        assert all(f'manage_incident?run={run}"' in table for run in names)
        overview = ask('manage_main').decode()
        assert all(run in overview for run in directory.healthy)


@values
def test_hostile_values_in_the_files_of_a_living_run_do_no_harm(directory, files, name):
    made = []
    for file in ('context.json', 'serving.json', 'checks.json'):
        for places in slices(files[file]):
            run = directory.alive()
            values = dict.fromkeys(places, hostile.VALUES[name])
            directory.write(run, file, hostile.with_values(files[file], values))
            made.append(run.name)
    check(directory, directory.healthy)
    status = strict_json(directory.command('status', '--format', 'json'))
    assert {process['run'] for process in status['living']} == set(made)
    for run in made[:2]:
        directory.command('stacks', run)
        directory.command('trace', run)
    with panel(FakeLife(directory.base.path, instance=HERE)) as ask:
        for page in ('manage_main', 'manage_incidents', 'manage_report'):
            ask(page)


# -- answers of the mailbox ------------------------------------------------------------------------

STACKS = to_json(hostile.whole(Stacks), plain=True)


@pytest.mark.parametrize('name', hostile.VALUES)
def test_hostile_values_in_stacks_do_no_harm(tmp_path, name):
    texts = [
        hostile.with_values(STACKS, dict.fromkeys(places, hostile.VALUES[name]))
        for places in slices(STACKS)
    ]
    for text in [*texts, hostile.VALUES[name]]:
        (tmp_path / 'answer').write_text(text)
        told = tidy(read_json(tmp_path / 'answer', runmailbox.ANSWER_MOST))
        is_well(told)
        strict_json(json.dumps(to_json(told)))
        shown = threadtext.text(told)
        assert shown.startswith('Threads of') and '\x1b' not in shown
        threadpages.page(told)


@pytest.mark.parametrize('name', ['NaN', 'a deep list', 'a very deep list', 'odd keys', 'HTML'])
def test_a_hostile_answer_does_no_harm(directory, files, name):
    """A process answers with such a value in each field, or instead of the whole answer."""
    run = directory.alive()
    (run / 'questions').mkdir()
    value = hostile.VALUES[name]
    over = threading.Event()
    tried = []
    answers = {
        subject: [value]
        + [
            hostile.with_values(document, dict.fromkeys(places, value))
            for places in slices(document)
        ]
        for subject, document in (('stacks', STACKS), ('checks', files['checks.json']))
    }

    def answer():
        while not over.wait(0.01):
            for request in run.glob('questions/*.ask'):
                text = answers[request.stem.partition('-')[2]][len(tried)]
                beside = request.with_suffix('.new')
                beside.write_text(text)
                request.unlink()
                beside.rename(request.with_suffix('.answer'))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        while len(tried) < min(map(len, answers.values())):
            assert str(os.getpid()) in directory.command('stacks', run.name)
            strict_json(directory.command('checks', '--json'))
            tried.append(run)
    finally:
        over.set()
        thread.join()


# -- other files of the directory ------------------------------------------------------------------


@hostile.few(
    'NaN',
    'Infinity',
    'a huge integer',
    'minus one',
    'null',
    'a lone surrogate',
    'HTML',
    'a time in year 99999',
    'a list',
    'an object with hostile values',
    'a very deep list',
    'an integer of 5000 digits',
)
def test_hostile_values_in_the_list_of_muted_findings_do_no_harm(directory, name):
    mute = to_json(hostile.whole(Mute, until=_tomorrow()))
    document = {'muted': [mute | {'id': 'healthy', 'instance': '', 'severity': ''}, mute]}
    path = directory.base.path / 'muted.json'
    for place in hostile.places(mute):
        path.write_text(hostile.with_value(document, ('muted', 1, *place), hostile.VALUES[name]))
        mutes = MuteList(directory.base.path, HERE.label)
        found = [Finding('healthy', WARNING, 'A title'), Finding('word', WARNING, 'Another')]
        shown, muted = mutes.partition(found)
        assert 'healthy' in {finding.id for finding, _ in muted} or 'muted' in {
            finding.id for finding in shown
        }
    value = hostile.VALUES[name]
    for whole in (value, hostile.with_value(document, ('muted',), value)):
        path.write_text(whole)
        mutes.partition(found)
        directory.command('checks')
    with panel(FakeLife(directory.base.path, instance=HERE)) as ask:
        ask('manage_checks')
        ask('manage_main')
        ask('report', format='json')


@pytest.mark.parametrize('name', hostile.VALUES)
def test_hostile_values_in_the_result_of_the_probe_do_no_harm(tmp_path, name):
    file = tmp_path / 'recursion-probe.json'
    recursionresult.keep(file, hostile.whole(ProbeResult, stack_size=8 << 20, recursion_limit=1000))
    document = json.loads(file.read_text())
    for place in hostile.places(document):
        file.write_text(hostile.with_value(document, place, hostile.VALUES[name]))
        found = recursionresult.read(file, 8 << 20, 1000)
        if found is not None:
            strict_json(json.dumps(recursionresult.finding(found).to_json()))


def test_any_size_of_the_file_that_counts_scripts_does_no_harm(directory):
    path = directory.base.archive / 'clean-scripts'
    path.touch()
    os.truncate(path, 1 << 40)
    assert f'{1 << 40:,}' in directory.command('history')
    with panel(FakeLife(directory.base.path, instance=HERE)) as ask:
        ask('manage_incidents')


# -- the end of standard error ---------------------------------------------------------------------

_FATAL = b'Fatal Python error: f: a reason\nPython runtime state: initialized\n\n'
_THREAD = b'Current thread 0x00007f0000000020 (most recent call first):\n'
_FRAME = b'  File "/x.py", line 7 in f\n'
#: Each is repeated until it fills what is read of the file.
TAILS = {
    'NULs': b'\0',
    'one line': b'x',
    'empty lines': b'\n',
    'fatal errors': _FATAL,
    'errors with a thread': _FATAL + _THREAD + _FRAME,
    'threads': _THREAD,
    'frames': _FRAME,
    'frames without an end': b'  File "',
    'backslashes': b'\\',
    'escapes': b'\\U0001f600',
    'bytes that are no UTF-8': b'\xff\xfe\xc3(',
    'numbers': b'line 99999999999999999999 in ',
    'control characters': b'\x1b[2J\r\x9b',
    'modules': b'Extension modules: a, b\n',
}


@pytest.mark.parametrize(
    'before',
    [
        _FATAL + _THREAD + _FRAME,
        *[
            pytest.param(before, marks=pytest.mark.sweep)
            for before in (b'', _FATAL, _FATAL + _THREAD)
        ],
    ],
)
@pytest.mark.parametrize('name', TAILS)
def test_any_end_of_standard_error_does_no_harm(tmp_path, directory, name, before):
    """It costs as many lines of Python as a dump of that size, within a factor."""

    def run_with(text):
        run = directory.dead()
        (run.path / 'faults.mark').unlink()
        file = tmp_path / f'stderr-{run.name}'
        file.write_bytes(text)
        status = file.stat()
        output = {'kind': 'file', 'path': str(file), 'device': status.st_dev}
        run.change(outputs={'2': output | {'inode': status.st_ino, 'size': 0}})
        return run

    room = 128 << 10
    dump = _FATAL + (_THREAD + _FRAME * 100 + b'\n') * 100
    usual = run_with((dump * 4)[:room])
    hostile_run = run_with(before + TAILS[name] * (room // len(TAILS[name])))
    most = lines_run(lambda: examine(usual.path))
    assert examine(usual.path).threads  # they come from standard error
    assert lines_run(lambda: examine(hostile_run.path)) < 10 * most
    directory.command('show', hostile_run.name)
    directory.command('report', hostile_run.name, '--format', 'json')


@pytest.mark.parametrize('name', hostile.VALUES)
def test_hostile_values_in_the_list_of_acknowledged_incidents_do_no_harm(directory, name):
    entry = to_json(hostile.whole(Acknowledgement, runs=('20261123T020000Z-1-aaaa',)))
    document = {'acknowledged': [entry]}
    path = directory.base.path / 'acknowledged.json'
    value = hostile.VALUES[name]
    with panel(FakeLife(directory.base.path, instance=HERE)) as ask:
        for place in hostile.places(entry):
            path.write_text(hostile.with_value(document, ('acknowledged', 0, *place), value))
            Acknowledgements(directory.base).read()
        for whole in (value, hostile.with_value(document, ('acknowledged',), value)):
            path.write_text(whole)
            ask('manage_main')
            ask('manage_incidents')
            directory.command('status')
