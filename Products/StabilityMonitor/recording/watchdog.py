"""The dead-man switch: timers of the kernel that note that the heartbeat has stopped, as when C
code holds the GIL.

A POSIX timer sends a real-time signal to one thread, whose handler (C code, registered with
faulthandler) writes that thread's own stack into a file of its own: `deadman.mark` for the
heartbeat, `deadman-<slot>.mark` for the threads that serve.  None ever walks another thread's
frames, which killed healthy servers (FACTS.md, finding 4).

Nor may a signal meet a thread that runs Python code: of four busy threads that wrote their own
stacks after the process had been suspended, 42 in 1,600 times one died of it on 3.13.0, 2 in 1,700
on 3.12.1, 2 in 9,700 on 3.11.7.  So the timers of the serving threads do not run by the clock on
the wall, but by the processor time of the heartbeat: it is used up only while the heartbeat fights
in vain for the GIL (2 to 4 ms a second), and stands still while the process does, or is starved.
The kernel looks at such a timer only when a tick of its clock meets the heartbeat at work, so two
of them may be due at once, and of two threads that write at once faulthandler lets only the first:
they take turns, several ticks apart, five times.  A handler is never taken away again: the default
action of its signal would end the process.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import functools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..store import blackbox
from ..store.rundirectory import mark_name
from ..system.signalmask import blocked_in_main_thread
from .faulthandler_compat import MARK_SIZE
from .faulthandler_compat import MarkFile
from .faulthandler_compat import foreign_handlers

_CLOCK_MONOTONIC = 1
_CLOCK_MONOTONIC_COARSE = 6  # its resolution is a tick
_SIGEV_THREAD_ID = 4
_SIG_DFL, _SIG_IGN = ctypes.c_void_p(0), ctypes.c_void_p(1)
#: How often a thread that serves has its turn to write: one in ten is lost, or more where ticks are
#: rare.
TURNS = 5
_CANDIDATES = (
    range(signal.SIGRTMIN + 7, signal.SIGRTMAX) if hasattr(signal, 'SIGRTMIN') else range(0)
)


class ThreadIsGone(OSError):
    """A timer was to be made for a thread that has ended; its slot is released at the next beat."""


class _SignalEvent(ctypes.Structure):
    _fields_ = [
        ('value', ctypes.c_void_p),
        ('signo', ctypes.c_int),
        ('notify', ctypes.c_int),
        ('thread_id', ctypes.c_int),
        ('padding', ctypes.c_char * 44),
    ]


class _Moment(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]


class _TimerSetting(ctypes.Structure):
    _fields_ = [('interval', _Moment), ('value', _Moment)]


class _Post:
    """A file that one thread at a time writes its stack into, the signal for that, and as many
    timers as turns.

    faulthandler's handler leaves another errno behind, unless it chains.  Python 3.14 then aborts
    a thread that waits for a lock with a time limit, as the heartbeat does: "unexpected error from
    semaphore: 0".  So with `keeps_errno` it chains, to a handler that does nothing.  System calls
    are not restarted then, which Python copes with, and C code of other threads may not.
    """

    def __init__(
        self,
        path: Path,
        mode: int,
        turns: int = 1,
        clock: int = _CLOCK_MONOTONIC,
        avoided: frozenset[int] = frozenset(),
        keeps_errno: bool = False,
    ) -> None:
        self.signal = _free_signal(avoided)
        self._keeps_errno = keeps_errno
        self.file = MarkFile(path, MARK_SIZE, mode)
        self.thread = 0
        self._timers: list[ctypes.c_void_p] = []
        self._turns = turns
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        if self._keeps_errno:
            _libc().signal(self.signal, _SIG_IGN)
        self._register()

    def _register(self) -> None:
        faulthandler.register(
            self.signal, file=self.file, all_threads=False, chain=self._keeps_errno
        )

    def _end(self) -> None:
        faulthandler.unregister(self.signal)
        if self._keeps_errno:  # a program that is executed would inherit a signal that is ignored
            _libc().signal(self.signal, _SIG_DFL)

    def guard(self, native_id: int) -> None:
        """From now on it is that thread which writes here."""
        if native_id == self.thread:
            return
        self.disarm()
        while len(self._timers) < self._turns:
            self._timers.append(_new_timer(self._clock, self.signal, native_id))
        self.thread = native_id

    def change_signal(self) -> None:
        """Use another one.  Its thread must block this one: its default action ends the process
        again.
        """
        self.disarm()
        self._end()
        self.signal = _free_signal()
        self._begin()

    def check(self) -> None:
        """Other code may have closed the descriptor."""
        if not self.file.is_intact():
            self.file.reopen()
            self._register()

    def rearm(self, *turns: float) -> None:
        """The thread writes in so many seconds of the clock."""
        settime = _settime()
        for timer, seconds in zip(tuple(self._timers), turns, strict=False):  # none: it is disarmed
            if settime(timer, 0, _setting(seconds), None):
                raise OSError(ctypes.get_errno(), 'timer_settime failed')

    def disarm(self) -> None:
        timers = self._timers
        self._timers = []
        self.thread = 0
        for timer in timers:
            _libc().timer_delete(timer)

    def detach(self) -> None:
        """In a forked child, which has inherited no timer: let go of the parent's file."""
        self._end()
        self.file.close()


class DeadMan:
    """Made in the heartbeat.  AttributeError or OSError where the system has no such timers.

    `timeout` is that of the heartbeat; the threads write when it has used `cpu` of processor time
    since it re-armed them, one after the other, each `apart` (three ticks of the kernel's clock)
    from the next.  All in seconds.  `avoided`: signals that MainThread had blocked when it started
    the heartbeat, which may not have gone on yet.
    """

    def __init__(
        self,
        directory: Path,
        timeout: float,
        cpu: float = 0.05,
        mode: int = 0o600,
        apart: float | None = None,
        avoided: frozenset[int] = frozenset(),
    ) -> None:
        self.directory = directory
        self.mode = mode
        self._timeout = timeout
        self._cpu = cpu
        self._apart = 3 * time.clock_getres(_CLOCK_MONOTONIC_COARSE) if apart is None else apart
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._own = _Post(directory / mark_name('deadman'), mode, avoided=avoided, keeps_errno=True)
        self._guard_heartbeat()
        self._posts: dict[int, _Post] = {}  # by slot
        self._threads: dict[int, int] = {}  # {slot: native id}
        self._unguarded: dict[int, tuple[int, str]] = {}  # {slot: (native id, why)}
        self._armed_at = 0.0
        self._ended = False

    @property
    def file(self) -> MarkFile:
        return self._own.file

    def _guard_heartbeat(self) -> None:
        """The heartbeat takes this one signal, see `signalmask`: it has its handler by now."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._own.signal})
        self._own.guard(threading.get_native_id())

    def give_way(self) -> None:
        """In the heartbeat, now and then: code of the site may wait with `sigwait` for the signal
        that we have chosen.

        Such code blocks it in MainThread, and would not get it while the heartbeat takes it.
        """
        if self._own.signal in awaited_signals():
            signal.pthread_sigmask(signal.SIG_BLOCK, {self._own.signal})
            self._own.change_signal()
            self._guard_heartbeat()

    def rearm(self) -> None:
        """All is well: the timer of the heartbeat starts anew."""
        self._own.rearm(self._timeout)

    def check(self) -> None:
        """Now and then: files that other code has closed are opened again."""
        for post in (self._own, *self._posts.values()):
            post.check()

    def guards(self, threads: dict[int, int]) -> bool:
        """Are the timers those of these threads?"""
        return threads == self._threads

    def is_used_up(self) -> bool:
        """Has the heartbeat used so much, by working, that the threads must be re-armed before
        their time?
        """
        return time.thread_time() - self._armed_at > self._cpu / 3

    def rearm_threads(
        self,
        threads: dict[int, int],
        watch: Callable[[str, MarkFile], None] = lambda name, file: None,
    ) -> str:
        """The timers of the threads that serve, {slot: native id}, start anew.  `watch` is told of
        each new file.

        A thread whose timers cannot be had, as where the user has too many, goes without; why is
        what is returned.
        """
        self._armed_at = time.thread_time()
        self._threads = threads
        for slot in [slot for slot in self._posts if slot not in threads]:
            self._posts[slot].disarm()
        self._unguarded = {
            slot: why for slot, why in self._unguarded.items() if threads.get(slot) == why[0]
        }
        for place, (slot, native_id) in enumerate(threads.items()):
            if (
                f'deadman-{slot}' in blackbox.MARKS
                and slot not in self._unguarded
                and not self._ended
            ):
                self._guard(slot, native_id, place, len(threads), watch)
        return ' '.join(sorted({why for _, why in self._unguarded.values()}))

    def _guard(
        self,
        slot: int,
        native_id: int,
        place: int,
        count: int,
        watch: Callable[[str, MarkFile], None],
    ) -> None:
        try:
            post = self._post(slot, watch)
            post.guard(native_id)
            post.rearm(*(self._cpu + (place + turn * count) * self._apart for turn in range(TURNS)))
        except ThreadIsGone:
            pass
        except OSError as error:  # the others must not be left with timers that run out
            self._unguarded[slot] = native_id, f'{error}.'
            if slot in self._posts:
                self._posts[slot].disarm()

    def _post(self, slot: int, watch: Callable[[str, MarkFile], None]) -> _Post:
        if slot not in self._posts:
            name = f'deadman-{slot}'
            self._posts[slot] = _Post(
                self.directory / mark_name(name), self.mode, TURNS, self._clock
            )
            watch(name, self._posts[slot].file)
        return self._posts[slot]

    def disarm(self) -> None:
        self._ended = True
        for post in (self._own, *self._posts.values()):
            post.disarm()

    def detach(self) -> None:
        for post in (self._own, *self._posts.values()):
            post.detach()


@functools.cache
def _libc() -> ctypes.PyDLL:
    libc = ctypes.PyDLL(None, use_errno=True)
    return libc if hasattr(libc, 'timer_create') else ctypes.PyDLL('librt.so.1', use_errno=True)


@functools.cache
def _settime() -> Callable[..., int]:
    return _libc().timer_settime


@functools.lru_cache(1024)
def _setting(seconds: float) -> Any:
    """A reference to a `struct itimerspec`: once, in so many seconds."""
    return ctypes.byref(_TimerSetting(_Moment(0, 0), _Moment(int(seconds), int(seconds % 1 * 1e9))))


def _new_timer(clock: int, number: int, native_id: int) -> ctypes.c_void_p:
    """It sends that signal to that thread.  ThreadIsGone, or OSError, as when there are too
    many.
    """
    event = _SignalEvent(signo=number, notify=_SIGEV_THREAD_ID, thread_id=native_id)
    timer = ctypes.c_void_p()
    if _libc().timer_create(clock, ctypes.byref(event), ctypes.byref(timer)):
        error = ctypes.get_errno()
        raise (ThreadIsGone if error == errno.EINVAL else OSError)(error, 'timer_create failed')
    return timer


def _free_signal(avoided: frozenset[int] = frozenset()) -> int:
    """One that nobody has a handler for, or waits for (see `DeadMan.give_way`)."""
    taken = foreign_handlers() | awaited_signals() | avoided
    for number in _CANDIDATES:
        if signal.getsignal(number) is signal.SIG_DFL and number not in taken:
            return number
    raise OSError('no real-time signal is free')


def awaited_signals() -> frozenset[int]:
    """Candidates that MainThread blocks.  One that blocks them all waits for none: it may just be
    starting a thread.
    """
    blocked = blocked_in_main_thread().intersection(_CANDIDATES)
    return blocked if len(blocked) < len(_CANDIDATES) else frozenset()
