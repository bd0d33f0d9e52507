"""Hostile values in the records of the archive: each page, report and command still shows all runs.

Each field of the model is tried with each value of `support.hostile`.  An archive holds two healthy
runs and some damaged ones.
"""

import contextlib
import gc
import io
import json
import re
import tracemalloc
from dataclasses import fields
from dataclasses import replace

import pytest
from support import hostile
from support.effort import calls_made
from support.fakelife import FakeLife
from support.syntheticruns import HERE
from support.syntheticruns import STARTED

pytest.importorskip('AccessControl')

from support.inprocesspages import panel

from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.model import foreignjson
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.store import damagedrecords
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import INCIDENT_MOST
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system import runcontext
from Products.StabilityMonitor.zmi import incidenttable

pytestmark = [pytest.mark.zope, pytest.mark.in_process]


def a_context():
    """What a run notes about itself."""
    return runcontext.collect({'zope': '5.14', 'threads': 4}, HERE, 'server') | {
        'options': {'sample-interval': 1.0},
        'locked': True,
        'distributions': {'Zope': '5.14', 'waitress': '3.0.2'},
        'builds': {'Zope': 'x'},
        'installed': 'a' * 32,
    }


def a_record(number):
    started = STARTED + 1000 * number
    run = f'{new_name(started, 100 + number)[:-4]}{number:04x}'
    return hostile.whole(
        RunRecord,
        run=run,
        pid=100 + number,
        number=number,
        started=started,
        ended=started + 60,
        context=a_context(),
    )


def documents(record):
    """{file: what it holds of a healthy run}"""
    return {'incident.json': record.to_json(), 'summary.json': record.summary_json()}


EXAMPLE = documents(a_record(0))
#: The place that alone makes a record one of another run.
RUN = ('run',)
DAMAGED = 'The archived record of this run cannot be read.'


class Cemetery:
    """An archive with two healthy runs, and with damaged ones between them."""

    def __init__(self, folder):
        self.base = Base(folder / 'stability')
        self.base.prepare()
        self.names = []
        self.count = 0
        self.healthy = [self.add(), self.add()]

    def add(self, **texts):
        """Archive a run; `texts` replaces files, as {incident or summary: text}."""
        self.count += 1
        record = a_record(self.count)
        folder = self.base.archive / record.run
        folder.mkdir()
        for file, document in documents(record).items():
            stem = file.partition('.')[0]
            (folder / file).write_text(texts.get(stem, json.dumps(document)))
        self.names.append(record.run)
        return record.run

    def damage(self, file, *values):
        """Archive a run with hostile values in a file: (place, name of the value)."""
        document = documents(a_record(self.count + 1))[file]
        text = hostile.with_values(
            document, {place: hostile.VALUES[name] for place, name in values}
        )
        return self.add(**{file.partition('.')[0]: text})

    def command(self, *words):
        """Run the command in this process; return (exit status, output)."""
        output = io.TextIOWrapper(io.BytesIO(), 'utf-8')
        errors = io.TextIOWrapper(io.BytesIO(), 'utf-8')
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = cli.main(['--directory', str(self.base.path), *words])
        output.flush()
        return status, output.buffer.getvalue()


@pytest.fixture
def cemetery(tmp_path):
    return Cemetery(tmp_path)


@pytest.fixture
def ask(cemetery):
    with panel(FakeLife(cemetery.base.path, instance=HERE)) as ask:
        yield ask


@pytest.fixture(autouse=True)
def logged(monkeypatch, caplog):
    """A function that returns the runs whose record was logged as damaged, in order."""
    monkeypatch.setattr(damagedrecords, '_LOGGED', set())

    def logged():
        found = []
        for record in caplog.records:
            if 'is shown as damaged' in record.msg:
                found += record.args
        return found

    return logged


def strict_json(text):
    """Read JSON as other programs do: without NaN and infinities."""

    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    return json.loads(text, parse_constant=refuse)


def check_lists(cemetery, ask, read_json=strict_json):
    """Everything that shows all runs shows each of them."""
    names = set(cemetery.names)
    for run in cemetery.healthy:
        assert run in ask('manage_main').decode()
    for column in incidenttable.COLUMNS:
        table = ask('manage_incidents', show='all', instances='all', sort=column).decode()
        assert set(re.findall(r'manage_incident\?run=([\w-]+)', table)) == names
    ask('manage_incidents', by='signature', instances='all')
    ask('manage_report')
    history = read_json(ask('report', format='json'))['history']
    assert set(cemetery.healthy) <= {run['run'] for run in history} <= names
    status, output = cemetery.command('history')
    assert status == 0
    assert set(re.findall(r'\d{8}T\d{6}Z-\d+-[0-9a-f]{4}', output.decode())) == names
    for words in (['status'], ['report'], ['trace'], ['show'], ['checks']):
        assert cemetery.command(*words)[0] in (0, 1), words
    for words in (['status', '--format', 'json'], ['report', '--format', 'json']):
        read_json(cemetery.command(*words)[1])


def check_run(cemetery, ask, run, read_json=strict_json):
    """Everything that shows one run shows it."""
    page = ask('manage_incident', run=run).decode()
    assert run in page and '<script>alert' not in page
    found = read_json(ask('report', run=run, format='json'))
    assert found['incident']['run'] == run
    status, output = cemetery.command('show', run)
    assert status in (0, 1) and run in output.decode()
    assert '\x1b' not in output.decode()
    assert cemetery.command('trace', run)[0] == 0


def slices(document, count):
    """Yield sets of places that can be damaged at once, because none contains another."""
    inner = [place for place in hostile.leaves(document) if place != RUN]
    for number in range(count):
        yield inner[number::count]
    outer = [place for place in hostile.places(document) if place not in inner and place != RUN]
    for depth in sorted({len(place) for place in outer}):
        yield [place for place in outer if len(place) == depth]
    yield [RUN]


@hostile.few(
    'the largest integer',
    'a lone surrogate',
    'HTML',
    'a deep list',
    'an object with hostile values',
)
def test_a_hostile_value_in_many_fields_does_no_harm(cemetery, ask, logged, name):
    made = []
    for file, document in EXAMPLE.items():
        for chosen in slices(document, 3):
            made.append(cemetery.damage(file, *[(place, name) for place in chosen]))
    for run in made:
        check_run(cemetery, ask, run)
    check_lists(cemetery, ask)
    assert logged() == []


@pytest.mark.sweep
@pytest.mark.slow(60)
@pytest.mark.parametrize('file', EXAMPLE)
@pytest.mark.parametrize('name', hostile.VALUES)
def test_a_hostile_value_in_any_field_does_no_harm(tmp_path, logged, name, file):
    found = list(hostile.places(EXAMPLE[file]))
    for begin in range(0, len(found), 50):  # so that the lists stay short
        cemetery = Cemetery(tmp_path / str(begin))
        with panel(FakeLife(cemetery.base.path, instance=HERE)) as ask:
            for place in found[begin : begin + 50]:
                run = cemetery.damage(file, (place, name))
                check_run(cemetery, ask, run)
            check_lists(cemetery, ask)
    assert logged() == []


@pytest.mark.parametrize('text', ['', '[', '[]', 'null', '7', '{}', '{"run": []}', 'x' * 9999])
def test_a_file_that_is_no_record_is_shown_as_damaged(cemetery, ask, logged, text):
    run = cemetery.add(incident=text, summary=text)
    check_run(cemetery, ask, run)
    check_lists(cemetery, ask)
    assert DAMAGED in ask('manage_incident', run=run).decode()
    assert logged() == []


def test_a_damaged_run_is_shown_with_its_instance(cemetery, ask):
    """The run has noted its instance in another file, when it began."""
    run = cemetery.add(incident='[', summary='[')
    (cemetery.base.archive / run / 'context.json').write_text(
        json.dumps(a_context() | {'number': cemetery.count})
    )
    table = ask('manage_incidents').decode()
    assert f'manage_incident?run={run}' in table and DAMAGED in table
    last = strict_json(cemetery.command('status', '--format', 'json')[1])['instances'][0][
        'last_run'
    ]
    assert (last['run'], last['verdict'], last['started'] is None) == (run, 'unreadable', False)


# -- when a check of the reader is missing ---------------------------------------------------------


@pytest.mark.parametrize(
    'value',
    [
        None,
        *[
            pytest.param(value, marks=marks)
            for marks, values in (
                (pytest.mark.thorough, ('x', float('nan'))),
                (pytest.mark.sweep, ({'a': 1}, 10**400, True, [['x']])),
            )
            for value in values
        ],
    ],
    ids=lambda value: repr(value)[:9],
)
def test_a_record_that_raises_is_shown_as_damaged_and_logged_once(
    cemetery, ask, logged, monkeypatch, value
):
    """Each field in turn holds a value that the reader should have refused."""
    wrong = {}
    for field in fields(RunRecord):
        if field.name != 'run':
            wrong[cemetery.add()] = field.name
    read = RunRecord.from_json

    def unchecked(document):
        record = read(document)
        return replace(record, **{wrong[record.run]: value}) if record.run in wrong else record

    monkeypatch.setattr(RunRecord, 'from_json', unchecked)
    for run in wrong:
        check_run(cemetery, ask, run, json.loads)
    check_lists(cemetery, ask, json.loads)
    found = logged()
    assert found and len(found) == len(set(found)) and set(found) <= set(wrong)


# -- memory and work -------------------------------------------------------------------------------

MEMORY = 50 << 20
#: Bytes: a little less than what is read of a record at all.
ROOM = INCIDENT_MOST - (200 << 10)


def filled(item):
    """Return a JSON list of as many items as fit."""
    return f'[{",".join([item] * (ROOM // (len(item) + 1)))}]'


def some(item, count):
    return f'[{",".join([item] * count)}]'


def an_object(count, value):
    """Return a JSON object with as many keys."""
    return '{' + ','.join(f'"{number:x}":{value}' for number in range(count)) + '}'


def a_text(content):
    return f'"{content}"'


#: A character that takes four bytes, and makes each other character of its text take four.
LARGE = chr(92) + 'ud83d' + chr(92) + 'ude00'
FIELDS = ('requests', 'recent', 'threads', 'notes', 'samples', 'log', 'hangs', 'evidence')
#: {what fills the record: {place: JSON}}
BOMBS = {
    'empty lists': {('suspects',): filled('[]')},
    'objects': {('context', 'limits'): filled('{"a":0}')},
    'lists that are just few enough': {('context', 'limits'): some('[0]', 70_000)},
    'objects that are just few enough': {('counters', 'b'): some('{}', 70_000)},
    'keys': {('context', 'limits'): an_object(60_000, '[]')},
    'versions': {('context', 'distributions'): an_object(60_000, '"1"')},
    'rows of everything': {(field,): some('{}', 9_000) for field in FIELDS},
    'threads with frames': {('threads',): some(f'{{"frames":{some("{}", 300)}}}', 200)},
    'one text': {('summary',): a_text('x' * ROOM)},
    'one text of large characters': {('summary',): a_text(LARGE + 'x' * ROOM)},
    'texts': {('candidates',): filled(a_text('x' * 1000))},
    'texts of large characters': {('candidates',): filled(a_text(LARGE + 'x' * 30_000))},
    'texts to escape': {('candidates',): filled(a_text('&' * 5000))},
    'texts of large characters that are just few enough': {
        ('candidates',): some(a_text(LARGE + 'x' * 30_000), 13)
    },
    'texts to escape that are just few enough': {('candidates',): some(a_text('&' * 5000), 300)},
    'control characters': {('candidates',): filled(a_text((chr(92) + 'u0000') * 1000))},
}


def a_full_record(number):
    """The largest record that a run leaves: all rings are full, and so is the dump."""
    whole = a_record(number)
    deep = replace(whole.threads[0], frames=whole.threads[0].frames * 50)
    note = replace(whole.notes[0], frames=whole.notes[0].frames * 16)
    return replace(
        whole,
        threads=(deep,) * 100,
        notes=(note,) * 66,
        samples=whole.samples * 450,
        recent=whole.recent * 160,
        requests=whole.requests * 32,
        log=whole.log * 36,
        compiled_modules=('a.module',) * 800,
    )


#: Fields that are in other files, or not in any: an archived run is no run of a copy.
MADE_WHEN_READ = ('context', 'findings', 'core', 'shared_objects', 'signature', 'copied')


def test_the_largest_record_is_read_as_a_whole(cemetery):
    record = a_full_record(9)
    text = json.dumps(record.to_json())
    assert sum(map(text.count, ',[{')) < foreignjson.MOST_VALUES / 2
    assert len(text) < INCIDENT_MOST / 2
    (cemetery.base.archive / record.run).mkdir()
    (cemetery.base.archive / record.run / 'incident.json').write_text(text)
    found = Archive(cemetery.base).record(record.run)
    for field in fields(RunRecord):
        if field.name not in MADE_WHEN_READ:
            assert getattr(found, field.name) == getattr(record, field.name), field.name


#: Those that reach the limits of what is read; the sweep tries the others.
AT_THE_LIMITS = ('keys',)


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name, marks=pytest.mark.thorough if name in AT_THE_LIMITS else pytest.mark.sweep
        )
        for name in BOMBS
    ],
)
def test_a_file_filled_with_anything_takes_little_memory_and_work(cemetery, ask, logged, name):
    usual = cemetery.add(incident=json.dumps(a_full_record(cemetery.count + 1).to_json()))
    document = documents(a_record(cemetery.count + 1))['incident.json']
    bomb = cemetery.add(incident=hostile.with_values(document, BOMBS[name]))

    def show(run):
        ask('manage_incident', run=run)
        for words in (['show', run], ['report', run, '--format', 'json'], ['trace', run]):
            cemetery.command(*words)

    show(cemetery.healthy[0])  # loads and compiles what is needed
    assert calls_made(lambda: show(bomb)) < 3 * calls_made(lambda: show(usual))
    gc.collect()
    tracemalloc.start()
    try:
        show(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    check_lists(cemetery, ask)
    assert logged() == []
