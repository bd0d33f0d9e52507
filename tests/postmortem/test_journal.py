"""The journal of systemd: recorded entries, printed by a program in the place of journalctl."""

import json
import stat
import sys

import pytest

from Products.StabilityMonitor.postmortem import journal
from Products.StabilityMonitor.postmortem.supervisorlogs import DeadProcess

END = 1_790_000_000.25
DEAD = DeadProcess(4711, END - 3600, END - 1, END + 60, parent=1)
INVOCATION = '0123456789abcdef' * 2
ENDED = '98e322203f7a4ed290d09fe03c09fe15'
OOMD = 'd989611b15e44c9dbf31e3c81256e4ed'


def entry(seconds=0.0, **fields):
    return {
        '__REALTIME_TIMESTAMP': str(int((END + seconds) * 1e6)),
        'MESSAGE_ID': ENDED,
        'MESSAGE': 'zope.service: Main process exited, code=killed, status=9/KILL',
        'EXIT_CODE': 'killed',
        'EXIT_STATUS': '9',
        'INVOCATION_ID': INVOCATION,
        '_PID': '1',
        '_UID': '0',
    } | fields


def seen(*entries, user=1000):
    return journal.of_unit(entries, DEAD, INVOCATION, user)


@pytest.mark.parametrize(
    'how, status, code, signal, core',
    [
        ('exited', '3', 3, None, False),
        ('killed', '9', None, 'SIGKILL', False),
        ('dumped', '11', None, 'SIGSEGV', True),
    ],
)
def test_an_entry_tells_the_status(how, status, code, signal, core):
    found = seen(entry(EXIT_CODE=how, EXIT_STATUS=status))
    assert (found.exit_code, found.signal, found.core_dumped) == (code, signal, core)
    assert (found.source, found.ended, found.time) == ('journal', END, DEAD.found)
    assert 'Main process exited' in found.fact


@pytest.mark.parametrize(
    'fields',
    [
        {'_PID': '4711'},  # forged by a process that may write into the journal
        {'INVOCATION_ID': 'f' * 32},
        {'seconds': -30},
        {'seconds': 90},
        {'EXIT_STATUS': None},
        {'EXIT_STATUS': 'x'},
        {'MESSAGE': 'zope.service: Control process exited, code=exited, status=1/FAILURE'},
        {'__REALTIME_TIMESTAMP': 7},
        {'MESSAGE_ID': 'f' * 32},
    ],
)
def test_other_entries_tell_nothing(fields):
    assert seen(entry(**fields)) is None


def test_the_systemd_of_the_same_user_is_trusted():
    of_user = {'INVOCATION_ID': None, 'USER_INVOCATION_ID': INVOCATION, '_PID': '900'}
    assert seen(entry(**of_user, _UID='1000')).signal == 'SIGKILL'
    assert seen(entry(**of_user, _UID='1001')) is None


def test_systemd_oomd_gives_the_cause_if_it_names_the_unit():
    words = 'systemd-oomd killed 3 process(es) in this unit.'
    oom = entry(-0.5, MESSAGE_ID=OOMD, MESSAGE=words)
    found = seen(oom, entry())
    assert (found.signal, found.cause) == ('SIGKILL', 'out-of-memory') and words in found.fact
    assert seen(oom | {'INVOCATION_ID': 'f' * 32}, entry()).cause == ''


# -- the program -----------------------------------------------------------------------------------


@pytest.fixture
def journalctl(tmp_path):
    """Return a function that writes a program that prints this and ends."""

    def write(code):
        path = tmp_path / 'journalctl'
        path.write_text(f'#!{sys.executable}\nimport sys, time\n{code}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def test_the_program_is_asked_for_the_invocation_and_its_lines_are_read(journalctl, tmp_path):
    asked = tmp_path / 'asked'
    lines = json.dumps(entry()) + '\n{"torn'
    program = journalctl(f'open({str(asked)!r}, "w").write("\\n".join(sys.argv))\nprint({lines!r})')
    assert journal.unit_entries(program, INVOCATION) == [entry()]
    words = asked.read_text().split('\n')
    assert f'INVOCATION_ID={INVOCATION}' in words and f'USER_INVOCATION_ID={INVOCATION}' in words
    assert f'MESSAGE_ID={ENDED}' in words and '--no-pager' in words


def test_what_a_service_has_logged_is_read_as_lines(journalctl):
    entries = [
        {'__REALTIME_TIMESTAMP': '1790000000250000', 'SYSLOG_IDENTIFIER': 'zope', '_PID': '7'}
        | {'MESSAGE': message}
        for message in ('one\ntwo', [111, 110], None)
    ]
    lines = '\n'.join(map(json.dumps, entries))
    program = journalctl(f'print({lines!r})\nassert "--since=@5" in sys.argv, sys.argv')
    assert journal.service_lines(program, INVOCATION, 5.2, 9) == [
        '2026-09-21T14:13:20.250Z zope[7]: one',
        '2026-09-21T14:13:20.250Z zope[7]: two',
    ]
    assert journal.service_lines(program, '--all', 5.2, 9) == []


def test_an_invocation_that_is_none_is_not_asked_for(journalctl):
    program = journalctl('print("{}")')
    for strange in ('', '--root=/', 'f' * 31, 'F' * 32, f'{"f" * 32}\n'):
        assert journal.unit_entries(program, strange) == []
    assert journal.unit_entries(program.with_name('missing'), INVOCATION) == []


def test_an_endless_output_is_cut_off_and_a_silent_program_is_ended(journalctl, monkeypatch):
    endless = journalctl('while True: print("[1]" * 1000)')
    assert journal.unit_entries(endless, INVOCATION) == []
    monkeypatch.setattr(journal, '_LONGEST', 0.3)
    silent = journalctl('time.sleep(600)')
    assert journal.unit_entries(silent, INVOCATION) == []


def test_lines_of_the_kernel_are_those_that_it_wrote_itself(journalctl):
    kernel = {'__REALTIME_TIMESTAMP': '5000000', 'MESSAGE': 'x', '_TRANSPORT': 'kernel'}
    lines = [kernel, kernel | {'_TRANSPORT': 'syslog'}, kernel | {'MESSAGE': [1, 2]}]
    program = journalctl(f'for line in {[json.dumps(x) for x in lines]!r}: print(line)')
    entries = journal.kernel_entries(program, 0, 10)
    assert list(journal.kernel_lines(entries)) == [(5.0, 'x')]
