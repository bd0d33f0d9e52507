"""The watchdog: timers of the kernel that note when the heartbeat has stopped, as when C code
holds the GIL.

A POSIX timer sends a real-time signal to one thread.  The handler of that signal (C code,
registered with faulthandler) writes the thread's own stack into a file: `watchdog.mark` for the
heartbeat, `watchdog-<slot>.mark` for a serving thread.  No thread ever walks the frames of another
one: that has killed healthy servers (FACTS.md, finding 4).

* A signal must not meet a thread that runs Python code.  When four busy threads wrote their own
  stacks after the process had been suspended, a thread died of it in 42 of 1,600 trials on 3.13.0,
  2 of 1,700 on 3.12.1 and 2 of 9,700 on 3.11.7.  So the timers of the serving threads run by the
  CPU time of the heartbeat and not by a wall clock.  The heartbeat uses CPU time while it fights in
  vain for the GIL (2 to 4 ms a second), and none while the process is suspended or starved.
* The kernel checks such a timer only when a tick of its clock meets the heartbeat on a CPU, so two
  timers may be due at once.  When two threads write at once, faulthandler lets only the first one
  do so.  So the threads take turns, several ticks apart, five times.
* A handler is never taken away again: the default action of its signal would end the process.
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
_SIG_DFL = ctypes.c_void_p(0)
_SIG_IGN = ctypes.c_void_p(1)
#: Each serving thread has this many turns to write.  One turn in ten is lost, or more where ticks
#: are rare.
TURNS = 5
#: Real-time signals that may be taken, where the system has any.
_CANDIDATES = range(0)
if hasattr(signal, 'SIGRTMIN'):
    _CANDIDATES = range(signal.SIGRTMIN + 7, signal.SIGRTMAX)


class ThreadIsGone(OSError):
    """The thread that a timer was wanted for has ended; its slot is released at the next beat."""


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
    """A file that one thread at a time writes its stack into, the signal for that, and a timer for
    each turn.

    The handler of faulthandler changes errno, unless it chains.  Python 3.14 then aborts a thread
    that waits for a lock with a time limit, as the heartbeat does: "unexpected error from
    semaphore: 0".  So with `keeps_errno` it chains, to a handler that does nothing.  System calls
    are not restarted then: Python copes with that, but C code of other threads may not.
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
            self.signal,
            file=self.file,
            all_threads=False,
            chain=self._keeps_errno,
        )

    def _end(self) -> None:
        faulthandler.unregister(self.signal)
        if self._keeps_errno:  # a program that is executed would inherit a signal that is ignored
            _libc().signal(self.signal, _SIG_DFL)

    def guard(self, native_id: int) -> None:
        """From now on that thread writes here."""
        if native_id == self.thread:
            return
        self.disarm()
        while len(self._timers) < self._turns:
            timer = _new_timer(self._clock, self.signal, native_id)
            self._timers.append(timer)
        self.thread = native_id

    def change_signal(self) -> None:
        """Use another signal.  The thread must block the present one, whose default action ends
        the process again.
        """
        self.disarm()
        self._end()
        self.signal = _free_signal()
        self._begin()

    def check(self) -> None:
        """Open the file again if other code has closed its descriptor."""
        if not self.file.is_intact():
            self.file.reopen()
            self._register()

    def rearm(self, *turns: float) -> None:
        """The thread writes after each of these numbers of seconds of the clock."""
        settime = _settime()
        # While it is disarmed there are no timers.
        timers = tuple(self._timers)
        for timer, seconds in zip(timers, turns, strict=False):
            has_failed = settime(timer, 0, _setting(seconds), None)
            if has_failed:
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


class Watchdog:
    """The watchdog.  It is made in the thread of the heartbeat.  Raises AttributeError or OSError
    where the system has no such timers.

    All times are seconds.  The heartbeat writes its stack after `timeout` without `rearm`.  The
    serving threads write theirs when the heartbeat has used `cpu` seconds of CPU time since
    `rearm_threads`, one after the other, with `apart` (three ticks of the kernel's clock) between
    two of them.  `avoided` are the signals that MainThread blocked before it started the heartbeat:
    it may still be starting it, and blocks every signal meanwhile.
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
        if apart is None:
            tick = time.clock_getres(_CLOCK_MONOTONIC_COARSE)
            apart = 3 * tick
        self._apart = apart
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._own = _Post(
            directory / mark_name('watchdog'),
            mode,
            avoided=avoided,
            keeps_errno=True,
        )
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
        """The heartbeat does not block this one signal (see `signalmask`): it has a handler now."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._own.signal})
        self._own.guard(threading.get_native_id())

    def give_way(self) -> None:
        """Called in the heartbeat now and then: choose another signal if code of the site waits for
        ours with `sigwait`.

        Such code blocks the signal in MainThread, and would not get it while the heartbeat takes
        it.
        """
        if self._own.signal in awaited_signals():
            signal.pthread_sigmask(signal.SIG_BLOCK, {self._own.signal})
            self._own.change_signal()
            self._guard_heartbeat()

    def rearm(self) -> None:
        """All is well: start the timer of the heartbeat anew."""
        self._own.rearm(self._timeout)

    def check(self) -> None:
        """Called now and then: open the files again that other code has closed."""
        for post in (self._own, *self._posts.values()):
            post.check()

    def guards(self, threads: dict[int, int]) -> bool:
        """Whether the timers are those of these threads, {slot: native id}."""
        return threads == self._threads

    def is_used_up(self) -> bool:
        """Whether the heartbeat has worked for so long that the threads must be re-armed early."""
        return time.thread_time() - self._armed_at > self._cpu / 3

    def rearm_threads(
        self,
        threads: dict[int, int],
        watch: Callable[[str, MarkFile], None] = lambda name, file: None,
    ) -> str:
        """Start the timers of the serving threads, {slot: native id}, anew.  `watch` is called with
        the mark and file of each new one.

        A thread whose timers cannot be made, as where the user has too many, goes without; the
        reasons are returned.
        """
        self._armed_at = time.thread_time()
        self._threads = threads
        for slot, post in self._posts.items():
            if slot not in threads:
                post.disarm()
        for slot, (native_id, _) in list(self._unguarded.items()):
            if threads.get(slot) != native_id:  # another thread has the slot by now
                del self._unguarded[slot]
        for place, (slot, native_id) in enumerate(threads.items()):
            if self._ended:
                break
            has_mark = f'watchdog-{slot}' in blackbox.MARKS
            if not has_mark or slot in self._unguarded:
                continue
            # Thread after thread has its first turn, then thread after thread its second ...
            turns = range(place, place + TURNS * len(threads), len(threads))
            try:
                post = self._post(slot, watch)
                post.guard(native_id)
                post.rearm(*(self._cpu + turn * self._apart for turn in turns))
            except ThreadIsGone:
                pass
            except OSError as error:  # the others must not be left with timers that run out
                self._unguarded[slot] = (native_id, f'{error}.')
                if slot in self._posts:
                    self._posts[slot].disarm()
        reasons = {why for _, why in self._unguarded.values()}
        return ' '.join(sorted(reasons))

    def _post(self, slot: int, watch: Callable[[str, MarkFile], None]) -> _Post:
        """What the thread of that slot writes into; made once."""
        if slot in self._posts:
            return self._posts[slot]
        name = f'watchdog-{slot}'
        path = self.directory / mark_name(name)
        post = _Post(path, self.mode, TURNS, self._clock)
        self._posts[slot] = post
        watch(name, post.file)
        return post

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
    if hasattr(libc, 'timer_create'):
        return libc
    return ctypes.PyDLL('librt.so.1', use_errno=True)  # glibc before 2.34


@functools.cache
def _settime() -> Callable[..., int]:
    return _libc().timer_settime


@functools.lru_cache(1024)
def _setting(seconds: float) -> Any:
    """A reference to a `struct itimerspec`: once, after that number of seconds."""
    never = _Moment(0, 0)
    nanoseconds = int(seconds % 1 * 1e9)
    then = _Moment(int(seconds), nanoseconds)
    return ctypes.byref(_TimerSetting(never, then))


def _new_timer(clock: int, number: int, native_id: int) -> ctypes.c_void_p:
    """A timer that sends signal `number` to that thread.  Raises ThreadIsGone, or OSError, as when
    there are too many timers.
    """
    event = _SignalEvent(
        signo=number,
        notify=_SIGEV_THREAD_ID,
        thread_id=native_id,
    )
    timer = ctypes.c_void_p()
    has_failed = _libc().timer_create(clock, ctypes.byref(event), ctypes.byref(timer))
    if has_failed:
        error = ctypes.get_errno()
        message = 'timer_create failed'
        if error == errno.EINVAL:  # so the kernel says that there is no such thread
            raise ThreadIsGone(error, message)
        raise OSError(error, message)
    return timer


def _free_signal(avoided: frozenset[int] = frozenset()) -> int:
    """A signal that has no handler, and that no code waits for (see `Watchdog.give_way`)."""
    taken = foreign_handlers() | awaited_signals() | avoided
    for number in _CANDIDATES:
        has_no_handler = signal.getsignal(number) is signal.SIG_DFL
        if has_no_handler and number not in taken:
            return number
    raise OSError('no real-time signal is free')


def awaited_signals() -> frozenset[int]:
    """Candidates that MainThread blocks, so that code of the site may wait for them.

    If it blocks all candidates, it waits for none: it may just be starting a thread.
    """
    blocked = blocked_in_main_thread().intersection(_CANDIDATES)
    if len(blocked) == len(_CANDIDATES):
        return frozenset()
    return blocked
