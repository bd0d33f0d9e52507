"""The watchdog: while C code holds the GIL, each worker writes its own stack; a healthy process is
neither harmed nor marked.

These are real processes, because the watchdog could kill them; `programs/armed.py` has their code.
"""

import os
import re
import signal
import sys
import time

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until
from support.childprograms import Program
from support.childprograms import run_python

from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.postmortem.evidence import World
from Products.StabilityMonitor.postmortem.evidence import collect
from Products.StabilityMonitor.recording.watchdog import TURNS

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith('linux'), reason='only Linux has timers that signal one thread'
    ),
    pytest.mark.skipif(
        not os.path.exists('/proc/self/timers'), reason='this kernel has no /proc/self/timers'
    ),
]
SERVING = [f'watchdog-{slot}' for slot in range(4)]
STACK = 'Stack (most recent call first):'


def until_all_have_written(victim):
    """Wait for all marks.  While the GIL is held, the heartbeat needs 2 to 5 s to use 0.01 s of CPU
    time; each lost turn takes ten seconds more.
    """

    def have_written():
        assert victim.lives, sorted(victim.marks())
        return set(victim.marks()) == {'watchdog', *SERVING}

    until(have_written, 'the marks of all', 10 * PATIENCE, pause=0.05)


def stacks_in(folder):
    """Return how many stacks each mark in `folder` has: {name: count}."""
    return {
        path.stem: path.read_bytes().count(STACK.encode()) for path in folder.glob('watchdog*.mark')
    }


@pytest.mark.slow(25)
class TestAHeldGIL:
    @pytest.mark.parametrize(
        'how',
        [
            'waiting',
            pytest.param('sleeping', marks=pytest.mark.thorough),
            pytest.param('working', marks=pytest.mark.thorough),
        ],
    )
    def test_each_worker_writes_its_own_stack(self, start, how):
        victim = start('hold_gil_among_servers', 'stall=500ms', how).go('holding')
        until_all_have_written(victim)
        victim.signal('SIGKILL')
        assert victim.end() == -signal.SIGKILL
        marks, slots = (
            victim.marks(),
            {thread.slot: ident for ident, thread in victim.box.threads.items()},
        )
        served = {request.ident: request.path for request in victim.box.in_flight}
        assert 'heartbeat.py' in marks['watchdog'] and 'armed.py' not in marks['watchdog']
        for slot in range(4):
            last = marks[f'watchdog-{slot}'].rpartition(STACK)[2]
            own = re.search(r'line \d+ in (\w+)', last)[1]
            assert own == ('hold_gil' if served[slots[slot]] == '/holding' else 'standing')

    @pytest.mark.thorough
    def test_a_worker_that_holds_it_in_its_first_request_is_named(self, start):
        """Its timers are armed while it is idle."""
        victim = start('hold_gil_in_first_request', 'stall=500ms', 'waiting').go('holding')
        until(
            lambda: {'watchdog-0', 'watchdog-1'} <= set(victim.marks()),
            'the marks',
            10 * PATIENCE,
            pause=0.05,
        )
        victim.signal('SIGTERM').end()
        record = triage.examine(victim.path, World())
        assert record.verdict == 'hung' and ': GET /first was in hold_gil (' in record.summary
        facts = [evidence.fact for evidence in record.evidence if 'was in' in evidence.fact]
        (fact,) = facts
        assert 'was in hold_gil (' in fact, 'what the idle worker did is no evidence'

    @pytest.mark.thorough
    def test_the_next_process_reports_the_held_gil_and_the_blocked_requests(self, start):
        victim = start('hold_gil_among_servers', 'stall=500ms', 'waiting').go('holding')
        until_all_have_written(victim)
        victim.signal('SIGTERM')
        assert victim.end() == -signal.SIGTERM
        record = triage.examine(victim.path, World())
        assert (record.verdict, record.signal) == ('hung', 'SIGTERM')
        assert re.search(r': GET /\d was in standing \(', record.summary)
        facts = ' '.join(evidence.fact for evidence in record.evidence)
        assert '(GIL)' in facts and 'was in hold_gil (' in facts
        stood = {
            thread.ident: thread.frames[0].function for thread in record.threads if thread.frames
        }
        assert [
            stood[request.ident]
            for request in sorted(record.requests, key=lambda request: request.path)
        ] == ['standing', 'standing', 'standing', 'hold_gil']


def no_signal_came_too_early(fired, charged, cpu):
    """Return whether no worker got a signal too early: before the heartbeat has used `cpu` seconds.

    `charged` is the CPU time in seconds that the kernel has charged to the heartbeat.  It counts
    even if the heartbeat did not work so long: when a virtual machine is paused, the kernel charges
    that time to the thread that was running.
    """
    return fired == dict.fromkeys(SERVING, 0) or charged >= cpu


class TestAHealthyServer:
    def test_threads_that_are_blocked_for_long_leave_no_mark(self, start):
        """The requests are slow, or the site hangs; but the heartbeat beats."""
        victim = start('serve_guarded', 'stall=1500ms').go('guarded')
        began = victim.box.last_sample.monotonic
        until(lambda: victim.box.last_sample.monotonic - began > 5)
        victim.tell('')
        assert victim.end() == 0 and victim.marks() == victim.late_marks(1.5)

    def test_an_errand_that_takes_a_second_of_cpu_time_leaves_no_mark(self, start):
        victim = start('work_aside').go('done')
        assert {path.stem for path in victim.path.glob('watchdog*.mark')} == {'watchdog', *SERVING}
        victim.tell('')
        assert victim.end() == 0 and victim.marks() == {}

    def test_a_heartbeat_that_works_hard_leaves_no_mark_of_a_worker(self, start):
        victim = start('work_in_each_duty', 'stall=10s').go('done')
        victim.tell('')
        assert victim.end() == 0 and not set(victim.marks()) & set(SERVING)

    def test_a_suspended_process_survives_the_mark_of_the_heartbeat_and_has_no_other(self, start):
        victim = start('serve_guarded', 'stall=500ms').go('guarded').signal('SIGSTOP')
        os.waitid(os.P_PID, victim.process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(1.3)  # longer than any timer, so that all that can expire have expired
        victim.signal('SIGCONT').tell('hello', 'alive')
        until(victim.marks, 'a mark')
        assert set(victim.marks()) == {'watchdog'}
        until(
            lambda: all(
                victim.box.survived[name] >= len(text) for name, text in victim.marks().items()
            ),
            'the marks to count as survived',
        )
        victim.signal('SIGKILL').end()
        found = collect(victim.path, World())
        assert (found.hang, found.stuck) == (None, {}), 'a survived mark is not evidence'

    @pytest.mark.slow
    def test_a_busy_process_survives_200_suspensions(self, start, tmp_path):
        victim = start('short_watchdog', str(tmp_path), '0.02', armed=False).go('busy')
        until(lambda: set(stacks_in(tmp_path)) == {'watchdog', *SERVING})
        for _ in range(200):
            victim.signal('SIGSTOP')
            assert victim.process.returncode is None, 'it died after the previous suspension'
            os.waitid(os.P_PID, victim.process.pid, os.WSTOPPED | os.WNOWAIT)
            time.sleep(0.025)  # longer than the timeout
            victim.signal('SIGCONT').tell('hello')
            assert victim.hear() == 'alive', (victim.end(), victim.errors)
        victim.tell('', 'timers 0')
        charged = float(victim.hear())
        assert victim.end() == 0, victim.errors
        fired = stacks_in(tmp_path)
        assert fired.pop('watchdog') >= 50, 'it was suspended for longer than the timeout'
        assert no_signal_came_too_early(fired, charged, 0.02)

    @pytest.mark.slow
    def test_a_process_that_gets_little_cpu_survives(self, start, tmp_path):
        """The heartbeat is always late, but uses as much CPU time as usual: the process survives,
        and no worker gets a signal.
        """
        others = [Program('-c', 'while True: pass') for _ in range(2 * os.cpu_count())]
        try:
            victim = start('short_watchdog', str(tmp_path), '0.02', '10', '0.06', armed=False).go(
                'busy'
            )
            until(
                lambda: stacks_in(tmp_path).get('watchdog', 0) >= 10,
                'the timer of the heartbeat to fire',
            )
            assert victim.lives
        finally:
            for other in others:
                other.clean_up()
        victim.tell('hello', 'alive').tell('', 'timers 0')
        charged = float(victim.hear())
        assert victim.end() == 0, victim.errors
        fired = stacks_in(tmp_path)
        assert fired.pop('watchdog') >= 10 and no_signal_came_too_early(fired, charged, 0.06)


class TestThreadsThatComeAndGo:
    def test_10000_threads_leave_no_timer_descriptor_or_file(self, start):
        victim = start('new_threads', '10000').go()
        early, late = victim.hear(), victim.hear()
        assert early == late and early.startswith('now ')
        _, timers, _, files = map(str, late.split())
        assert int(files) <= 8 and int(timers) <= TURNS * int(files) + 1
        given_up = {'heartbeat-Rounds._guard_threads', 'watchdog-threads', 'watchdog'}
        assert not given_up & set(victim.hear().split())
        assert victim.end() == 0

    def test_an_ended_thread_with_a_slot_does_not_affect_the_others(self, tmp_path):
        code = f"""if True:
            import sys, threading, pathlib
            from programs.armed import own_timers, until
            from Products.StabilityMonitor.recording.watchdog import Watchdog
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            until(lambda: not pathlib.Path(f'/proc/self/task/{{thread.native_id}}').exists())
            gone, here = thread.native_id, threading.get_native_id()
            watchdog = Watchdog(pathlib.Path({str(tmp_path)!r}), 3600)
            seen = []
            both = {{0: gone, 1: here}}, {{0: here, 1: gone}}
            for threads in (*both, {{0: here}}, {{}}, {{20: here}}):
                watchdog.rearm_threads(threads, lambda name, file: seen.append(name))
                print(own_timers(), end=' ')
            watchdog.disarm()
            watchdog.rearm_threads({{1: here}})
            print(own_timers(), *seen)
        """
        one = 1 + TURNS
        done = run_python('-c', code)
        assert done.stdout == f'{one} {one} {one} 1 1 0 watchdog-0 watchdog-1\n', done.stderr

    def test_a_thread_whose_timers_cannot_be_made_does_not_affect_the_others(self, tmp_path):
        """As when the user has too many pending signals.  The other timers must not expire."""
        code = f"""if True:
            import sys, threading, pathlib
            from programs.armed import own_timers
            from Products.StabilityMonitor.recording import watchdog as watchdog_module
            new_timer, refused = watchdog_module._new_timer, []

            def limited(clock, number, native_id):
                if native_id in refused and own_timers() >= 1 + 5 * len(threads) - 2:
                    raise OSError(11, 'timer_create failed')
                return new_timer(clock, number, native_id)
            watchdog_module._new_timer = limited
            gate = threading.Event()
            threads = [threading.Thread(target=gate.wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            watchdog = watchdog_module.Watchdog(pathlib.Path({str(tmp_path)!r}), 3600, 3600)
            refused.append(threads[2].native_id)
            serving = {{slot: thread.native_id for slot, thread in enumerate(threads)}}
            for _ in range(3):
                reasons = watchdog.rearm_threads(serving)
                print(repr(reasons), own_timers(), sorted(watchdog._unguarded))
            serving[2] = threads[1].native_id
            reasons = watchdog.rearm_threads(serving)
            print(repr(reasons), own_timers(), sorted(watchdog._unguarded))
            gate.set()
        """
        done = run_python('-c', code)
        without = f"'[Errno 11] timer_create failed.' {1 + 2 * TURNS} [2]\n"
        assert done.stdout == 3 * without + f"'' {1 + 3 * TURNS} []\n", done.stderr


def test_a_forked_child_changes_no_mark_and_no_timer(start):
    victim = start('fork_guarded', 'stall=60s').go('child 0 0', f'parent True {1 + 2 * TURNS}')
    files = {path: path.read_bytes() for path in victim.path.glob('watchdog*.mark')}
    assert len(files) == 3 and not any(text.strip(b'\0') for text in files.values())
    victim.tell('')
    assert victim.end() == 0


def test_a_killed_process_that_was_hanging_is_judged_with_its_threads(start):
    """The real heartbeat notes the start of a real hang; then the process is killed."""
    victim = start('hang', 'stall=500ms', 'slow-request=200ms').go()
    idents = {int(ident) for ident in victim.hear().split()[1:]}
    until(lambda: len([note for note in victim.box.notes if note.kind == 'hang']) > len(idents))
    victim.signal('SIGKILL').end()
    record = triage.examine(victim.path, World())
    assert record.verdict == 'hung' and 'when it ended without a trace' in record.summary
    assert 'All 3 workers have been busy' in ' '.join(evidence.fact for evidence in record.evidence)
    hang = next(hang for hang in record.hangs if hang.kind == 'hang')
    assert hang.lasts and hang.started < record.ended
    stood = {thread.ident: [frame.function for frame in thread.frames] for thread in record.threads}
    assert idents <= set(stood) and all('standing' in stood[ident] for ident in idents)
    assert {note.kind for note in record.notes} >= {'hang', 'slow'}


def test_the_handler_of_the_heartbeat_does_not_change_errno(tmp_path):
    """Python 3.14 aborts when the heartbeat waits for a lock and errno has changed meanwhile."""
    code = f"""if True:
        import ctypes, pathlib, sys, threading
        from Products.StabilityMonitor.recording import watchdog as watchdog_module
        watchdog = watchdog_module.Watchdog(pathlib.Path({str(tmp_path)!r}), 3600, 3600)
        libc = ctypes.PyDLL(None, use_errno=True)
        for _ in range(3):
            ctypes.set_errno(77)
            libc.pthread_kill(ctypes.c_ulong(threading.get_ident()), watchdog._own.signal)
            print(ctypes.get_errno(), watchdog.file.length > 0)
        number = watchdog._own.signal
        watchdog.detach()
        line = next(line for line in open('/proc/self/status') if line.startswith('SigIgn'))
        print('ignored', int(line.split()[1], 16) >> number - 1 & 1)
    """
    done = run_python('-c', code)
    assert done.stdout == 3 * '77 True\n' + 'ignored 0\n', done.stderr
