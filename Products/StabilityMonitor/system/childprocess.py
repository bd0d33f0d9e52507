"""A child process in which every signal is unblocked and has its default action.

Our threads block every signal (`signalmask`), and a server that nohup started ignores SIGHUP; an
ordinary child would inherit both.  `subprocess` can change that only with `preexec_fn`, which is
not safe beside other threads.  posix_spawn does it before the program begins.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from types import ModuleType
from typing import Self

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: no child is started there
    fcntl = None

#: All signals but SIGKILL and SIGSTOP, whose action cannot be set.
_DEFAULTS = signal.valid_signals() - {
    getattr(signal, name, None) for name in ('SIGKILL', 'SIGSTOP')
}
#: Seconds after which it is asked again whether the output of a child is still wanted.
_PAUSE = 0.1
#: Seconds between two looks at whether a child has ended.
_LOOK = 0.005
#: Bytes that are read from a child at once.
_PIECE = 1 << 16
_START = os.path.join(os.path.dirname(__file__), 'childstart.py')


def python_command(interpreter: str, program: object, *words: object) -> list[object]:
    """The command that runs one of our own programs with nothing but the standard library."""
    return [interpreter, '-I', '-S', _START, program, *words]


class ChildProcess:
    """Runs `command`, whose first word is a path, and kills and reaps it at the end of a `with`.

    The child's standard output is a pipe, and so is its input if it `listens`; its standard error
    goes nowhere.  It is in a process group of its own.  A careless C library may leave other
    descriptors open in it; a `python_command` closes them first.

    `code` is the exit status, negative for a signal; None while the child lives, 0 when other code
    has reaped it.  Raises OSError when it cannot be started.
    """

    def __init__(
        self,
        command: Iterable[object],
        environment: Mapping[str, str] | None = None,
        listens: bool = False,
    ) -> None:
        words = [str(word) for word in command]
        self.code: int | None = None
        self.stdin = -1
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as given:
            if listens:
                stdin, self.stdin = _pipe(given, opened)
            else:
                stdin = _opened(given, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            stdout, self.stdout = _pipe(given, opened, to_child=False)
            self.pid = os.posix_spawn(
                words[0],
                words,
                os.environ if environment is None else environment,
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULTS,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, stdout, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
            opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def write(self, words: bytes) -> None:
        """Write to its standard input.  Raises OSError when the child no longer reads."""
        os.write(self.stdin, words)

    def read(
        self, until: float, is_wanted: Callable[[], bool] = lambda: True
    ) -> tuple[bytes, bool]:
        """(its output, whether that is all of it).

        Reads until the child closes its output, until the monotonic time `until`, or until the
        output is no longer wanted.
        """
        parts: list[bytes] = []
        poll = select.poll()  # select() cannot take descriptors from 1024 on
        poll.register(self.stdout, select.POLLIN)
        while is_wanted():
            left = until - time.monotonic()
            if left <= 0:
                break
            milliseconds = min(left, _PAUSE) * 1000
            if not poll.poll(milliseconds):
                continue
            part = os.read(self.stdout, _PIECE)
            if not part:
                return b''.join(parts), True
            parts.append(part)
        return b''.join(parts), False

    def end(self, patience: float = 0.0) -> None:
        """Close its pipes, give it so many seconds to end by itself, then kill and reap it."""
        for descriptor in (self.stdin, self.stdout):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdin = -1
        self.stdout = -1
        until = time.monotonic() + patience
        while not self._has_ended():
            if time.monotonic() >= until:
                with contextlib.suppress(ProcessLookupError):
                    # It is not reaped yet: the pid is still its own.
                    os.kill(self.pid, signal.SIGKILL)
            time.sleep(_LOOK)

    def _has_ended(self) -> bool:
        """Whether there is an exit status; reaps the child as soon as it has ended."""
        if self.code is not None:
            return True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # other code has waited for it
            self.code = 0
            return True
        if not pid:  # it lives
            return False
        self.code = os.waitstatus_to_exitcode(status)
        return True


def _pipe(
    given: contextlib.ExitStack,
    opened: contextlib.ExitStack,
    to_child: bool = True,
) -> tuple[int, int]:
    """(the child's end, our end) of a pipe; the two stacks close them."""
    reader, writer = os.pipe()
    if to_child:
        theirs, ours = reader, writer
    else:
        theirs, ours = writer, reader
    with contextlib.ExitStack() as other:
        other.callback(os.close, ours)
        theirs = _opened(given, theirs)
        other.pop_all()
    return theirs, _opened(opened, ours)


def _opened(stack: contextlib.ExitStack, descriptor: int) -> int:
    """That descriptor, which the stack closes; copied if it has a number of the standard ones.

    It may have: this process may have closed its standard descriptors.
    """
    if descriptor <= 2 and fcntl is not None:
        low = descriptor
        try:
            descriptor = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(low)
    stack.callback(os.close, descriptor)
    return descriptor
