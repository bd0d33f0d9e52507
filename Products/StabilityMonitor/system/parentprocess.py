"""A process that starts another one, passes each signal on to it, waits, and ends the same way.

`cli.run` is that process, and stays for the whole life of Zope: so this module imports little (no
typing, no dataclasses, no pathlib).  As pid 1 of a container it also reaps orphans.

All signals are blocked all the time, and taken one after the other by `sigtimedwait`.  So none can
interrupt anything, and each tells who sent it: the terminal sends its signals to the whole process
group, so the child has got those already.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from .signalnames import signal_name

#: `si_code` of a signal that the kernel sent by itself, as for a terminal; Python has no name.
_SI_KERNEL = 0x80
#: Options of prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
#: Signals with which a person asks a process to stop.
_REQUESTS = (signal.SIGTERM, signal.SIGINT)
#: Signals with which a terminal stops a process group, until SIGCONT.
_PAUSES = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
#: Python ignores these at its start; a child would inherit that.
_IGNORED_BY_PYTHON = ('SIGPIPE', 'SIGXFSZ', 'SIGXFZ')
#: Seconds after which `wait` looks around, also if no signal has come.
_LOOK = 60
#: `ru_maxrss` counts KiB, on macOS bytes.
_RSS_UNIT = 1 if sys.platform == 'darwin' else 1024
#: Field 22 of /proc/PID/stat, counted from the field after the name.
_START_TICKS = 19

#: Whether this system tells who sent a signal, which this module needs.  macOS does not.
IS_POSSIBLE = hasattr(signal, 'sigtimedwait')


class Ended:
    """How a process has ended, as its parent knows it.

    `code` is the exit status, or None; `signal` is the number of the signal that ended it, or None.
    `time` is in seconds since the epoch.  `largest` is the resident memory in bytes that the
    process, or the largest of its children, had at most.  `user` and `system` are its CPU time with
    that of its children, in seconds.  `start_ticks` is the start time of the process, see
    `processidentity`; 0 if it is not known.
    """

    def __init__(self, pid: int, status: int, usage: object, start_ticks: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.signal: int | None = None
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.code = os.WEXITSTATUS(status)
        self.core_dumped = os.WIFSIGNALED(status) and os.WCOREDUMP(status)
        self.time = time.time()
        self.largest: int = getattr(usage, 'ru_maxrss', 0) * _RSS_UNIT
        self.user: float = getattr(usage, 'ru_utime', 0.0)
        self.system: float = getattr(usage, 'ru_stime', 0.0)
        self.start_ticks = start_ticks

    @property
    def has_failed(self) -> bool:
        return self.code != 0


# -- start -----------------------------------------------------------------------------------------


def block_all_signals() -> None:
    """From now on no signal interrupts this process.  It gets SIGCHLD when a child ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, no child has a status


def start(command: list[str], environ: Mapping[str, str], inherited: Iterable[int]) -> int:
    """Start a command as a child, and return its pid.

    The child is in the same process group, blocks no signal, and has a default action for each
    signal that this process was not started to ignore (as under nohup).  On Linux it gets SIGKILL
    when this process dies.  It has the open files that this process got from its own parent, and
    those `inherited`.  Raises OSError if the command cannot be executed.
    """
    prctl = _prctl()
    own = os.getpid()
    failure, tell = os.pipe()  # neither outlives an exec, so an end of the file says that it worked
    pid = os.fork()
    if not pid:
        _become(command, environ, inherited, tell, prctl, own)
    os.close(tell)
    with open(failure, 'rb') as file:
        error = int(file.read() or b'0')
    if error:
        os.waitpid(pid, 0)
        raise OSError(error, os.strerror(error), command[0])
    return pid


def _become(
    command: list[str],
    environ: Mapping[str, str],
    inherited: Iterable[int],
    tell: int,
    prctl: Callable[..., int] | None,
    parent: int,
) -> None:
    """In the child: execute the command.  Never returns."""
    try:
        if prctl:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:  # it died before it was watched
                return
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        for name in _IGNORED_BY_PYTHON:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(command[0], command, environ)
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)


def _prctl() -> Callable[..., int] | None:
    """Return the function prctl of the C library; None if this system has none."""
    if sys.platform != 'linux':
        return None
    try:
        import ctypes

        function: Callable[..., int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return function


# -- while it lives --------------------------------------------------------------------------------


class ParentProcess:
    """Stays with the child until that has ended.

    `asked` is the signal by which the child was asked to stop, '' if it was not: the first SIGTERM
    or SIGINT that was passed on, or that the terminal sent.  `asked_at` is when, by the monotonic
    clock.
    """

    def __init__(self, child: int) -> None:
        self.child = child
        self.asked = ''
        self.asked_at = 0.0

    def wait(
        self,
        on_orphan: Callable[[Ended], object] = lambda ended: None,
        on_look: Callable[[], object] = lambda: None,
    ) -> Ended:
        """Pass signals on until the child has ended, and return how.

        `on_look` is called before anything is reaped, at least each minute.  `on_orphan` is called
        for each other process that was reaped.
        """
        while True:
            arrived = signal.sigtimedwait(signal.valid_signals(), _LOOK)
            on_look()
            if arrived is not None and arrived.si_signo != signal.SIGCHLD:
                self._pass_on(arrived)
            result = None
            for ended in reaped():
                if ended.pid == self.child:
                    result = ended
                else:
                    on_orphan(ended)
            if result:
                return result

    def _pass_on(self, arrived: signal.struct_siginfo) -> None:
        number = arrived.si_signo
        by_kernel = arrived.si_code == _SI_KERNEL
        has_reached_child = by_kernel and os.getpgid(self.child) == os.getpgrp()
        if number in _REQUESTS and not self.asked:
            self.asked = signal_name(number)
            self.asked_at = time.monotonic()
        if not has_reached_child:
            # The child is not reaped yet, so the pid is still its own.  It may have become another
            # user, whom this process cannot send a signal.
            with contextlib.suppress(PermissionError):
                os.kill(self.child, number)
        if by_kernel and number in _PAUSES:
            _act_on(number)


def reaped() -> Iterator[Ended]:
    """Reap each child that has ended."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            ticks = _start_ticks(found.si_pid)  # a reaped process has none any more
            pid, status, usage = os.wait4(found.si_pid, 0)
        except ChildProcessError:
            return
        yield Ended(pid, status, usage, ticks)


def _start_ticks(pid: int) -> int:
    """Return the start time of a process that may have ended; 0 if it cannot be read."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            _, _, rest = file.read().rpartition(b')')
        return int(rest.split()[_START_TICKS])
    except (OSError, ValueError, IndexError):
        return 0


# -- afterwards ------------------------------------------------------------------------------------


def in_forked_child(work: Callable[[], object]) -> int:
    """Do something in a child of this process, and return its pid; 0 if the system refuses.

    So what it imports takes no memory here, and if it fails or never ends, this process goes on.
    """
    try:
        pid = os.fork()
    except OSError:  # too many processes: it is left undone, since an error here would end Zope
        return 0
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def wait_at_most(pid: int, seconds: float) -> None:
    """Wait for a child, and kill it if it takes longer than that.  0 stands for no child."""
    if not pid:
        return
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        left = end - time.monotonic()
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            return
        signal.sigtimedwait((signal.SIGCHLD,), left)


def end_like(ended: Ended) -> int:
    """End this process by the same signal, or return the exit status with which it should end.

    As pid 1, which no signal of its own ends, it returns 128 plus the number of the signal, as a
    shell does.
    """
    if ended.signal is None:
        return ended.code or 0
    if os.getpid() != 1:
        _leave_no_core()
        if ended.signal != signal.SIGKILL:
            signal.signal(ended.signal, signal.SIG_DFL)
        _act_on(ended.signal)
    return 128 + ended.signal


def _act_on(number: int) -> None:
    """Send this process a signal, and let it act: it ends or stops this process.

    The kernel keeps its own exceptions, as for pid 1 or an orphaned process group.
    """
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    signal.pthread_sigmask(signal.SIG_BLOCK, (number,))


def _leave_no_core() -> None:
    """There is one of the child already.  A limit of 0 does not stop a core that a program gets."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    prctl = _prctl()
    if prctl:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
