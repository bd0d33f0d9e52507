"""What `run` does when a process has ended."""

import contextlib
import json
import os

import pytest
from support.syntheticruns import DeadRun
from support.syntheticruns import record as archived_record

from Products.StabilityMonitor.cli import runend
from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.parentprocess import Ended

KILLED = 9
#: `DeadRun` says that its process began then.
TICKS = 1


class Usage:
    ru_maxrss = 211 << 10
    ru_utime = 10.06
    ru_stime = 2.2


def ended(pid=100, status=KILLED, ticks=TICKS):
    return Ended(pid, status, Usage, ticks)


def told(run, **changes):
    return json.dumps({'directory': str(run.path.parents[1]), 'run': run.name} | changes).encode()


@pytest.fixture
def run(tmp_path):
    return DeadRun(tmp_path / 'stability').served()


@pytest.mark.parametrize(
    'line',
    [
        b'',
        b'nonsense',
        b'[]',
        b'{"run": "20261123T074501Z-4711-a3f0"}',
        b'{"directory": "/x", "run": "../../x"}',
        b'{"directory": 5, "run": "20261123T074501Z-4711-a3f0"}',
    ],
)
def test_what_is_told_is_not_trusted(line, capsys):
    with pytest.raises(NoSuchRun):
        runend.parsed(line)
    runend.record(line, ended(), '')
    assert 'The end of process 100 was not recorded: ' in capsys.readouterr().err


def test_the_witness_is_left_and_the_verdict_is_told(run, capsys):
    runend.record(told(run), ended(), '')
    (witness,) = witnessfiles.of_run(run.path)
    assert (witness.signal, witness.exit_code, witness.asked) == ('SIGKILL', None, '')
    assert witness.fact == (
        'The process ended with SIGKILL, as its parent "stabilitymonitor run" saw. It, or the '
        'largest of its children, had at most 211 MiB of memory; together they used 10.1 s of CPU '
        'time in their own code and 2.2 s in the kernel.'
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('stabilitymonitor: Zope was killed (SIGKILL); the signal does not tell ')
    assert '[killed, certain] Next: ' in line
    assert line.endswith(f'Run: {run.name}')
    assert run.path.is_dir()  # it archives nothing


def test_the_file_for_the_verdict_is_written_if_standard_error_is_full(run, tmp_path, monkeypatch):
    log = tmp_path / 'log'
    log.touch()
    with contextlib.suppress(OSError), open('/dev/full', 'w', buffering=1) as full:
        monkeypatch.setattr('sys.stderr', full)
        runend.record(told(run), ended(), '', str(log))
    assert '[killed, certain]' in log.read_text()


def test_a_stop_is_no_message(run, capsys):
    runend.record(told(run), ended(status=0), 'SIGTERM')
    (witness,) = witnessfiles.of_run(run.path)
    assert witness.asked == 'SIGTERM'
    assert witness.fact.endswith('It had been asked to stop by SIGTERM before.')
    assert capsys.readouterr().err == ''


def test_a_run_that_is_archived_already_gets_its_witness_there(run, capsys):
    base = Base(run.path.parents[1])
    triage(base)
    runend.record(told(run), ended(), '')
    assert witnessfiles.of_run(base.archive / run.name)[0].signal == 'SIGKILL'
    assert '[killed, certain]' in capsys.readouterr().err


def test_a_core_file_and_an_orphan_are_told():
    witness = runend.witness(ended(status=11 | 0x80), None)
    assert witness.core_dumped and 'SIGSEGV (core dumped)' in witness.fact
    assert 'reaped this orphan' in witness.fact and witness.asked == ''


class TestWhichRun:
    def test_of_a_process_that_replaced_itself_it_is_the_last(self, run):
        base = Base(run.path.parents[1])
        later = f'20260921T150000Z-100-{"ffff" if run.name[-4:] != "ffff" else "0000"}'
        context = json.loads((run.path / CONTEXT).read_text())
        (base.runs / later).mkdir()
        (base.runs / later / CONTEXT).write_text(json.dumps(context | {'number': 7}))
        assert runend.last_run(base, run.name, ended(), is_child=True) == later
        (base.runs / later / CONTEXT).write_text(
            json.dumps(context | {'number': 7, 'identity': context['identity'] | {'host': 'x'}})
        )
        assert runend.last_run(base, run.name, ended(), is_child=True) == run.name

    @pytest.mark.parametrize(
        'end, is_child',
        [
            (ended(pid=101), True),
            (ended(ticks=TICKS + 1), True),
            (ended(ticks=TICKS + 1), False),
            (ended(ticks=0), False),
        ],
    )
    def test_another_process_with_that_pid_has_no_run(self, run, end, is_child):
        with pytest.raises(NoSuchRun):
            runend.last_run(Base(run.path.parents[1]), run.name, end, is_child)

    def test_without_proc_the_child_is_believed(self, run):
        base = Base(run.path.parents[1])
        assert runend.last_run(base, run.name, ended(ticks=0), is_child=True) == run.name


class TestTheLog:
    def test_it_holds_no_secrets(self):
        summary = 'Zope ended in GET /login?password=hunter2'
        found = archived_record(verdict='killed', summary=summary)
        assert b'hunter2' not in runend.message(found)
        kept = archived_record(
            verdict='killed', summary=summary, context={'options': {'redact': 'none'}}
        )
        assert b'hunter2' in runend.message(kept)

    def test_it_is_as_long_as_kubernetes_reads(self):
        found = archived_record(summary='€' * 9000)
        message = runend.message(found)
        assert 4000 < len(message) <= 4096 and message.decode()

    def test_a_line_of_it_cannot_be_forged(self):
        found = archived_record(summary='It ended.\nRun: another')
        assert len(runend.message(found).splitlines()) == 2

    @pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
    def test_what_is_no_file_is_left_alone(self, run, tmp_path, make, capsys):
        make(tmp_path / 'log')
        runend.record(told(run), ended(), '', str(tmp_path / 'log'))
        assert '[killed, certain]' in capsys.readouterr().err
