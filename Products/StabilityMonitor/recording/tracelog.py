"""The trace log, once the "big M log": each request as it begins and ends, in a file that rotates.

Within a request, a tuple is appended to a deque and nothing else is done: no lock, no system call.
The heartbeat turns the tuples into lines, see docs/trace-log.txt.  Lines that get lost are counted,
and the log says so.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging.handlers
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from ..model.action import Action
from .partguard import Findings
from .recorder import Recorder
from .slots import Slot

if sys.platform != 'win32':  # there, two processes must name two files
    import fcntl

#: What the trace log has to say of a request that begins: slot, number, time, method, path, retry;
#: and of one that ends: slot, number, time, status.  Plain tuples: they are made in each request.
_Begin = tuple[Slot, int, float, str, str, int]
_End = tuple[Slot, int, float, int]

#: At most this many events wait for the next beat; later ones are lost.
MOST_EVENTS = 100_000
#: At most this many characters of a path are written.
LONGEST_PATH = 320
#: One more is kept, which tells that the path is cut.
_KEPT = LONGEST_PATH + 1
#: At most this many processes may be told to write the same file, as forked workers are.
_MOST_FILES = 64
_CUT = '\\...'
_ODD = re.compile(r'[^!-\[\]-~]')
_ACTION = Action(
    'Make room on its disk, and let the user of Zope write there: it goes on by itself.'
)


def escaped(word: str) -> str:
    """One word of a line.  Spaces, backslashes and what is not printable become `\\xNN`, `\\uNNNN`
    or `\\UNNNNNNNN`; a word without characters becomes `-`.
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
    """As `records.isotime`, six times faster, for numbers that are known to be times."""
    second = _second(int(seconds))
    milliseconds = int(seconds % 1 * 1000)
    return f'{second}.{milliseconds:03d}Z'


def request_id(number: int, ident: int) -> str:
    return f'{number}@0x{ident:016x}'  # the thread as a fault log names it


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
    """The lines of a request that ends; with those values of `more` that are true."""
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
    """`U`: a process starts, so the requests that were under way are over.  `N`: a note, which old
    readers skip.
    """
    words = ' '.join(escaped(word) for word in str(text).split())
    return f'{code} - {stamp(when)} {words}'


class TracingRecorder(Recorder):
    """See IRecorder.  Keeps in `events` what the trace log has not written yet; `lost` counts the
    events that found no room.
    """

    def __init__(self, *arguments: Any, most: int = MOST_EVENTS, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.events: collections.deque[_Begin | _End] = collections.deque()
        self.most = most
        self.lost = 0
        self._losses = itertools.count(1)

    # The other parameters of the base class only bind names early: nobody passes them.

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
        """In a forked child: the parent writes what the parent served."""
        self.events = collections.deque()
        super().detach()


class _File:
    """A file without buffers, so that a fork or a full disk finds nothing unwritten there.  It
    rotates as those of `logging` do, by a handler that opens no file itself.
    """

    def __init__(self, path: str, keep: int, mode: int) -> None:
        self.path = path
        self._keep = keep
        self._mode = mode
        self._rotation = logging.handlers.RotatingFileHandler(path, backupCount=keep, delay=True)
        self._stream: FileIO | None = None

    def _opened(self) -> FileIO:
        """The open file; opened anew when it is not the one of that name any more, as after
        logrotate.
        """
        if self._stream is not None and not self._is_current(self._stream):
            self.let_go()
        if self._stream is None:
            self._stream = self._open()
            _end_torn_line(self._stream)
        return self._stream

    def _open(self) -> FileIO:
        """Raises OSError, also for what is no file: a pipe that nobody reads would stop the
        heartbeat.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, 'O_NONBLOCK', 0)  # to open a pipe must not wait for its reader
        stream = open(
            self.path,
            'ab',
            buffering=0,
            opener=lambda path, _: os.open(path, flags, self._mode),
        )
        mode = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(mode):
            stream.close()
            raise OSError(f'{self.path} is no regular file')
        return stream

    def _is_current(self, stream: FileIO) -> bool:
        try:
            named = os.stat(self.path)
            opened = os.fstat(stream.fileno())
        except (OSError, ValueError):
            return False
        return os.path.samestat(named, opened)

    def size(self) -> int:
        return os.fstat(self._opened().fileno()).st_size

    def write(self, text: bytes) -> int:
        """How many bytes were written, to the file whose size was asked last."""
        stream = self._stream or self._opened()
        return stream.write(text) or 0

    def rotate_now(self) -> None:
        if self._keep:
            self.let_go()
            self._rotation.doRollover()
        else:
            os.ftruncate(self._opened().fileno(), 0)

    def let_go(self) -> None:
        stream = self._stream
        self._stream = None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _end_torn_line(stream: FileIO) -> None:
    """A kill or a full disk may have left half a line."""
    descriptor = stream.fileno()
    size = os.fstat(descriptor).st_size
    if not size:
        return
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    last = os.read(descriptor, 1)
    if last != b'\n':
        stream.write(b'\n')


class TraceLog:
    """Writes what a TracingRecorder keeps to `path`; to `path-2` and so on where another process
    writes that file already.

    A file that would grow beyond `size` bytes becomes `path.1`, and so on up to `keep` old ones.
    `write` is a duty of the heartbeat and never raises; lines that it cannot write are counted and
    become one finding.
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
        # Of what is under way, by index of the slot: number, time, retry.
        self._begun: dict[int, tuple[int, float, int]] = {}
        self._first = [said_line('U', clock(), f'pid {self.pid} {label}')]
        self._writing = threading.Lock()

    def write(self, wait: float = 0.0) -> None:
        """Write everything until now.  Nothing is done in a forked child, or when another thread
        still writes after `wait` seconds.
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
                else:  # the begin of this request is lost
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
            self._why = f'more than {self.recorder.most} events waited, or no slot was free'

    def _put(self, lines: list[str]) -> None:
        """Write `lines`, and take away each that is written."""
        has_news = lines or self._first or self.unwritten
        if not has_news:
            return
        room = self.size - self.file.size()
        lines[:0] = self._first
        self._first = []
        if self.unwritten:
            loss = f'{self.unwritten} lines before this one are lost: {self._why}'
            lines.append(said_line('N', self.clock(), loss))
        while lines:
            self._write_fitting(lines, room)
            if lines:
                self.file.rotate_now()
                # A line that is longer than a whole file is written all the same.
                needed = len(lines[0].encode()) + 1
                room = max(self.size - self.file.size(), needed)
        self.unwritten = 0
        self.findings.drop('trace-log')

    def _write_fitting(self, lines: list[str], room: int) -> None:
        """Write the first of `lines` that together have room, and take away each that is
        written.
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
            raise OSError('there is no room for more')

    def _give_up(self, lines: list[str], error: Exception) -> None:
        """Start lines are tried again.  The others are only counted: a full disk must not fill the
        memory.
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
        """Let go of file and lock; in a forked child both stay the parent's."""
        self.pid = 0
        self.file.let_go()
        if self._lock is not None:
            os.close(self._lock)  # to unlock it would free the parent's
            self._lock = None


def _own_file(path: str, mode: int) -> tuple[str, int | None]:
    """(path, descriptor of its lock) of the first file of that name that no other process
    writes.
    """
    names = [path]
    for number in range(2, _MOST_FILES):
        names.append(f'{path}-{number}')
    for name in names:
        try:
            descriptor = os.open(f'{name}.lock', os.O_RDWR | os.O_CREAT, mode)
        except OSError:  # `write` will say what is wrong
            return name, None
        if not _is_locked_by_another(descriptor):
            return name, descriptor
        os.close(descriptor)
    return path, None


def _is_locked_by_another(descriptor: int) -> bool:
    """Try to lock it: from now on it is locked by us, where this system and volume have locks."""
    if sys.platform != 'win32':
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a volume without locks
            pass
    return False
