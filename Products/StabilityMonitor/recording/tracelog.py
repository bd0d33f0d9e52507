"""The trace log (formerly the "big M log"): the start and the end of each request, in a file that
rotates.

A request only appends tuples to a deque: it takes no lock and makes no system call.  The heartbeat
turns the tuples into lines, see docs/trace-log.txt.  Lost lines are counted, and a line in the log
reports their number.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from ..model.action import Action
from ..model.counts import counted
from ..model.counts import plural
from ..store.regularfiles import Folder
from ..store.regularfiles import data_directory_of
from ..store.regularfiles import opened
from ..store.regularfiles import opened_outside
from .partguard import Findings
from .recorder import Recorder
from .slots import Slot

if sys.platform != 'win32':  # Windows has no flock: each process needs a different file name there
    import fcntl

#: The start of a request (slot, number, time, method, path, retry), and its end (slot, number,
#: time, status).  They are plain tuples because these are the cheapest: each request makes both.
_Begin = tuple[Slot, int, float, str, str, int]
_End = tuple[Slot, int, float, int]

#: At most this many events (starts and ends) wait for the next beat; later ones are lost.
MOST_EVENTS = 100_000
#: At most this many characters of a path are written.
LONGEST_PATH = 320
#: One character more is kept, to see that the path was cut.
_KEPT = LONGEST_PATH + 1
#: At most this many file names are tried.  Processes with the same configuration, for example
#: forked workers, need one file each.
_MOST_FILES = 64
_CUT = '\\...'
_ODD = re.compile(r'[^!-\[\]-~]')
_ACTION = Action(
    'Free space on its disk, and make its folder writable for the user of Zope: the log then '
    'continues without a restart.'
)


def escaped(word: str) -> str:
    """Return one word of a line.

    Spaces, backslashes and unprintable characters become `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`; an
    empty word becomes `-`.
    """
    if word == '':
        return '-'
    if word == '-':
        return '\\x2d'
    if not _ODD.search(word):
        return word
    shown = ''
    for character in word:
        code = ord(character)
        if character.isprintable() and character not in ' \\':
            shown += character
        elif code < 0x100:
            shown += f'\\x{code:02x}'
        elif code < 0x10000:
            shown += f'\\u{code:04x}'
        else:
            shown += f'\\U{code:08x}'
    return shown


@functools.lru_cache(16)
def _second(seconds: int) -> str:
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))


def stamp(seconds: float) -> str:
    """Return a time as `records.isotime` does, but six times faster.

    `seconds` must be a valid time, because it is not checked.
    """
    second = _second(int(seconds))
    milliseconds = int(seconds % 1 * 1000)
    return f'{second}.{milliseconds:03d}Z'


def request_id(number: int, ident: int) -> str:
    return f'{number}@0x{ident:016x}'  # the ident of the thread is written as in a fault log


def begin_line(id: str, when: float, method: str, path: str, cut: bool = False) -> str:
    shown = escaped(path[:LONGEST_PATH])
    if cut or len(path) > LONGEST_PATH:
        shown += _CUT
    return f'B {id} {stamp(when)} {escaped(method)} {shown}'


def end_lines(
    id: str,
    when: float,
    status: int,
    seconds: float | None,
    **more: object,
) -> list[str]:
    """Return the lines of a request that ends.  Values of `more` that are not 0 are added."""
    at = f'{id} {stamp(when)}'
    took = '?'
    if seconds is not None:
        took = f'{seconds:.6f}'
    end = f'E {at} seconds={took}'
    for key, value in more.items():
        if value:
            end += f' {key}={value}'
    return [f'A {at} {status} -', end]


def said_line(code: str, when: float, text: str) -> str:
    """Return a line that belongs to no request.

    `U`: a process starts, so the requests in flight before it are over.  `N`: a note; readers of
    the old format skip it.
    """
    words = ' '.join(escaped(word) for word in str(text).split())
    return f'{code} - {stamp(when)} {words}'


class TracingRecorder(Recorder):
    """See IRecorder.  `events` holds the starts and ends that the trace log has not written yet.
    `lost` counts those that were dropped because `events` was full or no slot was free.
    """

    def __init__(self, *arguments: Any, most: int = MOST_EVENTS, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.events: collections.deque[_Begin | _End] = collections.deque()
        self.most = most
        self.lost = 0
        self._losses = itertools.count(1)

    # The other parameters of the base class only bind names early: no caller passes them.

    def begin(  # type: ignore[override]  # see above
        self,
        method: str,
        path: str,
        retry: int = 0,
        token: object = None,
        _now: Callable[[], float] = time.time,
    ) -> None:
        super().begin(method, path, retry, token)
        try:
            slot = self._local.slot
        except AttributeError:  # all slots are taken
            self.lost = next(self._losses)
            return
        events = self.events
        if len(events) < self.most:
            events.append((slot, slot.number, _now(), method, path[:_KEPT], retry))
        else:
            self.lost = next(self._losses)

    def end(  # type: ignore[override]  # see above
        self,
        status: int = 0,
        token: object = None,
        _now: Callable[[], float] = time.time,
    ) -> None:
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token != token:
            return
        super().end(status, token)
        events = self.events
        if len(events) < self.most:
            events.append((slot, slot.number, _now(), status))
        else:
            self.lost = next(self._losses)

    def detach(self) -> None:
        """In a forked child: drop the events of the parent, which the parent itself writes."""
        self.events = collections.deque()
        super().detach()


class _File:
    """An unbuffered file that rotates.

    Without a buffer, a forked child or a full disk cannot affect text that is not written yet.
    """

    def __init__(self, path: str, keep: int, mode: int) -> None:
        self.path = path
        self._keep = keep
        self._mode = mode
        self._stream: FileIO | None = None

    def _opened(self) -> FileIO:
        """Return the open file.  Open it again if the path names another file now, as after
        logrotate.
        """
        if self._stream is not None and not self._is_current(self._stream):
            self.let_go()
        if self._stream is None:
            self._stream = self._open()
            _end_torn_line(self._stream)
        return self._stream

    def _open(self) -> FileIO:
        """Open the file.

        Raises OSError, also if the path is not a regular file: writing to a pipe that nothing reads
        would block the heartbeat.
        """
        with _folder_of(self.path) as folder:
            name = os.path.basename(self.path)
            descriptor = folder.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT, self._mode)
        return open(descriptor, 'ab', buffering=0)

    def _is_current(self, stream: FileIO) -> bool:
        try:
            # This call may follow a link, but it only compares two numbers.
            named = os.stat(self.path)
            opened = os.fstat(stream.fileno())
        except (OSError, ValueError):
            return False
        return os.path.samestat(named, opened)

    def size(self) -> int:
        return os.fstat(self._opened().fileno()).st_size

    def write(self, text: bytes) -> int:
        """Write to the file whose size was read last, and return the number of bytes written."""
        stream = self._stream or self._opened()
        return stream.write(text) or 0

    def rotate_now(self) -> None:
        if not self._keep:
            os.ftruncate(self._opened().fileno(), 0)
            return
        self.let_go()
        name = os.path.basename(self.path)
        kept = [name, *(f'{name}.{number}' for number in range(1, self._keep + 1))]
        with _folder_of(self.path) as folder:
            for newer, older in reversed(list(itertools.pairwise(kept))):
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(newer, older)

    def let_go(self) -> None:
        stream = self._stream
        self._stream = None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _folder_of(path: str) -> Folder:
    """Open the folder of a log: without links in the data directory, else as the option says."""
    folder = os.path.dirname(path)
    if data_directory_of(folder):
        return opened(folder)
    return opened_outside(folder)


def _end_torn_line(stream: FileIO) -> None:
    """End the last line if it has no newline: a kill or a full disk may have cut it."""
    descriptor = stream.fileno()
    size = os.fstat(descriptor).st_size
    if not size:
        return
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    last = os.read(descriptor, 1)
    if last != b'\n':
        stream.write(b'\n')


class TraceLog:
    """Writes the events of a TracingRecorder to the file `path`; to `path-2` and so on if another
    process already writes `path`.

    A file that would grow beyond `size` bytes is renamed to `path.1`; `keep` old files are kept.
    The heartbeat calls `write` at each beat.  It never raises: lines that it cannot write are
    counted, and there is one finding for them.
    """

    def __init__(
        self,
        path: Path | str,
        size: int,
        keep: int,
        recorder: TracingRecorder,
        findings: Findings,
        mode: int = 0o600,
        label: str = '',
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.recorder = recorder
        self.findings = findings
        self.size = size
        self.clock = clock
        self.pid = os.getpid()
        self.path, self._lock = _own_file(os.path.abspath(path), mode)
        self.file = _File(self.path, keep, mode)
        self.unwritten = 0
        self._why = ''
        self._seen_lost = 0
        # The requests in flight, by index of the slot: number, time of the start, retry.
        self._begun: dict[int, tuple[int, float, int]] = {}
        self._first = [said_line('U', clock(), f'pid {self.pid} {label}')]
        self._writing = threading.Lock()

    def write(self, wait: float = 0.0) -> None:
        """Write all events so far.

        Does nothing in a forked child, or if another thread still writes after `wait` seconds.
        """
        if os.getpid() != self.pid:
            return
        if not self._writing.acquire(timeout=wait):
            return
        lines: list[str] = []
        try:
            lines += self._lines()
            self._put(lines)
        except Exception as error:
            self._give_up(lines, error)
        finally:
            self._writing.release()

    def _lines(self) -> Iterator[str]:
        events = self.recorder.events
        for _ in range(len(events)):
            event = events.popleft()
            if len(event) == 6:
                slot, number, when, method, path, retry = event
                self._begun[slot.index] = (number, when, retry)
                yield begin_line(request_id(number, slot.ident), when, method, path)
            else:
                slot, number, when, status = event
                begun, began, retry = self._begun.pop(slot.index, (None, 0.0, 0))
                seconds = None
                if begun == number:
                    seconds = max(0.0, when - began)
                else:  # the start of this request was lost
                    retry = 0
                yield from end_lines(
                    request_id(number, slot.ident),
                    when,
                    status,
                    seconds,
                    native=slot.native_id,
                    retry=retry,
                )
        lost = self.recorder.lost
        if lost > self._seen_lost:
            self.unwritten += lost - self._seen_lost
            self._seen_lost = lost
            self._why = (
                f'more than {self.recorder.most} events waited to be written, or no slot was free'
            )

    def _put(self, lines: list[str]) -> None:
        """Write `lines`, and remove each written line from the list."""
        has_news = lines or self._first or self.unwritten
        if not has_news:
            return
        room = self.size - self.file.size()
        lines[:0] = self._first
        self._first = []
        if self.unwritten:
            lost = counted(self.unwritten, 'line')
            are = plural(self.unwritten, 'is', 'are')
            loss = f'{lost} before this one {are} lost: {self._why}'
            lines.append(said_line('N', self.clock(), loss))
        while lines:
            self._write_fitting(lines, room)
            if lines:
                self.file.rotate_now()
                # A line that is longer than the largest file is written nevertheless.
                needed = len(lines[0].encode()) + 1
                room = max(self.size - self.file.size(), needed)
        self.unwritten = 0
        self.findings.drop('trace-log')

    def _write_fitting(self, lines: list[str], room: int) -> None:
        """Write as many of the first `lines` as fit into `room` bytes, and remove each written line
        from the list.
        """
        batch = []
        for line in lines:
            encoded = f'{line}\n'.encode('utf-8', 'backslashreplace')
            room -= len(encoded)
            if room < 0:
                break
            batch.append(encoded)
        if not batch:
            return
        text = b''.join(batch)
        written = self.file.write(text)
        whole_lines = text.count(b'\n', 0, written)
        del lines[:whole_lines]
        if written < len(text):
            raise OSError('only a part could be written')

    def _give_up(self, lines: list[str], error: Exception) -> None:
        """Handle an error: keep start lines, count the others, add a finding.

        Only start lines are tried again.  Keeping the others too would fill the memory while the
        disk is full.
        """
        starts = []
        for line in lines:
            if line.startswith('U'):
                starts.append(line)
            elif not line.startswith('N'):
                self.unwritten += 1
        if starts:
            self._first = starts
        self._why = f'{type(error).__name__}: {error}'
        self.file.let_go()
        self.findings.add(
            'trace-log',
            'The trace log cannot be written: its lines are lost.',
            f'{self.path}: {self._why}.',
            _ACTION,
        )

    def finish(self) -> None:
        self.write(wait=0.5)
        self.detach()

    def detach(self) -> None:
        """Close the file and the lock; in a forked child the parent keeps both."""
        self.pid = 0
        self.file.let_go()
        if self._lock is not None:
            os.close(self._lock)  # unlocking would also release the lock of the parent
            self._lock = None


def _own_file(path: str, mode: int) -> tuple[str, int | None]:
    """Return the path of the first file, of `path`, `path-2` and so on, that no other process
    writes, and the descriptor of its lock.

    The descriptor is None if the lock file cannot be opened.
    """
    names = [path]
    for number in range(2, _MOST_FILES):
        names.append(f'{path}-{number}')
    for name in names:
        try:
            with _folder_of(name) as folder:
                lock = f'{os.path.basename(name)}.lock'
                descriptor = folder.open(lock, os.O_RDWR | os.O_CREAT, mode)
        except OSError:  # `write` will report the error
            return name, None
        if not _is_locked_by_another(descriptor):
            return name, descriptor
        os.close(descriptor)
    return path, None


def _is_locked_by_another(descriptor: int) -> bool:
    """Try to lock the file, and return whether another process has locked it.

    If not, this process holds the lock from now on, if this system and file system have locks.
    """
    if sys.platform != 'win32':
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            pass
    return False
