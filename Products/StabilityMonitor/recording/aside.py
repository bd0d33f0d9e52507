"""Work of the heartbeat that takes processor time is done aside, in a thread of its own, while it waits.

The dead-man switch tells by the processor time of the heartbeat that it fights in vain for the interpreter
lock; work of its own must not look like that.  It is one thread, which stays: a thread that is being started may
take a signal that was sent to the process before Python knows the thread, and then the signal leaves no mark.
"""
from __future__ import annotations

import os
import queue
import threading

from . import loglater

#: {pid: the thread}; a forked child begins with its own.
_WORKERS = {}


class _Worker(threading.Thread):

    def __init__(self):
        super().__init__(name='StabilityMonitor aside', daemon=True)
        self.jobs = queue.SimpleQueue()

    def run(self):
        loglater.HURRIED.add(self.ident)                # the heartbeat waits for us
        while True:
            function, answers = self.jobs.get()
            try:
                answers.put((function(), None))
            except BaseException as error:
                answers.put((None, error))
            del function, answers


def aside(function):
    """The result of `function`, called in another thread; raises what it raises."""
    worker = _WORKERS.get(os.getpid())
    if worker is threading.current_thread():
        return function()
    if worker is None or not worker.is_alive():
        worker = _Worker()
        worker.start()
        _WORKERS.clear()
        _WORKERS[os.getpid()] = worker
    answers = queue.SimpleQueue()
    worker.jobs.put((function, answers))
    result, error = answers.get()
    if error is not None:
        raise error
    return result
