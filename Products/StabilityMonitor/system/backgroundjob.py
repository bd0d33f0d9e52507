"""Work that a request or a command starts and does not wait for: start, progress, result, error.

A job does its work in a daemon thread of ours, at most once at a time.  Pages and the command ask
it how far it is.

What lives as long as the process is no job: the heartbeat, and the two threads that work for it
(`recording`).  Nor are the thread that logs (`loglater`, which a job needs), and the threads in
which a run of the checks asks them, and which it may abandon: such a run itself is a job.
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
        self.progress = progress  # of the type that the job has
        self.stopping = threading.Event()
        self.over = threading.Event()


#: {pid: the run under way in that process}.  A forked child has another pid, so nothing is under
#: way there.
Turns = dict[int, _Run]


class BackgroundJob(Generic[_Result, _Progress]):
    """Calls `work` in the background, at most once at a time.

    `result` is what the last run gave, None before its end.  `error` is a sentence when the last
    run failed or could not be started, '' otherwise.  `ended` is the time of its end in seconds
    since the epoch, 0.0 before.  All three are set before `running` becomes false.

    Any thread may call any method.  Nothing blocks but `wait`, and nothing raises.
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
        """`work` returns (result, error).  It calls `tell` with its progress, which is `first`
        until then.

        The thread is called "StabilityMonitor `name`".  The other texts are errors: `not_started`
        where the system gives no more threads, `failed` where `work` raises; in both, {} is the
        reason.  Of all jobs with the same `turns`, one is under way at a time, and `refused` is the
        error of the others.  What `work` raises is logged with its traceback, unless `is_logged` is
        false.
        """
        self.result: _Result | None = None
        self.error = ''
        self.ended = 0.0
        self._name = name
        self._work = work
        self._first = first
        self._not_started = not_started
        self._failed = failed
        self._refused = refused
        self._turns: Turns = {} if turns is None else turns
        self._is_logged = is_logged

    @property
    def running(self) -> bool:
        return self._current() is not None

    @property
    def progress(self) -> _Progress | None:
        """What the work has told last; None when it is not running.

        Read this, or `running`, before the result: a run that ends in between then counts as
        running, and not as over without a result.
        """
        run = self._current()
        if run is None:
            return None
        progress: _Progress = run.progress
        return progress

    def start(self, then: Callable[[], object] | None = None) -> bool:
        """Begin, and call `then` in the same thread after the end.

        False if a run is under way, or no thread can be started (see `error`).
        """
        run = _Run(self, self._first)
        # One step, so that only one of several threads begins.  A lock could be held by another
        # thread while this process forks, and would stay so in the child.
        first = self._turns.setdefault(os.getpid(), run)
        if first is not run:
            if first.job is not self:
                self.error = self._refused
            return False
        self.result = None
        self.error = ''
        self.ended = 0.0
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
        """For the work: how far it is."""
        run = self._current()
        if run is not None:
            run.progress = progress

    def stop(self) -> None:
        """Ask the run that is under way to end soon: sets its `stopping`."""
        self.stopping.set()

    @property
    def stopping(self) -> threading.Event:
        """For the work, which may look at it: whether this run is to end."""
        run = self._current()
        if run is None:
            return threading.Event()
        return run.stopping

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run is under way; False if one still is after `timeout` seconds."""
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
        except BaseException as problem:  # this thread is our own: nothing else would report it
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
        self._turns.pop(os.getpid(), None)
        run.over.set()
