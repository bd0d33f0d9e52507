"""Starts this product's threads so that they take no signal that is sent to the process.

The kernel gives such a signal to any thread that does not block it.  A site may block SIGTERM in
all of its threads and wait for it with `sigwait`; one thread of ours that does not block it would
take it, and the process would die.  A thread inherits its mask from the thread that starts it, so
that one blocks everything for a moment.
"""

from __future__ import annotations

import signal
import threading

try:
    # signal.pthread_sigmask is a function in Python around this one.  An exception that a signal
    # handler raises, such as KeyboardInterrupt, may come up at the beginning of any Python
    # function: the mask would not be restored.
    from _signal import pthread_sigmask
except ImportError:  # Windows has no masks
    pthread_sigmask = None

#: A thread raises these itself when it crashes.  The kernel ends a process at once where they are
#: blocked then, and the fault log would stay empty.
FAULTS = frozenset(
    getattr(signal, name)
    for name in ('SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP', 'SIGSYS')
    if hasattr(signal, name)
)
BLOCKED = frozenset(signal.valid_signals()) - FAULTS


def start(thread: threading.Thread) -> None:
    """Start it with every signal blocked but FAULTS.  Raises RuntimeError when the system gives no
    more threads.

    A signal for the calling thread waits until the new thread is there; its handler may raise here,
    as the one of SIGINT does, and the thread is there all the same.
    """
    if pthread_sigmask is None:
        thread.start()
        return
    before = pthread_sigmask(
        signal.SIG_BLOCK, ()
    )  # asked apart: a call that changes the mask may raise
    try:
        pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        thread.start()
    finally:
        pthread_sigmask(signal.SIG_SETMASK, before)
