"""The watchdog: kernel timers that record when the heartbeat is stuck, for example when C code
holds the GIL.

A POSIX timer sends a real-time signal to one thread.  The handler of that signal (C code,
registered with faulthandler) writes the stack of this thread into a file: `watchdog.mark` for the
heartbeat, `watchdog-<slot>.mark` for a worker, `ending.mark` for MainThread while the interpreter
ends.  A thread never reads the frames of another thread:
that has killed healthy servers (docs/facts.rst, "faulthandler").

* The signal must not reach a thread that is running Python code.  In a test, four busy threads
  wrote their own stacks after the process had been suspended.  The process died in 42 of 1,600
  trials on Python 3.13.0, in 2 of 1,700 on 3.12.1 and in 2 of 9,700 on 3.11.7.  So the timers of
  the workers do not use a wall clock, but the CPU time of the heartbeat.  The heartbeat uses CPU
  time while it waits for a held GIL (2 to 4 ms per second), and none while the process is suspended
  or gets no CPU.
* The kernel checks such a timer only when a tick of its clock occurs while the heartbeat runs on a
  CPU, so two timers may expire at the same tick.  When two threads write at the same time,
  faulthandler lets only the first one write.  So the workers take turns, several ticks apart, and
  each has five turns.
* While the interpreter ends, the heartbeat goes on, and MainThread writes its stack when an exit
  handler holds the GIL.  Once Python ends its daemon threads, no timer expires: their clock is the
  CPU time of one of them.  A wall clock would also fire while MainThread runs Python code, for
  example `__del__`, and then one stack in some hundreds kills the process (docs/facts.rst).
* A handler is not removed while its signal can still arrive: the default action would end the
  process.
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
from ..system.tasks import clock_id
from .faulthandler_compat import MARK_SIZE
from .faulthandler_compat import MarkFile
from .faulthandler_compat import foreign_handlers

_CLOCK_MONOTONIC = 1
_CLOCK_MONOTONIC_COARSE = 6  # its resolution is a tick
_SIGEV_THREAD_ID = 4
_SIG_DFL = ctypes.c_void_p(0)
_SIG_IGN = ctypes.c_void_p(1)
#: Each worker has this many turns to write.  One turn in ten is lost; more where ticks are rare.
TURNS = 5
#: CPU time (seconds) of the heartbeat after which MainThread writes its stack while the interpreter
#: ends.  It uses 1 to 4 ms in each second in which it waits for the GIL.
_AT_END = (0.01, 0.03, 0.09)
#: The real-time signals that the watchdog may use; none on a system without them.
_CANDIDATES = range(0)
if hasattr(signal, 'SIGRTMIN'):
    _CANDIDATES = range(signal.SIGRTMIN + 7, signal.SIGRTMAX)


class ThreadIsGone(OSError):
    """The thread for which a timer is made has ended; its slot is released at the next beat."""


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
    """A file into which one thread writes its stack, the signal for this, and a timer for each
    turn.

    The handler of faulthandler changes errno, unless it chains to another handler.  Python 3.14
    then aborts if the thread is waiting for a lock with a timeout, as the heartbeat does:
    "unexpected error from semaphore: 0".  So with `keeps_errno`, the handler chains to one that
    does nothing.  Then the kernel does not restart interrupted system calls: Python handles this,
    but C code in workers may not, so only the heartbeat uses `keeps_errno`.
    """

    def __init__(
        self,
        file: MarkFile,
        turns: int = 1,
        clock: int = _CLOCK_MONOTONIC,
        avoided: frozenset[int] = frozenset(),
        keeps_errno: bool = False,
    ) -> None:
        self.signal = _free_signal(avoided)
        self._keeps_errno = keeps_errno
        self.file = file
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
        if self._keeps_errno:  # a program that we execute would inherit that the signal is ignored
            _libc().signal(self.signal, _SIG_DFL)

    def guard(self, native_id: int) -> None:
        """Make the timers for that thread: from now on it writes into this file."""
        if native_id == self.thread:
            return
        self.disarm()
        while len(self._timers) < self._turns:
            timer = _new_timer(self._clock, self.signal, native_id)
            self._timers.append(timer)
        self.thread = native_id

    def change_signal(self) -> None:
        """Use another signal.

        The thread must block the old signal, because its default action, which ends the process,
        is restored.
        """
        self.disarm()
        self._end()
        self.signal = _free_signal()
        self._begin()

    def check(self) -> None:
        """Open the file again if other code has closed the descriptor."""
        if not self.file.is_intact():
            self.file.reopen()
            self._register()

    def rearm(self, *turns: float) -> None:
        """Restart the timers: the thread writes after each of these numbers of seconds."""
        settime = _settime()
        # A disarmed post has no timers, so nothing happens.
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
        """In a forked child, which inherits no timers: close the parent's file."""
        self._end()
        self.file.close()


class Watchdog:
    """The watchdog.  It must be made in the thread of the heartbeat.

    Raises AttributeError or OSError if the system has no such timers.

    All times are seconds.  The heartbeat writes its stack after `timeout` without `rearm`.  The
    workers write their stacks when the heartbeat has used `cpu` seconds of CPU time since
    `rearm_threads`, one after the other, with `apart` seconds between two of them (default: three
    ticks of the kernel's clock).

    `avoided` are the signals that MainThread blocked before it started the heartbeat.  They cannot
    be read now, because MainThread blocks every signal while it starts a thread.
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
        clock = clock_id(threading.get_native_id())
        if clock is None:
            raise OSError('there are no clocks of threads')
        self._clock = clock
        self._own = _Post(
            self._file('watchdog'),
            avoided=avoided,
            keeps_errno=True,
        )
        self._guard_heartbeat()
        self._posts: dict[int, _Post] = {}  # by slot
        self._threads: dict[int, int] = {}  # {slot: native id}
        self._unguarded: dict[int, tuple[int, str]] = {}  # {slot: (native id, reason)}
        self._armed_at = 0.0
        self._ended = False
        # Opened now: when the interpreter ends, all descriptors may be in use.
        self.ending_file = self._file('ending')
        self._ending: _Post | None = None

    @property
    def file(self) -> MarkFile:
        return self._own.file

    def _file(self, mark: str) -> MarkFile:
        return MarkFile(self.directory / mark_name(mark), MARK_SIZE, self.mode)

    def _guard_heartbeat(self) -> None:
        """Unblock the signal in the heartbeat, now that it has a handler, and make the timer.

        The heartbeat blocks all other signals except those of a crash, see `signalmask`.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._own.signal})
        self._own.guard(threading.get_native_id())

    def give_way(self) -> None:
        """Choose another signal if code of the site waits for ours with `sigwait`.

        Such code blocks the signal in MainThread.  It would not get the signal, because the
        heartbeat takes it.  The heartbeat calls this in each round.
        """
        if self._own.signal in awaited_signals():
            signal.pthread_sigmask(signal.SIG_BLOCK, {self._own.signal})
            self._own.change_signal()
            self._guard_heartbeat()

    def rearm(self) -> None:
        """Restart the timer of the heartbeat, because the heartbeat is not stuck.

        Its next stack goes into the file of before, so that it is checked first.
        """
        self._own.check()
        self._own.rearm(self._timeout)

    def check(self) -> None:
        """Open the files again that other code has closed.  Called as an inspection."""
        for post in (self._own, *self._posts.values()):
            post.check()

    def guards(self, threads: dict[int, int]) -> bool:
        """Return whether the timers are those of exactly these threads, {slot: native id}."""
        return threads == self._threads

    def is_used_up(self) -> bool:
        """Return whether the heartbeat has used so much CPU time that the timers of the workers
        must be restarted now.
        """
        return time.thread_time() - self._armed_at > self._cpu / 3

    def rearm_threads(
        self,
        threads: dict[int, int],
        watch: Callable[[str, MarkFile], None] = lambda name, file: None,
    ) -> str:
        """Restart the timers of the workers, {slot: native id}.  Return why some have no timers.

        `watch` is called with the name and the file of each new mark.  A worker whose timers cannot
        be made has none, for example when the user has too many pending signals.  The result has
        the reasons; it is '' if no timer failed.  Workers in slots without a mark (see
        `blackbox.MARKS`) never have timers.
        """
        self._armed_at = time.thread_time()
        self._threads = threads
        for slot, post in self._posts.items():
            if slot not in threads:
                post.disarm()
        for slot, (native_id, _) in list(self._unguarded.items()):
            if threads.get(slot) != native_id:  # another thread has the slot now
                del self._unguarded[slot]
        for place, (slot, native_id) in enumerate(threads.items()):
            if self._ended:
                break
            has_mark = f'watchdog-{slot}' in blackbox.MARKS
            if not has_mark or slot in self._unguarded:
                continue
            # First each worker has its first turn, then each worker its second, and so on.
            turns = range(place, place + TURNS * len(threads), len(threads))
            try:
                post = self._post(slot, watch)
                post.check()
                post.guard(native_id)
                post.rearm(*(self._cpu + turn * self._apart for turn in turns))
            except ThreadIsGone:
                pass
            except OSError as error:  # go on: the timers of the other workers must be restarted
                self._unguarded[slot] = (native_id, f'{error}.')
                if slot in self._posts:
                    self._posts[slot].disarm()
        reasons = {why for _, why in self._unguarded.values()}
        return ' '.join(sorted(reasons))

    def _post(self, slot: int, watch: Callable[[str, MarkFile], None]) -> _Post:
        """Return the _Post of a slot.  It is made once."""
        if slot in self._posts:
            return self._posts[slot]
        name = f'watchdog-{slot}'
        post = _Post(self._file(name), TURNS, self._clock)
        self._posts[slot] = post
        watch(name, post.file)
        return post

    def guard_end(self, native_id: int) -> None:
        """Make the timers of MainThread for the end of the interpreter.  Call it after `disarm`.

        The signal stays ignored when faulthandler is shut down, so it never ends the process.
        Calls of C code that the first signal interrupts go on.
        """
        self._ending = _Post(self.ending_file, len(_AT_END), self._clock, keeps_errno=True)
        self._ending.check()
        signal.siginterrupt(self._ending.signal, False)
        self._ending.guard(native_id)
        self.rearm_end()

    def rearm_end(self) -> None:
        """Restart the timers of MainThread, because the heartbeat is not stuck."""
        if self._ending:
            self._ending.rearm(*_AT_END)

    def disarm(self) -> None:
        self._ended = True
        for post in (self._own, *self._posts.values()):
            post.disarm()

    def detach(self) -> None:
        for post in (self._own, *self._posts.values()):
            post.detach()
        if self._ending:
            self._ending.detach()
        else:
            self.ending_file.close()


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
    """Return a reference to a `struct itimerspec`: the timer expires once, after `seconds`."""
    never = _Moment(0, 0)
    nanoseconds = int(seconds % 1 * 1e9)
    then = _Moment(int(seconds), nanoseconds)
    return ctypes.byref(_TimerSetting(never, then))


def _new_timer(clock: int, number: int, native_id: int) -> ctypes.c_void_p:
    """Return a new timer that sends signal `number` to that thread.

    Raises ThreadIsGone, or OSError, for example when there are too many timers.
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
        if error == errno.EINVAL:  # the kernel's error for a thread that does not exist
            raise ThreadIsGone(error, message)
        raise OSError(error, message)
    return timer


def _free_signal(avoided: frozenset[int] = frozenset()) -> int:
    """Return a signal that has no handler and for which no code waits (see `Watchdog.give_way`)."""
    taken = foreign_handlers() | awaited_signals() | avoided
    for number in _CANDIDATES:
        has_no_handler = signal.getsignal(number) is signal.SIG_DFL
        if has_no_handler and number not in taken:
            return number
    raise OSError('no real-time signal is free')


def awaited_signals() -> frozenset[int]:
    """Return the candidates that MainThread blocks: code of the site may wait for them.

    If MainThread blocks all candidates, it waits for none of them: it is probably starting a
    thread.
    """
    blocked = blocked_in_main_thread().intersection(_CANDIDATES)
    if len(blocked) == len(_CANDIDATES):
        return frozenset()
    return blocked
