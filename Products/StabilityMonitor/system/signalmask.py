"""Starts this product's threads so that they take no signal that is sent to the process.

The kernel gives such a signal to any thread that does not block it.  A site may block SIGTERM in
all of its threads and wait for it with `sigwait`: a thread of ours that does not block it would
take it, and the process would die.  A thread inherits the mask of the thread that starts it, so the
latter blocks everything for a moment.
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

#: A thread raises these itself when it crashes.  Where they are blocked, the kernel ends the
#: process at once, and the fault log stays empty.
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
    """Start it with every signal blocked but FAULTS.

    A signal for the calling thread waits until the new thread exists.  Its handler may raise here,
    as the one of SIGINT does; the thread exists all the same.  Raises RuntimeError when the system
    gives no more threads.
    """
    setattr(thread, _OURS, True)
    if pthread_sigmask is None:
        thread.start()
        return
    # In a call of its own, because a call that changes the mask may raise.
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
    """Whether `start` has started it.  Its children would inherit the signals that it blocks."""
    return getattr(thread, _OURS, False)


def be_like_main_thread() -> None:
    """Block from here on, in the calling thread, what MainThread blocks.

    For a thread of ours in which code of the site runs, such as its log handlers: the threads and
    children that this code starts inherit the mask.
    """
    if pthread_sigmask is None:
        return
    mask: Set[int] = blocked_in_main_thread()
    for before in tuple(_of_main):
        mask = before
    pthread_sigmask(signal.SIG_SETMASK, mask)


def blocked_in_main_thread(status: Path = Path('/proc/self/status')) -> frozenset[int]:
    """Signals that MainThread blocks.

    Code that waits for a signal with `sigwait` blocks it in all threads, or should.
    """
    return signal_set('SigBlk', status)  # /proc/self is the first thread, whichever one asks


def signal_set(field: str, status: Path) -> frozenset[int]:
    """The signal numbers in a line of /proc/PID/status, such as SigBlk; empty if not known."""
    try:
        text = status.read_text(errors='replace')
        _, _, rest = text.partition(f'\n{field}:')
        mask = int(rest.split(None, 1)[0], 16)
    except (OSError, ValueError, IndexError):
        return frozenset()
    found = set()
    for number in range(1, signal.NSIG):
        if mask & 1 << (number - 1):
            found.add(number)
    return frozenset(found)
