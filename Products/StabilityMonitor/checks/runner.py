"""Runs the checks: one run at a time in a process, in one thread, each check with a time limit.

A check that raises, or does not answer in time, becomes a finding.  A check that still makes
progress, as on a busy machine, gets more time.  A check without progress is abandoned together with
its daemon thread, and is not run again while that thread lives; the run continues in a new thread.
The checks share a thread because a crash while a thread starts leaves a damaged dump.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import TypeVar

from ..model.action import Action
from ..model.finding import Finding
from ..model.records import isotime
from ..model.severities import INFO
from ..model.severities import WARNING
from ..system import loglater
from ..system import signalmask
from ..system.backgroundjob import BackgroundJob
from ..system.currentframes import current_frames
from ..system.tasks import KernelThreads
from .check import ICheck
from .livesite import Site

#: A check hangs after this many seconds without progress.
TIME_LIMIT = 1.0
#: A check is abandoned after this many seconds, even if it makes progress.
LONGEST = 10.0
_T = TypeVar('_T')
#: A thread that was abandoned, and its progress value at that time, see `_progress`.
_Abandoned = tuple[threading.Thread, object]


@dataclass(frozen=True)
class Results:
    """What all checks found, the worst first.  `when` is in seconds since the epoch, `took` and
    `seconds` are durations in seconds.
    """

    findings: tuple[Finding, ...]
    took: float
    when: float
    seconds: tuple[tuple[str, float], ...] = ()  # of each check, by its id

    def to_json(self) -> dict[str, Any]:
        return {
            'when': isotime(self.when),
            'took': round(self.took, 4),
            'findings': [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Progress:
    """The progress of a run: `share` from 0 to 1; `words` is the question of the current check."""

    share: float
    words: str

    def to_json(self) -> dict[str, Any]:
        return {'share': self.share, 'words': self.words}


@functools.lru_cache(maxsize=1)
def _run_state(pid: int) -> tuple[threading.Lock, dict[str, _Abandoned]]:
    """Return the lock for runs in this process, and its abandoned threads.

    A forked child has another pid, so it gets another lock.
    """
    return threading.Lock(), {}


def run(
    site: Site | Callable[[], Site],
    checks: Sequence[ICheck] | None = None,
    time_limit: float = TIME_LIMIT,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.time,
    longest: float = LONGEST,
) -> Results:
    """Run one check after the other on `site`, which is a Site or a function that makes one.

    Waits until a run in another thread is over.  Raises what that function raises, and TimeoutError
    if it takes too long.
    """
    if checks is None:
        from .everycheck import CHECKS

        checks = CHECKS
    lock, abandoned = _run_state(os.getpid())
    with lock, _JobRunner(time_limit, longest, abandoned) as runner:
        when = clock()
        began = time.perf_counter()
        findings: list[Finding] = []
        seconds: list[tuple[str, float]] = []
        asked = runner.make(site) if callable(site) else site
        for number, check in enumerate(checks):
            _report_progress(on_progress, Progress(number / len(checks), check.question))
            at = time.perf_counter()
            findings += runner.ask(check, asked)
            seconds.append((check.id, time.perf_counter() - at))
        _report_progress(on_progress, Progress(1.0, ''))
    findings.sort(key=lambda finding: -finding.severity.rank)
    return Results(tuple(findings), time.perf_counter() - began, when, tuple(seconds))


def _report_progress(on_progress: Callable[[Progress], None] | None, progress: Progress) -> None:
    if on_progress is not None:
        with contextlib.suppress(Exception):  # an observer must not end the run
            on_progress(progress)


class _TimedOut(Exception):
    """A job timed out and was abandoned.  `hangs`: it made no progress; else it was only slow."""

    def __init__(self, hangs: bool, words: str):
        super().__init__(words)
        self.hangs = hangs


class _CheckThread:
    """A thread that does one job after the other, until a job is None.

    It is not a `BackgroundJob`: the run of the checks waits for each answer, and may abandon the
    thread.  The run itself is a `BackgroundJob`, see `Background`.

    Raises RuntimeError when no thread can be started.
    """

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=_work,
            args=(self.jobs, self.answers),
            name='StabilityMonitor check',
            daemon=True,
        )
        signalmask.start(self.thread)


class _JobRunner:
    """Runs jobs in a thread.  When a job does not answer, the next job runs in a new thread.

    `abandoned` is {id of a check: (the abandoned thread that runs it, and the progress value that
    the thread had when it was abandoned)}.
    """

    def __init__(self, time_limit: float, longest: float, abandoned: dict[str, _Abandoned]):
        self.time_limit = time_limit
        self.longest = longest
        self.abandoned = abandoned
        self._current: _CheckThread | None = None

    def __enter__(self) -> _JobRunner:
        return self

    def __exit__(self, *error: object) -> None:
        self._drop_thread()

    def make(self, make_site: Callable[[], Site]) -> Site:
        """Return what `make_site()` returns.  Raises what that raises, and TimeoutError."""
        try:
            answer = self._answer('', lambda: _attempt(make_site))
        except _TimedOut as timed_out:
            raise TimeoutError(f'The facts about Zope cannot be read. {timed_out}') from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def ask(self, check: ICheck, site: Site) -> list[Finding]:
        try:
            return self._answer(check.id, lambda: _look(check, site))
        except _TimedOut as timed_out:
            if timed_out.hangs:
                return [_hangs(check, str(timed_out))]
            return [_is_slow(check, str(timed_out))]
        except RuntimeError as error:  # no thread: a limit is reached, or the interpreter ends
            return [_failed(check, error)]

    def _answer(self, id: str, job: Callable[[], _T]) -> _T:
        """Return what `job()` returns; a job never raises.

        Raises _TimedOut, and RuntimeError when no thread can be started.
        """
        earlier, progress = self.abandoned.get(id, (None, None))
        if earlier is not None and earlier.is_alive():
            hangs = _progress(earlier) == progress
            raise _TimedOut(
                hangs,
                f'It {"still hangs" if hangs else "is still running"}, started by an earlier run, '
                'and was not started again.',
            )
        self.abandoned.pop(id, None)
        if self._current is None:
            self._current = _CheckThread()
        thread = self._current.thread
        self._current.jobs.put(job)
        try:
            answer: _T = self._wait_for(self._current)
        except _TimedOut:
            self.abandoned[id] = thread, _progress(thread)
            self._drop_thread()
            raise
        return answer

    def _wait_for(self, current: _CheckThread) -> Any:
        end = time.monotonic() + self.longest
        progress: object = None
        while True:
            try:
                return current.answers.get(timeout=self.time_limit)
            except queue.Empty:
                before = progress
                progress = _progress(current.thread)
            if progress == before:
                raise _TimedOut(
                    True, f'It gave no answer, and made no progress for {self.time_limit:g} s.'
                )
            if time.monotonic() > end:
                raise _TimedOut(
                    False,
                    f'It did not finish within {self.longest:g} s, but makes progress: the machine '
                    'is busy.',
                )

    def _drop_thread(self) -> None:
        """Let the thread end as soon as it can, and forget it."""
        if self._current is not None:
            self._current.jobs.put(None)
            self._current = None


def _progress(thread: threading.Thread) -> object:
    """Return a value that changes as long as a thread makes progress.

    A thread that waits for the interpreter lock (GIL) counts as making progress: it asks for the
    lock again and again, and each time the kernel counts a context switch.  So does a thread that
    is ready to run and waits for a CPU.
    """
    # No thread has the number 0; a thread that is not started yet has no number.
    task = KernelThreads().task(thread.native_id or 0)
    frame = current_frames().get(thread.ident or 0)
    if task and task.state == 'R':
        return object()  # equal to no other value
    reading = task.reading if task else None
    place = (frame.f_code, frame.f_lasti) if frame else None
    return reading, place


def _work(
    jobs: queue.SimpleQueue[Callable[[], object] | None], answers: queue.SimpleQueue[Any]
) -> None:
    while (job := jobs.get()) is not None:
        answers.put(job())


def _attempt(make_site: Callable[[], Site]) -> Site | BaseException:
    try:
        return make_site()
    except BaseException as error:  # `make` raises it, in the thread of the caller
        return error


def _look(check: ICheck, site: Site) -> list[Finding]:
    try:
        found = check.look(site)
        return [found] if isinstance(found, Finding) else list(found)
    except BaseException as error:  # nothing else reports an error of this thread
        loglater.log(logging.WARNING, 'The check %s has failed.', check.id, exc_info=error)
        return [_failed(check, error)]


def _hangs(check: ICheck, detail: str) -> Finding:
    return Finding(
        check.id,
        WARNING,
        f'A check hangs: {check.question}',
        detail,
        Action(
            'Look at the source that it reads: a disk or a server that does not answer also blocks '
            'other threads.'
        ),
        check.source,
        check.id,
    )


def _is_slow(check: ICheck, detail: str) -> Finding:
    return Finding(
        check.id,
        INFO,
        f'A check did not finish: {check.question}',
        detail,
        Action('Run the checks again when the machine is less busy.'),
        check.source,
        check.id,
    )


def _failed(check: ICheck, error: BaseException) -> Finding:
    return Finding(
        check.id,
        WARNING,
        f'A check failed: {check.question}',
        f'{type(error).__name__}: {error}.',
        Action('Report this, with the traceback from the event log.'),
        check.source,
        check.id,
    )


class Background(BackgroundJob[Results, Progress]):
    """Runs the checks in the background.  Each run calls `make_site` in the background thread.

    `results` are those of the last completed run, also while another run is in progress; None
    before the first run is complete.
    """

    def __init__(
        self,
        make_site: Callable[[], Site],
        checks: Sequence[ICheck] | None = None,
        time_limit: float = TIME_LIMIT,
    ):
        super().__init__(
            'checks',
            self._ask,
            first=Progress(0.0, ''),
            not_started='The checks could not be started: {}.',
            failed='The checks could not be run: {}.',
        )
        self._make_site = make_site
        self._checks = checks
        self._time_limit = time_limit
        self.results: Results | None = None

    def _ask(self) -> tuple[Results, str]:
        self.results = run(self._make_site, self._checks, self._time_limit, self.tell)
        return self.results, ''
