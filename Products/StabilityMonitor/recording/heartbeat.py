"""The heartbeat: a daemon thread that takes samples and sees that the breadcrumbs still work.

It is never the reason that a process does not end, takes no lock that a request waits for, and each
of its duties that fails is switched off on its own, with a finding.
"""

from __future__ import annotations

import functools
import threading
import time

from .background import in_background

#: What changes slowly is looked at each so many beats.
ROUND = 20
#: A mark counts as survived when the process still beats so many beats after it was first seen.
SURVIVED_AFTER = 2


def _nothing():
    """Takes the place of what is not wanted, or given up."""


class Heartbeat(threading.Thread):
    """Beats every `interval` seconds.

    `duties` are called at each beat, `alarms` after them where one of them has set `alarmed`,
    `rounds` at each twentieth beat, and with them one of the `inspections`, which take turns;
    `in_thread` once at first, and `before_each` before each of them, which costs next to nothing.
    What is appended to `errands` is called once, in the background.
    """

    def __init__(
        self,
        interval: float,
        duties,
        findings,
        in_thread=lambda: None,
        rounds=(),
        inspections=(),
        alarms=(),
    ):
        super().__init__(name='StabilityMonitor heartbeat', daemon=True)
        self.interval = interval
        self.duties, self.rounds, self.inspections = list(duties), list(rounds), list(inspections)
        self.alarms, self.alarmed = list(alarms), False
        self.beats, self.is_round_due = 0, False
        self.findings = findings
        self.in_thread, self.before_each = in_thread, _nothing
        self.errands = []
        self.last = 0.0
        self._beating, self._has_ended = threading.Lock(), False

    def run(self) -> None:
        """It sleeps: to wait for a lock takes a third more of processor time, and an Event is a
        lock and more.
        """
        if self._lives_after(self.in_thread):
            while self._lives_after(self.beat):
                time.sleep(min(self.interval, threading.TIMEOUT_MAX))

    def _lives_after(self, work):
        with self._beating:
            if not self._has_ended:
                work()
            return not self._has_ended

    def beat(self) -> None:
        while self.errands:
            in_background(functools.partial(self._run, self.errands.pop(0)))
        if self.beats % ROUND == 0 or self.is_round_due:
            self.is_round_due = False
            self._fulfil(self.rounds, self.rounds)
            self.inspections[:] = self.inspections[1:] + self.inspections[:1]
            self._fulfil(self.inspections, self.inspections[-1:])
        self._fulfil(self.duties, self.duties)
        if self.alarmed:
            self._fulfil(self.alarms, self.alarms)
        self.beats += 1
        self.last = time.monotonic()

    def _fulfil(self, duties, due):
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

    def _give_up(self, duty, error):
        name = duty.__qualname__.rpartition('<locals>.')[2]  # "look" is the name of several
        self.findings.add(
            f'heartbeat-{name}',
            f'The heartbeat has given up {name!r}.',
            f'{type(error).__name__}: {error}.',
            'Restart Zope when the cause is mended.',
        )

    def _run(self, errand):
        with self.findings.guarded('errand', 'A task in the background has failed.'):
            errand()

    def stop(self, timeout: float = 0.5) -> None:
        """No beat begins any more, and one that goes on is waited for.  The thread ends when it
        wakes.
        """
        self._has_ended = True
        if threading.current_thread() is not self and self._beating.acquire(timeout=timeout):
            self._beating.release()


class SurvivedMarks:
    """Notes how much of each mark file this process has outlived: that part is no evidence of its
    end.

    `files` are those that signals are noted in, which may be at any time.  What is watched later
    are those of the dead-man switch, which are written only when no beat comes for long: they are
    looked at when the last beat is more than `late` seconds ago, and after each `look_at_all`.
    """

    def __init__(self, recorder, files, late: float = 2.0, clock=time.monotonic):
        self.recorder, self.files, self._signals = recorder, files, tuple(files.values())
        self._late, self._clock, self._last = late, clock, clock()
        self._seen = {name: [0] * (SURVIVED_AFTER + 1) for name in files}
        self._settled = None  # where those of signals stand while there is nothing new

    def watch(self, name: str, file) -> None:
        self._seen[name] = [0] * (SURVIVED_AFTER + 1)
        self.files[name] = file

    def check(self) -> None:
        """At each beat."""
        before, self._last = self._last, self._clock()
        positions = [file.position for file in self._signals]
        if positions != self._settled or self._last - before > self._late:
            news = [self._is_new(*item) for item in self.files.items()]
            self._settled = None if any(news) else positions

    def look_at_all(self) -> None:
        """In each round: at the next beat."""
        self._settled = None

    def _is_new(self, name, file):
        lengths = self._seen[name]
        if file.position == lengths[0] == lengths[1] == lengths[-1]:
            return False
        lengths.append(file.length)
        del lengths[0]
        if lengths[0]:
            self.recorder.survived(name, lengths[0])
        return True


class Workers:
    """Which threads serve; `counted` is how many there were when somebody counted last."""

    def __init__(self, recorder):
        self.recorder = recorder
        self._idle, self.counted = set(), 0

    def look(self) -> None:
        """Find the threads of waitress, which serve even if they have not had a request yet.

        Not by `threading.enumerate`: a stuck thread may hold its lock.
        """
        self._idle = {t for t in dict(threading._active).values() if t.name.startswith('waitress-')}
        self.count()

    def count(self) -> int:
        """How many threads serve now."""
        self.counted = len(
            self._idle.union([slot.thread for slot in list(self.recorder.slots.values())])
        )
        return self.counted
