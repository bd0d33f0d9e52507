"""Which data directory the command uses, and which run a word on its command line means."""

import json
import os

import pytest
from support.commandline import archived
from support.commandline import process
from support.syntheticruns import DeadRun
from support.syntheticruns import record
from support.zopekit import CHECKOUT

from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity


@pytest.fixture
def homes(tmp_path):
    """A function that makes a data directory with one run, whose summary is the place."""

    def make(place):
        base = Base(tmp_path / place)
        base.prepare()
        archived(base, record(0, summary=f'It is {place}.'))
        return tmp_path / place

    return make


# -- the data directory ----------------------------------------------------------------------------


def test_a_named_directory_wins_over_a_guess(homes, tmp_path):
    """The places are removed one after the other; each time the next one is used."""
    for place in (
        'a',
        'b/stability',
        'c',
        'var/stability',
        'stability',
        'd/var/stability',
        'e/stability',
    ):
        homes(place)
    ways = [
        ('a', ('--directory', str(tmp_path / 'a')), {}),
        ('b/stability', ('--client-home', str(tmp_path / 'b')), {}),
        ('c', (), {'STABILITYMONITOR_DIRECTORY': str(tmp_path / 'c')}),
        ('var/stability', (), {}),
        ('stability', (), {}),
        ('d/var/stability', (), {'INSTANCE_HOME': str(tmp_path / 'd')}),
        ('e/stability', (), {'CLIENT_HOME': str(tmp_path / 'e')}),
    ]
    found = []
    while ways:
        words = [word for _, arguments, _ in ways for word in arguments]
        environ = {name: value for *_, named in ways for name, value in named.items()}
        done = process(*words, 'status', cwd=tmp_path, **environ)
        place = ways.pop(0)[0]
        found.append(place)
        assert (done.returncode, f'It is {place}.' in done.stdout) == (0, True), (place, done)
        is_guess = place not in ('a', 'b/stability', 'c')
        assert (
            f'stabilitymonitor: Using the data directory {tmp_path / place}, ' in done.stderr
        ) == is_guess
        if is_guess:
            for folder in ('runs', 'archive'):
                (tmp_path / place / folder).rename(tmp_path / place / f'no-{folder}')
    done = process('status', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        2,
        '',
    ) and 'No data directory was found' in done.stderr


@pytest.mark.parametrize(
    'environ, words',
    [
        ({}, 'found below the current directory.'),
        ({'INSTANCE_HOME': 'x'}, 'found with the variable INSTANCE_HOME.'),
        ({'CLIENT_HOME': 'x/var'}, 'found with the variable CLIENT_HOME.'),
    ],
)
def test_a_guessed_directory_is_reported_with_how_it_was_found(homes, tmp_path, environ, words):
    homes('x/var/stability')
    environ = {name: str(tmp_path / value) for name, value in environ.items()}
    done = process('status', cwd=CHECKOUT / 'tests' if environ else tmp_path / 'x', **environ)
    assert done.returncode == 0 and done.stderr.endswith(f'{words}\n'), done


@pytest.mark.parametrize('way', ['--client-home', 'STABILITYMONITOR_DIRECTORY', 'a guess'])
@pytest.mark.parametrize('used_last', ['stability', 'stability-1234', 'stability-99'])
def test_the_directory_of_another_user_beside_it_is_found(homes, tmp_path, way, used_last):
    """Zope uses it if "stability" belongs to somebody else."""
    places = [homes('stability'), homes('stability-99'), homes('stability-1234')]
    homes('stability-old')
    (tmp_path / 'stability-7').mkdir()
    for number, place in enumerate(sorted(places, key=lambda place: place.name == used_last)):
        os.utime(place / 'runs', (number, number))
    where = (way, str(tmp_path)) if way == '--client-home' else ()
    environ = {way: f'{places[0]}/'} if way.isupper() else {}
    cwd = tmp_path if way == 'a guess' else '/'
    done = process(*where, 'status', cwd=cwd, **environ)
    assert (done.returncode, f'It is {used_last}.' in done.stdout) == (0, True), done
    others = ', '.join(sorted(str(place) for place in places if place.name != used_last))
    assert f'Using the data directory {tmp_path}/{used_last}, which Zope used last; ' in done.stderr
    assert f'beside it: {others}.\n' in done.stderr and 'stability-old' not in done.stderr


def test_the_only_directory_is_that_of_another_user(homes, tmp_path):
    homes('stability-1234')
    done = process('--client-home', str(tmp_path), 'status')
    assert (done.returncode, 'It is stability-1234.' in done.stdout) == (0, True), done
    assert done.stderr == f'stabilitymonitor: Using the data directory {tmp_path}/stability-1234.\n'


@pytest.mark.parametrize('command', ['status', 'history', 'checks', 'show', 'report', 'triage'])
def test_a_folder_without_runs_and_archive_is_an_error(tmp_path, command):
    (tmp_path / 'stability').mkdir()
    for where in (('--directory', str(tmp_path / 'stability')), ('--client-home', str(tmp_path))):
        done = process(*where, command)
        assert (done.returncode, done.stdout) == (2, '')
        assert done.stderr == (
            f'stabilitymonitor: {tmp_path}/stability is not a data directory: it has neither '
            '"runs" nor "archive". Name the directory with --directory, or the CLIENT_HOME of the '
            'instance with --client-home.\n'
        )
    assert os.listdir(tmp_path / 'stability') == []


def test_a_mistyped_directory_is_an_error_even_if_another_could_be_found(homes, tmp_path):
    homes('var/stability')
    done = process('--directory', str(tmp_path / 'typo'), 'status', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        2,
        '',
    ) and 'is not a readable directory' in done.stderr
    assert process('--directory', '/etc', 'history', cwd=tmp_path).returncode == 2


@pytest.mark.parametrize('folder', ['runs', 'archive'])
def test_a_folder_with_only_runs_or_archive_is_a_data_directory(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert process('--directory', str(tmp_path), 'status').returncode == 0


# -- a run -----------------------------------------------------------------------------------------


def test_without_a_run_the_newest_incident_is_shown(base, command):
    archived(base, record(0, 'crashed'), record(1, 'hung'), record(2, 'stopped'))
    assert command('show')[:2] == command('show', '-1')[:2]
    assert command('show')[1].startswith('It ended: hung.')
    assert command('show', '-2')[1].startswith('It ended: crashed.')


def test_the_newest_incident_may_not_be_archived_yet(base, command):
    archived(base, record(0, 'hung'))
    run = DeadRun(base.path, 1).crashed()
    for words in (('show',), ('report',)):
        _, output, _ = command(*words)
        assert run.name in output and 'Segmentation fault' in output
    assert command('show', '-2')[1].startswith('It ended: hung.')
    assert base.waiting() == [run.name], 'it is left where it is'


@pytest.mark.parametrize('words', [('show', '-3'), ('report', '-3'), ('trace', '-3')])
def test_a_number_above_the_count_of_incidents_is_an_error(base, command, words):
    archived(base, record(0, 'crashed'), record(1, 'hung'), record(2))
    status, output, errors = command(*words)
    assert (status, output) == (2, '') and errors == (
        'stabilitymonitor: Only 2 incidents have been recorded here, so there is no -3. '
        'List the runs with the command "history".\n'
    )


@pytest.mark.parametrize('words', [('show',), ('show', '-1'), ('report', '-1'), ('trace', '-1')])
def test_a_number_without_any_incident_is_an_error(base, command, words):
    archived(base, record(0))
    assert command(*words) == (
        2,
        '',
        'stabilitymonitor: No incident has been recorded here. '
        'List the runs with the command "history".\n',
    )


def test_a_unique_beginning_of_a_name_is_enough(base, command):
    first, second = archived(base, record(0, 'crashed'), record(24, 'hung'))
    beginning = os.path.commonprefix([first, second])
    unique = second[: len(beginning) + 1]
    for name in ('show', 'report', 'trace'):
        assert without_time(command(name, unique)) == without_time(command(name, second)), name


def without_time(done):
    """A report says when it was made."""
    status, output, errors = done
    return status, [line for line in output.splitlines() if ', made ' not in line], errors


@pytest.mark.parametrize('name', ['show', 'report', 'trace'])
def test_an_ambiguous_beginning_lists_the_runs(base, command, name):
    names = archived(base, *(record(n, 'crashed') for n in range(7)))
    beginning = os.path.commonprefix(names)
    status, output, errors = command(name, beginning)
    assert (status, output) == (2, '')
    shown = ', '.join(sorted(names, reverse=True)[:5])
    assert errors == (
        f'stabilitymonitor: {beginning!r} fits 7 runs: {shown} and 2 more. Type more of the name.\n'
    )


def test_an_empty_word_is_not_a_beginning(base, command):
    archived(base, record(0, 'crashed'))
    status, _, errors = command('show', '')
    assert status == 2 and "There is no archived run ''" in errors


def test_trace_accepts_the_beginning_of_a_dead_or_living_run(base, command):
    run = DeadRun(base.path, 1).crashed()
    assert command('trace', '-1') == command('trace', run.name) == command('trace', run.name[:18])


def test_stacks_accepts_the_beginning_of_a_living_run(base, command):
    """Only living runs are searched: dead runs have no stacks."""
    DeadRun(base.path)
    living = base.create(new_name(1e9, os.getpid()), {'identity': identity()})
    try:
        status, output, _ = command('stacks', '2001')
        assert status == 1 and living.path.name in output
        other = base.create(new_name(1e9 + 1, os.getpid()), {'identity': identity()})
        status, output, errors = command('stacks', '2001')
        assert (status, output) == (2, '') and 'fits 2 runs: ' in errors
        other.abandon()
        status, _, errors = command('stacks', '-1')
        assert status == 2 and "The run '-1' is not alive." in errors
    finally:
        living.abandon()


# -- report without RUN ----------------------------------------------------------------------------


def test_a_report_without_run_says_what_it_is_about(base, command):
    archived(base, record(0))
    status, output, _ = command('report')
    assert status == 0 and output.startswith(
        'This report is about the current state: no incident.\n'
    )
    assert 'How the last run ended' in output
    (crashed,) = archived(base, record(1, 'crashed'))
    status, output, _ = command('report')
    assert status == 0 and output.startswith(
        f'This report is about the newest incident, {crashed}.\n'
    )
    assert 'What happened' in output and not command('report', crashed)[1].startswith('This')


def test_a_json_report_without_run_says_what_it_is_about(base, command):
    archived(base, record(0))
    report = json.loads(command('report', '--format', 'json')[1])
    assert report['about'] == {'kind': 'state', 'run': None}
    (crashed,) = archived(base, record(1, 'crashed'))
    report = json.loads(command('report', '--format', 'json')[1])
    assert report['about'] == {'kind': 'incident', 'run': crashed}
    assert report['incident']['verdict'] == 'crashed'


def test_a_report_while_the_first_process_lives_names_its_instance(base, command):
    instance = {'host': 'here', 'client_home': '/home', 'listen': ''}
    living = base.create(new_name(1e9, os.getpid()), {'identity': identity(), 'instance': instance})
    status, output, _ = command('report')
    assert status == 0 and 'Stability report of /home on here' in output
    living.abandon()
