"""Logging without blocking, for the heartbeat and the other threads of this product.

A log handler may be stuck, for example on a full pipe that is not read.  The stuck thread then
holds the lock of the handler, and the heartbeat must not wait for it.  There is a second reason: a
handler may start a child process, which would inherit the signals that our threads block.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from types import TracebackType

from . import signalmask
from .eventlog import LOGGER

#: At most this many lines wait; beyond that the oldest one is dropped.
_MOST = 200
#: An exception as `logging` accepts it: the triple of `sys.exc_info`, or the exception itself.
ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
    | BaseException
    | None
)
#: (level, text, arguments, exception)
_Line = tuple[int, str, tuple[object, ...], ExcInfo]


class Messenger:
    """Logs in a separate thread, which lives as long as lines wait to be logged.

    It is not a `BackgroundJob`, because a job logs its errors through a Messenger.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all waiting lines; in a forked child also the thread that was logging."""
        self._waiting: collections.deque[_Line] = collections.deque(maxlen=_MOST)
        self._turn = threading.Lock()  # held by the thread that logs

    def say(self, level: int, text: str, *args: object, exc_info: ExcInfo = None) -> None:
        """Queue a line, and start the thread that logs unless it is running."""
        self._waiting.append((level, text, args, exc_info))
        is_our_turn = self._turn.acquire(blocking=False)
        if not is_our_turn:
            return  # the thread that logs will find the line
        thread = threading.Thread(
            target=self._log_lines,
            name='StabilityMonitor log',
            daemon=True,
        )
        try:
            signalmask.start(thread)
        except RuntimeError:  # no more threads, or the interpreter ends; the next call tries again
            self._turn.release()

    def _log_lines(self) -> None:
        signalmask.be_like_main_thread()
        is_our_turn = True
        while is_our_turn:
            while self._waiting:
                level, text, args, exc_info = self._waiting.popleft()
                with contextlib.suppress(Exception):  # go on with the next line
                    LOGGER.log(level, text, *args, exc_info=exc_info)
            self._turn.release()
            # A line that was queued before the release found the lock taken, and started no thread.
            is_our_turn = bool(self._waiting) and self._turn.acquire(blocking=False)


#: Threads (idents) that must never wait for a log handler.
HURRIED: set[int] = set()
_MESSENGER = Messenger()


def start_anew() -> None:
    """In a forked child: no thread is hurried, and the waiting lines belong to the parent."""
    HURRIED.clear()
    _MESSENGER.start_anew()


def log(level: int, text: str, *args: object, exc_info: ExcInfo = None) -> None:
    """Log at once.  A thread that must not wait logs through the messenger instead.

    These are the threads of this product and those in HURRIED.  `exc_info` is the triple of
    `sys.exc_info`, or an exception.
    """
    thread = threading.current_thread()
    must_not_wait = thread.ident in HURRIED or signalmask.is_ours(thread)
    say = _MESSENGER.say if must_not_wait else LOGGER.log
    say(level, text, *args, exc_info=exc_info)
