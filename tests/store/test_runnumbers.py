"""The numbers of runs: their order does not come from the clock."""

import json
import os
import threading
from dataclasses import replace

import pytest
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record

from Products.StabilityMonitor.postmortem.allruns import AllRuns
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.reporting import fromdisk
from Products.StabilityMonitor.reporting import runtrace
from Products.StabilityMonitor.store import runnumbers
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import number_of
from Products.StabilityMonitor.system.processidentity import identity

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def begin(base, hour=0, role='server'):
    """Let a run begin at that hour by its clock, and die; return its name."""
    return DeadRun(base.path, hour, role, counted=True).served().name


def numbers(base):
    return {name: number_of(base.runs / name) for name in base.waiting()}


def test_each_run_gets_the_next_number(base):
    runs = [begin(base, hour) for hour in (0, 1, 2)]
    assert numbers(base) == dict(zip(runs, (1, 2, 3), strict=True))


def test_ten_runs_that_begin_at_once_get_ten_numbers(base):
    gate = threading.Barrier(10)

    def start(pid):
        gate.wait()
        name = f'20260921T160000Z-{pid}-abcd'
        base.create(name, {'identity': identity() | {'pid': pid}}).abandon()

    threads = [threading.Thread(target=start, args=(pid,)) for pid in range(1, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(base).values()) == list(range(1, 11))


@pytest.mark.parametrize(
    'content', [b'', b'x', b'-5', b'0', b'1e9', b'9' * 400, b'\0' * 17, str(1 << 60).encode()]
)
def test_a_damaged_file_is_made_anew_from_the_runs(base, content):
    begin(base), begin(base, 1)
    triage(base, world=quiet_world(base.path))
    third = begin(base, 2)
    (base.path / runnumbers.LAST_NUMBER).write_bytes(content)
    fourth = begin(base, 3)
    assert numbers(base) == {third: 3, fourth: 4}
    triage(base, world=quiet_world(base.path))
    (base.path / runnumbers.LAST_NUMBER).unlink()
    assert list(numbers(base)) == []
    assert numbers(base) == {} and number_of(base.runs / begin(base, 4)) == 5


def test_a_number_that_fell_behind_the_waiting_runs_is_not_used(base):
    begin(base), begin(base, 1)
    (base.path / runnumbers.LAST_NUMBER).write_text('1\n')
    assert number_of(base.runs / begin(base, 2)) == 3


def test_a_link_in_the_place_of_the_file_is_not_followed(base):
    target = base.path.parent / 'precious'
    target.write_text('5')
    (base.path / runnumbers.LAST_NUMBER).symlink_to(target)
    begin(base)
    assert target.read_text() == '5' and list(numbers(base).values()) == [1]


def test_a_lock_that_a_frozen_process_holds_delays_a_start_only(base, monkeypatch):
    import fcntl

    begin(base)
    monkeypatch.setattr(runnumbers, '_TRIES', 2)
    with open(base.path / runnumbers.LAST_NUMBER) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert number_of(base.runs / begin(base, 1)) == 2


@pytest.mark.parametrize('number', [None, 0, -1, True, 1.5, '7', [], (1 << 53) + 1])
def test_a_damaged_number_counts_as_none(base, number):
    assert runnumbers.valid(number) == 0
    run = DeadRun(base.path).change(number=number)
    assert number_of(run.path) == 0


# -- what goes by the number -----------------------------------------------------------------------


@pytest.mark.parametrize('step', [-1, -72, 1, 72], ids='{:+} h'.format)
def test_runs_are_in_the_order_in_which_they_began(base, step):
    """The clock was set between the second and the third run."""
    hours = [0, 1, 2 + step, 3 + step]
    runs = [begin(base, 100 + hour) for hour in hours]
    assert base.waiting() == runs
    seen = AllRuns(base, quiet_world(base.path))
    assert [each.run for each in seen.summaries()] == runs[::-1]
    assert runtrace.newest(base) == runs[-1]
    assert fromdisk.newest(seen, seen.summaries(), HERE).run == runs[-1]
    done = triage(base, world=quiet_world(base.path))
    archive = Archive(base)
    assert [each.run for each in done] == runs
    assert [each.number for each in done] == [1, 2, 3, 4]
    assert [each.run for each in archive.summaries()] == runs[::-1]
    assert archive.last_server_run(HERE).run == runs[-1]
    assert runtrace.newest(base) == runs[-1]
    assert fromdisk.newest(archive, archive.summaries(), HERE).run == runs[-1]
    assert archive.prune(2, 9999, 1 << 30, now=STARTED + 200 * HOUR) == 2
    assert [each.run for each in archive.summaries()] == runs[:1:-1]


def test_the_last_run_may_wait_while_a_later_name_is_archived(base):
    archived = begin(base, 100)
    triage(base, world=quiet_world(base.path))
    waiting = begin(base, 1)
    archive = Archive(base)
    assert fromdisk.newest(archive, archive.summaries(), HERE).run == waiting
    assert runtrace.newest(base) == waiting != archived


def test_runs_of_older_releases_come_before_and_by_their_start(base):
    runs = [begin(base, hour) for hour in (50, 40, 10)]
    for name in runs[:2]:
        context = base.runs / name / CONTEXT
        known = json.loads(context.read_text())
        del known['number']
        context.write_text(json.dumps(known))
    assert base.waiting() == [runs[1], runs[0], runs[2]]
    triage(base, world=quiet_world(base.path))
    assert [each.run for each in Archive(base).summaries()] == [runs[2], runs[0], runs[1]]


def test_a_run_whose_record_is_damaged_keeps_its_place(base):
    runs = [begin(base, hour) for hour in (3, 2, 1)]
    triage(base, world=quiet_world(base.path))
    for name in ('incident.json', 'summary.json'):
        (base.archive / runs[1] / name).write_text('{')
    assert [each.run for each in Archive(base).summaries()] == runs[::-1]


def keep(base, *records):
    """Archive these runs; they began in the order of their pids."""
    for each in records:
        path = base.runs / each.run
        path.mkdir()
        Archive(base).add(path, replace(each, number=each.pid))


def test_a_run_that_ended_under_a_wrong_clock_is_no_older_than_the_one_before(base):
    """The clock was in 1970 when the second one ran."""
    keep(base, record(1), record(2, started=9.0, ended=60.0))
    archive = Archive(base)
    assert archive.prune(200, 30, 1 << 30, now=STARTED + 10 * DAY) == 0
    keep(base, record(3, after=40 * DAY))
    assert archive.prune(200, 30, 1 << 30, now=STARTED + 41 * DAY) == 2


def test_the_file_is_as_private_as_all_others(base):
    begin(base)
    status = os.stat(base.path / runnumbers.LAST_NUMBER)
    assert status.st_mode & 0o777 == 0o600
