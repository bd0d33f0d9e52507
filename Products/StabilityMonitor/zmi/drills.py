"""Drills: real deaths on request, to prove that the next process tells how this one ended.

The ids are those of `blackbox.DRILLS`: the black box notes the place of the id there, before the
process dies.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

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

#: Bytes that "Eat memory" takes at once.
_STEP = 16 << 20


@dataclass(frozen=True)
class Drill:
    """`verdict` is what the next process should judge; `do` does not return where all goes well."""

    id: str
    title: str
    what: str
    verdict: str
    do: Callable[[], None]


# -- the deaths ------------------------------------------------------------------------------------


def _segfault() -> None:
    ctypes.string_at(0)


def _fatal_error() -> None:
    ctypes.pythonapi.Py_FatalError(b'a drill of the stability monitor')


def _stack_overflow() -> None:
    """Recursion through C.  Python 3.12 counts the calls through C, so the second attempt makes few
    calls that each need much stack: they reach its end before the count does.
    """
    sys.setrecursionlimit(2**30)
    if sys.version_info >= (3, 14):
        _fall_past_the_check(None)
    for width in (64, 1000):
        _fall(width)


def _fall(width: int) -> None:
    def deeper(*numbers: int) -> object:
        return again(*numbers)

    types = [ctypes.c_int] * width
    numbers = [0] * width
    through_c = ctypes.CFUNCTYPE(ctypes.c_int, *types)
    again = through_c(deeper)
    deeper(*numbers)


class _Wide(ctypes.Structure):
    _fields_ = [('rest', ctypes.c_char * (48 << 10))]


def _fall_past_the_check(item: object) -> Any:  # never compared: `max` has one item
    """Python 3.14 looks at the stack: a call within 32 KiB of its end raises RecursionError.  Then
    an argument that is larger than that, passed by value, takes the rest in one step.
    """
    try:
        max([item], key=_fall_past_the_check)
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
    """PyDLL, unlike CDLL, keeps the interpreter lock (GIL) during the call.  The loop is there
    because a signal cuts a sleep short.
    """
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(3600)


_lock = threading.Lock()


def _wait_for_lock(event: Event) -> None:
    with _lock:
        pass  # no thread ever comes here


def _hang_on_lock() -> None:
    _lock.acquire()
    provideHandler(_wait_for_lock, (IPubAfterTraversal,))
    _lock.acquire()


DRILLS = (
    Drill('segfault', 'Segmentation fault', 'Reads memory at address 0.', 'crashed', _segfault),
    Drill(
        'abort',
        'Abort',
        'Calls abort(), as C code does when it finds itself damaged.',
        'aborted',
        os.abort,
    ),
    Drill(
        'fatal-error',
        'Fatal error of Python',
        'Calls Py_FatalError.  Python writes of it to standard error only.',
        'aborted',
        _fatal_error,
    ),
    Drill(
        'stack-overflow',
        'Stack overflow',
        'Calls itself through C until the stack of this thread ends.',
        'stack-overflow',
        _stack_overflow,
    ),
    Drill('exit', 'Exit from C', 'Calls os._exit(3): no clean-up, no trace.', 'vanished', _exit),
    Drill(
        'kill',
        'SIGKILL',
        'Sends SIGKILL to itself, as an impatient supervisor does.',
        'vanished',
        _kill,
    ),
    Drill(
        'memory',
        'Eat memory',
        'Takes memory until the kernel ends the process.',
        'out-of-memory',
        _eat_memory,
    ),
    Drill(
        'gil',
        'Hang in C',
        'Holds the interpreter lock (GIL) for ever: nothing is answered.  You must end Zope '
        'yourself, later than the time of the option "stall".',
        'hung',
        _hold_gil,
    ),
    Drill(
        'lock',
        'Hang on a lock',
        'This and every later request waits for a lock that is never released.  Ask for '
        'pages until all threads wait; end Zope yourself, later than the time of the option '
        '"stall".',
        'hung',
        _hang_on_lock,
    ),
)


# -- on request ------------------------------------------------------------------------------------


def refusal(life: ILivingRun, drill: Drill) -> str:
    """Why this drill is refused here, in a sentence; '' if it is not."""
    if not life.options.drills:
        return 'Drills are off.'
    cgroup = life.context.get('cgroup') or {}
    if drill.do is _eat_memory and cgroup.get('limit', -1) <= 0:
        return (
            'This process is in no memory cgroup with a limit: it would take the whole '
            'machine down.'
        )
    return ''


def find(name: object) -> Drill:
    """The drill of that id.  Raises DrillRefused if there is none."""
    for drill in DRILLS:
        if drill.id == name:
            return drill
    raise DrillRefused('There is no such drill.')


def perform(life: ILivingRun, name: object) -> None:
    """End this process in the way of that drill.  Raises DrillRefused."""
    drill = find(name)
    reason = refusal(life, drill)
    if reason:
        raise DrillRefused(reason)
    if life.recorder is not None:
        life.recorder.set_word('drill', blackbox.DRILLS.index(drill.id) + 1)
    drill.do()
