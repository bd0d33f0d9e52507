"""What looks like a run and is none, and words that look like the name of a run and are none."""

import json
import shutil

import pytest
from support.commandline import archived
from support.syntheticruns import DeadRun
from support.syntheticruns import record

from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.store.archive import Archive

IMPOSSIBLE = (
    '99999999T999999Z-4242-abcd',
    '20260230T000000Z-17-abcd',
    '00000000T000000Z-1-abcd',
    '00010101T000000Z-12-abcd',
    '20260101T000000Z-0-abcd',
    '20260101T000000Z-9999999999-abcd',
)
#: Words of a command line or of a form that stand for a run.
HOSTILE_WORDS = (
    '9' * 5000,
    f'20260101T000000Z-{"9" * 5000}-abcd',
    f'-{"9" * 5000}',
    '٢٠٢٦٠١٠١T000000Z-1-abcd',
    '-١',
    'a\0b',
    '20260101T000000Z-1-abcd\n',
    '20260101T000000Z-1-\udcff',
    '..',
    '../archive',
    '/',
    '/etc/passwd',
    '',
    *IMPOSSIBLE,
)
COMMANDS = (
    ('status',),
    ('status', '--format', 'json'),
    ('history',),
    ('checks', '--all'),
    ('checks', '--json'),
    ('stacks',),
    ('show',),
    ('report',),
    ('report', '--format', 'json'),
    ('trace',),
)


@pytest.fixture(params=['empty', 'of a crash'])
def foreign(base, request):
    """Folders with impossible names in `runs` and in the archive, beside two real runs."""
    archived(base, record(0, 'hung'))
    crash = DeadRun(base.path, 1).crashed()
    for name in IMPOSSIBLE:
        for folder in (base.runs / name, base.archive / name.replace('abcd', 'abce')):
            if request.param == 'empty':
                folder.mkdir()
            else:
                shutil.copytree(crash.path, folder)
                context = json.loads((folder / 'context.json').read_text())
                del context['number']  # no two runs have the same
                (folder / 'context.json').write_text(json.dumps(context))
    return crash


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_folders_with_impossible_names_stop_no_command(base, command, foreign, words):
    status, output, errors = command(*words)
    if words == ('stacks',):
        assert (status, errors.split('.')[0]) == (
            2,
            'stabilitymonitor: No living process uses this data directory',
        )
    else:
        assert status in (0, 1) and output and not errors


@pytest.mark.parametrize('name', IMPOSSIBLE)
def test_a_folder_with_an_impossible_name_can_be_shown(command, foreign, name):
    for words in (('show', name), ('trace', name), ('report', name)):
        status, output, errors = command(*words)
        assert status in (0, 1) and 'unreadable' in output and not errors, words


def test_folders_with_impossible_names_are_never_the_newest(command, foreign):
    assert foreign.name in command('show')[1]
    assert 'GET' in command('trace')[1]
    _, output, _ = command('status')
    assert 'No process is running.' in output
    report = json.loads(command('report', '--format', 'json')[1])
    assert report['incident']['run'] == foreign.name
    assert report['sources']['process']['run'] == foreign.name


def test_triage_archives_folders_with_impossible_names_as_unreadable(base, command, foreign):
    status, output, errors = command('triage')
    assert (status, errors) == (1, '') and base.waiting() == []
    for name in IMPOSSIBLE:
        found = Archive(base).record(name)
        assert (found.verdict, found.requests, found.context) == ('unreadable', (), {})
        assert (
            found.summary.startswith('This is not a run') and f'{name}: {found.summary}' in output
        )
    assert Archive(base).record(foreign.name).verdict == 'crashed'
    assert command('triage')[0] == 0


def test_a_foreign_folder_is_kept_as_long_as_other_runs(base, command, foreign):
    command('triage')
    assert Archive(base).prune(keep_runs=99, keep_days=1, keep_bytes=1 << 40) > 0
    assert set(IMPOSSIBLE) <= {found.run for found in Archive(base).summaries()}


def test_a_file_or_link_with_the_name_of_a_run_is_said(base, command):
    first, second = '20260101T000000Z-1-abcd', '20260101T000001Z-1-abcd'
    (base.runs / first).write_text('')
    (base.runs / second).symlink_to(base.archive)
    (base.runs / 'lost+found').mkdir()
    for words in COMMANDS[:3]:
        assert command(*words)[0] == 0
    status, output, _ = command('checks')
    assert status == 1 and f'{first}, {second}' in output and 'lost+found' not in output
    assert command('triage')[0] == 0
    assert (base.runs / first).exists() and (base.runs / second).is_symlink()


@pytest.mark.parametrize('option', ['--directory', '--client-home'])
@pytest.mark.parametrize(
    'value', ['9' * 5000, 'a\0b', '\n', '\udcff', '..', '/', '٣', ''], ids=ascii
)
def test_a_hostile_directory_is_an_error_in_one_line(tmp_path, capfd, option, value, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ('CLIENT_HOME', 'INSTANCE_HOME', 'STABILITYMONITOR_DIRECTORY'):
        monkeypatch.delenv(variable, raising=False)
    assert cli.main([option, value, 'triage']) == 2
    output, errors = capfd.readouterr()
    assert (output, errors.count('\n')) == ('', 1) and 'Name the directory' in errors


@pytest.mark.parametrize('word', HOSTILE_WORDS, ids=lambda word: ascii(word[:24]))
@pytest.mark.parametrize('name', ['show', 'report', 'trace', 'stacks'])
def test_a_hostile_word_for_a_run_is_an_error_in_one_line(base, command, name, word):
    archived(base, record(0, 'hung'))
    try:
        status, output, errors = command(name, '--', word)
    except SystemExit as ended:  # argparse refuses it
        status, output, errors = ended.code, '', 'x\n'
    assert (status, output) == (2, '') and errors.count('\n') == 1
    assert len(errors) < 1000
