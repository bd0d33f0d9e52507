"""Work of the heartbeat that takes processor time is done aside, in a thread of its own, while it waits.

The dead-man switch tells by the processor time of the heartbeat that it fights in vain for the interpreter
lock; work of its own must not look like that.
"""
from __future__ import annotations

import threading

from . import loglater


def aside(function):
    """The result of `function`, called in another thread; raises what it raises."""
    answers, errors = [], []

    def work():
        ident = threading.get_ident()
        loglater.HURRIED.add(ident)                     # the heartbeat waits for us
        try:
            answers.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            loglater.HURRIED.discard(ident)

    thread = threading.Thread(target=work, name='StabilityMonitor aside', daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]
