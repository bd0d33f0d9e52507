"""Two helper threads of the heartbeat.  The thread "aside" does work that takes CPU time, while the
heartbeat waits for the result.  The thread "errands" runs tasks whose result nothing waits for.

The watchdog measures the CPU time of the heartbeat.  When it grows although no work is done, the
heartbeat tries in vain to get the interpreter lock (GIL).  Work of the heartbeat must not look the
same, so other threads do it.  Both threads live as long as the process, because starting a thread
takes longer than most errands.  This is also why an errand is not a `BackgroundJob`, which starts a
thread for each run.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from ..system import loglater
from ..system import signalmask

#: Work in the thread "aside" should not block.  If it does, the caller stops waiting after this
#: many seconds and gets a TimeoutError.
PATIENCE = 30.0
#: A thread that waits for a result wakes up each time this many seconds have passed, and asks for
#: the interpreter lock.  While C code holds the lock, this uses CPU time, which the watchdog sees.
_WAKES = 0.5
#: {(pid, name): the thread}.  A forked child starts new threads, because it inherits none.
_HELPERS: dict[tuple[int, str], _Helper] = {}

_Result = TypeVar('_Result')


class _Helper(threading.Thread):
    """A thread that runs one job after another, in order.

    `is_hurried`: another thread waits for the jobs, so this thread must never wait for a log
    handler.
    """

    def __init__(self, name: str, is_hurried: bool) -> None:
        super().__init__(name=f'StabilityMonitor {name}', daemon=True)
        self.is_hurried = is_hurried
        self.jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def run(self) -> None:
        if self.is_hurried:
            loglater.HURRIED.add(threading.get_ident())
        while True:
            job = self.jobs.get()
            job()
            del job


def begin() -> None:
    """Start both threads now, so that none has to be started later."""
    aside(int)  # calling `int` does nothing
    in_background(int)


def in_background(errand: Callable[[], object]) -> None:
    """Call `errand` in the thread "errands", after those before it.  It must not raise."""
    helper = _helper('errands', is_hurried=False)
    helper.jobs.put(errand)


def aside(function: Callable[[], _Result], patience: float = PATIENCE) -> _Result:
    """Call `function` in the thread "aside", wait for it, and return its result.

    Raises what `function` raises, or TimeoutError after `patience` seconds.
    """
    helper = _helper('aside', is_hurried=True)
    if helper is threading.current_thread():
        return function()
    results: list[_Result] = []
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def job() -> None:
        try:
            results.append(function())
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    helper.jobs.put(job)
    # Not by a clock: it goes on while the process is frozen, and then this would give up.
    wakes = max(1, round(patience / _WAKES))
    while True:
        try:
            error = ended.get(timeout=min(_WAKES, patience))
            break
        except queue.Empty:
            wakes -= 1
            if wakes <= 0:
                raise TimeoutError(f'There was no result within {patience:g} s') from None
    if error is not None:
        raise error
    return results[0]


def _helper(name: str, is_hurried: bool) -> _Helper:
    pid = os.getpid()
    helper = _HELPERS.get((pid, name))
    if helper is not None and helper.is_alive():
        return helper
    for key in list(_HELPERS):
        its_pid, _ = key
        if its_pid != pid:  # a thread of the process that forked this one
            del _HELPERS[key]
    helper = _Helper(name, is_hurried)
    _HELPERS[pid, name] = helper
    signalmask.start(helper)
    return helper
