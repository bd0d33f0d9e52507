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
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from ..model.action import Action
from ..model.jsonform import to_json
from ..model.options import watchdog_times
from ..model.records import Frame
from ..model.records import Sample
from ..model.records import isotime
from ..model.severities import INFO
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..store.rundirectory import Base
from ..store.rundirectory import RunDirectory
from ..store.runmailbox import Inbox
from ..system import loglater
from ..system import processend
from ..system import signalmask
from ..system.tasks import native_id_of
from ..system.vitalsigns import Vitals
from ..threads.frames import stacks
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
from .lifecurve import LifeCurve
from .lifeends import START
from .lifeends import STOP
from .lifeends import LifeEnds
from .loghandler import BreadcrumbHandler
from .partguard import Findings
from .recorder import Recorder
from .runclock import RunClock
from .serverloop import ServerLoop
from .siblings import Siblings
from .slowrequests import SlowRequests
from .stackwatch import StackWatch
from .visitors import Answering
from .visitors import Visitors
from .watchdog import Watchdog
from .watchdog import awaited_signals

if TYPE_CHECKING:  # it imports logging.handlers, and most runs have no trace log
    from .tracelog import TraceLog

#: CPU time (seconds) that the heartbeat uses for each second in which it waits for a held GIL.
_WAITING = 0.001
#: Bounds (seconds) of the heartbeat's CPU time after which the workers write their stacks.
_LEAST_CPU = 0.005
_MOST_CPU = 0.1
#: A freeze of fewer seconds is not told: a busy machine may be the cause.
_TOLD = 5.0


class Watched(Protocol):
    """The parts of a living run that the heartbeat needs, see livingrun.LivingRun."""

    options: SimpleNamespace
    findings: Findings
    base: Base
    context: dict[str, Any]
    role: str
    directory: RunDirectory | None
    recorder: Recorder | None
    is_short_of_descriptors: bool
    gauge: StackWatch | None
    trace_log: TraceLog | None
    handler: BreadcrumbHandler | None

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
        self.clock = RunClock()
        self.workers = Workers(self.recorder)
        self.threads = ThreadWatch(self.recorder)
        self.loads = self.threads.loads
        self.slow = SlowRequests(
            self.recorder,
            self.options.slow_request,
            self.options.sample_interval,
            self._states_for_slow,
            self.clock,
            self.clock.at,
        )
        self.loop = ServerLoop(self.recorder, ROUND * self.options.sample_interval, self.clock)
        self.hangs = Hangs(
            self.recorder,
            self.observe,
            life.findings,
            self.options.stall,
            self.loop.is_left,
            self.clock,
            self.slow.unchanged_since,
        )
        self.ends = LifeEnds(
            self.hangs,
            self.options.slow_request,
            self.options.stall,
            self.options.sample_interval,
            self.loop.is_left,
            is_server=life.role == 'server',
            clock=self.clock,
        )
        self.watchdog: Watchdog | None = None
        self.inbox: Inbox | None = None
        self.siblings: Siblings | None = None
        self._awaited: frozenset[int] = frozenset()
        self._rearmed_each = 1  # the timer of the heartbeat is restarted once in this many beats
        # {subject: function that returns the answer}, for the inbox.  The function for "checks" is
        # replaced when Zope serves.
        self.answers: dict[str, Callable[[], Any]] = {
            'stacks': self.tell_stacks,
            'checks': self.tell_no_checks,
        }
        self._begun = (time.monotonic(), 0)
        self.visitors = Visitors(
            lambda: self.vitals.descriptors, self._stacks_of, self.clock, log=life.handler
        )
        self._tries = 0
        self.curve = LifeCurve(self.recorder.buffer)
        # As of the last sample.
        self._sample: Sample | None = None
        self._oldest = 0.0  # the age of the oldest request in flight, in seconds
        self._answering = Answering()
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
            self._look_at_workers,
            self._look_for_hang,
            self._look_for_slow,
            self._look_at_ends,
            self.recorder.release_dead_slots,
            self._repair_marks,
        ]
        checks, inspections = life.checks()
        self._checks = checks
        rounds: list[Duty] = [
            self.loads.look,
            self.vitals.look,
            self._look_at_workers,
            self.visitors.find,
            self._look_for_deadlock,
            self._look_for_spinning,
            self._look_at_loop,
            self._marks.look_at_all,
            self._look_at_life,
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
        self.heartbeat.before_beat = self._look_for_freeze

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
        if not self.life.is_short_of_descriptors:
            self.visitors.open()
        signalmask.start(self.heartbeat)

    def _in_thread(self) -> None:
        """Make the parts that must be made in the thread of the heartbeat."""
        if self.heartbeat.ident is not None:
            loglater.HURRIED.add(self.heartbeat.ident)
        if self.life.directory:
            if not self.life.is_short_of_descriptors:
                self._arm_watchdog(self.life.directory.path)
                self._watch_siblings(self.life.directory.path.name)
            self._open_inbox(self.life.directory.path)

    def _arm_watchdog(self, directory: Path) -> None:
        with self.life.findings.guarded(
            'watchdog',
            'The watchdog is off: hangs in which C code holds the GIL are not recorded.',
            Action('Nothing can be done on this system.  All other hangs are recorded.'),
        ):
            if threading.get_native_id() == native_id_of(threading.main_thread()):
                # The clock of the heartbeat would run while the site works, and the timers of the
                # workers would expire in a healthy server.
                raise RuntimeError('the heartbeat has no thread of its own, as under gevent')
            interval = self.options.sample_interval
            timeout, self._rearmed_each = watchdog_times(self.options.stall, interval)
            cpu = max(self.options.stall, 3 * interval) * _WAITING
            cpu = max(cpu, _LEAST_CPU)
            cpu = min(cpu, _MOST_CPU)
            watchdog = Watchdog(
                directory,
                timeout,
                cpu,
                self.life.base.file_mode,
                avoided=self._awaited,
            )
            self.watchdog = watchdog
            self._marks.watch('watchdog', watchdog.file)
            self._marks.watch('ending', watchdog.ending_file)
            self.heartbeat.rounds.insert(0, self._guard_threads)
            self.heartbeat.alarms.insert(1, self._guard_threads)  # those that were just found
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
                    'Raise the limit of pending signals ("ulimit -i" or `LimitSIGPENDING`) or of '
                    'open files ("ulimit -n" or `LimitNOFILE`), and restart Zope.'
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

    def _watch_siblings(self, own: str) -> None:
        if self.life.role != 'server' or not processend.is_possible():
            return
        with self.life.findings.guarded('siblings', 'The ends of other Zopes are not seen.'):
            self.siblings = Siblings(self.life.base, own, self.life.findings)
            self.heartbeat.duties.append(self.siblings.look)
            self.heartbeat.rounds.append(self.siblings.look_at_all)

    # -- at each beat ------------------------------------------------------------------------------

    def _look_for_freeze(self) -> None:
        """Recognise that the process did not run for a while: then nothing hangs because of it.

        The timer of the heartbeat expired meanwhile, and its stack was written when the process
        went on.
        """
        freeze = self.clock.look(self.options.sample_interval)
        if freeze is None:
            return
        self._marks.outlive('watchdog')
        if freeze.seconds >= _TOLD:
            self.hangs.note_freeze(freeze.seconds, freeze.of_machine)

    def take_sample(self) -> None:
        """Take a sample, and set `alarmed` if something needs a closer look."""
        busy = [self.clock.at(began) for _, began in self.recorder.in_flight()]
        now = self.clock()
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
        if self._tries and not self.visitors.server.is_found:
            self._tries -= 1
            self.visitors.find()
        answering = self.visitors.look(
            len(busy), serving, now - max(busy, default=now), self.workers.threads
        )
        sample = self._sample = self.vitals.sample(
            len(busy),
            overdue,
            answering.serving,
            answering.queue,
            answering.waited,
            answering.connections,
            answering.accept_queue,
            answering.accept_errors,
            answering.limit,
        )
        self.recorder.sample(sample)
        self._oldest = oldest
        self._answering = answering
        self.heartbeat.alarmed = (
            oldest >= self._patience
            or answering.needs_a_look
            or self.hangs.lasting
            or self.slow.watched
            or is_changed
            or self.recorder.is_crowded
            or self.ends.is_on
        )

    def _look_at_marks(self) -> None:
        self._marks.check()
        if self._marks.is_lost:
            self.heartbeat.alarmed = True
        if self._marks.has_news:
            self.ends.expect_stop()

    def _repair_marks(self) -> None:
        """Repair at once: C code would write a stack into a file that has got our descriptor."""
        if self._marks.is_lost:
            for check in self._checks:
                check()

    def _look_for_hang(self) -> None:
        self.hangs.look(self._answering)
        if self.hangs.loop_is_stuck:
            self._look_at_loop()  # so that the end of the hang is seen at once

    def _look_at_life(self) -> None:
        """Add the last sample to the curve over the whole life."""
        if self._sample:
            self.curve.add(self._sample)

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
        if self.slow.watched or self._oldest >= self.slow.watched_from:
            aside(self.slow.look)

    def _write_trace_log(self) -> None:
        if self.life.trace_log:
            aside(self.life.trace_log.write)

    @staticmethod
    def _stacks_of(idents: Iterable[int]) -> dict[int, tuple[Frame, ...]]:
        """Return the stacks of these threads.  "Aside" reads them, as in `_look_for_slow`."""
        return aside(lambda: stacks(idents))

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

    def _states_for_slow(self) -> tuple[ThreadState, ...]:
        """Return the states of all threads, when the stack of a slow request is to be kept.

        The same look shows the deadlocks, at once: `_look_for_deadlock` comes once in a round only.
        """
        seen = self.observe()
        self.hangs.look_for_deadlock(seen)
        return seen.states

    def _look_for_deadlock(self) -> None:
        if self.slow.are_in_flight() or self.hangs.lasts('deadlock', 'hang', START, STOP):
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
        used = self.loads.fresh.get(native_id_of(main))
        self.loop.look(used)
        self.hangs.look_at_loop(self.loop.place, self.loop.stood)
        self.ends.look_for_stop()

    def _look_at_ends(self) -> None:
        if self.ends.is_on:
            self.ends.look()

    # -- answers -----------------------------------------------------------------------------------

    def stacks(self) -> Stacks:
        """Return what every thread does, which requests are slow, and what hangs."""
        seen = self.observe()
        return Stacks(
            time=time.time(),
            threads=seen.states,
            slow=tuple(profile.as_slow_request() for profile in self.slow.known()),
            hangs=tuple(self.hangs.known(seen)),
            connections=self.visitors.server.connections(),
            without_kernel=seen.without_kernel,
        )

    def tell_stacks(self) -> dict[str, Any]:
        """Return the answer to the mailbox request "stacks"."""
        return to_json(self.stacks(), plain=True)

    def tell_no_checks(self) -> dict[str, Any]:
        """Return the answer to the mailbox request "checks" while the process is starting.

        The checks have not run yet, but what the recording itself has found is known.
        """
        return {
            'time': isotime(time.time()),
            'starting': True,
            'checks': [finding.to_json() for finding in self.life.findings],
        }

    # -- the end -----------------------------------------------------------------------------------

    def serving(self) -> None:
        """Zope begins to serve: look for the loop of its server at the next beats, not only in each
        round.
        """
        self._tries = ROUND

    def watch_end(self) -> None:
        """Watch the end of the interpreter, which has begun: `stop` comes next.

        The heartbeat goes on with a few duties, until Python ends its thread.
        """
        if not self.is_started:
            return
        self.ends.finish()
        self.heartbeat.before_each = self._rearm_end
        self.heartbeat.last_duties = [
            self.take_sample,
            self._look_at_marks,
            self.ends.look,
            self._rearm_end,
        ]

    def _rearm_end(self) -> None:
        if self.watchdog:
            self.watchdog.rearm_end()

    def stop(self) -> None:
        self.heartbeat.stop()
        if self.heartbeat.ident is not None:
            loglater.HURRIED.discard(self.heartbeat.ident)
        if self.watchdog:
            self.watchdog.disarm()
            if self.heartbeat.last_duties:
                # It fails when the heartbeat has ended, or has no more signals or timers.
                with contextlib.suppress(OSError):
                    self.watchdog.guard_end(threading.get_native_id())

    def detach(self) -> None:
        """In a forked child: release what belongs to the parent."""
        loglater.start_anew()
        for part in (self.vitals, self.visitors, self.inbox, self.watchdog, self.siblings):
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
