"""The work of the heartbeat in a living run: its parts work together, and it answers mailbox
requests while all workers are blocked.
"""

import contextlib
import ctypes
import logging
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until
from support.syntheticruns import observed
from support.syntheticruns import request

from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.recording import heartbeat as heartbeat_module
from Products.StabilityMonitor.recording import heartbeatwork as rounds_module
from Products.StabilityMonitor.recording.heartbeat import ROUND
from Products.StabilityMonitor.recording.heartbeatwork import Rounds
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.runclock import Freeze
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.runmailbox import ask
from Products.StabilityMonitor.system import loglater
from Products.StabilityMonitor.system import processend
from Products.StabilityMonitor.threads.frames import stacks


@pytest.fixture
def life(tmp_path, monkeypatch):
    """What Rounds needs of a LivingRun.  There is no watchdog: test_watchdog tests it, in processes
    that may die.
    """

    def on_another_system(*args, **more):
        raise AttributeError('timer_create')

    monkeypatch.setattr(rounds_module, 'Watchdog', on_another_system)
    monkeypatch.setattr(loglater, 'LOGGER', logging.Logger('of a test'))
    buffer = bytearray(box.SIZE)
    recorder = Recorder(buffer)
    box.lay_out(buffer)
    box.seal(buffer)
    return SimpleNamespace(
        recorder=recorder,
        findings=Findings(),
        context={},
        role='script',
        directory=SimpleNamespace(path=tmp_path),
        base=SimpleNamespace(file_mode=0o600),
        is_short_of_descriptors=False,
        gauge=None,
        trace_log=None,
        handler=None,
        mark_files=dict,
        checks=lambda: ((), ()),
        options=SimpleNamespace(slow_request=0.2, stall=0.5, sample_interval=0.01),
    )


class Threads:
    """A ThreadWatch with the states that a test sets; `asked` counts how often they were read."""

    def __init__(self, tell):
        self.tell, self.spins, self.asked, self.fresh = tell, False, 0, {1: 0.5}

    def look(self):
        pass

    def observe(self):
        self.asked += 1
        return observed(self.tell())

    def busiest(self):
        return {8: 1.0} if self.spins else {}


class Server:
    """Threads in requests that do not end before `stop`, and their states."""

    def __init__(self, recorder, count):
        self.recorder, self.end, self.threads, self.deadlocked = (
            recorder,
            threading.Event(),
            [],
            False,
        )
        for number in range(count):
            self.threads.append(threading.Thread(target=self.serve, args=(number,), daemon=True))
            self.threads[-1].start()
        until(lambda: len(recorder.in_flight()) == count)

    def serve(self, number):
        self.recorder.begin('GET', f'/{number}')
        self.end.wait()
        self.recorder.end(200)

    def states(self):
        seen = stacks([thread.ident for thread in self.threads])
        for number, slot in sorted(self.recorder.slots.items(), reverse=True):
            holders = (
                (self.threads[(number + 1) % len(self.threads)].ident,) if self.deadlocked else ()
            )
            served = request(slot.number, path=slot.key[1], seconds=1.0)
            yield ThreadState(
                ident=slot.ident,
                native_id=slot.native_id,
                name=slot.thread.name,
                kind='worker',
                activity='lock',
                frames=seen.get(slot.ident, ()),
                request=served if slot.on else None,
                holders=holders,
            )
        yield ThreadState(1, 'MainThread', native_id=1, kind='main', activity='listening')

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join(PATIENCE)


@pytest.fixture
def server(life):
    server = Server(life.recorder, 2)
    yield server
    server.stop()


@pytest.fixture
def rounds(life):
    rounds = Rounds(life)
    yield rounds
    stop(rounds)


def stop(rounds):
    """Stop, and wait for the thread: it sleeps for a moment before it ends, and what it has open
    must be closed in this test and not in a later one.
    """
    rounds.stop()
    if rounds.heartbeat.ident:
        rounds.heartbeat.join(PATIENCE)


@contextlib.contextmanager
def beating(life):
    rounds = Rounds(life)
    rounds.start()
    yield rounds
    rounds.heartbeat.stop(PATIENCE)
    stop(rounds)


@pytest.fixture
def watchdogs(monkeypatch):
    """A list of (arguments, watchdog) for each watchdog made.  The watchdogs only record calls."""
    made = []

    class FakeWatchdog:
        file = ending_file = SimpleNamespace(written=0, length=0)

        def __init__(self, *settings, avoided):
            self.calls, self.used_up = [], False
            self.rearm = lambda: self.calls.append('own')
            self.guarded, self.check = None, lambda: self.calls.append('check')
            self.guards = lambda threads: threads == self.guarded
            self.disarm = lambda: self.calls.append('disarmed')
            self.give_way = lambda: None
            self.is_used_up = lambda: self.used_up
            made.append((settings, self))

        def rearm_threads(self, threads, watch):
            self.guarded = threads
            self.calls.append('threads')
            return ''

    monkeypatch.setattr(rounds_module, 'Watchdog', FakeWatchdog)
    return made


def watching(rounds, tell):
    rounds.threads = rounds.loads = Threads(tell)
    return rounds.threads


def notes(rounds):
    return blackboxreader.read(bytes(rounds.recorder.buffer)).notes


def kinds(rounds):
    return [note.kind for note in notes(rounds) if not note.of_thread]


_THREADS_IN_C = """
#include <pthread.h>
#include <unistd.h>

static volatile int go;
static pthread_t threads[3];

static void *doze(void *unused) { while (go) usleep(10000); return 0; }
static void *spin(void *unused) { while (go); return 0; }

void begin(void)
{
    go = 1;
    pthread_create(&threads[0], 0, doze, 0);
    pthread_create(&threads[1], 0, spin, 0);
    pthread_create(&threads[2], 0, doze, 0);
}

void end(void)
{
    int lasts = go;

    go = 0;
    for (int n = 0; lasts && n < 3; n++)
        pthread_join(threads[n], 0);
}
"""


@pytest.fixture
def native_threads(tmp_path):
    """Three threads that Python does not know; the second one spins."""
    source, library = tmp_path / 'threads.c', tmp_path / 'threads.so'
    source.write_text(_THREADS_IN_C)
    compiler = shutil.which('gcc') or shutil.which('cc')
    subprocess.run([compiler, '-shared', '-fPIC', '-pthread', '-o', library, source], check=True)
    native = ctypes.CDLL(str(library))
    native.begin()
    yield native
    native.end()


class TestAfterAFreeze:
    """The clock of the run says that the process did not run for a while."""

    @pytest.fixture
    def frozen(self, rounds):
        def freeze(seconds, of_machine=False):
            found = Freeze(seconds, of_machine)
            rounds.clock.look = lambda interval: found
            rounds.heartbeat.beat()
            rounds.clock.look = lambda interval: None

        return freeze

    def test_a_freeze_is_noted_once_and_is_no_finding(self, rounds, frozen):
        frozen(40.0)
        rounds.heartbeat.beat()
        assert kinds(rounds) == ['frozen-ended']
        assert [finding.id for finding in rounds.life.findings] == []
        frozen(3600.0, of_machine=True)
        assert kinds(rounds) == ['frozen-ended'] * 2
        assert [note.detail for note in notes(rounds)] == ['', 'suspended']

    def test_a_short_freeze_is_not_told(self, rounds, frozen):
        frozen(3.0)
        assert kinds(rounds) == []

    def test_the_mark_of_the_watchdog_is_survived_at_once(self, rounds, frozen):
        """Its timer expired meanwhile.  A process that is killed now has not hung."""
        rounds._marks.watch('watchdog', SimpleNamespace(length=700, written=1))
        frozen(40.0)
        recording = blackboxreader.read(bytes(rounds.recorder.buffer))
        assert recording.survived['watchdog'] == 700

    def test_requests_are_younger_by_the_time_of_the_freeze(self, rounds, server):
        """Two requests have been in progress for as long as the process was frozen."""
        rounds.heartbeat.beat()
        rounds.clock._add(10 * rounds.options.stall, time.monotonic())
        rounds.heartbeat.beat()
        sample = blackboxreader.read(bytes(rounds.recorder.buffer)).last_sample
        assert (sample.in_flight, sample.overdue) == (2, 0)
        assert not rounds.slow.watched


class TestWhileAllThreadsAreBusy:
    def test_a_hang_and_its_end_are_noted_and_reported_through_the_mailbox(
        self, rounds, server, tmp_path
    ):
        watching(rounds, lambda: tuple(server.states()))
        rounds.start()
        until(lambda: kinds(rounds) == ['hang'], 'a hang')
        answer = ask(tmp_path, 'stacks', PATIENCE)
        assert [hang['kind'] for hang in answer['hangs']] == ['hang'] and answer['hangs'][0][
            'ended'
        ] is None
        *serving, main = answer['threads']
        assert {thread['request']['path'] for thread in serving} == {'/0', '/1'} and main[
            'name'
        ] == 'MainThread'
        for thread in serving:
            assert (
                'serve' in [frame['function'] for frame in thread['frames']]
                and thread['activity'] == 'lock'
            )
        assert {slow['path'] for slow in answer['slow']} == {'/0', '/1'}
        assert all(
            slow['samples'] and slow['shares'] and slow['ended'] is None for slow in answer['slow']
        )
        sample = blackboxreader.read(bytes(rounds.recorder.buffer)).last_sample
        assert (sample.in_flight, sample.overdue, sample.workers) == (2, 2, 2)
        server.stop()  # its threads end one after the other; a beat may come between them
        until(
            lambda: kinds(rounds)[:2] == ['hang', 'hang-ended'] and not rounds.slow.are_in_flight(),
            'its end',
        )
        answer = ask(tmp_path, 'stacks', PATIENCE)
        # For the beat in between, the worker that has not ended yet may be all busy workers.
        hang = next(hang for hang in answer['hangs'] if hang['kind'] == 'hang')
        assert hang['ended'] > hang['started']
        assert {slow['ended'] is None for slow in answer['slow']} == {False}
        assert 'hang' not in [finding.id for finding in rounds.life.findings]

    def test_a_hang_is_noted_even_if_the_threads_cannot_be_read(self, rounds, server, tmp_path):
        def fail():
            raise OSError('a reason')

        watching(rounds, fail)
        rounds.start()
        until(lambda: kinds(rounds) == ['hang'], 'a hang')
        answer = ask(tmp_path, 'stacks', PATIENCE)
        assert answer['threads'] == [] and len(answer['slow']) == 2
        assert 'serve' in [frame.function for frame in notes(rounds)[0].frames], 'a stack was kept'
        beats = rounds.heartbeat.beats
        until(lambda: rounds.heartbeat.beats > beats + ROUND)
        found = {finding.id: finding.detail for finding in rounds.life.findings}
        assert found['threads'] == 'OSError: a reason.'
        assert not [id for id in found if id.startswith('heartbeat-')], 'no duty was switched off'

    def test_a_stack_gauge_that_fails_affects_nothing_else(self, life, server, rounds):
        def fail(*args):
            raise ValueError('broken')

        life.gauge = SimpleNamespace(measured=fail, look=lambda: None)
        watching(rounds, lambda: tuple(server.states()))
        assert len(rounds.snapshot()) == 3
        assert [finding.id for finding in life.findings] == ['measured-stacks']


class TestDeadlocks:
    def test_a_deadlock_is_found_while_other_threads_still_serve(self, life, rounds, server):
        life.options.stall = rounds.hangs.stall = 3600
        server.deadlocked = True
        watching(rounds, lambda: tuple(server.states()))
        rounds.start()
        until(lambda: kinds(rounds) == ['deadlock'], 'the deadlock of two slow requests')
        server.stop()
        server.deadlocked = False
        until(lambda: kinds(rounds) == ['deadlock', 'deadlock-ended'], 'its end')

    def test_a_deadlock_is_found_in_a_hang_without_slow_requests(self, life, rounds, server):
        rounds.slow.are_in_flight = lambda: False
        rounds.slow.look = lambda: None
        server.deadlocked = True
        watching(rounds, lambda: tuple(server.states()))
        rounds.start()
        until(lambda: {'hang', 'deadlock'} <= set(kinds(rounds)), 'the deadlock')

    def test_each_stack_of_a_slow_request_that_is_kept_is_a_look_at_the_locks(
        self, life, rounds, server
    ):
        """Else a deadlock would wait for two whole rounds, 40 seconds with the defaults."""
        life.options.stall = rounds.hangs.stall = 3600
        rounds._look_for_deadlock = lambda: pytest.fail('a round came first')
        server.deadlocked = True
        watching(rounds, lambda: tuple(server.states()))
        rounds.slow.states()
        assert kinds(rounds) == []
        rounds.slow.states()
        assert kinds(rounds) == ['deadlock']

    def test_a_deadlock_seen_before_and_after_a_pause_does_not_begin(self, rounds, server):
        server.deadlocked, slow = True, [True, False, True]
        threads = watching(rounds, lambda: tuple(server.states()))
        rounds.slow.are_in_flight = lambda: slow.pop()
        for _ in range(3):
            rounds._look_for_deadlock()
        assert threads.asked == 2 and kinds(rounds) == []

    def test_a_deadlock_seen_just_now_is_reported_at_once(self, life, rounds, server):
        server.deadlocked = True
        watching(rounds, lambda: tuple(server.states()))
        (hang,) = rounds.tell_stacks()['hangs']
        assert (hang['kind'], hang['ended'], hang['severity']) == ('deadlock', None, 'warning')
        assert kinds(rounds) == [] and list(life.findings) == [], (
            'only the heartbeat begins a deadlock'
        )

    def test_the_threads_are_not_read_while_nothing_hangs(self, rounds):
        threads = watching(rounds, tuple)
        rounds.start()
        until(lambda: rounds.heartbeat.beats > 3 * ROUND)
        assert threads.asked == 0


class TestWorkers:
    def test_workers_are_searched_only_when_threads_have_begun_or_ended(self, rounds):
        looks, seen = [], watching(rounds, list)
        rounds.workers.look = lambda: looks.append(1)

        def looked(*tids):
            seen.fresh = dict.fromkeys(tids, time.monotonic())
            rounds._look_at_workers()
            return len(looks)

        assert [looked(1, 2), looked(1, 2), looked(1, 2, 3), looked(1, 2, 3), looked(1, 2, 4)] == [
            1,
            1,
            2,
            2,
            3,
        ]
        assert [looked(), looked(), looked()] == [4, 5, 6], (
            'looks each time if nothing is known of the threads'
        )

    def test_a_thread_that_serves_for_the_first_time_counts_at_once(self, rounds):
        rounds.take_sample()
        before = blackboxreader.read(bytes(rounds.recorder.buffer)).last_sample.workers
        rounds.recorder.begin('GET', '/')
        rounds.take_sample()
        assert blackboxreader.read(bytes(rounds.recorder.buffer)).last_sample.workers == before + 1


class TestSpinning:
    def test_a_spinning_thread_is_noted_when_it_begins_and_ends(self, rounds):
        main = ThreadState(7, 'MainThread', native_id=8, kind='main', activity='running', cpu=1.0)
        threads = watching(rounds, lambda: (main,))
        threads.spins = True
        rounds.start()
        until(lambda: kinds(rounds) == ['spinning'])
        threads.spins = False  # from now on the states are not read any more
        until(lambda: kinds(rounds) == ['spinning', 'spinning-ended'])

    @pytest.mark.gcc
    def test_a_thread_that_python_does_not_know_can_spin(self, rounds, native_threads):
        rounds.start()
        # one note of the event, and one of its thread
        until(lambda: len(notes(rounds)) == 2, 'a thread that spins beside two that sleep')
        begun, thread = notes(rounds)
        assert thread.ident == 0 and Path(f'/proc/self/task/{thread.native_id}').exists()
        assert hangnotes.threads(notes(rounds), begun) == [thread]
        native_threads.end()
        until(lambda: kinds(rounds) == ['spinning', 'spinning-ended'], 'its end')
        assert hangnotes.lasting(notes(rounds), 'spinning') is None

    def test_two_bursts_with_a_pause_are_not_spinning(self, rounds):
        threads = watching(
            rounds,
            lambda: (ThreadState(7, 'x', native_id=8, kind='other', activity='running', cpu=1.0),),
        )
        for threads.spins in (True, False, True, False, True):
            rounds._look_for_spinning()
        assert threads.asked == 3 and kinds(rounds) == []


class TestTheServersLoop:
    def test_the_loop_is_checked_in_each_round_and_at_each_beat_while_it_is_stuck(self, rounds):
        loop = rounds.loop = SimpleNamespace(place=('a place',), stood=0.0, looks=0)
        loop.look = lambda reading: setattr(loop, 'looks', loop.looks + 1)
        watching(rounds, tuple)
        rounds.start()
        until(lambda: loop.looks > 2)
        assert kinds(rounds) == [] and rounds.heartbeat.beats > ROUND * (loop.looks - 2)
        loop.stood = 1.0
        until(lambda: kinds(rounds) == ['hang'], 'a hang')
        looks, beats = loop.looks, rounds.heartbeat.beats
        until(lambda: rounds.heartbeat.beats > beats + ROUND // 2)
        assert loop.looks - looks >= ROUND // 2
        loop.place, loop.stood = (), 0.0
        until(lambda: kinds(rounds) == ['hang', 'hang-ended'], 'its end')

    def test_the_loop_expects_one_look_in_each_round(self, life, rounds):
        assert rounds.loop.pause == ROUND * life.options.sample_interval

    def test_the_rate_is_that_of_requests_begun_since_the_last_call(self, rounds, monkeypatch):
        clock = [rounds._begun[0] + 10]
        monkeypatch.setattr(rounds_module.time, 'monotonic', lambda: clock[0])
        for _ in range(500):
            rounds.recorder.begin('GET', '/')
            rounds.recorder.end(200)
        assert rounds._served() == pytest.approx(50)
        clock[0] += 10
        assert rounds._served() == 0


class TestTheRealThreads:
    def test_stacks_of_this_process_are_answered(self, rounds, server, tmp_path):
        rounds.start()
        until(lambda: rounds.inbox)
        answer = ask(tmp_path, 'stacks', PATIENCE)
        found = {thread['ident']: thread for thread in answer['threads']}
        for thread in server.threads:
            assert 'serve' in [frame['function'] for frame in found[thread.ident]['frames']]
            assert found[thread.ident]['request']['path'] in ('/0', '/1')
        assert found[threading.main_thread().ident]['name'] == 'MainThread'
        assert found[rounds.heartbeat.ident]['kind'] == 'monitor'
        assert abs(answer['time'] - time.time()) < 60


class TestAlarms:
    @pytest.mark.parametrize(
        'begin',
        [
            pytest.param(lambda rounds: rounds.recorder._free.clear(), id='slots are few'),
            pytest.param(
                lambda rounds: rounds.hangs.lasting.update({'hang': None}), id='a hang lasts'
            ),
            pytest.param(
                lambda rounds: rounds.slow.watched.update({1: None}), id='a slow request is watched'
            ),
            pytest.param(
                lambda rounds: rounds.recorder.begin('GET', '/', _monotonic=lambda: 1.0),
                id='a request is old',
            ),
        ],
    )
    def test_few_slots_a_hang_or_a_slow_request_alarm_the_heartbeat(self, rounds, begin):
        rounds.take_sample()
        assert not rounds.heartbeat.alarmed
        begin(rounds)
        rounds.take_sample()
        assert rounds.heartbeat.alarmed

    def test_slots_of_ended_threads_are_released_in_each_round(self, life):
        with beating(life):
            thread = threading.Thread(target=lambda: life.recorder.begin('GET', '/'))
            thread.start()
            thread.join(PATIENCE)
            until(lambda: not life.recorder.slots)


class TestTheParts:
    def test_without_timers_the_watchdog_is_a_finding_and_all_else_works(self, rounds, tmp_path):
        rounds.start()
        until(lambda: rounds.inbox)
        assert ask(tmp_path, 'stacks', PATIENCE)['threads']
        (finding,) = rounds.life.findings
        assert (
            finding.id == 'watchdog'
            and 'timer_create' in finding.detail
            and rounds.watchdog is None
        )

    @pytest.mark.parametrize(
        'stall, cpu, each',
        [(0.5, 0.005, 4), (30, 0.03, 250), (60, 0.06, 500), (3600, 0.1, 30000), (0.01, 0.005, 1)],
    )
    def test_the_watchdog_gets_its_timeout_and_cpu_time_from_stall(
        self, life, watchdogs, stall, cpu, each
    ):
        life.options.stall = stall
        with beating(life) as rounds:
            until(lambda: rounds.heartbeat.beats > 4 * ROUND)
        (path, timeout, given, mode), watchdog = watchdogs[0]
        assert (path, mode) == (life.directory.path, 0o600) and given == pytest.approx(cpu)
        least = max(stall, 3 * life.options.sample_interval)
        assert least <= timeout <= least * 13 / 12, 'after the stall, or a little later'
        beats = rounds.heartbeat.beats
        assert (
            watchdog.calls.count('own') == (beats - 1) // each + 1
            and watchdog.calls.count('threads') == 1
        )
        assert watchdog.calls[-1] == 'disarmed' and not list(life.findings)

    def test_the_checks_of_a_run_are_called_in_each_round(self, life, watchdogs):
        looks, here = [], []
        life.checks = lambda: ((lambda: looks.append(here[0].heartbeat.beats),), ())
        rounds = Rounds(life)
        here.append(rounds)
        rounds.start()
        until(lambda: len(looks) == 3)
        stop(rounds)
        assert looks == [0, ROUND, 2 * ROUND]

    def test_the_inspections_of_a_run_take_turns(self, life, watchdogs):
        life.checks = lambda: ((), (inspect,))
        inspect, seen = lambda: seen.append(rounds.heartbeat.beats), []
        with beating(life) as rounds:
            until(lambda: len(seen) == 3)
        assert seen == [ROUND, 5 * ROUND, 9 * ROUND], (
            'its turn is after that of the host, and before those of watchdog and inbox'
        )
        assert watchdogs[0][1].calls.count('check') in (2, 3)

    def test_the_watchdog_guards_the_workers(self, life, watchdogs):
        with beating(life):
            until(lambda: watchdogs and watchdogs[0][1].guarded == {})
            server = Server(life.recorder, 2)
            serving = {index: slot.native_id for index, slot in life.recorder.slots.items()}
            until(lambda: watchdogs[0][1].guarded == serving and len(serving) == 2)
            server.stop()
            until(lambda: watchdogs[0][1].guarded == {})

    def test_new_workers_are_guarded_before_the_next_round(self, life, watchdogs, monkeypatch):
        monkeypatch.setattr(heartbeat_module, 'ROUND', sys.maxsize)
        with beating(life):
            until(lambda: watchdogs and watchdogs[0][1].guarded == {})
            server = Server(life.recorder, 2)
            until(lambda: len(watchdogs[0][1].guarded) == 2)
            server.stop()

    def test_timers_are_restarted_between_duties_if_the_heartbeat_has_used_much_cpu_time(
        self, life, watchdogs
    ):
        with beating(life) as rounds:
            until(lambda: watchdogs)
            watchdogs[0][1].used_up = True
            until(lambda: watchdogs[0][1].calls.count('own') > ROUND)
        calls, duties = watchdogs[0][1].calls, len(rounds.heartbeat.duties)
        # In a beat, the first duty restarts the timer of the heartbeat ("own").  The calls after it
        # come before the other duties.
        last = len(calls) - calls[::-1].index('own')
        assert calls[last:].count('threads') == duties - 1

    @pytest.mark.parametrize('part', ['rearm', 'rearm_threads'])
    def test_a_watchdog_that_fails_is_disarmed(self, life, watchdogs, part):
        def fail(*words):
            raise OSError('timer_settime failed')

        with beating(life) as rounds:
            until(lambda: watchdogs)
            setattr(watchdogs[0][1], part, fail)
            watchdogs[0][1].guarded = None
            until(lambda: list(life.findings))
            assert (
                'disarmed' in watchdogs[0][1].calls
                and 'timer_settime' in next(iter(life.findings)).detail
            )
            beats = rounds.heartbeat.beats
            until(lambda: rounds.heartbeat.beats > beats + ROUND)

    def test_workers_without_timers_are_one_finding(self, life, watchdogs):
        with beating(life) as rounds:
            until(lambda: watchdogs)
            watchdogs[0][1].rearm_threads = lambda threads, watch: '[Errno 11] timer_create failed.'
            watchdogs[0][1].guarded = None
            until(lambda: rounds.heartbeat.beats > 2 * ROUND)
        (finding,) = life.findings
        assert (finding.id, finding.severity.code) == (
            'watchdog-threads',
            'info',
        ) and 'timer_create' in finding.detail

    def test_work_that_takes_cpu_time_runs_in_the_thread_aside(self, life, server, tmp_path):
        """The answers to mailbox requests, the look at slow requests, and the trace log."""
        done = []
        life.trace_log = SimpleNamespace(
            write=lambda: done.append(('trace log', threading.current_thread().name))
        )
        with beating(life) as rounds:
            until(lambda: rounds.slow.watched)
            look = rounds.slow.look
            rounds.slow.look = lambda: (
                done.append(('slow', threading.current_thread().name)),
                look(),
            )
            until(lambda: rounds.inbox)
            rounds.inbox.answers['stacks'] = lambda: done.append(
                ('stacks', threading.current_thread().name)
            )
            ask(tmp_path, 'stacks', PATIENCE)
            until(lambda: {what for what, _ in done} == {'trace log', 'slow', 'stacks'})
        assert {name for _, name in done} == {'StabilityMonitor aside'}

    def test_the_threads_are_read_in_the_thread_aside(self, rounds):
        places = []
        watching(rounds, lambda: places.append(threading.get_ident()) or ())
        rounds.snapshot()
        (place,) = places
        assert place != threading.get_ident()

    def test_an_inbox_that_cannot_be_made_is_a_finding(self, life, rounds, tmp_path):
        (tmp_path / 'questions').touch()
        rounds.start()
        until(lambda: rounds.heartbeat.beats > 2)
        assert {finding.id for finding in life.findings} == {'watchdog', 'inbox'}

    def test_without_a_directory_samples_are_taken(self, life, rounds):
        life.directory = None
        rounds.start()
        until(lambda: blackboxreader.read(bytes(life.recorder.buffer)).samples)
        assert list(life.findings) == [] and rounds.inbox is None

    def test_the_heartbeat_waits_for_no_log_handler_while_it_lives(self, rounds):
        rounds.start()
        until(lambda: rounds.heartbeat.ident in loglater.HURRIED)
        rounds.heartbeat.stop(PATIENCE)
        stop(rounds)
        assert rounds.heartbeat.ident not in loglater.HURRIED, (
            'another thread may get the same ident'
        )

    def test_the_stack_gauge_is_read_in_each_round(self, life):
        looks = []
        life.gauge = SimpleNamespace(look=lambda: looks.append(1), measured=lambda states: states)
        rounds = Rounds(life)
        rounds.start()
        until(lambda: len(looks) == 2)
        assert rounds.heartbeat.beats >= ROUND
        stop(rounds)


# -- the whole life --------------------------------------------------------------------------------


def test_each_round_adds_to_the_curve_over_the_whole_life(rounds, life):
    heartbeat = rounds.heartbeat
    heartbeat.beat()
    assert blackboxreader.read_curve(life.recorder.buffer) == (), 'there was no sample yet'
    heartbeat.is_round_due = True
    heartbeat.beat()
    (point,) = blackboxreader.read_curve(life.recorder.buffer)
    first, _ = blackboxreader.read_samples(life.recorder.buffer)
    assert (point.time, point.rss, point.peak) == (first.time, first.rss, first.rss)


def test_errors_of_accept_are_not_known_without_waitress(rounds, life):
    rounds.heartbeat.beat()
    (sample,) = blackboxreader.read_samples(life.recorder.buffer)
    assert (sample.accept_errors, sample.connection_limit, sample.connections) == (-1, -1, -1)
    assert sample.descriptor_limit != 0


@pytest.mark.skipif(not processend.is_possible(), reason='no pidfd here')
@pytest.mark.parametrize(
    'role, short, watches', [('server', False, 1), ('script', False, 0), ('server', True, 0)]
)
def test_only_a_server_with_enough_descriptors_watches_siblings(
    life, tmp_path, role, short, watches
):
    life.role, life.is_short_of_descriptors = role, short
    life.base = Base(tmp_path / 'stability')
    life.base.prepare()
    rounds = Rounds(life)
    rounds._in_thread()
    named = [duty.__qualname__ for duty in (*rounds.heartbeat.duties, *rounds.heartbeat.rounds)]
    assert named.count('Siblings.look') == named.count('Siblings.look_at_all') == watches
    rounds.detach()
