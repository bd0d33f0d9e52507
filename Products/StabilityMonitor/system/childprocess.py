"""A child process in which every signal is unblocked and has its default action.

The threads of this product block every signal (`signalmask`), and a server started with nohup
ignores SIGHUP.  An ordinary child would inherit both.  `subprocess` can change that only with
`preexec_fn`, which is not safe in a process with several threads.  posix_spawn resets both before
the program starts.
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

#: All signals except SIGKILL and SIGSTOP, whose action cannot be changed.
_DEFAULTS = signal.valid_signals() - {
    getattr(signal, name, None) for name in ('SIGKILL', 'SIGSTOP')
}
#: While the output of a child is read: seconds between two calls of `is_wanted`.
_PAUSE = 0.1
#: Seconds between two checks whether a child has ended.
_LOOK = 0.005
#: At most this many bytes are read from a child at once.
_PIECE = 1 << 16
_START = os.path.join(os.path.dirname(__file__), 'childstart.py')


def python_command(interpreter: str, program: object, *words: object) -> list[object]:
    """Return the command that runs a program of this product with the standard library only."""
    return [interpreter, '-I', '-S', _START, program, *words]


class ChildProcess:
    """Runs `command`; as a context manager it kills and reaps the child at the end.

    The first word of `command` is a path.  The child's standard output is a pipe, and so is its
    standard input if it `listens`; its standard error goes to /dev/null.  It has its own process
    group.  It may inherit descriptors that a C library opened without O_CLOEXEC; a
    `python_command` closes them first.

    `code` is the exit status, negative for a signal; None while the child lives, 0 if other code
    has reaped it.  The constructor raises OSError if the child cannot be started.
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
        """Write to the child's standard input.  Raises OSError if the child no longer reads."""
        os.write(self.stdin, words)

    def read(
        self,
        until: float,
        is_wanted: Callable[[], bool] = lambda: True,
        most: int | None = None,
    ) -> tuple[bytes, bool]:
        """Return (the child's output, whether that is all of it).

        Reads until the child closes its output, until the monotonic time `until`, until the output
        is no longer wanted, or until it is at least `most` bytes.
        """
        parts: list[bytes] = []
        size = 0
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
            size += len(part)
            if most is not None and size >= most:
                break
        return b''.join(parts), False

    def end(self, patience: float = 0.0) -> None:
        """Close the pipes; kill the child if it has not ended after `patience` seconds; reap it."""
        for descriptor in (self.stdin, self.stdout):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdin = -1
        self.stdout = -1
        until = time.monotonic() + patience
        while not self._has_ended():
            if time.monotonic() >= until:
                with contextlib.suppress(ProcessLookupError):
                    # The child is not reaped yet, so its pid cannot belong to another process.
                    os.kill(self.pid, signal.SIGKILL)
            time.sleep(_LOOK)

    def _has_ended(self) -> bool:
        """Return whether the child has ended; reap it if it has."""
        if self.code is not None:
            return True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # other code has reaped it
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
    """Return (the child's end, our end) of a new pipe, which `given` and `opened` will close."""
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
    """Return the descriptor, which `stack` will close; a copy of it if its number is 0, 1 or 2.

    It can be 0, 1 or 2 if this process has closed its standard descriptors.
    """
    if descriptor <= 2 and fcntl is not None:
        low = descriptor
        try:
            descriptor = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(low)
    stack.callback(os.close, descriptor)
    return descriptor
