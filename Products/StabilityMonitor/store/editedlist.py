"""A list that persons change through this product: a JSON file of the data directory.

Such are the muted findings and the acknowledged incidents.  Several processes may read and change
it at the same time.  What cannot be read is left out, and `read` says so; the next change keeps a
damaged file as a copy.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from typing import Generic
from typing import TypeVar

from ..model import foreignjson
from ..model.errors import StabilityError
from ..model.jsonform import to_json
from .regularfiles import NO_DESCRIPTOR
from .regularfiles import open_regular
from .regularfiles import read_whole
from .regularfiles import rename
from .rundirectory import write_whole

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

#: The most characters of a text that a person gives; a longer one is cut.
MOST_TEXT = 500
#: The most bytes of the file; a larger one is not read.
_MOST_BYTES = 1 << 20
#: At most this many seconds are waited for another process that writes the file.
_PATIENCE = 1.0
#: Threads of this process take turns with this lock; processes take turns with a lock file.
_WRITING = threading.Lock()

Entry = TypeVar('Entry')


class ListIsBusy(StabilityError):
    next_step = 'Try again.'


class EditedList(Generic[Entry]):
    """The entries in a file, which holds {key: [entry, ...]}.

    `from_row(row)` returns a row of the file as an entry, or None if it is not valid.  An entry is
    dropped from the file at the next change if `keeps(entry)` is false.  `older` is the (name, key)
    of the file of earlier releases, which is read until there is a new one.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        from_row: Callable[[object], Entry | None],
        keeps: Callable[[Entry], bool],
        file_mode: int,
        older: tuple[str, str] | None = None,
    ) -> None:
        self.path = path
        self._key = key
        self._from_row = from_row
        self._keeps = keeps
        self._file_mode = file_mode
        self._places = [(path.name, key)]
        if older:
            self._places.append(older)

    def read(self) -> tuple[list[Entry], str]:
        """Return (entries, what is wrong with the file); '' if nothing is wrong.

        Raises OSError if no descriptor is left: then nothing is known.
        """
        try:
            rows = self._rows()
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, OSError) and error.errno in NO_DESCRIPTOR:
                raise
            return [], f'{type(error).__name__}: {error}'
        if not isinstance(rows, list):
            return [], 'It does not hold a list of entries.'
        entries = [entry for entry in map(self._from_row, rows) if entry is not None]
        if len(entries) < len(rows):
            return entries, f'Entries that are not valid: {len(rows) - len(entries)}.'
        return entries, ''

    def _rows(self) -> Any:
        """Return what the file holds under its key; an empty list if there is no file."""
        for file, key in self._places:
            with contextlib.suppress(FileNotFoundError):
                return foreignjson.parse(read_whole(self.path.with_name(file), _MOST_BYTES))[key]
        return []

    def change(self, change: Callable[[list[Entry]], list[Entry]]) -> bool:
        """Read, change and write the file, under a lock against other threads and processes.

        Returns False if nothing has changed.  Raises ListIsBusy, and OSError if the file cannot be
        written.
        """
        with _WRITING, self._locked():
            before, problem = self.read()
            after = change(before)
            if after == before and not problem:
                return False
            if problem:
                with contextlib.suppress(OSError):  # a person may want to repair it
                    rename(self.path, self.path.with_name(f'{self.path.name}.damaged'))
            rows = [to_json(entry) for entry in after if self._keeps(entry)]
            write_whole(self.path, json.dumps({self._key: rows}, indent=1), self._file_mode)
            return after != before

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        descriptor = open_regular(
            self.path.with_name(f'{self.path.name}.lock'), os.O_CREAT | os.O_RDWR, self._file_mode
        )
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        """Take the lock; wait for another process for at most _PATIENCE seconds.

        On a volume without locks, continue without one.
        """
        assert fcntl is not None  # the caller has checked it
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ListIsBusy(f'Another process is writing {self.path.name}.') from None
                time.sleep(0.01)
            except OSError:
                return
