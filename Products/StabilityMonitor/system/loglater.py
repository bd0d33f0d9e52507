"""Logs from the heartbeat without waiting.

A log handler may be stuck, for example on a pipe that nobody reads, and then its thread holds the
lock of the handler; the heartbeat must not wait for that.  All threads of ours log this way, also
because a handler may start a child process, which would inherit the signals that they block.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from types import TracebackType

from . import signalmask
from .eventlog import LOGGER

#: So many lines wait at most; the oldest is dropped.
_MOST = 200
#: What `logging` takes for the exception of a record: the triple of `sys.exc_info`, or one itself.
ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
    | BaseException
    | None
)
#: (level, text, arguments, exception)
_Line = tuple[int, str, tuple[object, ...], ExcInfo]


class Messenger:
    """Logs in a thread of its own, which lives as long as there is something to say.

    It is no `BackgroundJob`: a job logs its errors through this.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what has not been logged; in a forked child also the thread that was logging."""
        self._waiting: collections.deque[_Line] = collections.deque(maxlen=_MOST)
        self._turn = threading.Lock()  # held by the thread that logs

    def say(self, level: int, text: str, *args: object, exc_info: ExcInfo = None) -> None:
        self._waiting.append((level, text, args, exc_info))
        is_our_turn = self._turn.acquire(blocking=False)
        if not is_our_turn:
            return  # the thread that logs sees what waits
        thread = threading.Thread(
            target=self._speak,
            name='StabilityMonitor log',
            daemon=True,
        )
        try:
            signalmask.start(thread)
        except RuntimeError:  # no more threads, or the interpreter ends: the next call tries
            self._turn.release()

    def _speak(self) -> None:
        signalmask.be_like_main_thread()
        is_our_turn = True
        while is_our_turn:
            while self._waiting:
                level, text, args, exc_info = self._waiting.popleft()
                with contextlib.suppress(Exception):  # the next line may do better
                    LOGGER.log(level, text, *args, exc_info=exc_info)
            self._turn.release()
            # A line that came before the release found the turn taken, and started no thread.
            is_our_turn = bool(self._waiting) and self._turn.acquire(blocking=False)


#: Threads (idents) that must never wait for a log handler.
HURRIED: set[int] = set()
_MESSENGER = Messenger()


def start_anew() -> None:
    """In a forked child: nobody is hurried, and what waits is the parent's."""
    HURRIED.clear()
    _MESSENGER.start_anew()


def log(level: int, text: str, *args: object, exc_info: ExcInfo = None) -> None:
    """Log at once; from a thread of ours, or a hurried one, through the messenger.

    `exc_info` is the triple of `sys.exc_info`, or an exception.
    """
    thread = threading.current_thread()
    must_not_wait = thread.ident in HURRIED or signalmask.is_ours(thread)
    say = _MESSENGER.say if must_not_wait else LOGGER.log
    say(level, text, *args, exc_info=exc_info)
