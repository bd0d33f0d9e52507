"""Work that a request or a command starts and does not wait for: start, progress, result, error.

A job does its work in a daemon thread of this product, at most one run at a time.  Pages and the
command read its progress.

Not every thread of this product is a job.  The heartbeat and its two helper threads (`recording`)
live as long as the process.  The thread that logs (`loglater`) is not a job because jobs need it.
A run of the checks is a job, but the threads in which it runs single checks are not: it may abandon
them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from typing import Generic
from typing import TypeVar

from . import loglater
from . import signalmask

_Result = TypeVar('_Result')
_Progress = TypeVar('_Progress')


class _Run:
    """One run of a job, from its start to its end."""

    def __init__(self, job: BackgroundJob[Any, Any], progress: Any):
        self.job = job
        self.progress = progress  # of the `_Progress` type of its job
        self.stopping = threading.Event()
        self.over = threading.Event()


#: {pid: the run in progress in that process}.  A forked child has another pid, so it starts with no
#: run in progress.
Turns = dict[int, _Run]


class BackgroundJob(Generic[_Result, _Progress]):
    """Calls `work` in the background, at most one call at a time.

    `result` is the result of the last run; None until it ends.  `error` is a sentence if the last
    run failed or could not be started, else ''.  `ended` is the time when the last run ended, in
    seconds since the epoch; 0.0 until then.  All three are set before `running` becomes false.

    Any thread may call any method.  Only `wait` blocks.  No method raises an exception.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], tuple[_Result | None, str]],
        *,
        first: _Progress,
        not_started: str,
        failed: str,
        refused: str = '',
        turns: Turns | None = None,
        is_logged: bool = True,
    ):
        """Make a job that has not started yet.

        `work` returns (result, error).  It reports its progress with `tell`; until the first call
        the progress is `first`.

        The name of the thread is "StabilityMonitor `name`".  `not_started` is the error when the
        system cannot start another thread, `failed` the error when `work` raises an exception; in
        both, {} stands for the reason.  Of all jobs with the same `turns`, only one runs at a time;
        `refused` is the error of the others.  An exception of `work` is logged with its traceback,
        unless `is_logged` is false.
        """
        self.result: _Result | None = None
        self.error = ''
        self.ended = 0.0
        self._ended_at: float | None = None  # by the monotonic clock
        self._name = name
        self._work = work
        self._first = first
        self._not_started = not_started
        self._failed = failed
        self._refused = refused
        self._turns: Turns = {} if turns is None else turns
        self._is_logged = is_logged

    @property
    def seconds_ago(self) -> float:
        """For how many seconds the last run has been over; 0.0 before its end."""
        ended = self._ended_at
        return time.monotonic() - ended if ended is not None else 0.0

    @property
    def running(self) -> bool:
        return self._current() is not None

    @property
    def progress(self) -> _Progress | None:
        """The progress that the work reported last; None if no run is in progress.

        Read `progress` or `running` before `result`.  Then a run that ends between the two reads
        looks as if it was still running, not as if it had ended without a result.
        """
        run = self._current()
        if run is None:
            return None
        progress: _Progress = run.progress
        return progress

    def start(self, then: Callable[[], object] | None = None) -> bool:
        """Start a run, and call `then` in its thread after its end.  Return whether it started.

        It does not start if a run is in progress, or if no thread can be started (see `error`).
        """
        run = _Run(self, self._first)
        # `setdefault` is atomic, so only one of several threads starts a run.  A lock would not do:
        # if another thread held it while this process forks, it would stay locked in the child.
        first = self._turns.setdefault(os.getpid(), run)
        if first is not run:
            if first.job is not self:
                self.error = self._refused
            return False
        self.result = None
        self.error = ''
        self.ended = 0.0
        self._ended_at = None
        thread = threading.Thread(
            target=self._run,
            args=(run, then),
            name=f'StabilityMonitor {self._name}',
            daemon=True,
        )
        try:
            signalmask.start(thread)
        except RuntimeError as error:
            self._end(run, self._not_started.format(error))
            return False
        return True

    def tell(self, progress: _Progress) -> None:
        """Report progress; called by `work`."""
        run = self._current()
        if run is not None:
            run.progress = progress

    def stop(self) -> None:
        """Ask the current run to end soon: set its `stopping` event."""
        self.stopping.set()

    @property
    def stopping(self) -> threading.Event:
        """The event that asks the current run to end; `work` may ignore it."""
        run = self._current()
        if run is None:
            return threading.Event()
        return run.stopping

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds until no run is in progress; return whether none is."""
        run = self._current()
        if run is None:
            return True
        return run.over.wait(timeout)

    def _current(self) -> _Run | None:
        run = self._turns.get(os.getpid())
        if run is None or run.job is not self:
            return None
        return run

    def _run(self, run: _Run, then: Callable[[], object] | None) -> None:
        error = ''
        try:
            self.result, error = self._work()
        except BaseException as problem:  # nothing else reports an exception in this thread
            reason = f'{type(problem).__name__}: {problem}'
            error = self._failed.format(reason)
            if self._is_logged:
                loglater.log(logging.WARNING, '%s', error, exc_info=problem)
        finally:
            self._end(run, error)
        if then is not None:
            then()

    def _end(self, run: _Run, error: str) -> None:
        self.error = error
        self.ended = time.time()
        self._ended_at = time.monotonic()
        self._turns.pop(os.getpid(), None)
        run.over.set()
