"""Work of the heartbeat that takes processor time is done aside, in a thread of its own, while it
waits; errands are run in another one, for which nobody waits.

The dead-man switch tells by the processor time of the heartbeat that it fights in vain for the
interpreter lock; work of its own must not look like that.  The two threads stay: to start one takes
longer than most errands.
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

#: What is looked at aside never blocks; if it does, who asked goes on without an answer.
PATIENCE = 30.0
#: Who waits asks for the interpreter lock so often: where C code holds it, that is what takes
#: processor time.
_WAKES = 0.5
#: {(pid, name): the thread}; a forked child begins with its own.
_WORKERS: dict[tuple[int, str], _Worker] = {}

_Result = TypeVar('_Result')


class _Worker(threading.Thread):
    """`is_hurried`: somebody waits for it, so that it must never wait for a log handler."""

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
    aside(int)
    in_background(int)


def in_background(errand: Callable[[], object]) -> None:
    """`errand`, which raises nothing, is called in a thread that does one after the other."""
    _worker('errands', False).jobs.put(errand)


def aside(function: Callable[[], _Result], patience: float = PATIENCE) -> _Result:
    """The result of `function`, called in another thread; raises what it raises, or
    TimeoutError.
    """
    worker = _worker('aside', True)
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
    error = _awaited(ended, time.monotonic() + patience)
    if error is not None:
        raise error
    return results[0]


def _awaited(ended: queue.SimpleQueue[BaseException | None], until: float) -> BaseException | None:
    while True:
        try:
            return ended.get(timeout=_WAKES)
        except queue.Empty:
            if time.monotonic() >= until:
                return TimeoutError('There was no answer in time')


def _worker(name: str, is_hurried: bool) -> _Worker:
    key = os.getpid(), name
    worker = _WORKERS.get(key)
    if worker is None or not worker.is_alive():
        for old in [other for other in _WORKERS if other[0] != key[0]]:
            del _WORKERS[old]  # of the process that forked this one
        worker = _WORKERS[key] = _Worker(name, is_hurried)
        signalmask.start(worker)
    return worker
