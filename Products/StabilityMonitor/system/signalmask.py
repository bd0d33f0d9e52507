"""Starts this product's threads so that they never get a signal that is sent to the process.

The kernel delivers such a signal to any thread that does not block it.  A site may block SIGTERM in
all of its threads and wait for it with `sigwait`.  A thread of this product that does not block
SIGTERM would get it instead, and the process would die.  A new thread inherits the signal mask of
the thread that starts it, so that thread blocks all signals for a moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Set
from pathlib import Path

try:
    # signal.pthread_sigmask is a Python function that calls this one.  A signal handler may raise
    # an exception, such as KeyboardInterrupt, at the beginning of any Python function: then the
    # mask would not be restored.
    from _signal import pthread_sigmask  # type: ignore[import-not-found]  # CPython keeps it private
except ImportError:  # Windows has no masks
    pthread_sigmask = None

#: Signals of a crash.  If the crashing thread blocks them, the kernel ends the process at once and
#: the fault log stays empty, so they are never blocked.
FAULTS = frozenset(
    getattr(signal, name)
    for name in ('SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP', 'SIGSYS')
    if hasattr(signal, name)
)
BLOCKED = frozenset(signal.valid_signals()) - FAULTS


_OURS = '_takes_no_signal'
#: While MainThread starts a thread: [the signals that MainThread blocked before].  Else empty.
_of_main: list[set[signal.Signals]] = []


def start(thread: threading.Thread) -> None:
    """Start a thread that blocks every signal except FAULTS.

    A signal for the calling thread waits until the new thread exists.  Then its handler may raise
    an exception here, as the handler of SIGINT does; the new thread exists nevertheless.  Raises
    RuntimeError if the system cannot start another thread.
    """
    setattr(thread, _OURS, True)
    if pthread_sigmask is None:
        thread.start()
        return
    # Read the mask in a separate call, because a call that changes the mask may raise.
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
    """Return whether `start` started this thread.

    A child process of such a thread would inherit the signals that the thread blocks.
    """
    return getattr(thread, _OURS, False)


def be_like_main_thread() -> None:
    """Make the calling thread block the same signals as MainThread.

    For a thread of this product that runs code of the site, such as log handlers: the threads and
    child processes that this code starts inherit the mask.
    """
    if pthread_sigmask is None:
        return
    mask: Set[int] = blocked_in_main_thread()
    for before in tuple(_of_main):
        mask = before
    pthread_sigmask(signal.SIG_SETMASK, mask)


def blocked_in_main_thread(status: Path = Path('/proc/self/status')) -> frozenset[int]:
    """Return the signals that MainThread blocks.

    Code that waits for a signal with `sigwait` blocks it in all threads, or should.
    """
    return signal_set('SigBlk', status)  # /proc/self/status is always that of MainThread


def has_python_handler(name: str) -> bool:
    """Whether code in Python handles or ignores the signal of that name.

    After a dump faulthandler passes a signal on to that handler, and then the process may live on.
    None is a handler in C code, as that of an earlier faulthandler.
    """
    return signal.getsignal(getattr(signal, name)) not in (signal.SIG_DFL, None)


def signal_set(field: str, status: Path) -> frozenset[int]:
    """Return the signal numbers in a line of /proc/PID/status, such as SigBlk; empty if unknown."""
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
