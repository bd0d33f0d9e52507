"""What the heartbeat does in a living run: everything that it watches, and its answers to mailbox
requests.

Duties run at each beat, alarms when the sample calls for them, rounds at each twentieth beat, and
inspections in turn, one in each round; see `heartbeat`.

Beats are a second apart, so the CPU caches hold nothing of the last beat: a call then costs ten
times as much as in a loop.  So a beat makes as few calls as possible.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from ..model.action import Action
from ..model.jsonform import to_json
from ..model.records import isotime
from ..model.severities import INFO
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..store.rundirectory import Base
from ..store.rundirectory import RunDirectory
from ..store.runmailbox import Inbox
from ..system import loglater
from ..system import signalmask
from ..system.vitalsigns import Vitals
from ..threads.snapshot import Observation
from ..threads.snapshot import ThreadWatch
from .background import aside
from .background import begin as begin_aside
from .faulthandler_compat import MarkFile
from .hangs import SPINNING
from .hangs import Hangs
from .heartbeat import ROUND
from .heartbeat import Duty
from .heartbeat import Heartbeat
from .heartbeat import SurvivedMarks
from .heartbeat import Workers
from .partguard import Findings
from .recorder import Recorder
from .serverloop import ServerLoop
from .slowrequests import SlowRequests
from .stackwatch import StackWatch
from .watchdog import Watchdog
from .watchdog import awaited_signals

if TYPE_CHECKING:  # it imports logging.handlers, and most runs have no trace log
    from .tracelog import TraceLog

#: CPU time (seconds) that the heartbeat uses for each second in which it waits for a held GIL.
_WAITING = 0.001
#: Bounds (seconds) of the heartbeat's CPU time after which the workers write their stacks.
_LEAST_CPU = 0.005
_MOST_CPU = 0.1
#: The heartbeat restarts its timer about this many times within the timer's timeout.
_REARMED = 6


class Watched(Protocol):
    """The parts of a living run that the heartbeat needs, see livingrun.LivingRun."""

    options: SimpleNamespace
    findings: Findings
    base: Base
    context: dict[str, Any]
    directory: RunDirectory | None
    recorder: Recorder | None
    is_short_of_descriptors: bool
    gauge: StackWatch | None
    trace_log: TraceLog | None

    def mark_files(self) -> dict[str, MarkFile]: ...

    def checks(self) -> tuple[tuple[Duty, ...], tuple[Duty, ...]]: ...


class Rounds:
    """All work of the heartbeat for a living run that has a recorder.

    `start` starts the heartbeat, once.  In a script this happens when it serves its first request:
    a process with threads gets a warning at each fork, from Python 3.12 on.
    """

    def __init__(self, life: Watched) -> None:
        if life.recorder is None:
            raise ValueError('the run has no recorder')
        self.life = life
        self.recorder = life.recorder
        self.options = life.options
        self.vitals = Vitals(
            life.context.get('cgroup', {}),
            holds_files=not life.is_short_of_descriptors,
        )
        self.workers = Workers(self.recorder)
        self.threads = ThreadWatch(self.recorder)
        self.loads = self.threads.loads
        self.slow = SlowRequests(
            self.recorder,
            self.options.slow_request,
            self.options.sample_interval,
            self.snapshot,
        )
        self.loop = ServerLoop(self.recorder, ROUND * self.options.sample_interval)
        self.hangs = Hangs(
            self.recorder,
            self.observe,
            life.findings,
            self.options.stall,
            self.loop.is_left,
        )
        self.watchdog: Watchdog | None = None
        self.inbox: Inbox | None = None
        self._awaited: frozenset[int] = frozenset()
        self._rearmed_each = 1  # the timer of the heartbeat is restarted once in this many beats
        # {subject: function that returns the answer}, for the inbox.  The function for "checks" is
        # replaced when Zope serves.
        self.answers: dict[str, Callable[[], Any]] = {
            'stacks': self.tell_stacks,
            'checks': self.tell_no_checks,
        }
        self._begun = (time.monotonic(), 0)
        # The arguments for Hangs.look, as of the last sample.
        self._in_flight: tuple[list[float], int, float] = ([], 0, 0.0)
        self.is_started = False
        self._slots = 0  # how many slots were taken at the last sample
        self._known: tuple[int, ...] = ()  # the number and ids of the threads of the last round
        self._marks = SurvivedMarks(
            self.recorder,
            life.mark_files(),
            late=2 * self.options.sample_interval,
        )
        self._patience = min(self.slow.watched_from, self.options.stall)
        duties: list[Duty] = [self.take_sample, self._look_at_marks]
        alarms: list[Duty] = [
            self._look_for_hang,
            self._look_for_slow,
            self.recorder.release_dead_slots,
            self._repair_marks,
        ]
        checks, inspections = life.checks()
        self._checks = checks
        rounds: list[Duty] = [
            self.loads.look,
            self._look_at_vitals,
            self._look_at_workers,
            self._look_for_deadlock,
            self._look_for_spinning,
            self._look_at_loop,
            self._marks.look_at_all,
            self.recorder.release_dead_slots,
            *checks,
        ]
        if life.gauge:
            rounds.append(life.gauge.look)
        if life.trace_log:
            duties.append(self._write_trace_log)
        self.heartbeat = Heartbeat(
            interval=self.options.sample_interval,
            duties=duties,
            findings=life.findings,
            in_thread=self._in_thread,
            rounds=rounds,
            inspections=[self.vitals.look_at_host, *inspections],
            alarms=alarms,
        )

    def look_once(self) -> None:
        """Take the only sample of a script: what has changed at its end is compared with it."""
        self.vitals.look()
        self.vitals.look_at_host()
        self.take_sample()

    def start(self) -> None:
        if self.is_started:
            return
        self.is_started = True
        # Before the first thread starts: while MainThread starts a thread, it blocks every signal.
        self._awaited = awaited_signals()
        begin_aside()
        signalmask.start(self.heartbeat)

    def _in_thread(self) -> None:
        """Make the parts that must be made in the thread of the heartbeat."""
        if self.heartbeat.ident is not None:
            loglater.HURRIED.add(self.heartbeat.ident)
        if self.life.directory:
            if not self.life.is_short_of_descriptors:
                self._arm_watchdog(self.life.directory.path)
            self._open_inbox(self.life.directory.path)

    def _arm_watchdog(self, directory: Path) -> None:
        with self.life.findings.guarded(
            'watchdog',
            'The watchdog is off: hangs in which C code holds the GIL are not recorded.',
            Action('Nothing can be done on this system.  All other hangs are recorded.'),
        ):
            if threading.get_native_id() == threading.main_thread().native_id:
                # The clock of the heartbeat would run while the site works, and the timers of the
                # workers would expire in a healthy server.
                raise RuntimeError('the heartbeat has no thread of its own, as under gevent')
            interval = self.options.sample_interval
            timeout = max(self.options.stall, 3 * interval)
            cpu = timeout * _WAITING
            cpu = max(cpu, _LEAST_CPU)
            cpu = min(cpu, _MOST_CPU)
            beats = int(timeout / _REARMED / interval)
            self._rearmed_each = max(1, beats)
            not_rearmed = (self._rearmed_each - 1) * interval
            watchdog = Watchdog(
                directory,
                timeout + not_rearmed,
                cpu,
                self.life.base.file_mode,
                avoided=self._awaited,
            )
            self.watchdog = watchdog
            self._marks.watch('watchdog', watchdog.file)
            self.heartbeat.rounds.insert(0, self._guard_threads)
            self.heartbeat.alarms.insert(0, self._guard_threads)
            self.heartbeat.rounds.append(watchdog.give_way)
            self.heartbeat.inspections.append(watchdog.check)
            self.heartbeat.duties.insert(0, self._rearm)
            self.heartbeat.before_each = self._keep_threads_armed

    def _rearm(self) -> None:
        if self.watchdog and self.heartbeat.beats % self._rearmed_each == 0:
            with _disarmed_on_error(self.watchdog):
                self.watchdog.rearm()

    def _keep_threads_armed(self) -> None:
        """Restart the timers of the workers if needed.  Called before each duty.

        The last duty, or a wait for the GIL, may have used much of the CPU time after which the
        workers write their stacks.
        """
        if self.watchdog and self.watchdog.is_used_up():
            self._rearm_threads(self.watchdog, self._serving())

    def _guard_threads(self) -> None:
        """Restart the timers if workers were added or have ended."""
        serving = self._serving()
        if self.watchdog and not self.watchdog.guards(serving):
            self._rearm_threads(self.watchdog, serving)

    def _serving(self) -> dict[int, int]:
        """Return the workers: {slot: native id}."""
        return {index: slot.native_id for index, slot in list(self.recorder.slots.items())}

    def _rearm_threads(self, watchdog: Watchdog, serving: dict[int, int]) -> None:
        with _disarmed_on_error(watchdog):
            trouble = watchdog.rearm_threads(serving, self._marks.watch)
        if trouble:
            self.life.findings.add(
                'watchdog-threads',
                'If C code held the GIL, some workers would not write their stacks.',
                trouble,
                Action(
                    'Raise the limit of pending signals ("ulimit -i" or `LimitSIGPENDING`), and '
                    'restart Zope.'
                ),
                INFO,
            )

    def _open_inbox(self, directory: Path) -> None:
        with self.life.findings.guarded(
            'inbox',
            'Mailbox requests, for example of "stabilitymonitor stacks", get no answer.',
            Action('Make the run directory writable for the user of Zope, and restart Zope.'),
        ):
            self.inbox = Inbox(directory, self.answers, aside)
            self.heartbeat.duties.append(self.inbox.listen)
            self.heartbeat.inspections.append(self.inbox.look)

    # -- at each beat ------------------------------------------------------------------------------

    def take_sample(self) -> None:
        """Take a sample, and set `alarmed` if something needs a closer look."""
        busy = [began for _, began in self.recorder.in_flight()]
        now = time.monotonic()
        stall = self.options.stall
        oldest = now - min(busy, default=now)
        is_late = oldest > stall
        overdue = 0
        if is_late:
            overdue = sum([now - began > stall for began in busy])
        before = self._slots
        self._slots = len(self.recorder.slots)
        is_changed = self._slots != before
        serving = self.workers.counted
        if is_late or is_changed:
            serving = self.workers.count()
        self.recorder.sample(self.vitals.sample(len(busy), overdue, serving))
        self._in_flight = busy, serving, now
        self.heartbeat.alarmed = (
            oldest >= self._patience
            or self.hangs.lasting
            or self.slow.watched
            or is_changed
            or self.recorder.is_crowded
        )

    def _look_at_marks(self) -> None:
        self._marks.check()
        if self._marks.is_lost:
            self.heartbeat.alarmed = True

    def _repair_marks(self) -> None:
        """Repair at once: C code would write a stack into a file that has got our descriptor."""
        if self._marks.is_lost:
            for check in self._checks:
                check()

    def _look_for_hang(self) -> None:
        self.hangs.look(*self._in_flight)
        if self.hangs.loop_is_stuck:
            self._look_at_loop()  # so that the end of the hang is seen at once

    def _look_at_vitals(self) -> None:
        self.vitals.look(len(self.loads.fresh))

    def _look_at_workers(self) -> None:
        """Find the workers, but only when threads have begun or ended: it takes as long as all
        duties of a beat together.
        """
        count = len(threading._active)  # type: ignore[attr-defined]  # private to threading
        before = self._known
        self._known = (count, *self.loads.fresh)
        if before != self._known or not self.loads.fresh:
            self.workers.look()

    def _look_for_slow(self) -> None:
        """Look for slow requests.  This runs in the thread "aside", because looking at many deep
        stacks takes CPU time, see `background`.
        """
        busy, _, now = self._in_flight
        oldest = now - min(busy, default=now)
        if self.slow.watched or oldest >= self.slow.watched_from:
            aside(self.slow.look)

    def _write_trace_log(self) -> None:
        if self.life.trace_log:
            aside(self.life.trace_log.write)

    # -- when something seems wrong ----------------------------------------------------------------

    def observe(self) -> Observation:
        """Return all threads and their deadlocks; an empty Observation when the look fails."""
        seen = Observation(())
        with self.life.findings.guarded('threads', 'The state of the threads cannot be read.'):
            seen = aside(self.threads.observe)
        with self.life.findings.guarded(
            'measured-stacks', 'The stack depth of the threads cannot be measured.'
        ):
            gauge = self.life.gauge
            if gauge:
                states = seen.states
                seen = replace(seen, states=aside(lambda: gauge.measured(states)))
        return seen

    def snapshot(self) -> tuple[ThreadState, ...]:
        """Return the states of all threads."""
        return self.observe().states

    def _look_for_deadlock(self) -> None:
        if self.slow.are_in_flight() or self.hangs.lasts('deadlock', 'hang'):
            self.hangs.look_for_deadlock()
        else:
            # Two looks with a pause between them do not count as two looks in a row.
            self.hangs.suspected.clear()

    def _look_for_spinning(self) -> None:
        loads = self.loads.busiest()
        busy = {tid for tid, load in loads.items() if load >= SPINNING}
        if busy:
            busy -= {slot.native_id for slot in list(self.recorder.slots.values())}
        states: tuple[ThreadState, ...] = ()
        if busy or self.hangs.lasts('spinning'):
            states = self.snapshot()
        self.hangs.look_for_spinning(states, loads, self._served())

    def _served(self) -> float:
        """Return how many requests per second have begun since the last round."""
        before, first = self._begun
        now = time.monotonic()
        numbers = [slot.number for slot in list(self.recorder.slots.values())]
        number = max(numbers, default=0)
        self._begun = (now, number)
        if now <= before:
            return 0.0
        begun = max(0, number - first)
        return begun / (now - before)

    def _look_at_loop(self) -> None:
        main = threading.main_thread()
        used = self.loads.fresh.get(main.native_id or 0)
        self.loop.look(used)
        self.hangs.look_at_loop(self.loop.place, self.loop.stood)

    # -- answers -----------------------------------------------------------------------------------

    def stacks(self) -> Stacks:
        """Return what every thread does, which requests are slow, and what hangs."""
        seen = self.observe()
        return Stacks(
            time=time.time(),
            threads=seen.states,
            slow=tuple(profile.as_slow_request() for profile in self.slow.known()),
            hangs=tuple(self.hangs.known(seen)),
        )

    def tell_stacks(self) -> dict[str, Any]:
        """Return the answer to the mailbox request "stacks"."""
        return to_json(self.stacks(), plain=True)

    def tell_no_checks(self) -> dict[str, Any]:
        """Return the answer to the mailbox request "checks" while the process is starting."""
        return {'time': isotime(time.time()), 'starting': True, 'checks': []}

    # -- the end -----------------------------------------------------------------------------------

    def stop(self) -> None:
        self.heartbeat.stop()
        if self.heartbeat.ident is not None:
            loglater.HURRIED.discard(self.heartbeat.ident)
        if self.watchdog:
            self.watchdog.disarm()

    def detach(self) -> None:
        """In a forked child: release what belongs to the parent."""
        loglater.start_anew()
        for part in (self.vitals, self.inbox, self.watchdog):
            if part:
                part.detach()


@contextlib.contextmanager
def _disarmed_on_error(watchdog: Watchdog) -> Iterator[None]:
    """Disarm the watchdog when the block fails: a timer that is no longer restarted would expire
    in a healthy server.
    """
    try:
        yield
    except BaseException:
        watchdog.disarm()
        raise
