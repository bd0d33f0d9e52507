"""Starts this product's threads so that they take no signal that is sent to the process.

The kernel gives such a signal to any thread that does not block it.  A site may block SIGTERM in
all of its threads and wait for it with `sigwait`; one thread of ours that does not block it would
take it, and the process would die.  A thread inherits its mask from the thread that starts it, so
that one blocks everything for a moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Set
from pathlib import Path

try:
    # signal.pthread_sigmask is a function in Python around this one.  An exception that a signal
    # handler raises, such as KeyboardInterrupt, may come up at the beginning of any Python
    # function: the mask would not be restored.
    from _signal import pthread_sigmask  # type: ignore[import-not-found]  # CPython keeps it private
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


_OURS = '_takes_no_signal'
#: [what MainThread blocked before it began to start a thread], while it does so.
_of_main: list[set[signal.Signals]] = []


def start(thread: threading.Thread) -> None:
    """Start it with every signal blocked but FAULTS.  Raises RuntimeError when the system gives no
    more threads.

    A signal for the calling thread waits until the new thread is there; its handler may raise here,
    as the one of SIGINT does, and the thread is there all the same.
    """
    setattr(thread, _OURS, True)
    if pthread_sigmask is None:
        thread.start()
        return
    # Asked apart: a call that changes the mask may raise.
    before = pthread_sigmask(signal.SIG_BLOCK, ())
    is_main = threading.get_ident() == threading.main_thread().ident
    if is_main:
        _of_main[:] = [before]
    try:
        pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        thread.start()
    finally:
        try:
            pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            if is_main:
                _of_main.clear()


def is_ours(thread: threading.Thread) -> bool:
    """Whether `start` has started it.  Its children would inherit what it blocks."""
    return getattr(thread, _OURS, False)


def be_like_main_thread() -> None:
    """For a thread of ours in which code of the site runs, such as its log handlers: it blocks from
    here on what MainThread blocks, and so do the threads and children that this code starts.
    """
    if pthread_sigmask is None:
        return
    mask: Set[int] = blocked_in_main_thread()
    for before in tuple(_of_main):
        mask = before
    pthread_sigmask(signal.SIG_SETMASK, mask)


def blocked_in_main_thread(status: Path = Path('/proc/self/status')) -> frozenset[int]:
    """Signals that MainThread blocks: code that waits for one with `sigwait` blocks it in all
    threads, or should.
    """
    return signal_set('SigBlk', status)  # /proc/self is the first thread, whichever one asks


def signal_set(field: str, status: Path) -> frozenset[int]:
    """The numbers in a line of /proc/PID/status, such as SigBlk; empty where the system does not
    tell.
    """
    try:
        _, _, rest = status.read_text(errors='replace').partition(f'\n{field}:')
        mask = int(rest.split(None, 1)[0], 16)
    except (OSError, ValueError, IndexError):
        return frozenset()
    return frozenset(number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1)
