"""The command "checks" with living processes, with processes that do not answer, and while Zope is
down.
"""

import grp
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import date
from datetime import timedelta
from pathlib import Path

import pytest
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.syntheticruns import HERE
from support.syntheticruns import DeadRun
from support.syntheticruns import record
from support.zopekit import ZopeInstance

from Products.StabilityMonitor.checks import allfindings
from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.inspection import liveness
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.store.runmailbox import Inbox
from Products.StabilityMonitor.system.processidentity import identity

MOMENT = 1_795_400_000.0
SOON = (date.today() + timedelta(30)).isoformat()


@pytest.fixture
def base(tmp_path, monkeypatch):
    for name in ('CLIENT_HOME', 'STABILITYMONITOR_DIRECTORY'):
        monkeypatch.delenv(name, raising=False)
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


@pytest.fixture
def command(base, capsysbinary):
    """A function that runs the command on `base` and returns (exit status, output, errors)."""

    def run(*words):
        status = cli.main(['--directory', str(base.path), 'checks', *words])
        return status, *(text.decode() for text in capsysbinary.readouterr())

    return run


def finding(id='a', severity='warning', **values):
    return {
        'id': id,
        'severity': severity,
        'title': f'It is {id}.',
        'detail': 'Why.',
        'action': 'Mend it.',
        'source': 'a test',
        **values,
    }


def word(*findings, **values):
    return {
        'time': isotime(MOMENT),
        'when': isotime(MOMENT),
        'took': 0.05,
        'running': False,
        'error': '',
        'checks': list(findings),
        **values,
    }


class Living:
    """A run of this process, whose heartbeat is a thread of the test.

    It gives its `answers` one after the other.
    """

    def __init__(self, base, *answers, role='server'):
        self.directory = base.create(
            new_name(1e9, os.getpid()),
            {'identity': identity(), 'role': role, 'instance': to_json(HERE)},
        )
        self.path, self.answers, self.asked = self.directory.path, list(answers), 0
        (self.path / BLACKBOX).write_bytes(b'')
        self.over, self.thread = threading.Event(), None
        if answers:
            self.inbox = Inbox(self.path, {'checks': self.answer})
            self.thread = threading.Thread(target=self.beat)
            self.thread.start()

    def answer(self):
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]

    def beat(self):
        while not self.over.wait(0.01):
            self.inbox.listen()

    def end(self):
        self.over.set()
        if self.thread:
            self.thread.join()
        self.directory.abandon()


@pytest.fixture
def living(base):
    made = []

    def make(*answers, **values):
        made.append(Living(base, *answers, **values))
        return made[-1]

    yield make
    for each in made:
        each.end()


# -- a living process ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'findings, status, count',
    [
        ((finding('a', 'ok'),), 0, '= 1 fine'),
        ((finding('a', 'info'), finding('b', 'ok')), 0, '= 1 for information, 1 fine'),
        ((finding('a'), finding('b')), 1, '= 2 warnings'),
        ((finding('a', 'critical'), finding('b')), 1, '= 1 critical, 1 warning'),
    ],
)
def test_the_worst_finding_decides_the_exit_status(living, command, findings, status, count):
    living(word(*findings))
    found, output, _ = command()
    assert found == status and output.endswith(f'{count}\n')
    assert (
        output.startswith(f'Process {os.getpid()} (run ')
        and 'checked 2026-11-23' in output.splitlines()[0]
    )


def test_the_command_waits_for_checks_that_are_running(living, command):
    run = living(word(running=True), word(running=True), word(finding('late')))
    status, output, _ = command()
    assert status == 1 and 'It is late.' in output and run.asked == 3


def test_the_worst_finding_comes_first_with_its_action(living, command):
    living(word(finding('a', 'info'), finding('b', 'critical')))
    lines = command()[1].splitlines()
    assert lines[1:4] == ['[critical] It is b.', '    Why.', '    -> Mend it.']


def test_fine_checks_are_shown_only_with_all(living, command):
    living(word(finding('a', 'ok'), finding('b', 'info')))
    assert '[ok] It is a. Why.' not in command()[1]
    assert '[ok] It is a. Why.' in command('--all')[1]


def test_muted_findings_are_counted_but_do_not_change_the_exit_status(base, living, command):
    MuteList(base.path, HERE.label).mute('a', 'It is wanted.', SOON, 'ada', 'warning')
    MuteList(base.path, 'another instance').mute('b', 'It is wanted there.', SOON, 'ada', 'warning')
    living(word(finding('a'), finding('b', 'info')))
    status, output, _ = command()
    assert (
        status == 0
        and 'It is a.' not in output
        and output.endswith('= 1 for information, 1 muted\n')
    )
    assert f'It is a. (muted until {SOON} by ada: It is wanted.)' in command('--all')[1]


def test_a_muted_finding_that_became_worse_counts(base, living, command):
    MuteList(base.path, HERE.label).mute('a', 'It is wanted.', SOON, 'ada', 'warning')
    living(word(finding('a', 'critical')))
    assert command()[0] == 1


def test_json_has_the_findings_of_each_subject(living, command):
    living(word(finding('a')))
    status, output, _ = command('--json')
    of_directory, subject = json.loads(output)['subjects']
    assert (
        status == 1
        and subject['checks'] == [finding('a')]
        and subject['now']
        and of_directory['checks'] == []
    )


def test_every_server_but_no_script_is_asked(living, command):
    living(word(finding('a', 'ok')))
    living(word(finding('b')))
    living(role='script')
    status, output, _ = command()
    assert status == 1 and output.count('Process ') == 2


def test_control_characters_in_findings_never_reach_the_terminal(living, command):
    living(word(finding('\x1b[2J', title='\x1b[2Jboo', detail='\n\x1b', action='\r')))
    assert '\x1b' not in command()[1] and '\r' not in command('--all')[1]


@pytest.mark.parametrize('answer', [{}, {'checks': 7}, {'checks': 'x'}, {'checks': None}])
def test_an_answer_without_a_list_of_checks_is_a_warning(living, command, answer):
    living(answer)
    status, output, _ = command()
    assert (
        status == 1
        and 'reports no results of its checks. It does not know this mailbox request.' in output
    )


def test_invalid_rows_in_an_answer_are_ignored(living, command):
    living(word('x', None, {'severity': 'loud'}, finding('a', 'ok'), when=5, took='long'))
    status, output, _ = command()
    assert status == 0 and '= 1 fine' in output


def test_checks_that_could_not_run_are_a_warning(living, command):
    living(word(error='The checks could not be run: OSError: x.'))
    status, output, _ = command()
    assert status == 1 and '[warning] The checks could not be run: OSError: x.' in output


# -- a process that does not answer ----------------------------------------------------------------


def test_a_process_that_does_not_answer_is_shown_with_its_last_results(living, command):
    run = living()
    (run.path / allfindings.LAST_WORD).write_text(json.dumps(word(finding('a', 'ok'))))
    status, output, _ = command()
    assert status == 1 and output.splitlines()[0].endswith('as of 2026-11-23 02:13:20 UTC:')
    assert 'reports no results of its checks. This run has no mailbox.' in output
    assert '-> See what it does with "stabilitymonitor stacks".' in output


def test_a_process_that_does_not_answer_and_left_no_results_is_a_warning(living, command):
    living()
    status, output, _ = command()
    assert status == 1 and 'has no mailbox' in output


@pytest.mark.parametrize(
    'age, status, words',
    [
        (100.0, 0, 'These results are from '),
        (3.5 * allfindings.RENEWED, 1, 'has reported no results of its checks since '),
    ],
)
def test_a_user_without_permission_to_ask_sees_the_last_results(
    living, command, monkeypatch, age, status, words
):
    def refused(*args):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(cli.clichecks.runmailbox, 'ask', refused)
    run, when = living(), isotime(time.time() - age)
    (run.path / allfindings.LAST_WORD).write_text(
        json.dumps(word(finding('a', 'info'), finding('b', 'ok'), when=when))
    )
    found, output, _ = command()
    assert (
        found == status
        and words in output
        and 'It is a.' in output
        and ', as of ' in output.splitlines()[0]
    )
    (run.path / allfindings.LAST_WORD).write_text(json.dumps(word(finding('a'), when=when)))
    assert command()[0] == 1


def test_what_is_known_of_a_process_that_does_not_answer_is_reported(living, command, monkeypatch):
    run = living()
    hang = liveness.Hang('silent', time.time() - 60, 'The heartbeat has been silent for 60 s.')
    pulse = liveness.Pulse(run.path.name, os.getpid(), 'hanging', hang)
    monkeypatch.setattr(cli.clichecks.liveness, 'look', lambda path, context: pulse)
    monkeypatch.setattr(cli.clichecks.outside, 'descriptors', lambda pid: (79, 80))
    monkeypatch.setattr(cli.clichecks, 'is_alive', lambda path: True)
    status, output, errors = command()
    assert (status, errors) == (1, '')
    assert f'[critical] Process {os.getpid()} hangs; this began at ' in output
    assert 'The heartbeat has been silent for 60 s.' in output
    assert f'Process {os.getpid()} has 79 of 80 descriptors in use.' in output


def test_no_results_long_after_the_start_are_a_warning(living, command, monkeypatch):
    def refused(*args):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(cli.clichecks.runmailbox, 'ask', refused)
    living()  # its name says that it began in 2001
    status, output, _ = command()
    assert status == 1 and 'has reported no results of its checks since 2001-' in output


# -- when Zope is down -----------------------------------------------------------------------------


def test_the_last_results_of_a_run_that_waits_for_triage_are_shown(base, command):
    run = DeadRun(base.path)
    (run.path / allfindings.LAST_WORD).write_text(json.dumps(word(finding('a', 'info'))))
    status, output, _ = command()
    assert (
        status == 1
        and '1 dead run waits to be archived.' in output
        and '-> Run "stabilitymonitor triage"' in output
    )
    assert (
        f'{HERE.label}, which is down (run {run.name}), as of 2026-11-23' in output
        and 'It is a.' in output
    )


def archived(base, number, *findings, **values):
    found = record(number, **values)
    path = base.runs / found.run
    path.mkdir()
    (path / 'context.json').write_text(
        json.dumps(
            {
                'instance': to_json(found.instance),
                'role': 'server',
                'executable': values.get('executable', ''),
            }
        )
    )
    (path / allfindings.LAST_WORD).write_text(json.dumps(word(*findings)))
    Archive(base).add(path, found)
    return found


def test_the_last_results_of_each_instance_are_shown_after_triage(base, command):
    archived(base, 0, finding('old'))
    archived(base, 1, finding('a', 'info'))
    other = replace(HERE, listen='127.0.0.1:99')
    archived(base, 2, finding('b', 'ok'), instance=other)
    status, output, _ = command()
    assert (
        status == 0
        and 'It is a.' in output
        and 'It is old.' not in output
        and other.label in output
    )


def test_mutes_of_today_apply_to_last_results(base, command):
    archived(base, 0, finding('a'))
    assert command()[0] == 1
    MuteList(base.path, HERE.label).mute('a', 'It is wanted.', SOON, 'ada', 'warning')
    assert command()[0] == 0


def test_a_damaged_list_of_mutes_is_a_warning(base, command):
    archived(base, 0, finding('a', 'ok'))
    (base.path / 'muted.json').write_text('[')
    status, output, _ = command()
    assert status == 1 and 'The list of muted findings is damaged' in output


@pytest.mark.parametrize(
    'text', ['', '[', '[]', '{"checks": {"a": 1}}', '{"checks": [[]], "when": [], "took": {}}']
)
def test_damaged_last_results_count_as_none(base, command, text):
    found = archived(base, 0, finding('a'))
    (base.archive / found.run / allfindings.LAST_WORD).write_text(text)
    status, output, _ = command()
    assert status == 0 and 'Traceback' not in output


def test_known_issues_of_what_is_installed_now_replace_the_recorded_ones(base, command):
    pytest.importorskip('packaging')
    (base.path / 'known-issues.toml').write_text(
        '[[issue]]\nid = "mine"\ntitle = "Mine"\nhappens = "It crashes."\neffect = '
        '"crash"\nseverity = "critical"\n'
        'action = "zope.interface >= 99"\nsource = "x"\nfixed = "99"\ndistributions = '
        '{"zope.interface" = "<99"}\n'
    )
    found = archived(base, 0, finding('known-issues:solved', 'critical', check='known-issues'))
    assert (
        'It is known-issues:solved.' in command()[1]
    )  # with another Python, what is installed now is not known
    context = base.archive / found.run / 'context.json'
    context.write_text(json.dumps(json.loads(context.read_text()) | {'executable': sys.executable}))
    status, output, _ = command()
    assert status == 1 and 'known-issues:solved' not in output and '[critical] Mine.' in output
    assert f'What is installed for {sys.executable}, checked ' in output


def test_a_directory_that_is_not_writable_is_a_warning_only_for_its_owner(
    base, command, monkeypatch
):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(os, 'geteuid', lambda: base.path.stat().st_uid)
    status, output, _ = command()
    assert status == 1 and f'-> Make {base.path} writable for the user that Zope runs as.' in output
    monkeypatch.setattr(os, 'geteuid', lambda: base.path.stat().st_uid + 1)
    status, output, _ = command()
    assert status == 0 and 'run this as the user that Zope runs as' in output


# -- the probe -------------------------------------------------------------------------------------


def test_the_probe_uses_stack_size_and_recursion_limit_of_the_site(base, living, command):
    run = living(word(finding('a', 'ok')))
    context = json.loads((run.path / 'context.json').read_text())
    (run.path / 'context.json').write_text(
        json.dumps(
            context
            | {
                'thread_stack': [256 << 10, 4096],
                'recursion_limit': 1000,
                'executable': sys.executable,
            }
        )
    )
    status, output, errors = command('--probe')
    assert (
        'trying 256 KiB' in errors
        and 'With a recursion limit of 1000 and 256 KiB of stack' in output
    )
    if sys.version_info >= (3, 14):  # raises RecursionError before the end of any stack
        assert status == 0 and 'A deep recursion ends with RecursionError.' in output
    else:
        assert status == 1 and '[critical] A deep recursion kills this process' in output
        assert '-> Write "thread-stack-size ' in output


def test_a_probe_that_fails_is_a_warning(base, living, command):
    run = living(word(finding('a', 'ok')))
    context = json.loads((run.path / 'context.json').read_text())
    (run.path / 'context.json').write_text(json.dumps(context | {'thread_stack': ['much']}))
    status, output, _ = command('--probe')
    assert status == 1 and '[warning] The recursion probe gave no answer.' in output


# -- a real Zope -----------------------------------------------------------------------------------


def ask(zope, *words):
    return run_python(*COMMAND, '--directory', zope.stability, 'checks', *words)


@pytest.mark.zope
def test_checks_shows_a_real_site_that_answers_is_stopped_or_is_dead(make_zope):
    zope = make_zope().start()
    done = ask(zope)
    assert done.returncode == 1 and done.stdout.startswith(f'Process {zope.pid} '), done
    assert '[warning] Nothing restarts this process when it dies.' in done.stdout
    assert '[ok] The databases are durable.' in ask(zope, '--all').stdout
    count = mute_all(zope)
    done = ask(zope)
    assert (done.returncode, done.stderr) == (0, '') and f'{count} muted' in done.stdout, done
    zope.kill(signal.SIGSTOP)
    done = ask(zope)
    assert (
        done.returncode == 1
        and 'has not answered within' in done.stdout
        and ', as of ' in done.stdout
    ), done
    zope.kill(signal.SIGCONT)
    zope.kill()
    zope.wait_exit()
    done = ask(zope)
    assert (
        done.returncode == 1
        and '1 dead run waits' in done.stdout
        and 'which is down' in done.stdout
    ), done


def mute_all(zope):
    """Mute all findings of severity warning or worse, and return their number."""
    muted = MuteList(zope.stability, label(zope), 0o640)
    told = json.loads(ask(zope, '--json').stdout)['subjects'][-1]['checks']
    pressing = [row for row in told if row['severity'] in ('warning', 'critical')]
    for row in pressing:
        muted.mute(row['id'], 'A test.', SOON, 'ada', row['severity'])
    return len(pressing)


NOBODY = 65534


@pytest.fixture
def open_place():
    """A folder that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix='checks-'))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_member(gid, words):
    """(exit status, output) of the command, run by a user who is only a member of that group."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(writing, 1)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(NOBODY)
            with open(1, 'w', closefd=False) as sys.stdout:
                status = cli.main(words)
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as file:
        output = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output


@pytest.mark.zope
@pytest.mark.root
def test_a_member_of_the_group_can_check_a_real_site(open_place, capfd):
    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, NOBODY))
    zope = ZopeInstance(open_place / 'site', options={'group': group.gr_name})
    with zope:
        mute_all(zope)
        words = ['--directory', str(zope.stability), 'checks']
        assert cli.main(words) == 0  # run as root, and import everything
        status, output = as_member(group.gr_gid, words)
        assert (
            status == 0 and f'Process {zope.pid} ' in output and 'These results are from ' in output
        ), output
        MuteList(zope.stability, label(zope), 0o640).unmute('supervisor')
        status, output = as_member(group.gr_gid, words)
        assert status == 1 and '[warning] Nothing restarts this process when it dies.' in output, (
            output
        )


def label(zope):
    from Products.StabilityMonitor.model.records import Instance

    return Instance(**zope.report()['instance']).label
