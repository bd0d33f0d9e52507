"""Two releases use one data directory, as during an upgrade of ZEO clients one by one, or after a
downgrade: nothing is lost, and neither release changes the files of the other.

The older release comes from the git history of this repository.
"""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from golden import recorded
from golden.rewording import Reworded
from golden.rewording import in_words_of_today
from support.childprograms import CHECKOUT
from support.childprograms import COMMAND
from support.childprograms import PROGRAMS
from support.childprograms import Program
from support.childprograms import run_python

from Products.StabilityMonitor.model.witnesses import FAULT
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import Base

SHARED_FILES = PROGRAMS / 'shared_files.py'
#: The version at the beginning of issue 11, which also wrote the golden files.
OLDER = 'cacf5be6d188c459e5ea7d534b553c778b991fb4'
#: Ways of `programs/armed.py` to end, and the verdict for each.
WAYS = {
    'segv': 'crashed',
    'kill_self_term': 'stopped',
    'exception': 'startup-failed',
}
BOTH = ('older', 'today')
#: Keys of a record that the older release did not have.
NEW_KEYS = (
    'last_words',
    'curve',
    'number',
    'boot_id',
    'monotonic',
    'ended_before',
    'found_by',
    'amendments',
    'core',
    'death',
    'fatal',
    'kernel_fault',
    'copied',
    'signature',  # by the rules of each release
    'shared_objects',
)
#: Sentences that are reworded, but are not in the golden files.
REWORDED = (
    Reworded(
        'Zope did not start: it ended after it had started to serve ',
        'Zope failed to start: it ended soon after it had loaded, ',
    ),
    Reworded(
        'It ended after it had started to serve {}; no request had been answered.',
        'Zope ended soon after it had loaded, {}; it had answered no request.',
    ),
)

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='these verdicts need Linux'),
]


@dataclasses.dataclass(frozen=True)
class Release:
    """The product of one checkout; its processes share the data directory with those of another
    one.
    """

    checkout: Path
    directory: Path

    def python(self, *words):
        done = run_python(*words, env=recorded.environment(self.checkout), cwd=self.checkout)
        assert 'Traceback' not in done.stderr, done.stderr
        return done

    def command(self, *words):
        """Run the command `stabilitymonitor`, and return the completed process."""
        return self.python(*COMMAND, '--directory', self.directory, *words)

    def document(self, *words):
        return json.loads(self.command(*words).stdout)

    def use(self, what, *words):
        """Return the answer of `programs/shared_files.py`."""
        done = self.python(SHARED_FILES, what, self.directory, *words)
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, way):
        """Start `programs/armed.py` of this release; it ends in this way after the line "go"."""
        program = Program(
            self.checkout / 'tests/programs/armed.py',
            way,
            self.directory,
            env=recorded.environment(self.checkout),
        )
        return program.expect('ready')

    def run_of(self, program):
        (run,) = (name for name in self.waiting() if name.split('-')[1] == str(program.pid))
        return run

    def waiting(self):
        return {path.name for path in self.directory.glob('runs/[0-9]*')}

    def archived(self):
        """Return {run: record} of the archive."""
        paths = self.directory.glob('archive/*/incident.json')
        return {path.parent.name: json.loads(path.read_text()) for path in paths}

    def verdicts(self):
        return {run: record['verdict'] for run, record in self.archived().items()}


@pytest.fixture(scope='module')
def older_checkout(tmp_path_factory):
    """A folder with the files of the older release."""
    try:
        packed = subprocess.run(
            ['git', 'archive', OLDER, 'Products', 'tests'],
            cwd=CHECKOUT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, 'stderr', b'').decode(errors='replace').strip() or error
        pytest.skip(f'the older release is not in a git history here: {told}')
    folder = tmp_path_factory.mktemp('older')
    safely = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, **safely)
    return folder


def of_one_directory(older_checkout, directory):
    """Return {'older': Release, 'today': Release} with one data directory."""
    return {'older': Release(older_checkout, directory), 'today': Release(CHECKOUT, directory)}


@dataclasses.dataclass(frozen=True)
class Dead:
    """Dead runs of both releases; `rounds` has {run: verdict} for each way to end."""

    directory: Path
    rounds: list

    @property
    def all(self):
        return {run: verdict for runs in self.rounds for run, verdict in runs.items()}

    def put_into(self, directory, runs):
        """Copy these runs into a data directory, where they wait to be judged."""
        (directory / 'archive').mkdir(parents=True, exist_ok=True)
        for run in runs:
            shutil.copytree(
                self.directory / 'runs' / run,
                directory / 'runs' / run,
                ignore=shutil.ignore_patterns('witness-*.json'),  # they saw each other's end
            )


@pytest.fixture(scope='module')
def dead(older_checkout, tmp_path_factory):
    directory = tmp_path_factory.mktemp('dead') / 'stability'
    releases = of_one_directory(older_checkout, directory).values()
    living = {way: [(each, each.start(way)) for each in releases] for way in WAYS}
    # The last ones end first: a process that has served for 10 s has no failed start.
    for pairs in reversed(living.values()):
        for _, program in pairs:
            program.tell('go').end()
    rounds = [
        {each.run_of(program): WAYS[way] for each, program in pairs}
        for way, pairs in living.items()
    ]
    return Dead(directory, rounds)


@pytest.fixture
def releases(older_checkout, tmp_path):
    directory = tmp_path / 'stability'
    directory.mkdir()
    return of_one_directory(older_checkout, directory)


@pytest.fixture(params=BOTH)
def writer(request, releases):
    return releases[request.param]


@pytest.fixture
def reader(releases, writer):
    """The release that is not the writer."""
    (other,) = (each for each in releases.values() if each is not writer)
    return other


def files(release, folder='archive'):
    return recorded.contents(release.directory / folder)


def assert_kept(before, now):
    """Assert that no file is gone or changed."""
    assert {name for name, content in before.items() if now.get(name) != content} == set()


def test_each_release_runs_its_own_code(releases):
    program = 'import Products.StabilityMonitor as product; print(product.__file__)'
    for release in releases.values():
        assert release.python('-c', program).stdout.startswith(f'{release.checkout}/')


# -- triage ----------------------------------------------------------------------------------------


def test_in_turn_both_releases_archive_each_run_once(writer, reader, dead):
    """In each round a run of each release waits, and the other release judges both; no archived
    file changes.
    """
    expected, before = {}, {}
    for judge, runs in zip((writer, reader, writer), dead.rounds, strict=True):
        dead.put_into(judge.directory, runs)
        expected |= runs
        told = [line.split(': ')[0] for line in judge.command('triage').stdout.splitlines()]
        assert sorted(told) == sorted(runs)
        assert judge.waiting() == set() and judge.verdicts() == expected
        now = files(judge)
        assert_kept(before, now)
        before = now
    for judge in (writer, reader):
        assert judge.command('triage').stdout == 'There was nothing to judge.\n'
    assert files(writer) == before


def test_at_the_same_time_both_releases_archive_each_run_once(releases, dead):
    older, today = releases.values()
    dead.put_into(today.directory, dead.all)
    judges = [
        Program(
            *(*COMMAND, '--directory', each.directory, 'triage'),
            env=recorded.environment(each.checkout),
            cwd=each.checkout,
        )
        for each in (older, today)
    ]
    for judge in judges:
        judge.end()
    told = ''.join(judge.said for judge in judges).splitlines()
    runs = [line.split(': ')[0] for line in told if line != 'There was nothing to judge.']
    assert sorted(runs) == sorted(dead.all)
    assert today.waiting() == set() and today.verdicts() == dead.all


def test_both_releases_judge_a_run_alike(releases, dead, tmp_path):
    """Today's record of the same dead run may only have additional keys."""
    older, today = releases.values()
    copy = dataclasses.replace(today, directory=tmp_path / 'copy')
    for each in (older, copy):
        dead.put_into(each.directory, dead.all)
    older.command('triage')
    copy.command('triage')
    judged = copy.archived()
    for run, record in older.archived().items():
        old = json.dumps(record)
        for row in REWORDED:
            old = row.apply(old)
        wanted = in_words_of_today(json.loads(old))
        wanted.pop('signature')  # it is made when a record is read
        assert list(recorded.missing(wanted, in_words_of_today(judged[run]))) == []


def test_a_living_run_is_left_alone_by_the_other_release(writer, reader):
    living = writer.start('kill_self_term')
    run = writer.run_of(living)
    try:
        before = set(files(writer, 'runs'))
        assert reader.command('triage').stdout == 'There was nothing to judge.\n'
        assert f'running: pid {living.pid}' in reader.command('status').stdout
        assert before <= set(files(writer, 'runs')) and writer.waiting() == {run}
    finally:
        living.tell('go').end()
    reader.command('triage')
    assert writer.verdicts() == {run: 'stopped'}


def test_the_heartbeat_of_one_release_answers_the_command_of_the_other(writer, reader):
    living = writer.start('return')
    try:
        done = reader.command('stacks')
        assert done.returncode == 0 and 'MainThread' in done.stdout, done
    finally:
        living.tell('go').end()


# -- reading the archive of the other release ------------------------------------------------------


@pytest.fixture
def judged(writer, dead):
    """{run: record} of dead runs of both releases, judged by `writer`, without witnesses."""
    dead.put_into(writer.directory, dead.all)
    # These Zopes may have seen each other's ends, of which the older release knows nothing.
    for path in writer.directory.glob('runs/*/witness-*.json'):
        path.unlink()
    writer.command('triage')
    return writer.archived()


def test_the_older_release_triages_a_run_of_which_a_witness_has_told(releases, dead):
    """It keeps the file of the witness, and shows the record as it was judged."""
    older, today = releases.values()
    run = next(run for run, verdict in dead.all.items() if verdict == 'crashed')
    dead.put_into(older.directory, [run])
    witness = Witness('run', 1.0, 'It was seen.', signal='SIGSEGV', cause=FAULT)
    assert witnessfiles.add(Base(today.directory), run, witness)
    older.command('triage')
    kept = files(older)
    judged = older.archived()[run]
    shown = today.document('show', run, '--format', 'json')
    assert [step['source'] for step in shown['amendments']] == ['run']
    assert shown['verdict'] == judged['verdict'] == 'crashed'
    assert 'amendments' not in judged
    assert shown['evidence'][-1]['fact'] == 'It was seen.'
    assert older.command('show', run).stdout.startswith(judged['summary'])
    assert files(older) == kept


def missing(record, told):
    """List what is missing, but for the keys that the older release does not know: it ignores
    them.
    """
    known = {key: value for key, value in record.items() if key not in NEW_KEYS}
    return list(recorded.missing(known, told))


def test_each_release_reads_the_records_of_the_other(writer, reader, judged):
    before = files(writer, '.')
    runs = sorted(judged)
    questions = [['history'], ['report', '--format', 'json'], *(['show', run] for run in runs)]
    questions += [['report', run, '--format', 'json'] for run in runs]
    answers = iter(reader.use('commands', json.dumps(questions)))
    history, report = next(answers)[1], json.loads(next(answers)[1])
    listed = {row['run']: row for row in report['history']}
    assert listed.keys() == judged.keys()
    for run in runs:
        record = judged[run]
        summary = json.loads((writer.directory / 'archive' / run / 'summary.json').read_text())
        assert missing(summary, listed[run]) == []
        assert any(run in line and record['verdict'] in line for line in history.splitlines())
        status, shown = next(answers)
        assert status == (record['verdict'] != 'stopped')
        assert shown.startswith(f'{record["summary"]}\n')
    for run in runs:
        told = json.loads(next(answers)[1])['incident']
        told['known_issues'] = judged[run]['known_issues']  # looked up at each read
        assert missing(judged[run], told) == []
    assert files(writer, '.') == before


def test_each_release_traces_the_runs_that_the_other_judged(writer, reader, judged):
    questions = json.dumps([['trace', run] for run in judged])
    told = str(reader.use('commands', questions))
    expected = str(writer.use('commands', questions))
    # The older release has other words for a request without an end.
    was, now = ' is in flight for ', ' has been in progress for '
    assert told.replace(was, now) == expected.replace(was, now) and '/the/request' in told


def test_each_release_shows_the_last_run(writer, reader, judged):
    last = max(judged.values(), key=lambda record: record['started'])
    assert last['summary'] in reader.command('status').stdout


# -- shared files ----------------------------------------------------------------------------------


def test_a_finding_muted_by_the_older_release_stays_muted(older_checkout, tmp_path):
    older, today = of_one_directory(older_checkout, tmp_path).values()
    older.use('mute', 'dead-man')
    assert today.use('muted') == {'watchdog': 'the reason of dead-man'}, (
        'the finding has another id today'
    )
    today.use('mute', 'two')
    assert sorted(today.use('muted')) == ['two', 'watchdog']
    assert older.use('muted') == {'dead-man': 'the reason of dead-man'}, (
        'the older release has its own file'
    )
    assert today.use('unmute', 'watchdog') is True
    assert sorted(today.use('muted')) == ['two']


@pytest.mark.zope
def test_both_releases_use_the_same_key(writer, reader):
    key = writer.use('key')
    assert (writer.directory / 'token.key').read_bytes().hex() == key
    assert reader.use('key') == writer.use('key') == key


def test_each_release_reads_the_probe_result_of_the_other(writer, reader):
    result = writer.use('keep_probe')
    before = files(writer, '.')
    assert reader.use('read_probe') == result
    assert files(writer, '.') == before


def test_each_release_shows_the_check_results_of_the_other(writer, reader):
    run = writer.use('check_and_die')
    word = json.loads((writer.directory / 'runs' / run / 'checks.json').read_text())
    assert word['checks']
    for state in ('dead', 'archived'):
        subjects = reader.document('checks', '--json')['subjects']
        (told,) = (each for each in subjects if run in each['subject'])
        assert told['when'] == word['when'], state
        assert_told(word['checks'], told['checks'])
        writer.command('triage')
    assert json.loads((writer.directory / 'archive' / run / 'checks.json').read_text()) == word


def assert_told(findings, told):
    """Assert that the findings are shown.

    Known issues are left out, since the reader looks them up itself, and so are keys that an older
    reader does not know.
    """
    wanted = [row for row in findings if not row['id'].startswith('known-issue')]
    keys = {key for row in told for key in row}
    assert {'id', 'severity', 'title', 'detail', 'action', 'source'} <= keys
    for row in wanted:
        assert {key: value for key, value in row.items() if key in keys} in told
    assert wanted


def test_the_comparison_file_of_the_older_release_is_left_alone(older_checkout, tmp_path):
    """Today's release compares at each start, and stores no result."""
    older, today = of_one_directory(older_checkout, tmp_path).values()
    older.use('check_and_die')
    compared = (older.directory / 'compared.json').read_bytes()
    today.use('check_and_die')
    assert (today.directory / 'compared.json').read_bytes() == compared
