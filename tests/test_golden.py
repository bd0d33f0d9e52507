"""Today's code reads the files of an older release with the same results: golden files (see
golden/_how_made.txt).

Each comparison is a case with a name.  In JSON, every old key and value must still be there; keys
may be added.  Texts must be equal; those of reports are new, and not compared.  An intended
difference is a row of `DELIBERATE`; a sentence in other words is a row of `golden/reworded.toml`.
"""

import copy
import dataclasses
import fnmatch
import gzip
import itertools
import json
import logging
import re
from dataclasses import fields

import pytest
from golden import recorded
from golden.rewording import REWORDED
from golden.rewording import in_words_of_today
from support.validreports import check_each

from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.postmortem import runhistory
from Products.StabilityMonitor.postmortem.evidence import World
from Products.StabilityMonitor.postmortem.triage import examine
from Products.StabilityMonitor.reporting.threadtext import without_repetition
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

#: Keys of a report that depend on the process that makes it, and on the time.
OF_THE_READER = ('generated', 'inventory')

RUNS = json.loads(recorded.stored('runs/names.json'))
COMMANDS = json.loads(recorded.stored('commands/index.json'))
KINDS = sorted({command['directory'] for command in COMMANDS.values()})


def golden_text(name):
    return recorded.stored(f'commands/{name}.txt')


def golden_document(name):
    return json.loads(recorded.stored(f'commands/{name}.json.xz'))


# -- intended differences --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Change:
    """An intended difference to the golden files.

    `cases` is a pattern for names of cases, for example `command/show-*`.  `wanted` is a function
    from the stored value (a text, an exit status or a document) to the value that is expected now.
    It returns its argument where the change does not apply; a row that applies to no case fails.
    """

    cases: str
    reason: str
    wanted: object


def with_commas(text):
    return re.sub(r'(?m)^( +File ".*", line \d+) in ', r'\1, in ', text)


def without_repeated_frames(text):
    found = []
    for is_frame, lines in itertools.groupby(
        text.splitlines(keepends=True), lambda line: line.startswith('  File "')
    ):
        lines = list(lines)
        for line in without_repetition(lines) if is_frame else lines:
            found.append(f'  {line}\n' if line.startswith('[') else line)
    return ''.join(found)


def one_sentence_for_equal_requests(old):
    *others, first, second, third, fourth = old['evidence']
    assert first == second == third == fourth
    was = 'GET /wait was slow: when it was 2 sec old, it stood in '
    now = '4 requests GET /wait were slow: when last noted, they had taken 2 s and were in '
    assert was in first['fact']
    return old | {'evidence': [*others, first | {'fact': first['fact'].replace(was, now)}]}


def hung_by_its_notes(old):
    first, *others = old['evidence']
    assert first['fact'].startswith('All threads that serve were busy with requests older')
    return old | {'evidence': others}


def without_idle_threads(old):
    busy = [item for item in old['evidence'] if ' stood in wait ' not in item['fact']]
    assert len(busy) == len(old['evidence']) - 2
    return old | {'evidence': busy}


def maybe_frozen(old):
    first, *others = old['evidence']
    assert first['fact'].startswith('The last sign of life is from ')
    fact = 'Whether it was frozen then (SIGSTOP, a debugger), and killed later, is not known.'
    return old | {'evidence': [first, {'source': 'black box', 'fact': fact}, *others]}


def without_known_issues(text):
    return re.sub(r'(?ms)^Known issues:\n.*?\n\n', '', text)


def with_local_times(old):
    """Lines of the event log were written by the older release: "2026-...Z, up 3 s)"."""
    return re.sub(r'(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d{3}Z(?!, up )', r'\1 \2 UTC', old)


def with_states_of_requests(old):
    """A request in flight has a phase, a finished one has an answer."""
    old = re.sub(r'(?m)^(  \S+ \S+ -> \d+(?: x\d+)?)  \w+, (\S+ s), since ', r'\1, \2, began ', old)
    return re.sub(r'(?m)^(  \S+ \S+)  (\w+, \S+ s), since ', r'\1 \2, began ', old)


def with_each_stack_once(old):
    """Threads with the same stack and note are one block; so are slow requests, and of each only
    the last note is shown.
    """
    before, after, threads, slow = [], [], {}, {}
    for block in old.split('\n\n'):
        head, _, lines = block.partition('\n')
        thread = re.fullmatch(r'Thread (0x\w+)(.*?)( \(.*\))?( stack: .*)?:', head)
        request = re.fullmatch(r'Slow request (.*), thread (0x\w+), (.*):', head)
        if thread:
            threads.setdefault((thread[3] or '', lines), []).append(thread)
        elif request:
            slow.pop(request.group(1, 2), None)
            when = re.sub(r' at \d{4}-.*', '', request[3])
            slow[request.group(1, 2)] = when, lines
        elif threads or slow:
            after.append(block)
        else:
            before.append(block)
    blocks = []
    for (note, lines), found in threads.items():
        head = found[0][0]
        if len(found) > 1:
            idents = ', '.join(thread[1] for thread in found)
            head = f'{len(found)} threads: {idents}{note}:'
        blocks.append(f'{head}\n{lines}')
    groups = {}
    for (title, thread), (when, lines) in reversed(slow.items()):
        detail, _, frames = lines.partition('\n')
        groups.setdefault((title, when, frames), []).append((thread, detail))
    for (title, when, frames), found in groups.items():
        thread, detail = found[0]
        which = f'thread {thread}' if len(found) == 1 else f'{len(found)} times'
        blocks.append(f'Slow request {title}, {which}, {when}:\n{detail}\n{frames}')
    return '\n\n'.join([*before, *blocks, *after])


def with_ends(old):
    """The history shows when a run ended."""
    ended = {run['run']: run['ended'] for kind in KINDS for run in history_of(kind)}
    for name, run in RUNS.items():
        ended[run] = json.loads(recorded.stored(f'runs/{name}.record.json.xz'))['ended']
    lines = []
    for line in old.splitlines(keepends=True):
        found = re.search(r'\d{8}T\d{6}Z-\d+-\w{4}', line)
        if found:
            line = f'{with_local_times(ended[found[0]]):29}{line[24:]}'
        lines.append(line)
    return ''.join(lines)


def history_of(kind):
    return golden_document(f'{kind}-report-format-json')['history']


def no_process_runs(old):
    return re.sub(r'(?m)^(?=dead, |last run )', 'No process is running.\n', old, count=1)


def judged_in_memory(old):
    """The status shows the waiting run, and also as the last run, as if it were archived."""
    waiting = f'dead, not yet archived: {RUNS[recorded.WAITING]} [stopped, strong] '
    how = '(the next start of Zope archives it, or "stabilitymonitor triage")\n'
    return waiting + how + golden_text('archived-status').replace('certain', 'strong', 1)


def without_witness(old):
    """A normal exit without a witness is strong, and one more signal may have ended a run without a
    trace.
    """
    if old['verdict'] == 'stopped' and old['confidence'] == 'certain':
        old['confidence'] = 'strong'
    if old['verdict'] == 'vanished':
        old['confidence'] = 'weak'
    if old['verdict'] in ('vanished', 'unreadable'):
        exit_in_c = [words for words in old['candidates'] if words.startswith('os._exit')]
        place = old['candidates'].index(exit_in_c[0]) + 1
        signal = 'Another signal that leaves no mark, such as SIGTRAP, SIGSYS or SIGPROF'
        old['candidates'].insert(place, signal)
    return old


def waiting_line():
    """Return the line of the waiting run in the history of the directory where it is archived."""
    (line,) = (
        line
        for line in golden_text('archived-history').splitlines()
        if line.endswith(RUNS[recorded.WAITING])
    )
    return line


def with_titles(old):
    titles = (
        'ended                          verdict              signal   uptime                role   '
        'run'
    )
    return f'{titles}\n{old}'


def waits_to_be_archived(old):
    return old.replace(
        '[warning] 1 dead runs wait to be judged.\n'
        '    -> Run "stabilitymonitor triage".\n'
        '= 1 warning\n\n',
        '[info] 1 dead run waits to be archived.\n'
        '    -> Run "stabilitymonitor triage", or start Zope.\n'
        '= 1 for information\n\n',
    )


def finding_waits_to_be_archived(old):
    of_directory, *others = old
    (waiting,) = of_directory['checks']
    waiting |= {
        'severity': 'info',
        'title': '1 dead run waits to be archived.',
        'action': 'Run "stabilitymonitor triage", or start Zope.',
    }
    return [of_directory, *others]


def last_subject(kind):
    """Return the last subject of `checks --json` for this data directory: a run and its
    findings.
    """
    return golden_document(f'{kind}-checks-json')['subjects'][-1]


def of_archived(key):
    """Return a function to this part of the report of the directory where the waiting run is
    archived.
    """

    def judged_today(old):
        archived = golden_document('archived-report-format-json')[key]
        newest = archived[0] if isinstance(archived, list) else archived
        newest['confidence'] = 'strong'  # the waiting run; the others were judged before
        return archived

    return judged_today


def as_values(old):
    """A log line has the name of its level, a sample the names of its values (what waits for the
    server was not known), and the marks of the watchdog have their present names.
    """
    if isinstance(old, dict):
        survived = old['survived'].items()
        old['survived'] = {name.replace('deadman', 'watchdog'): length for name, length in survived}
        for line in old['log']:
            line['level'] = logging.getLevelName(line['level'])
        names = [field.name for field in fields(Sample)]
        old['samples'] = [
            dict(zip(names, [*sample, -1, -1.0, -1, -1, -1, -1, -1], strict=True))
            for sample in old['samples']
        ]
    return old


def without_signature(old):
    """A signature is made by the rules of today, see tests/knowledge/test_signatures.py."""
    if isinstance(old, str):
        return re.sub(r'(?m)^ *(?:signature {2}|Seen before|Not seen before).*\n', '', old)
    if isinstance(old, list):
        return list(map(without_signature, old))
    if isinstance(old, dict):
        return {key: without_signature(item) for key, item in old.items() if key != 'signature'}
    return old


def with_place(words, place):
    """Return a function to the record with the place after these words of its summary."""
    return lambda old: old | {'summary': old['summary'].replace(words, words + place, 1)}


FRAMES = 'Frames are written as in a traceback of Python: with a comma after the line number.'
LAST_TOLD = 'While Zope is down a report shows the findings that the last run recorded.'
LOCAL = 'Times for people are local, with their offset.'
STATES = 'A finished request is in no phase; an event begins.'
ONCE = 'What is the same for several threads or requests is said once.'
ENDS = 'The history shows when a run ended, as the page Incidents does.'
#: What was added to the texts about a run.
NEW_BLOCK = re.compile(r'(?m)^What to do now:\n(?:  \d\. .*\n)+\n')
PLACE = 'Each crash names its place and its request; <module> alone does not say which file.'
IN_MEMORY = 'A dead run that is not archived yet is judged in memory, and can be the last run.'

#: All intended differences to the golden files.
DELIBERATE: tuple[Change, ...] = (
    Change('command/show-*', FRAMES, with_commas),
    Change(
        'record/hung',
        'Equal sentences of evidence are one, with a count.',
        one_sentence_for_equal_requests,
    ),
    Change('record/hung', 'Busy workers do not prove a hang.', hung_by_its_notes),
    *(
        Change(f'record/{run}', 'A process may have been frozen when it was killed.', maybe_frozen)
        for run in ('vanished', 'drill', 'outlived-a-signal')
    ),
    Change('record/hung-in-c-code', 'Idle threads are no evidence.', without_idle_threads),
    Change(
        'command/show-stack-overflow',
        'Frames that repeat are shown once, with a count.',
        without_repeated_frames,
    ),
    Change(
        'command/show-unhandled-exception',
        'An exception that ended a run came before it was ending: no issue at exit explains it.',
        without_known_issues,
    ),
    Change(
        'command/show-out-of-memory',
        'That memory was used up within seconds does not mean that it leaked.',
        lambda old: old.replace('    memory: grew from 51 to 273 MiB\n', ''),
    ),
    *(
        Change(
            f'json/{names}-json/checks',
            LAST_TOLD,
            lambda old, kind=kind: last_subject(kind)['checks'],
        )
        for names, kind in (
            ('report-*', 'archived'),
            *((f'{kind}-report*', kind) for kind in KINDS),
        )
    ),
    Change('command/waiting-status', IN_MEMORY, judged_in_memory),
    Change(
        'exit/waiting-status',
        'A clean stop that is not archived yet is not a problem of the site.',
        lambda old: 0,
    ),
    Change('exit/show-drill', 'A drill counts for no exit status.', lambda old: 0),
    Change(
        'command/waiting-history',
        'The history includes the runs that are not archived yet.',
        lambda old: f'{waiting_line()}  (not yet archived)\n{old}',
    ),
    Change('json/waiting-report-format-json/previous', IN_MEMORY, of_archived('previous')),
    Change('json/waiting-report-format-json/history', IN_MEMORY, of_archived('history')),
    *(
        Change(
            cases,
            'A dead run is judged when it is shown; it does no harm that it is not archived yet.',
            change,
        )
        for cases, change in (
            ('command/waiting-checks*', waits_to_be_archived),
            ('json/waiting-checks-json/subjects', finding_waits_to_be_archived),
        )
    ),
    Change(
        'record/*',
        'How a process ended after the normal exit of Python is not known; some signals leave no '
        'mark.',
        without_witness,
    ),
    *(
        Change(f'record/{run}', PLACE, with_place(words, place))
        for run, words, place in (
            ('stack-overflow', 'of its stack', ' in _deeper, while serving GET /overflow_stack'),
            ('aborted-fatal-error', 'error', ' in fatal_error, while serving GET /fatal_error'),
            ('crashed-script', 'in <module>', ' of site/script.py, line 1'),
        )
    ),
    Change('blackbox/*', 'A black box is read into the same form as a record has.', as_values),
    Change('command/*-status', 'The status says that no process runs.', no_process_runs),
    Change('command/*-history', ENDS, with_ends),
    Change('command/*-history', 'The columns of the history have titles.', with_titles),
    Change('command/show-*', ONCE, with_each_stack_once),
    Change('command/show-*', STATES, with_states_of_requests),
    Change('command/show-*', LOCAL, with_local_times),
    Change('command/*-status', LOCAL, with_local_times),
    Change('*', 'A signature is made by the rules of today.', without_signature),
)


# -- reworded sentences ----------------------------------------------------------------------------


def wanted(case, old):
    """Return the value that is expected now for a stored value."""
    for change in DELIBERATE:
        if fnmatch.fnmatchcase(case, change.cases):
            old = change.wanted(old)
    return in_words_of_today(old)


def assert_still_there(case, old, new):
    assert list(recorded.missing(wanted(case, old), in_words_of_today(recorded.plain(new)))) == []


# -- dead runs that were not judged ----------------------------------------------------------------


@pytest.fixture(scope='module')
def dead_run(tmp_path_factory):
    """A function from the name of a golden run to that run, unpacked."""
    kept = {}

    def dead_run(name):
        if name not in kept:
            kept[name] = recorded.DeadRun.of(name, tmp_path_factory.mktemp('dead') / name)
        return kept[name]

    return dead_run


@pytest.mark.parametrize('name', RUNS)
def test_a_dead_run_gets_the_record_of_the_older_release(dead_run, name):
    dead = dead_run(name)
    world = World(
        proc=dead.world / 'proc',
        kernel_log=dead.world / 'kmsg',
        machine_id=dead.world / 'machine-id',
    )
    old = json.loads(recorded.stored(f'runs/{name}.record.json.xz'))
    new = dead.without_place(recorded.plain(examine(dead.path, world).to_json()))
    assert_still_there(f'record/{name}', old, new)


@pytest.mark.parametrize('name', RUNS)
def test_a_black_box_has_the_same_content(dead_run, name):
    old = json.loads(recorded.stored(f'runs/{name}.blackbox.json.xz'))
    assert_still_there(f'blackbox/{name}', old, read_box(dead_run(name).path / 'blackbox.sbr'))


def read_box(path):
    content = path.read_bytes()
    try:
        return blackboxreader.read(gzip.decompress(content) if path.suffix == '.gz' else content)
    except UnreadableRecord as error:
        return str(error)


# -- the archive -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
    """{kind: golden data directory}."""
    folder = tmp_path_factory.mktemp('golden')
    return {kind: recorded.data_directory(kind, folder / kind / 'stability') for kind in KINDS}


@pytest.mark.parametrize('name', RUNS)
def test_an_archived_record_keeps_all_keys_and_values(directories, name):
    base = Base(directories['archived'])
    old = json.loads((base.archive / RUNS[name] / 'incident.json').read_text())
    assert_still_there(f'archived/{name}', old, Archive(base).record(RUNS[name]).to_json())


@pytest.mark.parametrize('name', RUNS)
def test_an_archived_summary_keeps_all_keys_and_values(directories, name):
    base = Base(directories['archived'])
    old = json.loads((base.archive / RUNS[name] / 'summary.json').read_text())
    (found,) = (each for each in Archive(base).summaries() if each.run == RUNS[name])
    assert_still_there(f'summary/{name}', old, found.summary_json())


@pytest.mark.parametrize('name', RUNS)
def test_an_archived_black_box_has_the_same_content(directories, name):
    old = json.loads(recorded.stored(f'runs/{name}.blackbox.json.xz'))
    box = directories['archived'] / 'archive' / RUNS[name] / 'blackbox.sbr.gz'
    assert_still_there(f'blackbox/{name}', old, read_box(box))


def test_all_runs_are_in_the_archive_newest_first(directories):
    found = [each.run for each in Archive(Base(directories['archived'])).summaries()]
    assert found == sorted(RUNS.values(), reverse=True)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def asked():
    """Results of earlier calls of the command: {name: (exit status, output)}."""
    return {}


@pytest.fixture
def command(directories, asked, capsysbinary, monkeypatch):
    """A function that runs a golden call of the command with today's code: (exit status,
    output).
    """
    monkeypatch.delenv('CLIENT_HOME', raising=False)
    monkeypatch.delenv('STABILITYMONITOR_DIRECTORY', raising=False)
    check_each(monkeypatch)  # each report in JSON must fit its schema
    # Which incidents are recent depends on the day of the test: here none is.
    monkeypatch.setattr(runhistory, 'RECENT_SECONDS', 0)

    def ask(name):
        if name not in asked:
            words, directory = COMMANDS[name]['words'], directories[COMMANDS[name]['directory']]
            status = cli.main(['--directory', str(directory), *words])
            output, errors = (text.decode() for text in capsysbinary.readouterr())
            assert errors == ''
            asked[name] = status, NEW_BLOCK.sub('', recorded.timeless(output, directory))
        return asked[name]

    return ask


def is_json(name):
    return 'json' in COMMANDS[name]['words'][-1]


def is_report(name):
    return COMMANDS[name]['words'][0] == 'report'


TEXTS = [name for name in COMMANDS if not is_json(name) and not is_report(name)]
KEYS = [
    (name, key)
    for name in COMMANDS
    if is_json(name)
    for key in golden_document(name)
    if key not in OF_THE_READER
]


@pytest.mark.parametrize('name', COMMANDS)
def test_the_exit_status_is_that_of_the_older_release(command, name):
    assert command(name)[0] == wanted(f'exit/{name}', COMMANDS[name]['exit'])


def without_rules(text):
    """Return the text without what the rules of today say: class, suspects and signature."""
    text = re.sub(r'^( *)Why:\n(?:\1  .*\n)+\n', '', text, flags=re.MULTILINE)
    return without_signature(text)


@pytest.mark.parametrize('name', TEXTS)
def test_the_output_is_that_of_the_older_release(command, name):
    new = without_rules(command(name)[1])
    assert in_words_of_today(new) == wanted(f'command/{name}', golden_text(name))


@pytest.mark.parametrize('name, key', KEYS)
def test_a_json_document_keeps_all_keys_and_values(command, name, key):
    new = json.loads(command(name)[1])
    assert key in new
    assert_still_there(f'json/{name}/{key}', golden_document(name)[key], new[key])


@pytest.mark.parametrize('kind', KINDS)
def test_reading_changes_no_file(directories, command, kind):
    for name in COMMANDS:
        if COMMANDS[name]['directory'] == kind:
            command(name)
    untouched = recorded.data_directory(kind, directories[kind].parent / 'untouched')
    assert recorded.contents(directories[kind]) == recorded.contents(untouched)


# -- tests of this file itself ---------------------------------------------------------------------


def cases():
    """Return {name of a case: stored value}."""
    found = {f'exit/{name}': COMMANDS[name]['exit'] for name in COMMANDS}
    found |= {f'command/{name}': golden_text(name) for name in TEXTS}
    found |= {f'json/{name}/{key}': golden_document(name)[key] for name, key in KEYS}
    for name in RUNS:
        for kind in ('record', 'blackbox'):
            found[f'{kind}/{name}'] = json.loads(recorded.stored(f'runs/{name}.{kind}.json.xz'))
    return found


def test_each_deliberate_change_has_a_reason_and_applies():
    stored = cases()
    for change in DELIBERATE:
        assert change.reason
        applied = [
            case
            for case, old in stored.items()
            if fnmatch.fnmatchcase(case, change.cases) and change.wanted(copy.deepcopy(old)) != old
        ]
        assert applied, change.cases


def texts_in(value):
    """Yield all texts of a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def test_each_reworded_sentence_occurs_in_a_golden_file():
    stored = '\n'.join(texts_in(cases()))
    assert [row.was for row in REWORDED if row.apply(stored) == stored] == []


def test_every_verdict_has_a_golden_run():
    records = [json.loads(recorded.stored(f'runs/{name}.record.json.xz')) for name in RUNS]
    assert {record['verdict'] for record in records} >= {
        'crashed',
        'stack-overflow',
        'aborted',
        'out-of-memory',
        'startup-failed',
        'unhandled-exception',
        'hung',
        'signalled',
        'stopped',
        'host-restarted',
        'vanished',
        'unreadable',
    }
    notes = {note['kind'] for record in records for note in record['notes']}
    hangs = {hang['kind'] for record in records for hang in record['hangs']}
    assert notes >= {'slow', 'slow-ended'} and hangs >= {'hang', 'deadlock'}


@pytest.mark.parametrize(
    'new, told',
    [
        ({'a': [{'b': 1, 'more': 2}], 'c': None, 'd': 0}, []),
        ({'a': [{'b': 1}]}, ['/c is gone']),
        ({'a': [{'b': 2}], 'c': None}, ['/a/0/b was 1 and is 2']),
        ({'a': [{'b': 1}, {}], 'c': None}, ["/a was [{'b': 1}] and is [{'b': 1}, {}]"]),
        ({'a': [{'b': None}], 'c': 0}, ['/a/0/b was 1 and is None', '/c was None and is 0']),
    ],
)
def test_each_difference_is_reported(new, told):
    assert list(recorded.missing({'a': [{'b': 1}], 'c': None}, new)) == told
