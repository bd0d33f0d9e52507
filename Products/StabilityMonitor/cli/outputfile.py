"""Write what a command has made into the file that the option `--out` names: whole, or not at all.

A file that exists is replaced only with `--force`.  What is no regular file, as /dev/stdout or a
FIFO, is written to.  A folder gets a file with the name that a download would have.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator

from ..model.errors import StabilityError

#: The name of standard output.
STDOUT = '-'


class FileIsThere(StabilityError):
    next_step = 'Name another file, or add --force to replace it.'


class NotWritten(StabilityError):
    next_step = (
        'Name a folder where this user may write, or let the shell write it: --out - > FILE.'
    )


class BinaryOnTerminal(StabilityError):
    next_step = 'Name a file with --out.'


def check(path: str, force: bool) -> None:
    """Raise FileIsThere or NotWritten if the file certainly cannot be written.

    This is for before the work; `write` finds all else.
    """
    with _as_not_written(path):
        mode = _mode(path)
        if mode is None:
            folder = os.path.dirname(os.path.abspath(path))
            if not stat.S_ISDIR(os.stat(folder).st_mode) or not os.access(folder, os.W_OK):
                raise NotWritten(f'{path} cannot be written: no new file may be made there.')
        elif stat.S_ISREG(mode) and not force:
            raise FileIsThere(f'{path} exists.')


def write(path: str, name: str, content: bytes, force: bool) -> str:
    """Write the file; return its path.  In a folder it gets that `name`.

    A new file can be read by its owner alone.  Raises FileIsThere and NotWritten.
    """
    with _as_not_written(path):
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            path = os.path.join(path, name)
            mode = _mode(path)
        if mode is None or stat.S_ISREG(mode):
            if mode is not None and not force:
                raise FileIsThere(f'{path} exists.')
            _replace(os.path.realpath(path), content)
        elif stat.S_ISDIR(mode):
            raise NotWritten(f'{path} is a folder.')
        else:
            with open(path, 'wb') as file:
                file.write(content)
    return path


def _mode(path: str) -> int | None:
    """Return type and permissions of what is at a path, or where a link leads; None: nothing."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _replace(path: str, content: bytes) -> None:
    """Write a temporary file beside it, and rename that."""
    folder, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f'.{name[:100]}.', dir=folder)
    try:
        with open(descriptor, 'wb') as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _as_not_written(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, 'strerror', None) or error
        raise NotWritten(f'{path} cannot be written: {reason}.') from error
