"""The command while Zope is down: its output, and its exit status: 0 well, 1 wrong, 2 unusable."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support.commandline import archived
from support.commandline import process
from support.syntheticruns import HERE
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record
from support.syntheticruns import request
from support.zopekit import CHECKOUT

from Products.StabilityMonitor import __version__
from Products.StabilityMonitor import cli
from Products.StabilityMonitor.cli import command as command_module
from Products.StabilityMonitor.knowledge import signedruns
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

# -- as a process ----------------------------------------------------------------------------------


def test_the_command_runs_without_zope_with_directory_or_client_home(base):
    DeadRun(base.path).crashed()
    done = process('--directory', str(base.path), 'triage')
    assert done.returncode == 1 and 'Segmentation fault' in done.stdout, done
    for where in (('--directory', str(base.path)), ('--client-home', str(base.path.parent))):
        done = process('status', *where)
        assert (done.returncode, done.stderr) == (1, '') and 'last run of' in done.stdout
    assert process('history', CLIENT_HOME=str(base.path.parent)).returncode == 0
    assert process('history', STABILITYMONITOR_DIRECTORY=str(base.path)).returncode == 0


@pytest.mark.parametrize(
    'words, sentence',
    [
        (
            ('status',),
            'No data directory was found. Name the directory with --directory',
        ),
        (
            ('--directory', '/nowhere', 'status'),
            '/nowhere is not a readable directory. Name the directory',
        ),
        (('--client-home', '/nowhere', 'checks'), '/nowhere/stability is not a readable directory'),
        ((), 'usage:'),
        (('dance',), 'invalid choice'),
        (('report', '--format', 'pdf'), 'invalid choice'),
    ],
)
def test_wrong_usage_gives_exit_status_2_and_a_sentence(words, sentence):
    done = process(*words)
    assert (done.returncode, done.stdout) == (2, '') and sentence in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('words', ['status', 'history'])
def test_a_reader_that_closes_the_pipe_early_is_not_an_error(base, words):
    archived(base, *(record(n) for n in range(300)))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, '-m', 'Products.StabilityMonitor', '--directory', base.path, words],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'PYTHONPATH': str(CHECKOUT), 'PYTHONUNBUFFERED': ''},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, '')


def test_the_version_is_printed():
    done = process('--version')
    assert (done.returncode, done.stdout) == (0, f'stabilitymonitor {__version__}\n')


@pytest.mark.parametrize('name', [None, *command_module._COMMANDS])
def test_each_help_has_a_sentence_and_an_example_that_is_valid(capsys, name):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, '--help'] if name else ['--help'])
    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert max(map(len, output.splitlines())) <= 80
    sentence = (command_module._COMMANDS[name] if name else command_module).__doc__
    assert ' '.join(sentence.split()[:4]) in ' '.join(output.split())
    _, _, example = ' '.join(output.split()).partition('Example: stabilitymonitor ')
    words, _, _ = example.partition(' > ')
    options = command_module._parser().parse_args(words.split())
    assert options.command == (name or 'status')


# -- JSON ------------------------------------------------------------------------------------------


def test_history_as_json_has_the_runs_newest_first(base, command):
    archived(base, record(0, 'crashed'), record(1))
    waiting = DeadRun(base.path, 9).crashed()
    status, output, _ = command('history', '--format', 'json')
    told = json.loads(output)
    assert (status, told['directory'], told['clean_scripts']) == (0, str(base.path), 0)
    found = [(run['verdict'], run['is_incident'], run['archived']) for run in told['runs']]
    assert found == [('crashed', True, False), ('stopped', False, True), ('crashed', True, True)]
    assert told['runs'][0]['run'] == waiting.name and 'samples' not in told['runs'][0]


def test_history_as_json_has_the_signatures_of_today(base, command, monkeypatch):
    served = {'signal': 'SIGSEGV', 'requests': (request(path='/orders/1'),)}
    archived(base, *(record(n, 'crashed', signature='old', **served) for n in range(3)))
    monkeypatch.setattr(signedruns, 'MOST_AT_ONCE', 2)
    told = json.loads(command('history', '--format', 'json')[1])
    newest, second, oldest = (run['signature'] for run in told['runs'])
    assert newest == second and newest.startswith('SIGSEGV /orders/* ')
    assert (oldest, told['unsigned']) == ('', 1)


def test_show_as_json_is_the_record_of_the_run(base, command):
    crashed, _ = archived(base, record(0, 'crashed'), record(1))
    status, output, _ = command('show', '--format', 'json')
    told = json.loads(output)
    assert (status, told['run'], told['verdict']) == (1, crashed, 'crashed')
    assert {*Archive(base).record(crashed).to_json(), 'seen_before'} == {*told}


def test_checks_has_the_same_spelling_for_json_and_keeps_the_old_one(base, command):
    new = json.loads(command('checks', '--format', 'json')[1])
    old = json.loads(command('checks', '--json')[1])
    assert new['subjects'] == old['subjects'] and new['subjects']


# -- status ----------------------------------------------------------------------------------------


def test_status_without_any_run_gives_exit_status_0(command):
    assert command('status') == (0, 'No run has been recorded here yet.\n', '')


def test_status_after_a_wanted_stop_gives_exit_status_0(base, command):
    archived(base, record(0, 'crashed'), record(1, 'stopped'))
    status, output, _ = command('status')
    assert (
        status == 0
        and f'last run of {HERE.label}: It ended: stopped. [stopped, certain] uptime 1 min'
        in output
    )


def test_status_after_an_incident_gives_exit_status_1(base, command):
    archived(base, record(0), record(1, 'hung'))
    assert command('status')[0] == 1


def test_status_judges_a_dead_run_that_is_not_archived(base, command):
    run = DeadRun(base.path).crashed()
    status, output, _ = command('status')
    assert (
        status == 1
        and f'dead, not yet archived: {run.name} [crashed, certain] (the next start of Zope '
        in output
        and f'last run of {HERE.label}: Zope crashed' in output
    )


def test_status_of_a_living_run_gives_exit_status_0(base, command):
    living = base.create(
        new_name(1e9, os.getpid()), {'identity': identity(), 'instance': {'host': 'here'}}
    )
    status, output, _ = command('status')
    assert status == 0 and f'running: pid {os.getpid()}, began 2001-09-09' in output
    living.abandon()


def test_status_begins_with_a_crash_loop(base, command):
    archived(base, *(record(n, 'crashed', after=n * 60) for n in range(3)))
    status, output, _ = command('status')
    assert status == 1 and output.startswith(f'CRASH LOOP: 3 incidents in a row: {HERE.label}')


# -- the others ------------------------------------------------------------------------------------


def test_history_lists_the_runs_newest_first(base, command):
    script = DeadRun(base.path, 9, 'script')
    archived(base, record(0, 'crashed', signal='SIGSEGV'), record(1))
    Archive(base).add(script.path, record(9, role='script', run=script.name))
    status, output, _ = command('history')
    lines = output.splitlines()
    titles, *rows = lines
    assert titles.split() == ['ended', 'verdict', 'signal', 'uptime', 'role', 'run']
    assert status == 0 and [line.split()[3] for line in rows[:2]] == ['stopped', 'crashed']
    assert 'SIGSEGV' in rows[1] and rows[2] == 'and 1 clean run of a script'
    for title in ('ended', 'verdict', 'uptime', 'role', 'run'):
        at = titles.index(title)
        assert rows[1][at - 1] == ' ' and rows[1][at] != ' ' if at else True, title


def test_show_gives_exit_status_1_only_for_an_incident(base, command):
    crashed, stopped = archived(base, record(0, 'crashed'), record(1))
    status, output, _ = command('show', crashed)
    assert status == 1 and output.startswith('It ended: crashed.\n')
    assert command('show', stopped)[0] == 0


@pytest.mark.parametrize(
    'words', [('show', 'nonsense'), ('show', '../../etc'), ('report', '20260921T160000Z-1-abcd')]
)
def test_an_unknown_run_gives_exit_status_2(base, command, words):
    archived(base, record(0))
    status, output, errors = command(*words)
    assert (status, output) == (2, '')
    assert errors == (
        f'stabilitymonitor: There is no archived run {words[1]!r}. '
        'List the runs with the command "history".\n'
    )


def test_report_has_the_last_incident_as_json_or_text(base, command, tmp_path):
    DeadRun(base.path).crashed()
    triage(base, world=quiet_world(tmp_path))
    status, output, _ = command('report', '--format', 'json')
    report = json.loads(output)
    assert status == 0 and report['previous']['verdict'] == 'crashed' and report['process'] is None
    assert report['instance'] == {
        'host': HERE.host,
        'client_home': HERE.client_home,
        'listen': HERE.listen,
    }
    assert 'What happened' in command('report', report['previous']['run'])[1]


def test_report_without_any_run_gives_exit_status_2(command):
    status, output, errors = command('report')
    assert (status, output) == (2, '') and 'No run has been archived here yet.' in errors


def test_trace_of_a_dead_run_is_the_same_before_and_after_triage(base, command, tmp_path):
    run = DeadRun(base.path).crashed()
    waiting = command('trace', run.name)
    triage(base, world=quiet_world(tmp_path))
    status, output, errors = command('trace', run.name)
    assert (status, output, errors) == waiting and (status, errors) == (0, '')
    lines = output.splitlines()
    assert [line[0] for line in lines] == list('UBAEN') and lines[0].endswith(f' {run.name}')
    assert lines[1].endswith(' GET /served') and lines[-1].endswith(
        ' the process ended: crashed, certain'
    )


def test_trace_without_a_run_shows_the_newest_one(base, command):
    archived(base, record(0), record(1))
    last = DeadRun(base.path, 2).crashed()
    status, output, _ = command('trace')
    assert status == 0 and output.splitlines()[0].endswith(f' {last.name}')


@pytest.mark.parametrize(
    'words, sentence',
    [
        ((), 'No run has been recorded here yet.'),
        (('nonsense',), "There is no archived run 'nonsense'."),
        (('20260921T160000Z-1-abcd',), "There is no archived run '20260921T160000Z-1-abcd'."),
    ],
)
def test_trace_of_an_unknown_run_is_an_error(command, words, sentence):
    status, output, errors = command('trace', *words)
    assert (status, output) == (2, '')
    assert errors == f'stabilitymonitor: {sentence} List the runs with the command "history".\n'


def test_triage_prints_what_it_judged(base, command):
    assert command('triage') == (0, 'There was nothing to judge.\n', '')
    DeadRun(base.path, 0).served().marked('SIGTERM', b'Stack (most recent call first):\n')
    assert command('triage')[0] == 0
    run = DeadRun(base.path, 1).crashed()
    status, output, _ = command('triage')
    assert (
        status == 1
        and output.startswith(f'{run.name}: Zope crashed')
        and '[crashed, certain]' in output
    )


def test_triage_that_fails_says_what_to_do(base, command, monkeypatch):
    run = DeadRun(base.path).crashed()
    monkeypatch.setattr(
        Archive, 'add', lambda *args: (_ for _ in ()).throw(PermissionError(13, 'not allowed'))
    )
    status, _, errors = command('triage')
    assert status == 2 and errors.startswith(f'{run.name} could not be archived: ')
    assert 'as the user that Zope runs as' in errors


def test_checks_reports_a_dead_run_and_a_run_without_a_black_box(base, command):
    assert command('checks') == (0, 'No problem was found in the data directory.\n', '')
    DeadRun(base.path)
    living = base.create(new_name(1e9, os.getpid()), {'identity': identity()})
    status, output, _ = command('checks')
    assert (
        status == 1
        and '1 dead run waits' in output
        and f'The run {living.path.name} has no black box' in output
    )
    living.abandon()


def test_control_characters_in_a_record_never_reach_the_terminal(base, command):
    (run,) = archived(
        base,
        record(
            0,
            'crashed',
            summary='\x1b[2Jboo',
            signal='\x1b',
            requests=(request(path='/\x1b', phase='\x1b', seconds=1.0),),
        ),
    )
    for words in (('status',), ('history',), ('show', run), ('report', run)):
        assert '\x1b' not in command(*words)[1]


def test_the_report_of_a_crashed_script_is_about_the_server_of_the_same_client_home(base, command):
    """A script listens on no address, so alone it would be another instance, without history."""
    script = replace(record(2, 'crashed'), role='script', instance=replace(HERE, listen=''))
    server, _ = archived(base, record(1, 'stopped'), script)
    status, output, _ = command('report', '--format', 'json')
    document = json.loads(output)
    assert (status, document['instance']['listen']) == (0, HERE.listen)
    assert document['previous']['run'] == server
    assert document['incident']['role'] == 'script'
