"""Snapshots of real threads.  Threads that never end are in separate processes."""

import contextlib
import gc
import itertools
import json
import mmap
import sys
import threading
import time
import weakref

import pytest
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import environment
from support.childprograms import run_python

from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.system.cpushares import MOMENT
from Products.StabilityMonitor.system.cpushares import Load
from Products.StabilityMonitor.system.tasks import clock
from Products.StabilityMonitor.threads import snapshot
from Products.StabilityMonitor.threads.snapshot import ThreadWatch

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc of Linux')


@pytest.fixture
def play(tmp_path):
    """A function that runs a scene of threads until a snapshot shows the wanted activities.

    It returns ({name: state}, [deadlock]).
    """

    def play(scene, **wanted):
        done = run_python(
            PROGRAMS / 'thread_scenes.py',
            scene,
            *(f'{name}={code}' for name, code in wanted.items()),
            cwd=tmp_path,
            env={'PYTHONPATH': environment()['PYTHONPATH']},
        )
        assert done.stdout, done.stderr
        seen = json.loads(done.stdout)
        return {state['name']: state for state in seen['threads']}, seen['deadlocks']

    return play


@pytest.mark.parametrize(
    'scene, code, phrase',
    [
        ('spinner', 'running', '% of one CPU'),
        ('starving', 'gil', '% of one CPU'),
        ('asleep', 'sleep', ' in asleep'),
        ('receiving', 'socket', 'socket:['),
        ('receiving_for_a_time', 'socket', '127.0.0.1:'),
        ('receiving_by_tls', 'socket', '127.0.0.1:'),
        ('connecting', 'socket', '127.0.0.1:'),
        ('directory_service', 'database', 'LDAP, 127.0.0.1:'),
        ('reading_pipe', 'pipe', 'pipe:['),
        ('writing_pipe', 'pipe', 'pipe:['),
        ('writing_stdout', 'terminal', 'stdout is a pipe that is not read'),
        ('writing_terminal', 'terminal', 'stderr is a terminal that is not read'),
        ('child', 'subprocess', '(sleep)'),
        ('communicating', 'subprocess', ' in communicating'),
        ('file_lock', 'file', 'flock, '),
        ('opening_fifo', 'file', 'a-fifo'),
        ('in_c', 'native', 'futex'),
        ('event', 'waiting', 'an event at '),
        ('condition', 'waiting', 'a condition at '),
        ('queued', 'waiting', 'an entry in a queue at '),
        ('joining', 'waiting', 'the end of a thread at '),
        ('semaphore', 'lock', 'lock SEMAPHORE at '),
        ('server', 'listening', 'the loop of a socket server'),
    ],
)
def test_each_activity_of_a_real_thread_is_recognized(play, scene, code, phrase):
    states, cycles = play(scene, **{scene: code})
    assert phrase in states[scene]['detail'] and states[scene]['frames'] and cycles == []


@pytest.mark.zope
def test_a_worker_of_waitress_without_requests_is_idle(play):
    states, _ = play('worker', **{'waitress-0': 'idle', 'waitress-1': 'idle'})
    assert states['waitress-0']['kind'] == 'worker'


@pytest.mark.zope
def test_a_wait_for_the_commit_lock_is_a_wait_for_the_database(play):
    """With a real FileStorage, while another transaction votes and holds its commit lock."""
    states, cycles = play('committing', committing='database', _vote_slowly='sleep')
    detail = states['committing']['detail']
    assert detail.startswith(
        'its turn to commit to the ZODB, lock BaseStorage._commit_lock at ZODB/BaseStorage.py:'
    )
    assert cycles == []


@pytest.mark.zope
def test_a_wait_for_a_zeo_server_is_a_wait_for_the_database(play):
    pytest.importorskip('ZEO', reason='ZEO is not installed here')
    states, _ = play('asking_zeo', asking_zeo='database')
    assert states['asking_zeo']['detail'].startswith('ZEO, at ')
    assert 'loadBefore' in [frame['function'] for frame in states['asking_zeo']['frames']]


def test_a_thread_without_python_has_the_name_of_the_kernel(play):
    states, _ = play('without_python', **{'of-a-library': 'native'})
    found = states['of-a-library']
    assert (
        (found['ident'], found['frames']) == (0, [])
        and found['native_id'] > 0
        and 'pause' in found['detail']
    )


def test_threads_started_by_c_code_have_their_native_id(play):
    """`threading` does not know their names and native ids."""
    states, _ = play('of_c_code')
    assert not [state for state in states.values() if not state['native_id'] or not state['frames']]


@pytest.mark.parametrize('scene', ['lock', 'looking_for_lock'])
def test_the_thread_that_holds_the_lock_is_named(play, scene):
    states, cycles = play(scene, **{scene: 'lock', '_hold_a': 'sleep'})
    assert states[scene]['holders'] == [states['_hold_a']['ident']] and cycles == []
    assert states[scene]['detail'].startswith('lock A at programs/thread_scenes.py:')
    assert ', held by _hold_a at programs/thread_scenes.py:' in states[scene]['detail']


def test_a_log_that_is_not_read_blocks_all_threads_that_log(play):
    states, _ = play('logging_to_stderr', logging_to_stderr='terminal', log_more='lock')
    assert states['log_more']['holders'] == [states['logging_to_stderr']['ident']]


@pytest.mark.parametrize(
    'scene, known',
    [
        ('lock_pair', False),
        ('owned_pair', True),
        ('attributes', False),
        ('decorated', False),
        ('conditions', False),
        ('imports', False),
    ],
)
def test_two_threads_that_wait_for_each_other_are_a_deadlock(play, scene, known):
    states, cycles = play(scene, left='lock', right='lock')
    (cycle,) = cycles
    assert set(cycle['idents']) == {states['left']['ident'], states['right']['ident']}
    assert cycle['known'] == known
    assert states['left']['holders'] == [states['right']['ident']]
    assert states['right']['holders'] == [states['left']['ident']]
    assert ' waits for ' in cycle['text'] and ' holds at ' in cycle['text']


#: Python 3.11 cannot read a variable of another thread without changing its frame.
READS_VARIABLES = sys.version_info >= (3, 12)


@pytest.mark.parametrize(
    'scene, left, right',
    [
        ('items', "LOCKS['b', 1]", 'A'),
        ('items_of_self', "Cabinet.locks['c']", "Cabinet.locks['a']"),
        ('on_stack', 'B', 'A'),
        ('in_no_module', 'B', 'A'),
    ],
)
def test_locks_of_containers_and_of_code_in_no_module_are_known(play, scene, left, right):
    states, (cycle,) = play(scene, left='lock', right='lock')
    for name, other, lock in (('left', 'right', left), ('right', 'left', right)):
        assert states[name]['detail'].startswith(f'lock {lock} at ')
        assert f', held by {other} at ' in states[name]['detail']
        assert states[name]['holders'] == [states[other]['ident']]
    assert not cycle['known'] and not cycle['possible']
    assert cycle['text'].endswith('(inferred from the code)')


@pytest.mark.parametrize(
    'scene, lock, is_possible',
    [
        ('items_by_key', 'LOCKS[second]', not READS_VARIABLES),
        ('items_of_self_by_key', 'Cabinet.locks[second]', not READS_VARIABLES),
        ('made_on_demand', "BY_NAME['b']", True),
        ('from_call', 'get_lock(second)', True),
        ('by_call_of_call', 'get_lock(second)', True),
        ('local_variables', 'second', not READS_VARIABLES),
        ('crossed_variables', 'second', not READS_VARIABLES),
        ('enclosed_variables', 'second', not READS_VARIABLES),
        ('on_stack_from_call', 'get_lock(second)', True),
    ],
)
def test_if_the_lock_is_not_known_a_deadlock_is_only_possible(play, scene, lock, is_possible):
    states, (cycle,) = play(scene, left='lock', right='lock')
    assert cycle['possible'] == is_possible and not cycle['known']
    assert states['left']['holders'] == [states['right']['ident']]
    detail = states['left']['detail']
    if is_possible:
        line = states['left']['frames'][0]['line']
        if scene == 'on_stack_from_call':  # the innermost frame is that of the stack
            line = states['left']['frames'][1]['line']
        assert detail.startswith(f'taken by `{lock}` in line {line} of programs/thread_scenes.py')
        assert ', possibly held by right at ' in detail
        assert cycle['text'].endswith('(possible, inferred from the code)')
        assert ' waits for a lock taken by `' in cycle['text']
        assert ', which right may hold at ' in cycle['text']
    else:
        assert detail.startswith(f'lock {lock} at ')


@pytest.mark.skipif(not READS_VARIABLES, reason='Python 3.11 cannot read variables')
def test_a_variable_and_a_name_are_the_same_lock_if_their_value_is(play):
    states, (cycle,) = play('variables_and_names', left='lock', right='lock')
    assert states['left']['holders'] == [states['right']['ident']]
    assert not cycle['known'] and not cycle['possible']


def test_a_thread_that_may_hold_the_lock_and_works_makes_a_deadlock_impossible(play):
    states, cycles = play('calls_with_a_worker', left='lock', right='lock', works='sleep')
    assert cycles == []
    assert ' or works at ' in states['left']['detail']


def test_three_threads_that_wait_in_a_cycle_are_a_deadlock(play):
    states, (cycle,) = play('three', one='lock', two='lock', last='lock')
    order = [states[name]['ident'] for name in ('one', 'two', 'last')]
    start = order.index(cycle['idents'][0])
    assert cycle['idents'] == order[start:] + order[:start]


def test_a_thread_that_waits_for_its_own_lock_is_a_deadlock(play):
    states, (cycle,) = play('twice', alone='lock')
    assert cycle['idents'] == [states['alone']['ident']] and 'which it holds at' in cycle['text']


def test_the_lock_of_another_object_is_not_held_by_the_same_thread(play):
    states, cycles = play('chained_instances', left='lock')
    assert states['left']['holders'] == [states['sleeper']['ident']] and cycles == []


def test_if_several_threads_may_hold_a_lock_none_is_its_holder(play):
    states, cycles = play('two_instances', left='lock', right='lock')
    assert cycles == []
    assert (
        states['left']['holders'] == []
        and 'held by sleeper at back at ' in states['left']['detail']
    )
    assert ' or right at ' in states['left']['detail']


def test_a_thread_that_waits_in_a_condition_does_not_hold_its_lock(play):
    states, _ = play('idle_condition', left='waiting', right='waiting', third='lock')
    assert states['third']['holders'] == [states['right']['ident']]


# -- in this process -------------------------------------------------------------------------------

LEFT, RIGHT = threading.Lock(), threading.Lock()


class Threads:
    """Threads that call a function repeatedly until the end of the `with` block."""

    def __init__(self, function, count=1):
        self.over = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, args=(function,), daemon=True) for _ in range(count)
        ]

    def _run(self, function):
        while not self.over.is_set():
            function()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        for thread in self.threads:
            thread.join(20)


def test_contention_is_not_a_deadlock():
    """Six threads wait for the same two locks all the time, always in the same order."""

    def work():
        with LEFT:
            with RIGHT:
                sum(range(50))

    watch, waits = ThreadWatch(), 0
    with Threads(work, 6):
        for looks in itertools.count():
            observed = watch.observe()
            waits += sum(state.activity == 'lock' for state in observed.states)
            assert observed.deadlocks == ()
            if looks >= 100 and waits:
                break


def test_a_cycle_that_dissolves_at_once_is_not_a_deadlock():
    watch, meet, calls = ThreadWatch(), threading.Barrier(2), []
    left = threading.Thread(target=cross_left, args=(meet,), daemon=True)
    right = threading.Thread(target=cross_right, args=(meet,), daemon=True)
    left.start()
    right.start()
    assert until(lambda: watch.observe().deadlocks)

    def let_go(seconds):
        calls.append(seconds)
        RIGHT.release()
        left.join()

    watch.sleep = let_go
    assert watch.observe().deadlocks == () and calls == [snapshot.STILL]
    right.join()


def cross_left(meet):
    with LEFT:
        meet.wait()
        with RIGHT:
            pass


def cross_right(meet):
    with contextlib.suppress(RuntimeError):  # the test has released the lock
        with RIGHT:
            meet.wait()
            with LEFT:
                pass


def test_snapshots_work_while_thousands_of_threads_start_and_end():
    def churn():
        short = [threading.Thread(target=int) for _ in range(5)]
        for thread in short:
            thread.start()
        for thread in short:
            thread.join()
        started.append(5)

    watch, started = ThreadWatch(), []
    with Threads(churn, 2) as busy:
        while sum(started) < 5000:
            watch.loads.look()
            names = {state.ident for state in watch.snapshot()}
            assert {thread.ident for thread in busy.threads} <= names


def test_no_frame_is_kept():
    class Local:
        pass

    def work():
        local = Local()
        kept.append(weakref.ref(local))
        go.wait()

    kept, go, watch = [], threading.Event(), ThreadWatch()
    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: kept)
    states = watch.snapshot()
    assert any(frame.function == 'work' for state in states for frame in state.frames)
    gc.disable()
    try:
        go.set()
        thread.join()
        assert kept[0]() is None  # without a garbage collection
    finally:
        gc.enable()


def test_a_snapshot_does_not_need_the_lock_of_the_thread_list():
    done = []
    with threading._active_limbo_lock:
        thread = _in_thread(lambda: done.append(ThreadWatch().snapshot()))
        until(lambda: done)
    thread.join()
    assert any(state.kind == 'main' for state in done[0])


def _in_thread(function):
    """Run a function in a thread.  `Thread.start` would need the lock; `_thread` does not."""
    import _thread

    over = threading.Lock()
    over.acquire()

    def run():
        function()
        over.release()

    _thread.start_new_thread(run, ())

    class Joined:
        join = staticmethod(over.acquire)

    return Joined


def test_threads_are_ordered_by_kind():
    gate = threading.Event()
    made = [
        threading.Thread(target=gate.wait, name=name)
        for name in ('StabilityMonitor heartbeat', 'waitress-3', 'library')
    ]
    for thread in made:
        thread.start()
    states = {state.name: state for state in ThreadWatch().snapshot()}
    gate.set()
    for thread in made:
        thread.join()
    assert [
        (name, states[name].kind)
        for name in states
        if name in {'MainThread', *(t.name for t in made)}
    ] == [
        ('MainThread', 'main'),
        ('waitress-3', 'worker'),
        ('library', 'other'),
        ('StabilityMonitor heartbeat', 'monitor'),
    ]
    assert states['waitress-3'].native_id == made[1].native_id
    assert states['MainThread'].detail == 'takes this snapshot'


class TestRequests:
    @pytest.fixture
    def recorder(self):
        buffer = bytearray(box.SIZE)
        box.lay_out(buffer)
        box.seal(buffer)
        return Recorder(buffer)

    def own(self, recorder, clock=None):
        watch = ThreadWatch(recorder, **({'clock': clock} if clock else {}))
        return next(state for state in watch.snapshot() if state.ident == threading.get_ident())

    def test_a_request_in_progress_belongs_to_its_thread(self, recorder):
        recorder.begin('GET', '/shöp')
        recorder.phase(1)
        request = self.own(recorder, lambda: time.monotonic() + 100).request
        recorder.end()
        assert (request.method, request.path, request.phase) == (
            'GET',
            '/shöp',
            'publishing',
        )
        assert request.number == 1 and 100 <= request.seconds < 130 and request.started > 1.6e9

    def test_a_finished_request_belongs_to_no_thread(self, recorder):
        recorder.begin('GET', '/')
        recorder.end()
        assert self.own(recorder).request is None

    def test_the_request_is_read_at_the_same_moment_as_the_stack(self, recorder):
        """It may end, and another one begin, while starving threads are measured for a moment."""
        slept = []

        def meanwhile(seconds):
            slept.append(seconds)
            recorder.end(200)
            recorder.begin('GET', '/second')

        with Threads(lambda: sum(range(1000))) as busy:
            watch = ThreadWatch(recorder, sleep=meanwhile)
            watch.loads.now = lambda: {busy.threads[0].native_id: Load(0.0, 5.0)}
            recorder.begin('GET', '/first')
            states = until(
                lambda: (seen := watch.snapshot()) and slept and seen, 'a thread that is ready'
            )
        own = next(state for state in states if state.ident == threading.get_ident())
        assert slept == [MOMENT] and own.request.path == '/first'

    def test_a_detached_recorder_has_no_requests(self):
        """A forked child detaches the recorder."""
        recorder = Recorder(mmap.mmap(-1, box.SIZE))
        recorder.begin('GET', '/')
        assert self.own(recorder).request.path == '/'
        recorder.detach()
        assert self.own(recorder).request is None


class TestShares:
    def test_the_share_is_since_the_last_reading_that_is_a_second_old(self):
        now = [100.0]
        watch = ThreadWatch(clock=lambda: now[0])
        for moment in (100.0, 109.5, 110.0):
            now[0] = moment
            watch.loads.look()
        now[0] = 110.6
        assert self.main(watch).cpu_seconds == pytest.approx(1.1)
        now[0] = 120.0
        assert self.main(watch).cpu_seconds == pytest.approx(10.0)

    def test_the_first_snapshot_knows_no_share_and_does_not_sleep(self):
        def never(seconds):
            raise AssertionError('slept')

        assert self.main(ThreadWatch(sleep=never)).cpu is None

    def test_a_snapshot_does_not_sleep_if_no_thread_is_ready(self):
        def never(seconds):
            raise AssertionError('slept')

        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        watch = ThreadWatch(sleep=never)
        watch.loads.now = lambda: {
            thread.native_id: Load(0.0, 5.0),
            threading.get_native_id(): Load(0.0, 5.0),
        }
        try:
            until(lambda: watch.kernel.task(thread.native_id).state == 'S')
            assert [state.cpu for state in watch.snapshot() if state.ident == thread.ident] == [0.0]
        finally:
            event.set()
            thread.join()

    def test_busiest_has_the_shares_between_two_readings(self):
        now = [0.0]
        watch = ThreadWatch(clock=lambda: now[0])
        with Threads(lambda: sum(range(1000))) as busy:
            native_id = busy.threads[0].native_id
            watch.loads.look()
            assert watch.loads.busiest() == {}
            before = clock(native_id)
            until(lambda: clock(native_id) > before + 0.2)
            now[0] = 0.2
            watch.loads.look()
        assert watch.loads.busiest()[native_id] >= 0.9

    @staticmethod
    def main(watch):
        return next(state for state in watch.snapshot() if state.kind == 'main')


def test_stack_size_and_use_come_from_the_gauge():
    asked = []

    def gauge(ident, native_id):
        asked.append((ident, native_id))
        return (8 << 20, 4096) if ident == threading.get_ident() else None

    states = ThreadWatch(gauge=gauge).snapshot()
    own = next(state for state in states if state.ident == threading.get_ident())
    assert (own.stack_size, own.stack_used) == (8 << 20, 4096)
    assert (threading.get_ident(), threading.get_native_id()) in asked


def test_without_proc_activity_is_known_but_no_cpu_share(tmp_path):
    watch = ThreadWatch(proc=tmp_path)
    watch.loads.look()
    states = watch.snapshot()
    own = next(state for state in states if state.ident == threading.get_ident())
    assert (own.activity, own.cpu, own.native_id) == ('running', None, threading.get_native_id())


def test_deep_stacks_are_cut_at_the_limit():
    def deep(levels):
        if levels:
            return deep(levels - 1)
        return ThreadWatch().snapshot()

    own = next(
        state for state in deep(snapshot.MOST_FRAMES) if state.ident == threading.get_ident()
    )
    assert len(own.frames) == snapshot.MOST_FRAMES
