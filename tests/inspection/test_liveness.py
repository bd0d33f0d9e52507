"""The state of a living run from its files: hangs, a silent heartbeat, a stopped process."""

import itertools
import json
import os
import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.syntheticruns import SEGFAULT
from support.syntheticruns import STARTED
from support.syntheticruns import note

from Products.StabilityMonitor.inspection import liveness
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.store.rundirectory import read_json
from Products.StabilityMonitor.system.processidentity import identity

NOW = 1_790_000_000.0
MAIN = 0x7F0000000020
ALL_BUSY = 'All 4 workers have been busy with requests for longer than 2 s: they wait.'
STACK = b'Stack (most recent call first):\n  File "/site/gil.py", line 3 in keep_gil\n'


class Living:
    """A run of this process; `beat` makes a sample that is `age` seconds old."""

    def __init__(self, path, **context):
        base = Base(path)
        base.prepare()
        self.directory = base.create(
            new_name(NOW - 900, os.getpid()),
            {'identity': identity(), 'role': 'server', 'main_ident': MAIN, **context},
        )
        self.path = self.directory.path
        self.recorder = Recorder(bytearray(blackbox.SIZE))
        blackbox.lay_out(self.recorder.buffer)
        blackbox.seal(self.recorder.buffer)
        self.recorder.stamp('serving', NOW - 800)
        self.clock = SimpleNamespace(time=lambda: NOW, monotonic=lambda: 5000.0)

    def beat(self, age=0.5, **values):
        sample = {'time': NOW - age, 'monotonic': 5000 - age, 'workers': 4, **values}
        self.recorder.sample(Sample(**sample))
        return self

    def look(self, **values):
        (self.path / BLACKBOX).write_bytes(self.recorder.buffer)
        # Without a lock, the process alone tells: it does not map this black box.
        context = read_json(self.path / CONTEXT) | {'locked': False}
        (self.path / CONTEXT).write_text(json.dumps(context))
        return liveness.look(self.path, context, clock=self.clock, **values)


@pytest.fixture
def run(tmp_path):
    made = []

    def make(**context):
        made.append(Living(tmp_path, **context))
        return made[-1]

    yield make
    for each in made:
        each.directory.abandon()


def test_a_beating_process_is_running(run):
    living = run().beat(1.5).beat(0.5, in_flight=3, overdue=1)
    seen = living.look()
    assert seen.vitals.sample.in_flight == 3
    assert replace(seen, vitals=None) == liveness.Pulse(
        living.path.name, os.getpid(), 'running', None, NOW - 0.5
    )


def test_without_a_black_box_the_state_is_unknown(run):
    living = run()
    assert liveness.look(living.path, {}).state == 'unknown'
    (living.path / BLACKBOX).write_bytes(b'nonsense')
    assert liveness.look(living.path, {}).state == 'unknown'


def test_a_starting_process_may_have_no_sample(run):
    living = run()
    living.recorder.stamp('serving', 0)
    assert (living.look().state, living.look().hang) == ('starting', None)
    assert living.beat().look().state == 'starting'


def test_a_script_is_never_starting(run):
    living = run(role='script')
    living.recorder.stamp('serving', 0)
    assert living.beat().look().state == 'running'


def test_a_script_without_a_heartbeat_is_not_silent(run):
    living = run(role='script').beat(4000.0)
    assert (living.look().state, living.look().hang) == ('running', None)
    assert living.beat(3999.0).look().hang.kind == 'silent', 'it had a heartbeat'


def test_an_ending_process_is_not_silent(run):
    living = run().beat(100.0)
    living.recorder.stamp('finished', NOW - 99)
    assert (living.look().state, living.look().hang) == ('ending', None)


def test_a_noted_hang_is_reported(run):
    living = run().beat(in_flight=4, overdue=4)
    living.recorder.stamp('hung_since', NOW - 77)
    living.recorder.note(note('hang', title=ALL_BUSY))
    seen = living.look()
    assert seen.state == 'hanging'
    assert seen.hang == liveness.Hang('hang', NOW - 77, ALL_BUSY, 4, 4)


@pytest.mark.parametrize('reason', ['workers', 'queue', 'connections', 'descriptors', 'loop'])
def test_a_hang_has_the_reason_why_nobody_is_answered(run, reason):
    """The status command then ends with 1, see tests/cli/test_cli_status.py."""
    living = run().beat()
    living.recorder.note(note('hang', title='It is stuck.', detail=reason))
    seen = living.look()
    assert (seen.state, seen.hang.kind, seen.hang.reason) == ('hanging', 'hang', reason)


def test_busy_workers_that_progress_are_no_hang(run):
    living = run().beat(in_flight=4)
    living.recorder.note(note('saturated', title='All workers have been busy.'))
    assert (living.look().state, living.look().hang) == ('running', None)


def test_a_process_without_a_sample_has_no_vital_signs(run):
    assert run().look().vitals is None


def test_of_a_mute_process_the_kernel_tells_who_waits(run):
    """Its last sample says nothing of those who have come since."""
    living = run().beat(60.0, accept_queue=0, descriptors=3)
    with socket.create_server(('127.0.0.1', 0)) as listening:
        with socket.create_connection(listening.getsockname()):
            seen = living.look()
            least = len(os.listdir('/proc/self/fd')) - 1
    assert seen.hang.kind == 'silent'
    assert seen.vitals.sample.accept_queue >= 1, 'other tests may have listening sockets, too'
    assert seen.vitals.sample.descriptors >= least


def test_a_process_that_answers_is_not_looked_at_from_outside(run):
    assert run().beat(descriptors=3).look().vitals.sample.descriptors == 3


def test_events_that_have_ended_are_not_reported(run):
    living = run().beat()
    for kind in ('hang', 'hang-ended', 'deadlock', 'deadlock-ended', 'spinning', 'spinning-ended'):
        living.recorder.note(note(kind, title='It was so.'))
    assert living.look().hang is None


def test_a_hang_without_its_note_is_reported(run):
    living = run().beat(overdue=2)
    living.recorder.stamp('hung_since', NOW - 77)
    assert living.look().hang == liveness.Hang('hang', NOW - 77, 'The site does not answer.', 2, 4)


def test_a_deadlock_is_reported_with_its_threads(run):
    living = run().beat()
    living.recorder.note(note('deadlock', after=60, title='Deadlock: a and b.'))
    for ident in (7, 8):
        living.recorder.note(note('deadlock', ident=ident, title='GET /x'))
    assert living.look().hang == liveness.Hang(
        'deadlock', pytest.approx(note('x', 60).time), 'Deadlock: a and b.', 2, 4
    )


def test_a_hang_names_the_deadlock_that_lasts(run):
    living = run().beat(overdue=4)
    living.recorder.note(note('deadlock', after=60, title='Deadlock: a and b.'))
    living.recorder.note(note('hang', after=70, title='All 4 workers are busy.'))
    hang = living.look().hang
    assert (hang.kind, hang.summary) == ('hang', 'All 4 workers are busy. Deadlock: a and b.')


@pytest.mark.parametrize('ident, is_grave', [(MAIN, True), (MAIN + 1, False)])
def test_only_a_spin_of_the_main_thread_is_a_hang(run, ident, is_grave):
    """Another thread may simply have much to do."""
    living = run().beat()
    living.recorder.note(note('spinning', title='It spins.'))
    living.recorder.note(note('spinning', ident=ident))
    hang = living.look().hang
    assert (hang is not None and (hang.kind, hang.summary) == ('spinning', 'It spins.')) == is_grave


# -- starts and stops that take long ---------------------------------------------------------------


@pytest.mark.parametrize(
    'kind, word, state', [('slow-start', 'serving', 'starting'), ('slow-stop', '', 'running')]
)
@pytest.mark.parametrize('age, is_critical', [(12, False), (290, False), (310, True)])
def test_a_slow_start_or_stop_is_a_hang_after_ten_times_stall(
    run, kind, word, state, age, is_critical
):
    living = run(options={'stall': 30}).beat()
    if word:
        living.recorder.stamp(word, 0)
    living.recorder.note(note(kind, NOW - STARTED - age, title='It stands.'))
    seen = living.look()
    told = liveness.Hang(kind, pytest.approx(NOW - age), 'It stands.')
    if is_critical:
        assert seen.hang == told and seen.delay is None
        assert seen.state == ('hanging' if kind == 'slow-stop' else state)
    else:
        assert (seen.state, seen.hang, seen.delay) == (state, None, told)


def test_a_slow_start_that_has_ended_is_not_reported(run):
    living = run().beat()
    for kind in ('slow-start', 'slow-start-ended'):
        living.recorder.note(note(kind, title='It stands.'))
    assert (living.look().hang, living.look().delay) == (None, None)


def test_a_process_whose_end_takes_long_tells_where_it_stands(run):
    living = run().beat()
    living.recorder.stamp('finished', NOW - 20)
    living.recorder.note(note('slow-stop', title='It stands.'))
    seen = living.look()
    assert (seen.state, seen.hang, seen.delay.summary) == ('ending', None, 'It stands.')


# -- a silent heartbeat ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    'interval, age, is_silent',
    [
        (1.0, 9.5, False),
        (1.0, 10.5, True),
        (0.1, 9.5, False),
        (10.0, 49.0, False),
        (10.0, 51.0, True),
    ],
)
def test_a_heartbeat_is_silent_after_some_intervals(run, interval, age, is_silent):
    living = run(options={'sample-interval': interval}).beat(age)
    living.recorder.begin('GET', '/')
    hang = living.look().hang
    assert bool(hang) == is_silent
    if hang:
        assert (hang.kind, hang.since, hang.stuck, hang.serving) == ('silent', NOW - age, 1, 4)
        assert hang.summary.endswith('for example because C code holds the interpreter lock (GIL).')


@pytest.mark.parametrize('interval', [None, 'x', -1, True, 0.0])
def test_without_a_recorded_interval_it_comes_from_the_samples(run, interval):
    living = run(options={'sample-interval': interval}).beat(65.0).beat(45.0)
    assert living.look().hang is None
    assert run().beat(45.0).look().hang.kind == 'silent', 'one sample has no interval'


@pytest.mark.parametrize('age, is_silent', [(2.0, False), (4.0, True)])
def test_after_the_watchdog_fired_three_intervals_are_silence(run, age, is_silent):
    """The kernel confirms the silence then; a mark that the process survived does not count."""
    living = run(options={'sample-interval': 1.0}).beat(age)
    (living.path / 'watchdog.mark').write_bytes(STACK.ljust(1024, b'\0'))
    hang = living.look().hang
    assert bool(hang) == is_silent
    assert hang is None or hang.reason == 'gil'
    living.recorder.survived('watchdog', 1024)
    assert living.look().hang is None


def test_the_frame_that_the_watchdog_dumped_is_named(run):
    living = run().beat(30.0, in_flight=1)
    living.recorder.begin('GET', '/keep_gil')
    (living.path / 'watchdog-0.mark').write_bytes(STACK.ljust(1024, b'\0'))
    assert living.look().hang.summary == (
        'The heartbeat has been silent for 30 s, for example because C code holds the '
        'interpreter lock (GIL); GET /keep_gil is in keep_gil (/site/gil.py:3).'
    )


def test_a_change_of_the_system_clock_neither_makes_nor_hides_a_hang(run):
    living = run().beat(0.5, time=NOW - 5000)
    assert living.look().hang is None
    living.beat(60.0, time=NOW + 5000)
    assert living.look().hang.kind == 'silent'


def test_the_monotonic_clock_of_another_boot_is_not_compared(run):
    other = identity() | {'boot_id': 'another', 'host': 'elsewhere'}
    living = run(identity=other).beat(60.0, monotonic=5e6)
    hang = living.look().hang
    assert hang.kind == 'silent' and 'this command cannot see whether' in hang.summary


# -- a stopped process -----------------------------------------------------------------------------


def world(folder, *states):
    """A /proc in which the threads of this process are in these states."""
    proc = folder / 'proc'
    own, number = proc / str(os.getpid()), itertools.count(os.getpid())
    (proc / 'sys/kernel/random').mkdir(parents=True)
    (proc / 'sys/kernel/random/boot_id').write_text(identity()['boot_id'])
    (proc / 'self/ns').mkdir(parents=True)
    (proc / 'self/ns/pid').symlink_to(identity()['pid_namespace'])
    for state in states:
        task = own / 'task' / str(next(number))
        task.mkdir(parents=True)
        (task / 'stat').write_text(f'7 (a) T (x) {state} 1 2 3')
    ticks = identity()['start_ticks']
    (own / 'stat').write_text(' '.join(['7', '(a)', 'S', *map(str, range(18)), str(ticks)]))
    return proc


@pytest.mark.parametrize(
    'states, kind',
    [('TT', 'stopped'), ('t', 'stopped'), ('TS', 'silent'), ('SS', 'silent')],
)
def test_a_stopped_process_is_reported_as_stopped(run, tmp_path, states, kind):
    living = run().beat(30.0)
    seen = living.look(proc=world(tmp_path, *states))
    assert seen.hang.kind == kind and seen.state == ('stopped' if kind == 'stopped' else 'hanging')
    if kind == 'stopped':
        assert f'(state T), for example by SIGSTOP; "kill -CONT {os.getpid()}"' in seen.hang.summary


def test_a_process_that_was_stopped_a_moment_ago_is_running(run, tmp_path):
    """A tool that reads native stacks stops the process for a moment."""
    assert run().beat().look(proc=world(tmp_path, 'T')).hang is None


def test_random_bytes_in_the_black_box_raise_nothing(run):
    import random

    rng, living = random.Random(7), run().beat()
    (living.path / 'watchdog.mark').write_bytes(SEGFAULT)
    for _ in range(200):
        at = rng.randrange(64, blackbox.SIZE - 16)
        living.recorder.buffer[at : at + 16] = rng.randbytes(16)
        living.look()


def test_look_never_sleeps(run, monkeypatch):
    """A process that hangs does not delay the monitoring."""
    monkeypatch.setattr(time, 'sleep', lambda seconds: pytest.fail('look waits'))
    living = run().beat(60.0)
    assert living.look().hang
    assert not (living.path / 'questions').exists()
