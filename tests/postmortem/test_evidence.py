"""Evidence is collected from the files of a run and from the system; nothing is judged here."""

import json
import os
import threading

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.syntheticruns import CUT_FATAL_ERROR
from support.syntheticruns import FATAL_ERROR
from support.syntheticruns import HERE
from support.syntheticruns import SEGFAULT
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import note
from support.syntheticruns import quiet_world
from support.syntheticruns import sample

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.postmortem import evidence
from Products.StabilityMonitor.postmortem import triage


@pytest.fixture
def world(tmp_path):
    """A system with a boot id, counters and a machine id; `tell` changes one of its files."""
    world = quiet_world(tmp_path)
    for name, text in (
        ('sys/kernel/random/boot_id', 'boot-1'),
        ('stat', f'cpu 1\nbtime {int(STARTED) - 500}\n'),
        ('vmstat', 'pgfault 7\noom_kill 3\n'),
    ):
        tell(world, name, text)
    world.machine_id.write_text('machine-1\n')
    return world


def tell(world, name, text):
    path = world.proc / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def run(tmp_path):
    """A dead run of the same boot and machine."""
    run = DeadRun(tmp_path / 'stability', machine_id='machine-1', monotonic=100.0, host_kills=3)
    return run.change(identity={'boot_id': 'boot-1', 'host': HERE.host})


def collect(run, world):
    return evidence.collect(run.path, world)


def test_an_empty_directory_still_has_pid_and_start(run, world):
    for path in run.path.iterdir():
        path.unlink()
    found = collect(run, world)
    assert (found.pid, found.started, found.role) == (100, int(STARTED), 'server')
    assert found.damage == 'No run context.' and found.recording is None and found.same_boot is None


def test_a_crash_leaves_a_fault_and_its_time(run, world):
    found = collect(run.crashed(), world)
    assert (found.fault.signal, found.fault_time) == ('SIGSEGV', run.started + 60)
    assert found.recording.finished[0].path == '/served'
    assert found.last_sign == run.started + 60
    assert (found.damage, found.marks, found.hang) == ('', {}, None)


# -- marks -----------------------------------------------------------------------------------------

STACK = b'Stack (most recent call first):\n  File "/x.py", line 1 in main\n'


def test_marks_are_read_by_signal(run, world):
    found = collect(
        run.served().marked('SIGTERM', STACK).marked('SIGHUP', b'').marked('watchdog', STACK), world
    )
    assert list(found.marks) == ['SIGTERM']
    assert found.marks['SIGTERM'].dumps[0].threads[0].frames[0].function == 'main'
    assert found.hang.time == run.started + 60
    assert found.asked == {'SIGTERM': run.started + 60}


def test_only_marks_after_the_survived_part_count(run, world):
    run.box(
        lambda recorder: (
            recorder.survived('SIGTERM', len(STACK)),
            recorder.survived('faults', len(SEGFAULT)),
        )
    )
    found = collect(run.marked('SIGTERM', STACK).marked('faults', SEGFAULT), world)
    assert (found.marks, found.fault) == ({}, None)
    assert found.asked == {'SIGTERM': run.started + 60}
    found = collect(run.marked('SIGTERM', STACK * 2).marked('faults', SEGFAULT * 2), world)
    assert list(found.marks) == ['SIGTERM'] and found.fault.signal == 'SIGSEGV'


def test_marks_count_without_a_black_box(run, world):
    assert list(collect(run.marked('SIGTERM', STACK), world).marks) == ['SIGTERM']


# -- hangs -----------------------------------------------------------------------------------------


def hanging(run, *more):
    """Make a run that hung with a request in flight, and its notes; return the thread's ident."""
    here = threading.get_ident()

    def write(recorder):
        recorder.stamp('armed', run.started + 1)
        recorder.stamp('serving', run.started + 2)
        recorder.begin('GET', '/served', _now=lambda: run.started + 3)
        recorder.end(200, _now=lambda: run.started + 4)
        recorder.begin('GET', '/hangs', _now=lambda: run.started + 5)
        recorder.stamp('hung_since', run.started + 5)
        recorder.note(note('hang', 5, title='All hang.'))
        recorder.note(
            note(
                'hang',
                65,
                here,
                title='GET /hangs',
                detail='lock',
                frames=(
                    Frame('/site/view.py', 7, 'render'),
                    Frame('/zope/publish.py', 70, 'publish'),
                ),
            )
        )
        recorder.sample(sample(70, monotonic=170.0, workers=1, overdue=1))
        for one in more:
            recorder.note(one)

    run.box(write)
    return here


def test_a_hang_that_lasted_is_judged_with_its_threads(run, world):
    ident = hanging(run)
    record = triage.examine(run.path, world)
    assert record.verdict == 'hung'
    assert record.summary.endswith(
        'when it ended without a trace: GET /hangs was in render (/site/view.py:7).'
    )
    assert 'All hang; it lasted from' in ' '.join(evidence.fact for evidence in record.evidence)
    (hang,) = record.hangs
    assert (hang.kind, hang.ended, hang.seconds) == ('hang', None, 65.0)
    (thread,) = record.threads
    assert (thread.ident, thread.note) == (ident, 'GET /hangs: lock')
    assert [frame.function for frame in thread.frames] == ['render', 'publish']
    assert [one.title for one in record.notes] == ['All hang.', 'GET /hangs']
    assert json.loads(json.dumps(record.to_json()))['notes'][1]['frames'][0] == {
        'file': '/site/view.py',
        'line': 7,
        'function': 'render',
    }
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))).hangs == record.hangs


def test_a_hang_that_ended_is_an_event_only(run, world):
    hanging(run, note('hang-ended', 69, title='All hang.', seconds=64.0))
    record = triage.examine(run.path, world)
    assert 'All hang' not in ' '.join(evidence.fact for evidence in record.evidence)
    assert record.threads == () and record.hangs[0].ended and record.hangs[0].seconds == 64.0


def test_the_stack_that_a_thread_wrote_itself_replaces_the_noted_one(run, world):
    ident = hanging(run)
    found = collect(run.marked('watchdog', STACK).marked('watchdog-0', STACK), world)
    assert list(found.stuck) == [ident] and found.hang
    record = triage.examine(run.path, world)
    assert [(thread.ident, thread.frames[0].function) for thread in record.threads] == [
        (ident, 'main')
    ]
    assert 'GET /hangs was in main (/x.py:1)' in record.summary


def test_a_survived_stack_of_a_worker_is_not_evidence(run, world):
    def write(recorder):
        recorder.begin('GET', '/')
        recorder.survived('watchdog-0', len(STACK))

    found = collect(run.box(write).marked('watchdog-0', STACK), world)
    assert found.stuck == {}


def test_the_stack_of_an_unused_slot_is_ignored(run, world):
    assert collect(run.box().marked('watchdog-3', STACK), world).stuck == {}


def test_the_marks_of_an_older_release_are_read(run, world):
    ident = hanging(run)
    found = collect(run.marked('deadman', STACK).marked('deadman-0', STACK), world)
    assert list(found.stuck) == [ident] and found.hang


@pytest.mark.parametrize(
    'file, text',
    [
        ('hangs', 7),
        ('hangs', [7]),
        ('notes', [{'frames': 7}]),
        ('notes', {}),
        ('hangs', [{'kind': 7, 'seconds': 'x'}]),
        ('notes', [{'frames': [7, {}]}]),
    ],
)
def test_damaged_notes_and_hangs_are_read_as_empty_values(file, text):
    record = RunRecord.from_json({'run': 'x', file: text})
    assert all(hang.kind == '' and hang.seconds == 0.0 for hang in record.hangs)
    assert all(frame.function == '' for one in record.notes for frame in one.frames)


# -- standard error --------------------------------------------------------------------------------


def stderr(run, log, **changes):
    status = log.stat()
    output = {
        'kind': 'file',
        'path': str(log),
        'size': 0,
        'device': status.st_dev,
        'inode': status.st_ino,
    }
    return run.change(outputs={'2': output | changes})


def test_a_fatal_error_on_stderr_is_found(run, world, tmp_path):
    log = tmp_path / 'stderr.log'
    log.write_bytes(b'Starting.\n' + FATAL_ERROR)
    found = collect(stderr(run, log), world)
    assert found.stderr_readable and found.stderr_fault.reason == 'take: the GIL is gone'


@pytest.mark.parametrize(
    'changes', [dict(kind='pipe'), dict(inode=1), dict(path='/nowhere'), dict(path=None)]
)
def test_unreadable_stderr_is_not_known(run, world, tmp_path, changes):
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR)
    found = collect(stderr(run, log, **changes), world)
    assert not found.stderr_readable and found.stderr_fault is None


def test_stderr_from_before_this_run_is_ignored(run, world, tmp_path):
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR)
    found = collect(stderr(run, log, size=log.stat().st_size), world)
    assert found.stderr_readable and found.stderr_fault is None


def test_truncated_stderr_is_not_known(run, world, tmp_path):
    """After logrotate's copytruncate the missing part may have held a fatal error."""
    log = tmp_path / 'stderr.log'
    log.write_bytes(b'x' * 50)
    run.box(lambda recorder: recorder.sample(sample(stderr_size=51)))
    assert not collect(stderr(run, log), world).stderr_readable
    assert not collect(stderr(run, log, size=60).box(), world).stderr_readable
    assert collect(stderr(run, log, size=50).box(), world).stderr_readable


@pytest.mark.parametrize(
    'sizes, counts',
    [
        ((10,), True),
        ((999, 10), True),
        ((999, 999), True),
        ((0, 999, 999), True),
        ((999, 999, 999), False),
    ],
)
def test_a_survived_fatal_error_on_stderr_is_ignored(run, world, tmp_path, sizes, counts):
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR.ljust(999))
    run.box(lambda recorder: [recorder.sample(sample(stderr_size=size)) for size in sizes])
    found = collect(stderr(run, log), world)
    assert found.stderr_readable and bool(found.stderr_fault) == counts


def test_a_fatal_error_of_another_process_is_ignored(run, world, tmp_path):
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR)
    assert collect(stderr(run.change(main_ident=5), log), world).stderr_fault is None


def test_a_fatal_error_that_names_no_thread_counts_only_at_the_end(run, world, tmp_path):
    log = tmp_path / 'stderr.log'
    log.write_bytes(CUT_FATAL_ERROR)
    assert collect(stderr(run, log), world).stderr_fault.leaves_out_threads
    log.write_bytes(CUT_FATAL_ERROR + FATAL_ERROR)
    assert collect(stderr(run.change(main_ident=5), log), world).stderr_fault is None
    found = collect(stderr(run.change(main_ident=0x7F0000000020), log), world).stderr_fault
    assert not found.leaves_out_threads


def test_a_run_whose_main_ident_is_a_list_is_judged(run, world, tmp_path):
    log = tmp_path / 'stderr.log'
    log.write_bytes(FATAL_ERROR)
    run.crashed().change(main_ident=[0x7F0000000020])
    record = triage.examine(stderr(run, log).path, world)
    assert (record.verdict, record.signal) == ('crashed', 'SIGSEGV')


# -- counters --------------------------------------------------------------------------------------


@pytest.fixture
def cgroup(tmp_path, run):
    folder = tmp_path / 'group'
    folder.mkdir()
    (folder / 'memory.oom_control').write_text('oom_kill_disable 0\nunder_oom 0\noom_kill 2\n')
    status = folder.stat()
    run.change(
        cgroup={
            'version': 1,
            'directory': str(folder),
            'device': status.st_dev,
            'inode': status.st_ino,
            'counter_file': '/dev/zero',
        }
    )
    run.box(lambda recorder: recorder.sample(sample(cgroup_kills=1, host_kills=2)))
    return folder


def test_kills_are_the_rise_of_each_oom_counter(run, world, cgroup):
    found = collect(run, world)
    assert (found.cgroup_kills, found.host_kills) == (1, 1)


def test_the_counter_of_cgroup_version_2_is_oom_kill(run, world, cgroup):
    run.change(
        cgroup=json.loads((run.path / 'context.json').read_text())['cgroup'] | {'version': 2}
    )
    (cgroup / 'memory.events').write_text('low 0\noom 1\noom_kill 1\noom_group_kill 0\n')
    assert collect(run, world).cgroup_kills == 0


def test_another_cgroup_of_the_same_path_is_not_compared(run, world, cgroup):
    run.change(cgroup=json.loads((run.path / 'context.json').read_text())['cgroup'] | {'inode': 1})
    found = collect(run, world)
    assert (found.cgroup_kills, found.host_kills) == (None, 1)


def test_a_run_with_a_nul_in_its_cgroup_path_is_judged(run, world, cgroup):
    group = json.loads((run.path / 'context.json').read_text())['cgroup']
    run.marked('faults', SEGFAULT).change(cgroup=group | {'directory': f'{cgroup}\0'})
    found = collect(run, world)
    assert (found.cgroup_kills, found.host_kills) == (None, 1)
    assert triage.examine(run.path, world).verdict == 'crashed'


def test_a_counter_that_started_again_is_not_known(run, world, cgroup):
    (cgroup / 'memory.oom_control').write_text('oom_kill 0\n')
    assert collect(run, world).cgroup_kills is None


def test_counters_of_different_boots_are_not_compared(run, world, cgroup):
    tell(world, 'sys/kernel/random/boot_id', 'boot-2')
    found = collect(run, world)
    assert (found.same_boot, found.cgroup_kills, found.host_kills) == (False, None, None)


def test_without_a_sample_the_counter_is_compared_with_the_start(run, world):
    tell(world, 'vmstat', 'oom_kill 5\n')
    assert collect(run, world).host_kills == 2


@pytest.mark.parametrize('kills', [None, 'x', [], {}, True])
def test_kills_are_not_known_if_the_count_at_the_start_is_not_a_number(run, world, kills):
    assert collect(run.change(host_kills=kills), world).host_kills is None


@pytest.mark.parametrize(
    'line, found',
    [
        (
            '6,1,200000000,-;Memory cgroup out of memory: Killed process 100 (python) '
            'total-vm:1kB\n SUBSYSTEM=x',
            'Memory cgroup out of memory: Killed process 100 (python) total-vm:1kB',
        ),
        ('6,1,200000000,-;Out of memory: Killed process 1001 (python)', ''),
        ('6,1,20000000,-;Out of memory: Killed process 100 (python)', ''),
        ('nonsense;Killed process 100 (python)', ''),
        ('', ''),
    ],
)
def test_the_kernel_log_line_of_this_process_is_found(run, world, cgroup, line, found):
    """Only a line since the start of this run counts, because pids are used again."""
    world.kernel_log.write_text(line)
    assert collect(run, world).kernel_line == found


def test_the_kernel_log_is_read_only_if_a_counter_rose(run, world):
    world.kernel_log.write_text('6,1,200000000,-;Out of memory: Killed process 100 (python)')
    assert collect(run, world).kernel_line == ''


# -- the machine -----------------------------------------------------------------------------------


def test_another_boot_id_is_a_reboot(run, world):
    tell(world, 'sys/kernel/random/boot_id', 'boot-2')
    found = collect(run, world)
    assert (found.same_boot, found.same_machine, found.boot_time) == (
        False,
        True,
        int(STARTED) - 500,
    )


def test_a_crash_is_found_on_a_system_without_facts(run, tmp_path):
    found = collect(run.crashed(), quiet_world(tmp_path / 'nothing'))
    assert (found.same_boot, found.same_machine, found.boot_time) == (None, None, 0.0)
    assert (found.cgroup_kills, found.host_kills, found.kernel_line) == (None, None, '')
    assert found.fault.signal == 'SIGSEGV'


# -- damaged files ---------------------------------------------------------------------------------


@pytest.mark.parametrize('started', [None, 'x', -5, 1e300, [], True])
def test_an_impossible_start_is_replaced_by_that_of_the_name(run, world, started):
    assert collect(run.change(started=started), world).started == int(STARTED)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    key=st.sampled_from(
        (
            'identity',
            'instance',
            'cgroup',
            'outputs',
            'role',
            'started',
            'monotonic',
            'main_ident',
            'machine_id',
            'host_kills',
            'locked',
        )
    ),
    value=_VALUES,
)
def test_any_context_gives_a_record(run, world, key, value):
    """A crash is reported whatever the run context holds."""
    path = run.crashed().path / 'context.json'
    whole = path.read_text()
    run.change(**{key: value})
    record = triage.examine(run.path, world)
    path.write_text(whole)
    assert (record.verdict, record.signal) == ('crashed', 'SIGSEGV')
    assert json.loads(json.dumps(record.to_json()))['run'] == run.name


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(max_size=300),
    file=st.sampled_from(
        (
            'blackbox.sbr',
            'context.json',
            'faults.mark',
            'SIGTERM.mark',
            'watchdog.mark',
            'serving.json',
        )
    ),
)
def test_any_bytes_give_a_record(run, world, data, file):
    (run.path / file).write_bytes(data)
    record = triage.examine(run.path, world)
    assert record.run == run.name and record.summary
    json.dumps(record.to_json())


def test_files_without_read_permission_count_as_missing(run, world, monkeypatch):
    run.crashed()
    monkeypatch.setattr(
        os, 'open', lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError('no'))
    )
    assert collect(run, world).kernel_line == ''
