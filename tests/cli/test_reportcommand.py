"""The command "report": formats, files, what a person writes, and what is shown meanwhile."""

import io
import json

import pytest
from support.commandline import archived
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.cli import outputfile
from Products.StabilityMonitor.cli import reportcommand
from Products.StabilityMonitor.cli import terminal
from Products.StabilityMonitor.knowledge.signedruns import SignedRuns
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting import renderers
from Products.StabilityMonitor.reporting.renderers import FORMATS
from Products.StabilityMonitor.store.archive import Archive


@pytest.fixture
def crashed(base):
    (run,) = archived(base, record(0, 'crashed', requests=(request(path='/secret-path'),)))
    return run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_format_is_that_of_the_ending_of_the_file(command, crashed, tmp_path):
    for name, begin in (('report.json', '{'), ('REPORT.JSON', '{'), ('report.txt', 'Zope crashed')):
        path = tmp_path / name
        assert command('report', '--out', str(path))[0] == 0
        assert path.read_text().startswith(begin), name
    plain = tmp_path / 'report'
    assert command('report', '--out', str(plain))[0] == 0
    assert plain.read_text().startswith('Zope crashed')
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
    monkeypatch.setattr(reportcommand, 'build', None)
    status, output, errors = command('report', '--out', str(path))
    assert (status, output, path.read_text()) == (2, '', 'old')
    assert errors == (
        f'stabilitymonitor: {path} exists. Name another file, or add --force to replace it.\n'
    )


def test_what_a_person_writes_is_in_it(command, crashed):
    words = ('--name', 'Ada', '--email', 'ada@example.org')
    words += ('--did', 'opened /a', '--expected', 'a page')
    status, output, _ = command('report', '--format', 'json', *words)
    assert json.loads(output)['reporter'] == {
        'name': 'Ada',
        'email': 'ada@example.org',
        'did': 'opened /a',
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


@pytest.mark.parametrize(
    ('error', 'status', 'words'),
    [
        (KeyboardInterrupt(), 130, 'Interrupted.'),
        (OSError(28, 'No space left on device'), 2, '[Errno 28] No space left on device.'),
        (PermissionError(13, 'no'), 2, '[Errno 13] no. Run this command as the user that'),
    ],
)
def test_what_stops_it_is_said_in_a_sentence_and_leaves_no_file(
    command, crashed, tmp_path, monkeypatch, error, status, words
):
    def fail(*given):
        raise error

    monkeypatch.setattr(reportcommand, 'render', fail)
    found, _, errors = command('report')
    assert found == status and errors.startswith(f'stabilitymonitor: {words}')
    monkeypatch.undo()
    monkeypatch.setattr(outputfile.os, 'replace', fail)
    assert command('report', '--out', str(tmp_path / 'report.html'))[0] == status
    assert not list(tmp_path.glob('*report.html*'))


def test_what_a_terminal_cannot_show_needs_a_file(command, crashed, monkeypatch):
    monkeypatch.setitem(FORMATS, 'zip', ('application/zip', 'zip', lambda report: b'PK'))
    monkeypatch.setattr(reportcommand.sys, 'stdout', Terminal())
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


# -- a signature -----------------------------------------------------------------------------------


@pytest.fixture
def crashes(base):
    """Three incidents of two faults: the names of the runs, the oldest first."""
    records = []
    for number, function in enumerate(('render', 'render', 'save')):
        frames = (Frame('/site/shop.py', 5 + number, function),)
        thread = ThreadState(1, frames=frames, crashed=True)
        page = request(path=f'/orders/{number}?token=abcdef0123456789')
        records.append(
            record(number, 'crashed', signal='SIGSEGV', threads=(thread,), requests=(page,))
        )
    return archived(base, *records)


def signature_id(base, run):
    archive = Archive(base)
    return SignedRuns(archive).of(archive.record(run)).id


def test_a_report_about_a_signature_has_all_its_incidents(base, command, crashes):
    first, second, _ = crashes
    name = signature_id(base, first)
    status, output, _ = command('report', '--signature', name, '--format', 'json')
    report = json.loads(output)
    assert status == 0
    assert report['about'] == {'kind': 'signature', 'run': second, 'signature': name}
    assert report['incident']['run'] == second
    found = report['signature']
    assert (found['id'], found['count'], found['weak']) == (name, 2, name.startswith('~'))
    assert [each['run'] for each in found['incidents']] == [second, first]
    assert found['signature'].endswith(f' {name}')
    assert found['first'] < found['last']


def test_secrets_are_taken_out_of_the_list_of_its_incidents(base, command, crashes):
    name = signature_id(base, crashes[0])
    output = command('report', '--signature', name, '--format', 'json')[1]
    assert '/orders/' in output and 'abcdef0123456789' not in output


def test_a_report_about_a_signature_says_so(base, command, crashes):
    name = signature_id(base, crashes[0])
    _, output, _ = command('report', '--signature', name.removeprefix('~'))
    assert output.startswith('This report is about the signature SIGSEGV shop:render ')
    assert f': 2 incidents, the newest of them {crashes[1]}.' in output.partition('\n')[0]


def test_an_unknown_signature_and_two_subjects_are_errors(command, crashes):
    status, output, errors = command('report', '--signature', 'feedc0ffee')
    assert (status, output) == (2, '') and 'history --by signature' in errors
    status, output, errors = command('report', crashes[0], '--signature', 'feedc0ffee')
    assert (status, output) == (2, '') and 'Leave out one of them.' in errors


def test_the_signing_of_old_incidents_is_shown(base, command, crashes, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(terminal.sys, 'stderr', screen)
    command('report', '--signature', 'feedc0ffee')
    assert 'Signing past incidents: 1 of 3 ...' in screen.getvalue()
