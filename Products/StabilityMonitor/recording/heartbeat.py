"""The heartbeat: a daemon thread that takes samples and checks that the breadcrumbs still work.

It never keeps a process from ending, and takes no lock that a request waits for.  A duty that fails
is switched off alone, with a finding.  It is no `BackgroundJob`: it is a loop without a result that
lives as long as the process.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable

from ..model.action import Action
from .background import in_background
from .faulthandler_compat import MarkFile
from .partguard import Findings
from .recorder import Recorder

#: Something that the heartbeat does; what it returns is not looked at.
Duty = Callable[[], object]

#: A round comes at each beat of this number: for what changes slowly.
ROUND = 20
#: A mark counts as survived when the process still beats this many beats after it was first seen.
SURVIVED_AFTER = 2


def _nothing() -> None:
    """Takes the place of a duty that is not wanted, or given up."""


class Heartbeat(threading.Thread):
    """Beats every `interval` seconds.

    * `in_thread` is called once, before the first beat.
    * `rounds` are called at each twentieth beat, and with them one of the `inspections`, in turn.
    * `duties` are called at each beat, and after them the `alarms` where a duty has set `alarmed`.
    * `before_each` is called before each of these; it must cost next to nothing.
    * What is appended to `errands` is called once, in the background.
    """

    def __init__(
        self,
        interval: float,
        duties: Iterable[Duty],
        findings: Findings,
        in_thread: Duty = _nothing,
        rounds: Iterable[Duty] = (),
        inspections: Iterable[Duty] = (),
        alarms: Iterable[Duty] = (),
    ) -> None:
        super().__init__(name='StabilityMonitor heartbeat', daemon=True)
        self.interval = interval
        self.duties = list(duties)
        self.rounds = list(rounds)
        self.inspections = list(inspections)
        self.alarms = list(alarms)
        self.alarmed: object = False  # anything that is true: to make a bool of it takes a call
        self.beats = 0
        self.is_round_due = False
        self.findings = findings
        self.in_thread = in_thread
        self.before_each: Duty = _nothing
        self.errands: list[Duty] = []
        self.last = 0.0
        self._beating = threading.Lock()
        self._has_ended = False

    def run(self) -> None:
        """Between beats it sleeps.  To wait for a lock takes a third more CPU time, and an Event is
        a lock and more.
        """
        if self._lives_after(self.in_thread):
            while self._lives_after(self.beat):
                time.sleep(min(self.interval, threading.TIMEOUT_MAX))

    def _lives_after(self, work: Duty) -> bool:
        with self._beating:
            if not self._has_ended:
                work()
            return not self._has_ended

    def beat(self) -> None:
        while self.errands:
            errand = self.errands.pop(0)
            in_background(functools.partial(self._run_guarded, errand))
        if self.beats % ROUND == 0 or self.is_round_due:
            self.is_round_due = False
            self._fulfil(self.rounds, self.rounds)
            # The first inspection, whose turn it is, becomes the last.
            self.inspections[:] = self.inspections[1:] + self.inspections[:1]
            self._fulfil(self.inspections, self.inspections[-1:])
        self._fulfil(self.duties, self.duties)
        if self.alarmed:
            self._fulfil(self.alarms, self.alarms)
        self.beats += 1
        self.last = time.monotonic()

    def _fulfil(self, duties: list[Duty], due: Iterable[Duty]) -> None:
        """Call those that are `due`; one that fails is taken out of `duties`."""
        for duty in tuple(due):
            try:
                self.before_each()
            except Exception as error:
                self._give_up(self.before_each, error)
                self.before_each = _nothing
            try:
                duty()
            except Exception as error:
                duties.remove(duty)
                self._give_up(duty, error)

    def _give_up(self, duty: Duty, error: Exception) -> None:
        name = duty.__qualname__.rpartition('<locals>.')[2]  # "look" is the name of several
        self.findings.add(
            f'heartbeat-{name}',
            f'The heartbeat has given up {name!r}.',
            f'{type(error).__name__}: {error}.',
            Action('Restart Zope when the cause is mended.'),
        )

    def _run_guarded(self, errand: Duty) -> None:
        with self.findings.guarded('errand', 'A task in the background has failed.'):
            errand()

    def stop(self, timeout: float = 0.5) -> None:
        """No beat begins any more.  Wait for the one that is under way, `timeout` seconds at most;
        the thread itself ends when it wakes.
        """
        self._has_ended = True
        if threading.current_thread() is self:
            return
        if self._beating.acquire(timeout=timeout):
            self._beating.release()


class SurvivedMarks:
    """Notes how much of each mark file this process has outlived: that part is no evidence of its
    end.

    `files` are those of signals, which may come at any time.  Those that `watch` adds belong to the
    watchdog, which writes only when no beat comes for long: so they are looked at when the last
    beat is more than `late` seconds ago, and after each `look_at_all`.
    """

    def __init__(
        self,
        recorder: Recorder,
        files: dict[str, MarkFile],
        late: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recorder = recorder
        self.files = files
        self._signals = tuple(files.values())
        self._late = late
        self._clock = clock
        self._last = clock()
        # The lengths of each file at the last beats, the oldest first.
        self._seen = {name: [0] * (SURVIVED_AFTER + 1) for name in files}
        # Where the files of signals stand while there is nothing new.
        self._settled: list[int] | None = None

    def watch(self, name: str, file: MarkFile) -> None:
        self._seen[name] = [0] * (SURVIVED_AFTER + 1)
        self.files[name] = file

    def check(self) -> None:
        """Called at each beat."""
        before = self._last
        self._last = self._clock()
        positions = [file.position for file in self._signals]
        if positions == self._settled and self._last - before <= self._late:
            return
        has_news = False
        for name, file in self.files.items():
            if self._is_new(name, file):
                has_news = True
        self._settled = None if has_news else positions

    def look_at_all(self) -> None:
        """Called in each round: the next beat looks at all files."""
        self._settled = None

    def _is_new(self, name: str, file: MarkFile) -> bool:
        """Whether it has grown within the last beats; what is older was survived."""
        lengths = self._seen[name]
        if file.position == lengths[0] == lengths[1] == lengths[-1]:
            return False
        lengths.append(file.length)
        del lengths[0]
        if lengths[0]:
            self.recorder.survived(name, lengths[0])
        return True


class Workers:
    """The serving threads; `counted` is how many there were at the last count."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._idle: set[threading.Thread] = set()
        self.counted = 0

    def look(self) -> None:
        """Find the threads of waitress, which serve even before their first request.

        `threading.enumerate` is not called: a stuck thread may hold its lock.
        """
        known = dict(threading._active)  # type: ignore[attr-defined]  # private to threading
        self._idle = set()
        for thread in known.values():
            if thread.name.startswith('waitress-'):
                self._idle.add(thread)
        self.count()

    def count(self) -> int:
        """How many threads serve now."""
        serving = [slot.thread for slot in list(self.recorder.slots.values())]
        self.counted = len(self._idle.union(serving))
        return self.counted
