"""The trace log, once the "big M log": each request as it begins and ends, in a file that rotates.

In the request a tuple is appended to a deque and nothing else is done: no lock, no system call.
The heartbeat turns the tuples into lines, see docs/trace-log.txt.  What is lost on the way is
counted and said in the log.
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
import threading
import time

from .recorder import Recorder

try:
    import fcntl
except ImportError:  # Windows: two processes must name two files
    fcntl = None

#: So many events wait for the next beat at most, and so many characters of a path are written.
MOST_EVENTS, LONGEST_PATH = 100_000, 320
_KEPT = LONGEST_PATH + 1
#: So many processes may be told to write the same file, as forked workers are.
_MOST_FILES = 64
_CUT = '\\...'
_ODD = re.compile(r'[^!-\[\]-~]')
_ACTION = 'Make room on its disk, and let the user of Zope write there: it goes on by itself.'


def escaped(word: str) -> str:
    """One word of a line: what is not printable, spaces and backslashes as `\\xNN`, `\\uNNNN` or
    `\\UNNNNNNNN`.
    """
    if word in ('', '-'):
        return '\\x2d' if word else '-'
    if not _ODD.search(word):
        return word
    return ''.join(c if c.isprintable() and c not in ' \\' else _escape(ord(c)) for c in word)


def _escape(code):
    return (
        f'\\x{code:02x}'
        if code < 0x100
        else f'\\u{code:04x}'
        if code < 0x10000
        else f'\\U{code:08x}'
    )


@functools.lru_cache(16)
def _second(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))


def stamp(seconds: float) -> str:
    """As `records.isotime`, which is six times slower, of times that are known to be some."""
    return f'{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z'


def request_id(number: int, ident: int) -> str:
    return f'{number}@0x{ident:016x}'  # the thread as a fault log names it


def begin_line(id: str, when: float, method: str, path: str, cut: bool = False) -> str:
    cut = _CUT if cut or len(path) > LONGEST_PATH else ''
    return f'B {id} {stamp(when)} {escaped(method)} {escaped(path[:LONGEST_PATH])}{cut}'


def end_lines(id: str, when: float, status: int, seconds: float | None, **more) -> list[str]:
    """What is said of a request that ends; of `more` what is true."""
    at = f'{id} {stamp(when)}'
    words = [f'seconds={"?" if seconds is None else format(seconds, ".6f")}']
    return [
        f'A {at} {status} -',
        f'E {at} ' + ' '.join(words + [f'{key}={more[key]}' for key in more if more[key]]),
    ]


def said_line(code: str, when: float, text: str) -> str:
    """`U`: a process starts, and what was under way is over.  `N`: a note, which readers of old
    skip.
    """
    return f'{code} - {stamp(when)} ' + ' '.join(map(escaped, str(text).split()))


class TracingRecorder(Recorder):
    """See IRecorder.  Keeps in `events` what the trace log has not written yet; `lost` counts what
    did not fit.

    An event is (slot, number, time, method, path, retry) or (slot, number, time, status).
    """

    def __init__(self, *arguments, most=MOST_EVENTS, **named):
        super().__init__(*arguments, **named)
        self.events, self.most, self.lost = collections.deque(), most, 0
        self._losses = itertools.count(1)

    def begin(self, method: str, path: str, retry: int = 0, token=None, _now=time.time) -> None:
        super().begin(method, path, retry, token)
        try:
            slot, events = self._local.slot, self.events
        except AttributeError:  # all slots are taken
            self.lost = next(self._losses)
            return
        if len(events) < self.most:
            events.append((slot, slot.number, _now(), method, path[:_KEPT], retry))
        else:
            self.lost = next(self._losses)

    def end(self, status: int = 0, token=None, _now=time.time) -> None:
        try:
            slot, events = self._local.slot, self.events
        except AttributeError:
            return
        if slot.token != token:
            return
        super().end(status, token)
        if len(events) < self.most:
            events.append((slot, slot.number, _now(), status))
        else:
            self.lost = next(self._losses)

    def detach(self) -> None:
        """In a forked child: the parent writes what the parent served."""
        self.events = collections.deque()
        super().detach()


class _File(logging.handlers.RotatingFileHandler):
    """The library's way to rotate, around a file without buffers: what a fork or a full disk finds
    there is nothing.
    """

    def __init__(self, path, keep, mode):
        self._mode = mode
        super().__init__(path, backupCount=keep, delay=True)

    def _open(self):
        """Raises OSError, also for what is no file: a pipe that nobody reads would stop the
        heartbeat.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, 'O_NONBLOCK', 0)
        stream = open(
            self.baseFilename,
            'ab',
            buffering=0,
            opener=lambda path, _: os.open(path, flags, self._mode),
        )
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream
        stream.close()
        raise OSError(f'{self.baseFilename} is no regular file')

    def size(self) -> int:
        """Of the open file; first opened when it is not the one of that name any more, as after
        logrotate.
        """
        if self.stream is not None and not self._is_current():
            self.let_go()
        if self.stream is None:
            self.stream = self._open()
            self._end_torn_line()
        return os.fstat(self.stream.fileno()).st_size

    def _is_current(self):
        try:
            return os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno()))
        except (OSError, ValueError):
            return False

    def _end_torn_line(self):
        """A kill or a full disk may have left half a line."""
        descriptor = self.stream.fileno()
        size = os.fstat(descriptor).st_size
        os.lseek(descriptor, max(0, size - 1), os.SEEK_SET)
        if size and os.read(descriptor, 1) != b'\n':
            self.stream.write(b'\n')

    def rotate_now(self) -> None:
        if self.backupCount:
            self.doRollover()
        else:
            os.ftruncate(self.stream.fileno(), 0)

    def let_go(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class TraceLog:
    """Writes what a TracingRecorder keeps to `path`, or `path-2` ... where another process writes
    that already.

    `size` in bytes: a file that would grow beyond it becomes `path.1`, and so on up to `keep` old
    ones.  `write` is a duty of the heartbeat and never raises; what it could not write is counted
    and becomes one finding.
    """

    def __init__(
        self,
        path,
        size: int,
        keep: int,
        recorder,
        findings,
        mode: int = 0o600,
        label: str = '',
        clock=time.time,
    ):
        self.recorder, self.findings, self.size, self.clock, self.pid = (
            recorder,
            findings,
            size,
            clock,
            os.getpid(),
        )
        self.path, self._lock = _own_file(os.path.abspath(path), mode)
        self.file = _File(self.path, keep, mode)
        self.unwritten, self._why, self._seen_lost = 0, '', 0
        self._begun = {}  # index of a slot: (number, time, retry)
        self._first = [said_line('U', clock(), f'pid {self.pid} {label}')]
        self._writing = threading.Lock()

    def write(self, wait: float = 0.0) -> None:
        """Everything until now; nothing in a forked child, or while another thread writes for
        `wait` seconds.
        """
        if os.getpid() != self.pid or not self._writing.acquire(timeout=wait):
            return
        lines = []
        try:
            lines += self._lines()
            self._put(lines)
        except Exception as error:
            self._give_up(lines, error)
        finally:
            self._writing.release()

    def _lines(self):
        events = self.recorder.events
        for _ in range(len(events)):
            yield from self._event(*events.popleft())
        lost = self.recorder.lost
        if lost > self._seen_lost:
            self.unwritten += lost - self._seen_lost
            self._seen_lost, self._why = (
                lost,
                f'more than {self.recorder.most} events waited, or no slot was free',
            )

    def _event(self, slot, number, when, *rest):
        id = request_id(number, slot.ident)
        if len(rest) > 1:
            method, path, retry = rest
            self._begun[slot.index] = (number, when, retry)
            return [begin_line(id, when, method, path)]
        begun, began, retry = self._begun.pop(slot.index, (None, 0.0, 0))
        if begun != number:  # its begin is lost
            return end_lines(id, when, rest[0], None, native=slot.native_id)
        return end_lines(
            id, when, rest[0], max(0.0, when - began), native=slot.native_id, retry=retry
        )

    def _put(self, lines):
        """Writes `lines` and takes each away that is written."""
        if not lines and not self._first and not self.unwritten:
            return
        room = self.size - self.file.size()
        lines[:0], self._first = self._first, []
        if self.unwritten:
            lines.append(
                said_line(
                    'N',
                    self.clock(),
                    f'{self.unwritten} lines before this one are lost: {self._why}',
                )
            )
        while lines:
            self._write_whole(lines, _fitting(lines, room))
            if lines:
                self.file.rotate_now()
                room = max(self.size - self.file.size(), len(lines[0].encode()) + 1)
        self.unwritten = 0
        self.findings.drop('trace-log')

    def _write_whole(self, lines, batch):
        text = b''.join(batch)
        written = self.file.stream.write(text) or 0 if text else 0
        del lines[: text.count(b'\n', 0, written)]
        if written < len(text):
            raise OSError('there is no room for more')

    def _give_up(self, lines, error):
        """Start lines are tried again; the rest is only counted, for a full disk must not fill the
        memory.
        """
        self._first = [line for line in lines if line.startswith('U')] or self._first
        self.unwritten += sum(not line.startswith(('U', 'N')) for line in lines)
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


def _fitting(lines, room):
    """The first of `lines`, as bytes, that together have room."""
    batch = []
    for line in lines:
        encoded = f'{line}\n'.encode('utf-8', 'backslashreplace')
        room -= len(encoded)
        if room < 0:
            break
        batch.append(encoded)
    return batch


def _own_file(path, mode):
    """(path, descriptor of its lock) of the first file of that name that no other process
    writes.
    """
    for name in (path, *(f'{path}-{number}' for number in range(2, _MOST_FILES))):
        descriptor = None
        try:
            descriptor = os.open(f'{name}.lock', os.O_RDWR | os.O_CREAT, mode)
            if fcntl:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:  # a volume without locks; or `write` will say what is wrong
            pass
        return name, descriptor
    return path, None
