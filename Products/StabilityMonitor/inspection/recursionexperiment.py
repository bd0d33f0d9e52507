"""The experiment of the recursion probe: child processes recurse to the limit, each with one stack
size, and may die.

They run `recursionprogram.py` with the same interpreter.  The last line that a child writes is the
result, because the exit status may be lost: other code in this process may reap the child.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..system.childprocess import ChildProcess
from ..system.childprocess import python_command
from .recursionprogram import WAYS
from .recursionresult import LARGEST
from .recursionresult import ProbeResult

PROGRAM = Path(__file__).with_name('recursionprogram.py')
#: The sizes that are tried are multiples of this, in bytes, up to LARGEST.
STEP = 64 << 10
#: Seconds that a child may take.
_CHILD_SECONDS = 15
#: A child that has closed its output gets this many seconds to end, then it is killed.
_ENDING = 5.0
#: How a child dies when its stack overflows, or when Python aborts: {exit status: signal}.
_DEATHS = {
    -getattr(signal, name): name
    for name in ('SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGILL')
    if hasattr(signal, name)
}


#: Called with the share that is done, from 0 to 1, and what is tried now.
_OnProgress = Callable[[float, str], None]
#: (the way that killed a child, or '' if the system refused the stack; the signal, or '')
_Death = tuple[str, str]


class _CannotTell(Exception):
    """The experiment failed; the text is a sentence."""


def probe(
    stack_size: int,
    recursion_limit: int = 0,
    *,
    on_progress: Callable[[float, str], None] | None = None,
    time_limit: float = 60.0,
    executable: str = '',
    stop: threading.Event | None = None,
) -> ProbeResult:
    """Try a stack of that size, then find the smallest stack that survives.

    `recursion_limit` 0 means the limit of this process, `executable` '' its Python.  The probe
    takes one or two seconds.  It runs in the calling thread, which must not end earlier: the kernel
    kills the children when the thread that started them ends.  It never raises because of a child.
    """
    limit = recursion_limit or sys.getrecursionlimit()
    started = time.monotonic()
    children = _Children(
        limit,
        executable,
        deadline=started + time_limit,
        stop=stop or threading.Event(),
    )
    try:
        found = _look(children, stack_size, on_progress or (lambda fraction, words: None))
    except _CannotTell as error:
        found = {'error': str(error)}
    return ProbeResult(
        stack_size,
        limit,
        python=children.python,
        took=round(time.monotonic() - started, 3),
        **found,
    )


def _look(
    children: _Children,
    stack_size: int,
    on_progress: _OnProgress,
) -> dict[str, Any]:
    """Return the fields of the ProbeResult.  Raises _CannotTell."""
    if stack_size <= 0:
        raise _CannotTell('The size of thread stacks is not known on this system.')
    deaths = _all_deaths(children, stack_size, on_progress)
    survives = not deaths
    smallest, last = _least(children, stack_size, survives, on_progress)
    if survives:
        smallest = min(smallest, stack_size)  # `smallest` is a multiple of STEP
        if last:
            deaths = [last]
    signal_of_first = ''
    if deaths:
        _, signal_of_first = deaths[0]
    return {
        'survives': survives,
        'smallest': smallest,
        'ways': tuple(way for way, _ in deaths if way),
        'signal': signal_of_first,
    }


def _all_deaths(
    children: _Children,
    size: int,
    on_progress: _OnProgress,
) -> list[_Death]:
    """Return all ways that kill a thread with this stack.

    After a death, another child tries the ways that are left.
    """
    deaths: list[_Death] = []
    names = list(WAYS)
    while names:
        share_left = len(names) / len(WAYS)
        on_progress(0.5 - 0.5 * share_left, f'trying {size >> 10} KiB')
        death = children.die(size, names)
        if death is None:
            break
        deaths.append(death)
        way, _ = death
        names = names[names.index(way) + 1 :]
    return deaths


def _least(
    children: _Children,
    size: int,
    survives: bool,
    on_progress: _OnProgress,
) -> tuple[int, _Death | None]:
    """Return (smallest size that survives, or 0; how a size one step smaller dies, or None).

    The size is doubled until a child survives; then the interval is halved until it is one step.
    """
    # The largest size that is known to die, and the smallest size that is known to survive, as
    # multiples of STEP; 0 if there is none yet.
    died = 0
    survived = 0
    if survives:
        survived = math.ceil(size / STEP)
    else:
        died = size // STEP
    last: _Death | None = None
    most = LARGEST // STEP
    width = math.log2(max(2, (survived or most) - died))
    while survived - died != 1:
        if not survived and died >= most:
            return 0, last
        if survived:
            middle = (died + survived) // 2
        else:
            middle = min(max(1, 2 * died), most)
        interval = (survived or most) - died
        left = math.log2(max(1, interval))
        tried = middle * STEP
        on_progress(1 - 0.5 * left / width, f'trying {tried >> 10} KiB')
        death = children.die(tried, list(WAYS), refusal=True)
        if death:
            died = middle
            last = death
        else:
            survived = middle
    return survived * STEP, last


class _Children:
    """Starts one child after the other, and reports how each ended."""

    def __init__(
        self,
        limit: int,
        executable: str,
        deadline: float,
        stop: threading.Event,
    ):
        self._limit = limit
        self._deadline = deadline
        self._stop = stop
        self._is_own = not executable
        self._executable = executable or _own_executable()
        self.python = ''

    def die(
        self,
        size: int,
        names: list[str],
        refusal: bool = False,
    ) -> _Death | None:
        """Run a child with this stack and return how it died; None if it survived.

        With `refusal`, a size that the system does not allow counts as a death.  Raises
        _CannotTell.
        """
        if not self._executable:
            raise _CannotTell(
                f'The Python of this process is not known: sys.executable is {sys.executable!r}.'
            )
        left = math.ceil(self._deadline - time.monotonic())
        seconds = min(_CHILD_SECONDS, left)
        if seconds <= 0:
            raise _CannotTell(
                'The time was over: the machine is too busy, or the recursion limit too high.'
            )
        lines, status = self._run_child(size, seconds, names)
        first = lines[0]
        last = lines[-1]
        word, _, self.python = first.partition(' ')
        version = ' '.join(sys.version.split())
        is_other = self._is_own and self.python != version
        if word != 'python' or is_other:
            raise _CannotTell(f'{self._executable!r} did not answer like this Python: {first!r}.')
        if last == 'survived':
            return None
        if last.startswith('refused') and refusal:
            return '', ''
        ways = [line.removeprefix('way ') for line in lines if line.startswith('way ')]
        if ways and not status:  # other code has reaped the child: the signal is lost
            return ways[-1], ''
        if ways and status in _DEATHS:
            return ways[-1], _DEATHS[status]
        raise _CannotTell(
            f'A thread with {size >> 10} KiB of stack could not be tried: the last line of the '
            f'child was {last!r}, its exit status {status}.'
        )

    def _run_child(
        self,
        size: int,
        seconds: int,
        names: list[str],
    ) -> tuple[list[str], int | None]:
        """Run a child to its end and return (the lines that it wrote, its exit status).

        Raises _CannotTell if the time is over or the experiment was stopped.
        """
        command = python_command(
            self._executable,
            PROGRAM,
            size,
            self._limit,
            seconds + 1,
            os.getpid(),
            *names,
        )
        until = time.monotonic() + seconds
        try:
            with ChildProcess(command) as child:
                output, is_all = child.read(
                    until,
                    is_wanted=lambda: not self._stop.is_set(),
                )
                if is_all:
                    child.end(_ENDING)  # it ends by itself: wait for its exit status
        except (OSError, ValueError) as error:
            raise _CannotTell(f'No child could be started: {error}.') from error
        if self._stop.is_set():
            raise _CannotTell('The probe was stopped.')
        if not is_all:
            raise _CannotTell(
                'A child took too long: the machine is too busy, or the recursion limit too high.'
            )
        lines = output.decode(errors='replace').splitlines()
        return lines or [''], child.code


def _own_executable() -> str:
    """Return the Python of this process; '' if a server embeds it.

    Then `sys.executable` may be the server, and running it would start a second server.
    """
    path = sys.executable or ''
    name = os.path.basename(path)
    if os.name == 'posix' and name.startswith(('python', 'pypy')):
        return path
    return ''
