"""The logs of others are asked about dead runs: recorded worlds, and logs that must do no harm."""

import json
import os
import sys
import time
from dataclasses import replace

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.postmortem import witnesslogs
from Products.StabilityMonitor.postmortem.manualtriage import by_hand
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

FIRST = 'pid:[4026531836]'
INVOCATION = 'ab' * 16


class Dead:
    """A run that vanished, judged in `world`; `ask` asks the witnesslogs."""

    def __init__(self, tmp_path):
        self.base = Base(tmp_path / 'stability')
        self.world = replace(
            quiet_world(tmp_path),
            kernel_files=(tmp_path / 'kern.log',),
            journalctl=tmp_path / 'journalctl',
        )
        boot = self.world.proc / 'sys/kernel/random/boot_id'
        boot.parent.mkdir(parents=True)
        boot.write_text('boot-1\n')
        self.log = tmp_path / 'zdaemon.log'
        self.run = DeadRun(
            tmp_path / 'stability',
            monotonic=1000.0,
            supervisor='zdaemon',
            supervisor_log={'kind': 'zdaemon', 'path': str(self.log)},
            parent=1,
        ).served()
        self.move(FIRST)
        self.ended = self.run.started + 5
        self.errors = []

    def move(self, namespace):
        gone = {'pid': 100, 'start_ticks': 1, 'boot_id': 'boot-1', 'pid_namespace': namespace}
        self.run.change(identity=identity() | gone)

    def line(self, words, after=0.0):
        at = time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(self.ended + after))
        return f'{at} INFO root {words}\n'

    def ask(self):
        (record,) = triage.triage(self.base, world=self.world)
        witnesslogs.ask(self.base, [record], lambda *error: self.errors.append(error), self.world)
        return Archive(self.base).record(self.run.name)


@pytest.fixture
def dead(tmp_path):
    return Dead(tmp_path)


def test_a_vanished_run_becomes_killed(dead):
    dead.log.write_text(dead.line('pid 100: terminated by SIGKILL'))
    record = dead.ask()
    assert (record.verdict, record.confidence, record.signal) == ('killed', 'certain', 'SIGKILL')
    assert any('pid 100: terminated by SIGKILL' in item.fact for item in record.evidence)
    assert dead.errors == []


def test_only_the_last_run_of_a_process_ended_with_it(dead):
    """The process replaced itself (os.execv), so both runs have its pid."""
    context = json.loads((dead.run.path / 'context.json').read_text())
    name = new_name(dead.run.started + 30, 100)
    dead.base.create(name, context | {'role': 'server'}).abandon()
    dead.log.write_text(dead.line('pid 100: terminated by SIGKILL', 60))
    first, last = triage.triage(dead.base, world=dead.world)
    witnesslogs.ask(dead.base, [first, last], lambda *error: None, dead.world)
    assert Archive(dead.base).record(first.run).verdict == 'vanished'
    assert witnessfiles.of_run(dead.base.archive / last.run)


def test_the_option_wins_over_what_was_found(dead, tmp_path):
    dead.log.write_text(dead.line('pid 100: exit status 4'))
    other = tmp_path / 'other.log'
    other.write_text(dead.line('pid 100: exit status 3'))
    dead.run.change(options={'supervisor-log': str(other)}, supervisor='')
    assert dead.ask().exit_code == 3


def test_the_log_that_was_rotated_meanwhile_is_read_too(dead):
    dead.log.with_name('zdaemon.log.1').write_text(
        dead.line('spawned process pid=100', -10) + dead.line('pid 100: exit status 3')
    )
    dead.log.write_text(dead.line('spawned process pid=101', 2))
    assert dead.ask().exit_code == 3


def test_what_the_context_names_does_no_harm(dead, tmp_path):
    target = tmp_path / 'target'
    target.write_text(dead.line('pid 100: exit status 3'))
    os.mkfifo(tmp_path / 'fifo')
    os.symlink(target, tmp_path / 'link')
    with open(tmp_path / 'huge', 'wb') as huge:
        huge.truncate(1 << 40)
    names = [str(tmp_path / name) for name in ('fifo', 'link', 'huge', 'missing')]
    for path in (*names, '/dev/zero', str(tmp_path), 'relative', '', 'a\0b', '/a\0b', 7, None):
        dead.run.change(supervisor_log={'kind': 'zdaemon', 'path': path})
        question = triage.examine(dead.run.path, dead.world)
        witnesslogs.ask(dead.base, [question], lambda *error: dead.errors.append(error), dead.world)
    dead.run.change(supervisor_log='x', outputs=[], options={'supervisor-log': 7})
    assert dead.ask().verdict == 'vanished' and dead.errors == []


def test_a_source_that_fails_does_not_stop_the_others(dead, monkeypatch):
    def fail(path):
        raise ValueError('the reason')

    monkeypatch.setattr(witnesslogs, 'end_of_log', fail)
    dead.world.kernel_log.write_text(f'4,2,1006000000,-;{_segv(100)}\n')
    record = dead.ask()
    assert [(name, str(error)) for name, error in dead.errors] == [('supervisor', 'the reason')]
    assert record.verdict == 'crashed'


def test_a_run_that_is_gone_is_no_error(dead):
    (record,) = triage.triage(dead.base, world=dead.world)
    dead.log.write_text(dead.line('pid 100: exit status 3'))
    errors = []
    gone = replace(record, run=record.run[:-4] + 'ffff')
    witnesslogs.ask(dead.base, [gone], lambda *error: errors.append(error), dead.world)
    assert errors == []
    with pytest.raises(NoSuchRun):
        Archive(dead.base).record(gone.run)


def test_a_witness_that_has_spoken_is_not_asked_again(dead):
    dead.log.write_text(dead.line('pid 100: exit status 3'))
    record = dead.ask()
    dead.log.write_text(dead.line('pid 100: exit status 4'))
    witnesslogs.ask(dead.base, [record], print, dead.world)
    assert Archive(dead.base).record(dead.run.name).exit_code == 3


# -- the kernel ------------------------------------------------------------------------------------


def _segv(ident):
    return f'python3[{ident}]: segfault at 0 ip 0000 sp 0000 error 4 in libc.so.6[1,2+3]'


def kernel(dead, ident=100, seconds=1006.0):
    dead.world.kernel_log.write_text(f'4,2,{int(seconds * 1e6)},-;{_segv(ident)}\n')
    return dead.ask()


def test_the_kernel_tells_a_fault_of_a_run_without_a_stack(dead):
    record = kernel(dead)
    assert (record.verdict, record.confidence, record.signal) == ('crashed', 'certain', 'SIGSEGV')
    assert _segv(100) in record.evidence[-1].fact


def test_what_the_kernel_logs_after_a_run_was_found_dead_is_not_of_it(dead):
    dead.world = replace(dead.world, now=dead.ended + 60)  # the monotonic time is 1066 then
    assert kernel(dead, seconds=1100.0).verdict == 'vanished'


def test_a_line_of_the_kernel_long_after_the_last_sign_of_life_is_not_joined(dead):
    dead.world = replace(dead.world, now=dead.ended + 3 * 86400)
    assert kernel(dead, seconds=1006.0 + 3600).verdict == 'vanished'


def test_ids_of_another_namespace_are_not_joined(dead):
    dead.move('pid:[4026532000]')
    assert kernel(dead).verdict == 'vanished'


def test_a_run_whose_namespace_is_not_known_is_not_joined(dead):
    dead.move('')
    assert kernel(dead).verdict == 'vanished'


def test_a_fault_of_another_boot_thread_or_time_is_not_joined(dead):
    assert kernel(dead, seconds=900.0).verdict == 'vanished'
    record = Archive(dead.base).record(dead.run.name)
    dead.world.kernel_log.write_text(f'4,2,1006000000,-;{_segv(101)}\n')
    witnesslogs.ask(dead.base, [record], print, dead.world)
    dead.world.kernel_log.write_text(f'4,2,1006000000,-;{_segv(100)}\n')
    (dead.world.proc / 'sys/kernel/random/boot_id').write_text('boot-2\n')
    witnesslogs.ask(dead.base, [record], print, dead.world)
    assert witnessfiles.of_run(dead.base.archive / dead.run.name) == ()


def test_the_log_of_syslog_is_read_where_the_device_cannot_be(dead, tmp_path):
    day = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(dead.ended + 1))
    (tmp_path / 'kern.log').write_text(f'{day}+00:00 host kernel: [1006.0] {_segv(100)}\n')
    assert dead.ask().verdict == 'crashed'


# -- the journal -----------------------------------------------------------------------------------


def journal(dead, *entries):
    """Write a journalctl that prints these entries."""
    lines = [json.dumps(entry) for entry in entries]
    dead.world.journalctl.write_text(f'#!{sys.executable}\nfor line in {lines!r}: print(line)\n')
    dead.world.journalctl.chmod(0o700)


def ended(dead, **fields):
    return {
        '__REALTIME_TIMESTAMP': str(int((dead.ended + 1) * 1e6)),
        'MESSAGE_ID': '98e322203f7a4ed290d09fe03c09fe15',
        'MESSAGE': 'zope.service: Main process exited, code=killed, status=9/KILL',
        'EXIT_CODE': 'killed',
        'EXIT_STATUS': '9',
        'INVOCATION_ID': INVOCATION,
        '_PID': '1',
    } | fields


def test_the_journal_tells_the_end_of_a_main_process(dead):
    journal(dead, ended(dead))
    dead.run.change(supervisor='systemd', invocation_id=INVOCATION, supervisor_log={})
    record = dead.ask()
    assert (record.verdict, record.confidence) == ('killed', 'certain')


def test_the_main_process_of_the_service_may_be_another_one(dead):
    """zdaemon hands the invocation of its own service down to Zope."""
    journal(dead, ended(dead))
    dead.run.change(invocation_id=INVOCATION, supervisor_log={})
    assert dead.ask().verdict == 'vanished'


def test_an_orphan_is_not_the_main_process_that_started_it(dead):
    """A script of the service has put Zope into the background: its parent is the process 1."""
    journal(dead, ended(dead))
    dead.run.change(
        supervisor='systemd', invocation_id=INVOCATION, supervisor_log={}, unit_process=99
    )
    assert dead.ask().verdict == 'vanished'


# -- uWSGI -----------------------------------------------------------------------------------------


def test_uwsgi_is_believed_for_what_it_wrote_after_the_last_samples(dead, tmp_path):
    log = tmp_path / 'uwsgi.log'
    line = 'DAMN ! worker 1 (pid: 100) died, killed by signal 9 :( trying respawn ...\n'
    log.write_text(line)  # about an earlier process
    status = log.stat()
    output = {
        'kind': 'file',
        'path': str(log),
        'size': status.st_size,
        'device': status.st_dev,
        'inode': status.st_ino,
    }
    dead.run.change(supervisor='uwsgi', supervisor_log={}, outputs={'2': output})
    record = triage.examine(dead.run.path, dead.world)
    witnesslogs.ask(dead.base, [record], print, dead.world)
    assert witnessfiles.of_run(dead.run.path) == ()
    with open(log, 'a') as more:
        more.write(line)
    assert dead.ask().verdict == 'killed'


# -- when they are asked ---------------------------------------------------------------------------


def test_a_start_asks_in_the_background_and_again_later(dead, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        witnesslogs, 'ask', lambda base, records, *rest: asked.append(list(records))
    )
    life = FakeLife(dead.base.path, errands=[])
    triage.at_start(life)
    assert asked == [], 'the start does not wait for it'
    for errand in life.errands:
        errand()
    assert [[record.run for record in records] for records in asked] == [[dead.run.name]]
    life.errands.clear()
    for _ in range(5):
        for duty in life.rounds:
            duty()
    for errand in life.errands:
        errand()
    assert len(asked) == 3


def test_a_start_without_dead_runs_and_a_script_ask_nobody(dead, tmp_path):
    life = FakeLife(dead.base.path, role='script', errands=[])
    triage.at_start(life)
    assert life.rounds == []
    life = FakeLife(dead.base.path, errands=[])
    triage.at_start(life)
    assert life.rounds == []


def test_only_runs_that_vanished_lately_are_asked_about_again(dead, tmp_path):
    dead.ask()
    assert [record.run for record in witnesslogs.recent(dead.base)] == []
    now = time.time()
    gone = identity() | {'pid': 101, 'start_ticks': 1, 'boot_id': 'boot-1'}
    recent = DeadRun(dead.base.path, 1).served().change(identity=gone)
    DeadRun(dead.base.path, 2).crashed()
    triage.triage(dead.base, world=replace(dead.world, now=now))
    assert [record.run for record in witnesslogs.recent(dead.base)] == [recent.name]


def test_the_command_asks_and_shows_what_it_learned(dead):
    dead.log.write_text(dead.line('pid 100: exit status 3'))
    dead.run.change(identity=identity() | {'pid': 100, 'start_ticks': 1})
    (record,), _ = by_hand(dead.base, print)
    assert (record.verdict, record.exit_code) == ('exited', 3)


def test_a_source_that_fails_at_a_start_is_a_finding(dead, monkeypatch):
    def fail(path):
        raise ValueError('the reason')

    monkeypatch.setattr(witnesslogs, 'end_of_log', fail)
    life = FakeLife(dead.base.path)
    witnesslogs.ask_later(life, triage.triage(dead.base, world=dead.world))
    (finding,) = life.findings
    assert finding.id == 'witness-supervisor' and 'the reason' in finding.detail


def test_gunicorn_writes_to_standard_error(dead, tmp_path):
    log = tmp_path / 'stderr.log'
    at = time.strftime('%Y-%m-%d %H:%M:%S +0000', time.gmtime(dead.ended))
    log.write_text(
        f'[{at}] [1] [ERROR] Worker (pid:100) was sent SIGKILL! Perhaps out of memory?\n'
    )
    outputs = {'2': {'kind': 'file', 'path': str(log)}}
    dead.run.change(supervisor='gunicorn', supervisor_log={}, outputs=outputs)
    assert dead.ask().verdict == 'killed'
