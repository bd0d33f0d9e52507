"""Drills: end or hang this process on request, to test that the next process reports how it ended.

The ids are those of `blackbox.DRILLS`.  The black box notes the position of the id in that tuple
before the process ends.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import NoReturn

from zope.component import provideHandler
from ZPublisher.interfaces import IPubAfterTraversal

from ..model.errors import DrillRefused
from ..model.interfaces import ILivingRun
from ..store import blackbox
from .zopetypes import Event

#: Bytes that the drill "Out of memory" allocates at once.
_STEP = 16 << 20


@dataclass(frozen=True)
class Drill:
    """A way to end this process; `model.drillkinds` says what the next process should report.

    `button` is the text of its button.  `do` returns only if it fails.
    """

    id: str
    title: str
    what: str
    do: Callable[[], None]
    button: str = 'End this process'


# -- the ways to end -------------------------------------------------------------------------------


def _segfault() -> None:
    ctypes.string_at(0)


def _fatal_error() -> None:
    ctypes.pythonapi.Py_FatalError(b'a drill of the stability monitor')


def _stack_overflow() -> None:
    """Overflow the stack by a recursion through C.

    Python 3.12 limits the number of calls through C.  So the second attempt makes fewer calls that
    each need much stack: they reach the end of the stack before they reach that limit.
    """
    sys.setrecursionlimit(2**30)
    if sys.version_info >= (3, 14):
        _overflow_past_the_check(None)
    for width in (64, 1000):
        _recurse_through_c(width)


def _recurse_through_c(width: int) -> None:
    def deeper(*numbers: int) -> object:
        return again(*numbers)

    types = [ctypes.c_int] * width
    numbers = [0] * width
    through_c = ctypes.CFUNCTYPE(ctypes.c_int, *types)
    again = through_c(deeper)
    deeper(*numbers)


class _Wide(ctypes.Structure):
    _fields_ = [('rest', ctypes.c_char * (48 << 10))]


def _overflow_past_the_check(item: object) -> Any:  # `max` has one item, so it compares nothing
    """Overflow the stack in spite of the stack check of Python 3.14.

    There a call within 32 KiB of the end of the stack raises RecursionError.  An argument larger
    than that, passed by value, then uses up the rest of the stack in one step.
    """
    try:
        max([item], key=_overflow_past_the_check)
    except RecursionError:
        ctypes.CDLL(None).getpid(_Wide())


def _exit() -> NoReturn:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _eat_memory() -> NoReturn:
    eaten = []
    while True:
        eaten.append(bytearray(b'\1') * _STEP)


def _hold_gil() -> NoReturn:
    """Hold the interpreter lock (GIL) forever.

    Unlike CDLL, PyDLL keeps the lock during the call.  The call is in a loop because a signal ends
    a sleep early.
    """
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(3600)


_lock = threading.Lock()


def _wait_for_lock(event: Event) -> None:
    with _lock:
        pass  # never reached


def _hang_on_lock() -> None:
    _lock.acquire()
    provideHandler(_wait_for_lock, (IPubAfterTraversal,))
    _lock.acquire()


DRILLS = (
    Drill(
        'segfault',
        'Segmentation fault',
        'Reads memory at address 0 (SIGSEGV).',
        _segfault,
    ),
    Drill(
        'abort',
        'Abort',
        'Calls abort(), as C code does when it detects damaged data (SIGABRT).',
        os.abort,
    ),
    Drill(
        'fatal-error',
        'Python fatal error',
        'Calls Py_FatalError.  Python writes the message to standard error only.',
        _fatal_error,
    ),
    Drill(
        'stack-overflow',
        'Stack overflow',
        'Recurses through C until the stack of this thread is full.',
        _stack_overflow,
    ),
    Drill(
        'exit',
        'Exit from C',
        'Calls os._exit(3): Python does not clean up and leaves no trace.',
        _exit,
    ),
    Drill(
        'kill',
        'SIGKILL',
        'Sends SIGKILL to this process, as a supervisor does when a stop takes too long.',
        _kill,
    ),
    Drill(
        'memory',
        'Out of memory',
        'Allocates memory until the kernel kills the process.  Warning: all that shares its memory '
        'cgroup, such as other Zopes or a database, runs out of memory, too; the kernel may kill '
        'one of them instead.',
        _eat_memory,
        'Eat memory',
    ),
    Drill(
        'gil',
        'Hang in C',
        'Holds the interpreter lock (GIL) forever, so Zope answers no request.  You must end Zope '
        'yourself, but wait longer than the option "stall" first.',
        _hold_gil,
        'Hang this process',
    ),
    Drill(
        'lock',
        'Hang on a lock',
        'This request and all later requests wait for a lock that is never released.  Open pages '
        'until all workers wait.  You must end Zope yourself, but wait longer than the option '
        '"stall" first.',
        _hang_on_lock,
        'Hang all workers',
    ),
)


# -- on request ------------------------------------------------------------------------------------


def refusal(life: ILivingRun, drill: Drill) -> str:
    """Return the reason why this drill is refused here, as a sentence; '' if it is allowed."""
    if not life.options.drills:
        return 'Drills are off.'
    cgroup = life.context.get('cgroup') or {}
    if drill.do is _eat_memory and cgroup.get('limit', -1) <= 0:
        return (
            'This process is not in a memory cgroup with a limit: the drill could use up the '
            'memory of the whole machine.'
        )
    return ''


def find(name: object) -> Drill:
    """Return the drill with this id.  Raises DrillRefused if it does not exist."""
    for drill in DRILLS:
        if drill.id == name:
            return drill
    raise DrillRefused('This drill does not exist.')


def perform(life: ILivingRun, name: object) -> None:
    """End this process by the drill with this id.  Raises DrillRefused."""
    drill = find(name)
    reason = refusal(life, drill)
    if reason:
        raise DrillRefused(reason)
    if life.recorder is not None:
        life.recorder.set_word('drill', blackbox.DRILLS.index(drill.id) + 1)
    drill.do()
