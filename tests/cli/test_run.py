"""The command `run`: its words, and what it leaves with the run of the process that it started."""

import json
import subprocess
import sys

import pytest
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import run_python
from support.commandline import process
from support.deaths import PID_1
from support.runcommand import RUN
from support.victims import Victim

from Products.StabilityMonitor import cli
from Products.StabilityMonitor.cli import run
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import Base

needs_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs Linux')


@pytest.mark.parametrize(
    'words, expected',
    [
        ('-- zope --debug', (['zope', '--debug'], '')),
        ('zope -- x', (['zope', '--', 'x'], '')),
        ('--termination-log /log -- zope', (['zope'], '/log')),
        ('--termination-log=/log zope', (['zope'], '/log')),
        ('-- --zope', (['--zope'], '')),
        ('', None),
        ('--', None),
        ('--help', None),
        ('--termination-log', None),
        ('--nonsense -- zope', None),
    ],
)
def test_the_words_are_read_without_a_parser(words, expected):
    assert run.parsed(words.split()) == expected


@pytest.mark.parametrize('words', [['run'], ['--directory', '/x', 'run', '--']])
def test_without_a_command_it_says_what_is_missing(words, capsys):
    assert cli.main(words) == 2
    assert 'stabilitymonitor run -- COMMAND ...' in capsys.readouterr().err


@needs_linux
def test_options_of_other_subcommands_do_no_harm():
    assert process('--directory', '/nowhere', 'run', '--', 'sh', '-c', 'exit 3').returncode == 3


@needs_linux
@pytest.mark.parametrize(
    'command, code',
    [(('sh', '-c', 'exit 3'), 3), (('sh', '-c', 'kill -9 $$'), -9), (('/nonexistent',), 127)],
)
def test_it_ends_the_same_way_if_nobody_can_be_told(command, code):
    with open('/dev/full', 'w') as full:
        assert subprocess.run([*RUN, *command], stderr=full, check=False).returncode == code


@needs_linux
def test_it_imports_little():
    """It stays for the whole life of Zope."""
    source = (
        'import sys; before = set(sys.modules);'
        'from Products.StabilityMonitor import cli; cli.main(["run", "--", "true"]);'
        'print(*sorted(set(sys.modules) - before))'
    )
    imported = set(run_python('-c', source).stdout.split())
    assert 'Products.StabilityMonitor.cli.run' in imported
    heavy = ('argparse', 'dataclasses', 'inspect', 'json', 'logging', 'pathlib', 're', 'typing')
    assert imported.isdisjoint(heavy)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / 'stability'


@pytest.fixture
def start(directory):
    """A function that starts an armed process under `run`."""
    started = []

    def start(way, *words, prefix=RUN):
        started.append(Victim(way, str(directory), *words, prefix=prefix))
        return started[-1].expect('ready')

    yield start
    for victim in started:
        victim.clean_up()


def witness(victim):
    (found,) = witnessfiles.of_run(victim.path)
    return found


def judged(victim):
    (record,) = triage(victim.base)
    return record.verdict, record.confidence, record.signal, record.exit_code


@needs_linux
class TestAnEnd:
    @pytest.mark.parametrize(
        'way, status, verdict',
        [
            ('os_exit', 5, ('exited', 'certain', None, 5)),
            ('c_exit', 5, ('exited', 'certain', None, 5)),
            ('execv', 6, ('exited', 'certain', None, 6)),
            ('segv', -11, ('crashed', 'certain', 'SIGSEGV', None)),
        ],
    )
    def test_its_status_is_left_with_the_run(self, start, way, status, verdict):
        victim = start(way).tell('go')
        assert victim.end() == status
        found = witness(victim)
        assert found.source == 'run' and found.ended <= found.time
        assert 'MiB of memory' in found.fact and 's of CPU time' in found.fact
        assert judged(victim) == verdict
        assert f'[{verdict[0]}, certain]' in victim.errors

    def test_a_signal_to_the_child_is_no_request(self, start):
        victim = start('kill_self', 'SIGKILL').tell('go')
        assert victim.end() == -9
        assert judged(victim) == ('killed', 'certain', 'SIGKILL', None)

    @pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
    def test_a_request_that_is_passed_on_makes_a_certain_stop(self, start, name):
        victim = start('wait').signal(name)
        victim.end()
        assert witness(victim).asked == name
        assert judged(victim)[:2] == ('stopped', 'certain')
        assert 'Next:' not in victim.errors

    def test_the_verdict_is_written_for_kubernetes(self, start, tmp_path):
        log = tmp_path / 'termination-log'
        log.write_text('older and longer ' * 999)
        victim = start('os_exit', prefix=(*RUN[:-1], '--termination-log', str(log), '--'))
        victim.tell('go')
        victim.end()
        verdict, step, name = log.read_text().splitlines()
        assert '[exited, certain]' in verdict and step.startswith('Next: ')
        assert name == f'Run: {victim.path.name}'

    def test_a_log_that_does_not_exist_is_not_made(self, start, tmp_path):
        log = tmp_path / 'termination-log'
        victim = start('os_exit', prefix=(*RUN[:-1], f'--termination-log={log}', '--')).tell('go')
        assert victim.end() == 5
        assert not log.exists() and '[exited, certain]' in victim.errors

    def test_a_process_that_did_not_tell_is_said_to_be_none_of_ours(self):
        done = process('run', '--', 'sh', '-c', 'exit 3')
        assert done.returncode == 3 and 'no run of this product was seen' in done.stderr
        assert process('run', '--', 'true').stderr == ''

    def test_the_status_of_a_shell_is_not_that_of_its_child(self, start):
        shell = (*RUN, 'sh', '-c', '"$@"; exit $?', 'sh')
        victim = start('os_exit', prefix=shell).tell('go')
        assert victim.end() == 5
        assert 'Zope ran in other processes' in victim.errors
        assert witnessfiles.of_run(victim.path) == ()


@needs_linux
@pytest.mark.root
class TestPid1:
    def test_a_request_from_outside_is_a_certain_stop(self, start):
        victim = start('wait', prefix=(*PID_1.prefix, *RUN))
        with open(f'/proc/{victim.pid}/task/{victim.pid}/children') as file:
            pid_1 = int(file.read())
        run_python('-c', f'import os; os.kill({pid_1}, 15)')
        assert victim.end() == 128 + 15
        assert witness(victim).asked == 'SIGTERM'
        assert judged(victim)[:2] == ('stopped', 'certain')

    def test_it_writes_the_termination_log(self, start, tmp_path):
        log = tmp_path / 'log'
        # The mount namespace of this process tree has its own /dev.
        script = (
            'mount -t tmpfs none /dev && : > /dev/termination-log && : > /dev/null && '
            f'touch {log} && mount --bind {log} /dev/termination-log && exec "$@"'
        )
        victim = start('os_exit', prefix=(*PID_1.prefix, 'sh', '-c', script, 'sh', *RUN))
        victim.tell('go')
        assert victim.end() == 5
        assert '[exited, certain]' in log.read_text()

    def test_an_orphan_with_a_run_has_its_status_recorded(self, directory, tmp_path):
        pipe = tmp_path / 'go'
        pipe.write_text('go\n')
        armed = f'{sys.executable} {PROGRAMS / "armed.py"} os_exit {directory} < {pipe}'
        # The inner shell ends at once, so the process becomes an orphan of pid 1.
        script = f"sh -c '{armed} & exit' ; read line"
        command = (*PID_1.prefix, *RUN, 'sh', '-c', script)
        with Victim('', str(directory), prefix=(*command, 'sh')) as shell:
            base = Base(directory)
            until(lambda: list(directory.glob('runs/2*/witness-run.json')), 'a witness')
            shell.tell('end')
            shell.end()
        (name,) = base.waiting()
        found = json.loads((base.runs / name / 'witness-run.json').read_text())
        assert found['exit_code'] == 5 and 'orphan' in found['fact']
