"""Two threads that work for the heartbeat.  One does what takes CPU time, "aside", while the
heartbeat waits for the result; the other runs errands, for which nothing waits.

The watchdog measures the CPU time of the heartbeat: where it grows, the heartbeat fights in vain
for the interpreter lock.  Work of the heartbeat itself must not look like that.  Both threads stay:
to start one takes longer than most errands.  So an errand is no `BackgroundJob`, which starts a
thread for each run.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..system import loglater
from ..system import signalmask

#: Work aside never blocks.  If it does all the same, the caller goes on without a result after
#: this many seconds.
PATIENCE = 30.0
#: A waiting thread asks for the interpreter lock each time this many seconds have passed.  Where C
#: code holds the lock, that takes CPU time, and the watchdog sees it.
_WAKES = 0.5
#: {(pid, name): the thread}; a forked child begins with its own.
_WORKERS: dict[tuple[int, str], _Worker] = {}

_Result = TypeVar('_Result')


class _Worker(threading.Thread):
    """`is_hurried`: another thread waits for it, so it must never wait for a log handler."""

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
    """Start both threads now, and none later."""
    aside(int)  # to call `int` does nothing
    in_background(int)


def in_background(errand: Callable[[], object]) -> None:
    """Call `errand`, which raises nothing, in a thread that runs one errand after the other."""
    worker = _worker('errands', is_hurried=False)
    worker.jobs.put(errand)


def aside(function: Callable[[], _Result], patience: float = PATIENCE) -> _Result:
    """The result of `function`, called in another thread; raises what it raises, or
    TimeoutError.
    """
    worker = _worker('aside', is_hurried=True)
    if worker is threading.current_thread():
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

    worker.jobs.put(job)
    until = time.monotonic() + patience
    while True:
        try:
            error = ended.get(timeout=_WAKES)
            break
        except queue.Empty:
            if time.monotonic() >= until:
                raise TimeoutError('There was no answer in time') from None
    if error is not None:
        raise error
    return results[0]


def _worker(name: str, is_hurried: bool) -> _Worker:
    pid = os.getpid()
    worker = _WORKERS.get((pid, name))
    if worker is not None and worker.is_alive():
        return worker
    for key in list(_WORKERS):
        its_pid, _ = key
        if its_pid != pid:  # of the process that forked this one
            del _WORKERS[key]
    worker = _Worker(name, is_hurried)
    _WORKERS[pid, name] = worker
    signalmask.start(worker)
    return worker
