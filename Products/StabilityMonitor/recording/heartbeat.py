"""The heartbeat: a daemon thread that takes samples and checks that the breadcrumbs still work.

It never keeps a process from ending, and takes no lock that a request waits for.  A duty that fails
is switched off with a finding; the others continue.  It is not a `BackgroundJob`, because it is a
loop without a result that lives as long as the process.
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

#: A function that the heartbeat calls; its result is ignored.
Duty = Callable[[], object]

#: One round comes every this many beats, for what changes slowly.
ROUND = 20
#: A mark counts as survived this many beats after the heartbeat first saw it: the process has not
#: died of that signal.
SURVIVED_AFTER = 2
#: Least pause (seconds) between the last duties of a process that ends.
_LAST_PAUSE = 1.0
#: How the names of threads begin which a server starts before it needs them: waitress, cheroot.
_SERVERS = ('waitress-', 'CP Server ')


def _nothing() -> None:
    """Do nothing, in place of a duty that is not wanted or was given up."""


class Heartbeat(threading.Thread):
    """A thread that beats every `interval` seconds.

    * `in_thread` is called once, in this thread, before the first beat.
    * `rounds` are called at each twentieth beat, and after them one of the `inspections`, in turn.
    * `duties` are called at each beat, and after them the `alarms` if a duty has set `alarmed`.
    * `before_each` is called before each of these functions; it must be very cheap.
    * `before_beat` is called after each pause, before anything else.
    * A function appended to `errands` is called once, in the thread "errands" (see `background`).
    * `last_duties` are called instead of all these after `stop`, if there are any: at most once a
      second, so that a process that ends within a second runs none of them.
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
        self.alarmed: object = False  # only its truth counts; converting to bool costs a call
        self.beats = 0
        self.is_round_due = False
        self.findings = findings
        self.in_thread = in_thread
        self.before_each: Duty = _nothing
        self.before_beat: Duty = _nothing
        self.errands: list[Duty] = []
        self.last_duties: list[Duty] = []
        self.last = 0.0
        self._beating = threading.Lock()
        self._has_ended = False

    def run(self) -> None:
        """Beat until the end.

        Between beats this thread sleeps.  Waiting for a lock would take a third more CPU time than
        a sleep; waiting for an Event would take even more.

        Python ends this thread, which is a daemon, where it next needs the GIL after the end of the
        interpreter has begun.
        """
        if self._lives_after(self.in_thread):
            while self._lives_after(self.beat):
                time.sleep(min(self.interval, threading.TIMEOUT_MAX))
        pause = max(self.interval, _LAST_PAUSE)
        while self.last_duties:
            time.sleep(min(pause, threading.TIMEOUT_MAX))
            self._call_before_beat()
            self._call_each(self.last_duties, self.last_duties)

    def _lives_after(self, work: Duty) -> bool:
        with self._beating:
            if not self._has_ended:
                work()
            return not self._has_ended

    def beat(self) -> None:
        self._call_before_beat()
        while self.errands:
            errand = self.errands.pop(0)
            in_background(functools.partial(self._run_guarded, errand))
        if self.beats % ROUND == 0 or self.is_round_due:
            self.is_round_due = False
            self._call_each(self.rounds, self.rounds)
            # It is the turn of the first inspection: it moves to the end of the list, and runs.
            self.inspections[:] = self.inspections[1:] + self.inspections[:1]
            self._call_each(self.inspections, self.inspections[-1:])
        self._call_each(self.duties, self.duties)
        if self.alarmed:
            self._call_each(self.alarms, self.alarms)
        self.beats += 1
        self.last = time.monotonic()

    def _call_before_beat(self) -> None:
        try:
            self.before_beat()
        except Exception as error:
            self._give_up(self.before_beat, error)
            self.before_beat = _nothing

    def _call_each(self, duties: list[Duty], due: Iterable[Duty]) -> None:
        """Call the functions in `due`.  One that fails is removed from `duties`."""
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
        name = duty.__qualname__.rpartition('<locals>.')[2]  # several duties are called "look"
        self.findings.add(
            f'heartbeat-{name}',
            f'The heartbeat has switched off {name!r}, because it failed.',
            f'{type(error).__name__}: {error}.',
            Action('Restart Zope when the cause is fixed.'),
        )

    def _run_guarded(self, errand: Duty) -> None:
        with self.findings.guarded('errand', 'A task in the background has failed.'):
            errand()

    def stop(self, timeout: float = 0.5) -> None:
        """Stop beating.  Wait at most `timeout` seconds for a beat in progress.

        The thread itself ends when its sleep ends.
        """
        self._has_ended = True
        if threading.current_thread() is self:
            return
        if self._beating.acquire(timeout=timeout):
            self._beating.release()


class SurvivedMarks:
    """Records how much of each mark file the process has survived: that part is not evidence of how
    it ends.

    `files` are the mark files of signals, which may come at any time.  The files that `watch` adds
    belong to the watchdog, which writes only after a long time without a beat.  So they are checked
    only when the last beat is more than `late` seconds ago, and after each `look_at_all`.
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
        #: Whether other code has closed or taken a descriptor of the signal files.
        self.is_lost = False
        #: Whether a signal has come since about the last beat.
        self.has_news = False
        # The times of the signal files at the last check; None: check all files.
        self._settled: list[int] | None = None
        self._written: list[int] | None = None  # the times at the last check

    def watch(self, name: str, file: MarkFile) -> None:
        self._seen[name] = [0] * (SURVIVED_AFTER + 1)
        self.files[name] = file

    def check(self) -> None:
        """Record what was survived.  Called at each beat."""
        before = self._last
        self._last = self._clock()
        written = [file.written for file in self._signals]
        self.is_lost = -1 in written
        self.has_news = self._written is not None and written != self._written
        self._written = written
        if written == self._settled and self._last - before <= self._late:
            return
        has_news = False
        for name, file in self.files.items():
            if self._is_new(name, file):
                has_news = True
        self._settled = None if has_news else written

    def outlive(self, name: str) -> None:
        """Record at once that the process has survived all that this file holds."""
        if name in self.files:
            self.recorder.survived(name, self.files[name].length)

    def look_at_all(self) -> None:
        """Make the next beat check all files.  Called in each round."""
        self._settled = None

    def _is_new(self, name: str, file: MarkFile) -> bool:
        """Return whether the file has grown within the last beats.  Record what is older as
        survived.
        """
        lengths = self._seen[name]
        length = file.length
        if length == lengths[0] == lengths[1] == lengths[-1]:
            return False
        lengths.append(length)
        del lengths[0]
        if lengths[0]:
            self.recorder.survived(name, lengths[0])
        return True


class Workers:
    """The workers (threads that serve requests); `counted` is their number at the last count."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._idle: set[threading.Thread] = set()
        self.counted = 0

    def look(self) -> None:
        """Find the threads of waitress and cheroot: workers even before their first request.

        `threading.enumerate` is not called, because a stuck thread may hold its lock.
        """
        known = dict(threading._active)  # type: ignore[attr-defined]  # private to threading
        self._idle = set()
        for thread in known.values():
            if thread.name.startswith(_SERVERS):
                self._idle.add(thread)
        self.recorder.reserve(self._idle)
        self.count()

    def threads(self) -> dict[int, int]:
        """Return the workers: {ident: native id}."""
        found = {slot.ident: slot.native_id for slot in list(self.recorder.slots.values())}
        for thread in self._idle:
            found[thread.ident or 0] = thread.native_id or 0
        return found

    def count(self) -> int:
        """Count the workers, and return their number."""
        serving = [slot.thread for slot in list(self.recorder.slots.values())]
        self.counted = len(self._idle.union(serving))
        return self.counted
