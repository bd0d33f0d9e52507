"""The experiment of the recursion probe: child processes that recurse to the limit, each with one
stack size, and may die of it.

They run `recursionprogram.py` in the same interpreter.  What counts is the last line that a child
writes; other code that reaps children may take its exit status.
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
#: Sizes are tried in these steps, and never beyond the largest.
STEP = 64 << 10
#: Seconds that a child may take, and seconds in which it then ends by itself.
_CHILD_SECONDS = 15
_ENDING = 5.0
#: How a child dies at the end of its stack, or when Python aborts there: {exit status: signal}.
_DEATHS = {
    -getattr(signal, name): name
    for name in ('SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGILL')
    if hasattr(signal, name)
}


class _CannotTell(Exception):
    """The experiment itself failed; the text is a sentence."""


def probe(
    stack_size: int,
    recursion_limit: int = 0,
    *,
    on_progress: Callable[[float, str], None] | None = None,
    time_limit: float = 60.0,
    executable: str = '',
    stop: threading.Event | None = None,
) -> ProbeResult:
    """Try a stack of that size, then find the smallest one that survives.

    `recursion_limit` 0 means the limit of this process, `executable` '' its own Python.  It takes a
    second or two in the calling thread, which must outlive its children: the kernel ends them with
    it.  Whatever a child does, nothing is raised.
    """
    limit = recursion_limit or sys.getrecursionlimit()
    started = time.monotonic()
    children = _Children(limit, executable, started + time_limit, stop or threading.Event())
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
    children: _Children, stack_size: int, on_progress: Callable[[float, str], None]
) -> dict[str, Any]:
    if stack_size <= 0:
        raise _CannotTell('The size of thread stacks is not known on this system.')
    deaths = _all_deaths(children, stack_size, on_progress)
    survives = not deaths
    smallest, last = _least(children, stack_size, survives, on_progress)
    if not deaths and last:
        deaths = [last]
    return {
        'survives': survives,
        'smallest': min(smallest, stack_size) if survives else smallest,
        'ways': tuple(way for way, _ in deaths if way),
        'signal': deaths[0][1] if deaths else '',
    }


def _all_deaths(
    children: _Children, size: int, on_progress: Callable[[float, str], None]
) -> list[tuple[str, str]]:
    """All ways that kill a thread with this stack.  After a death, another child tries those that
    are left.
    """
    deaths: list[tuple[str, str]] = []
    names = list(WAYS)
    while names:
        on_progress(0.5 - 0.5 * len(names) / len(WAYS), f'trying {size >> 10} KiB')
        death = children.die(size, names)
        if death is None:
            break
        deaths.append(death)
        names = names[names.index(death[0]) + 1 :]
    return deaths


def _least(
    children: _Children, size: int, survives: bool, on_progress: Callable[[float, str], None]
) -> tuple[int, tuple[str, str] | None]:
    """(the smallest size that survives, or 0; the death with one step less, or None).

    The size is doubled until a child survives; then the interval is halved until it is one step.
    """
    # In steps: the largest size that is known to die, and the smallest that is known to survive.
    died = 0 if survives else size // STEP
    survived = -(-size // STEP) if survives else 0
    last: tuple[str, str] | None = None
    most = LARGEST // STEP
    width = math.log2(max(2, (survived or most) - died))
    while survived - died != 1:
        if not survived and died >= most:
            return 0, last
        if survived:
            middle = (died + survived) // 2
        else:
            middle = min(max(1, 2 * died), most)
        left = math.log2(max(1, (survived or most) - died))
        on_progress(1 - 0.5 * left / width, f'trying {middle * STEP >> 10} KiB')
        death = children.die(middle * STEP, list(WAYS), refusal=True)
        if death:
            died = middle
            last = death
        else:
            survived = middle
    return survived * STEP, last


class _Children:
    """Starts one child after the other, and tells how each ended."""

    def __init__(self, limit: int, executable: str, deadline: float, stop: threading.Event):
        self._limit = limit
        self._deadline = deadline
        self._stop = stop
        self._is_own = not executable
        self._executable = executable or _own_executable()
        self.python = ''

    def die(self, size: int, names: list[str], refusal: bool = False) -> tuple[str, str] | None:
        """(the way that a child with this stack died of, the signal), or None if it survived.

        With `refusal`, a size that the system does not allow counts as a death.  Raises
        _CannotTell.
        """
        if not self._executable:
            raise _CannotTell(
                f'The Python of this process is not known: sys.executable is {sys.executable!r}.'
            )
        seconds = min(_CHILD_SECONDS, math.ceil(self._deadline - time.monotonic()))
        if seconds <= 0:
            raise _CannotTell(
                'Time was up: the machine is too busy, or the recursion limit too high.'
            )
        lines, status = self._live(size, seconds, names)
        word, _, self.python = lines[0].partition(' ')
        is_other = self._is_own and self.python != ' '.join(sys.version.split())
        if word != 'python' or is_other:
            raise _CannotTell(
                f'{self._executable!r} did not answer as this Python does: {lines[0]!r}.'
            )
        if lines[-1] == 'survived':
            return None
        if lines[-1].startswith('refused') and refusal:
            return '', ''
        ways = [line.removeprefix('way ') for line in lines if line.startswith('way ')]
        if ways and not status:  # other code has reaped the child: its signal is lost
            return ways[-1], ''
        if ways and status in _DEATHS:
            return ways[-1], _DEATHS[status]
        raise _CannotTell(
            f'A thread with {size >> 10} KiB of stack could not be tried: {lines[-1]!r} was the '
            f'last word of the child, its status {status}.'
        )

    def _live(self, size: int, seconds: int, names: list[str]) -> tuple[list[str], int | None]:
        """Let a child live and die: (the lines that it wrote, its exit status).

        Raises _CannotTell when the time is over or the experiment was stopped.
        """
        command = python_command(
            self._executable, PROGRAM, size, self._limit, seconds + 1, os.getpid(), *names
        )
        born = time.monotonic()
        try:
            with ChildProcess(command) as child:
                output, is_all = child.read(
                    born + seconds, is_wanted=lambda: not self._stop.is_set()
                )
                if is_all:
                    child.end(_ENDING)  # it ends by itself: its exit status tells how
        except (OSError, ValueError) as error:
            raise _CannotTell(f'No child could be started: {error}.') from error
        if self._stop.is_set():
            raise _CannotTell('It was stopped.')
        if not is_all:
            raise _CannotTell(
                'A child took too long: the machine is too busy, or the recursion limit too high.'
            )
        return output.decode(errors='replace').splitlines() or [''], child.code


def _own_executable() -> str:
    """This process's own Python; '' where a server embeds it.

    There `sys.executable` may be that server, and starting it would start a second one.
    """
    path = sys.executable or ''
    if os.name != 'posix' or not os.path.basename(path).startswith(('python', 'pypy')):
        return ''
    return path
