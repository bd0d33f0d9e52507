"""The command "report": formats, files, what a person writes, and what is shown meanwhile."""

import io
import json

import pytest
from support.commandline import archived
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.cli import report as clireport
from Products.StabilityMonitor.cli import terminal
from Products.StabilityMonitor.reporting import renderers
from Products.StabilityMonitor.reporting.renderers import FORMATS


@pytest.fixture
def crashed(base):
    (run,) = archived(base, record(0, 'crashed', requests=(request(path='/secret-path'),)))
    return run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_format_is_that_of_the_ending_of_the_file(command, crashed, tmp_path):
    for name, begin in (('report.json', '{'), ('REPORT.JSON', '{'), ('report.txt', 'Stab')):
        path = tmp_path / name
        assert command('report', '--out', str(path))[0] == 0
        assert path.read_text().startswith(begin), name
    plain = tmp_path / 'report'
    assert command('report', '--out', str(plain))[0] == 0
    assert plain.read_text().startswith('Stab')
    assert command('report', '--format', 'json', '--out', str(plain), '--force')[0] == 0
    assert json.loads(plain.read_text())['about'] == {'kind': 'incident', 'run': crashed}


@pytest.mark.parametrize('format', FORMATS)
def test_each_format_goes_to_standard_output_and_to_a_file(command, crashed, tmp_path, format):
    (tmp_path / 'folder').mkdir()
    for words in ((), ('--out', '-')):
        status, output, _ = command('report', crashed, '--format', 'text', *words)
        assert status == 0 and output
    status, output, errors = command(
        'report', crashed, '--format', format, '--out', str(tmp_path / 'folder')
    )
    _, extension, _ = FORMATS[format]
    path = tmp_path / 'folder' / f'stability-{crashed}.{extension}'
    assert (status, output) == (0, '') and path.read_bytes()
    assert errors.startswith(f'stabilitymonitor: The report about {crashed} is in {path} (')


def test_a_file_that_exists_stays_and_nothing_is_read_before(
    command, crashed, tmp_path, monkeypatch
):
    path = tmp_path / 'report.txt'
    path.write_text('old')
    monkeypatch.setattr(clireport, 'build', None)
    status, output, errors = command('report', '--out', str(path))
    assert (status, output, path.read_text()) == (2, '', 'old')
    assert errors == (
        f'stabilitymonitor: {path} exists. Name another file, or add --force to replace it.\n'
    )


def test_what_a_person_writes_is_in_it_as_written(command, crashed):
    words = ('--name', 'Ada', '--email', 'ada@example.org')
    words += ('--did', 'opened /a?token=abcdef0123456789', '--expected', 'a page')
    status, output, _ = command('report', '--format', 'json', *words)
    assert json.loads(output)['reporter'] == {
        'name': 'Ada',
        'email': 'ada@example.org',
        'did': 'opened /a?token=abcdef0123456789',
        'expected': 'a page',
    }


def test_a_part_can_be_left_out(command, crashed):
    whole = json.loads(command('report', '--format', 'json')[1])
    less = json.loads(
        command('report', '--format', 'json', '--without', 'requests', '--without', 'history')[1]
    )
    assert whole['incident']['requests'] and whole['history']
    assert less['incident']['requests'] == less['history'] == []
    assert set(whole['parts']) - set(less['parts']) == {'requests', 'history'}


def test_what_a_terminal_cannot_show_needs_a_file(command, crashed, monkeypatch):
    monkeypatch.setitem(FORMATS, 'zip', ('application/zip', 'zip', lambda report: b'PK'))
    monkeypatch.setattr(clireport.sys, 'stdout', Terminal())
    status, _, errors = command('report', '--format', 'zip')
    assert status == 2 and 'A terminal cannot show the format zip. Name a file' in errors


def test_other_commands_know_only_text_and_json(command, crashed, monkeypatch):
    monkeypatch.setitem(renderers.FORMATS, 'zip', ('application/zip', 'zip', lambda report: b'PK'))
    with pytest.raises(SystemExit):
        command('history', '--format', 'zip')


def test_what_is_done_is_shown_on_a_terminal_and_wiped(command, crashed, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(terminal.sys, 'stderr', screen)
    assert command('report', '--format', 'json')[0] == 0
    shown = screen.getvalue()
    assert 'Reading 1 past run and what belongs to them' in shown
    assert shown.endswith('\r\x1b[K')


def test_a_pipe_gets_no_progress(command, crashed):
    assert command('report', '--format', 'json')[2] == ''
