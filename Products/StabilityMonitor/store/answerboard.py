"""The answers of a living run, in a file that it has mapped into memory since its start.

A process that has used up its descriptors can open nothing, and on a full disk it can make no file.
So all that an answer needs is there before: the space, and the mapping.  `Board` is the side of the
run; `ask` is the side of another process.  There is no I/O of the run here but stores into memory.

    offset  size
    0       8     the bell of the mailbox, see `runmailbox`
    8       56    questions: for each subject a word, which the asker changes to any other value
    64      8     magic, written last; a file without it has no board (of an older release)
    72      8     how many subjects
    80      8     the size of an area
    128           for each subject an area: begun, done, length (8 bytes each), text

The text is JSON, compressed with zlib.  An answer has a number.  `begun` is that of the answer that
is being made, `done` that of the answer in the area.  The area is whole while both are equal.  An
answer that is begun after several questions answers all of them.  So any number of processes may
ask at the same time, and nothing has to be removed afterwards.  Numbers have the byte order of the
machine.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Sequence
from mmap import mmap
from typing import Any

from ..model import foreignjson
from ..model.errors import NoAnswer

#: The subjects, in the order of their words and areas.  New ones are only appended, at most seven.
SUBJECTS = ('stacks', 'checks')
#: Stands for the bell, which processes of older releases ring.
RUNG = ''
#: At most this many bytes of an answer are read.
ANSWER_MOST = 4 << 20
BELL_SIZE = 8
#: Here is what other processes change.
ASKED_SIZE = 64
_MAGIC = int.from_bytes(b'STABASK1', 'big')
_MAGIC_AT = 64
_AREAS_AT = 128
_AREA_HEAD = 32
#: Bytes.  64 threads with 200 different frames each are 1.6 MiB of JSON, and 228 KiB compressed.
AREA_SIZE = 256 << 10
SIZE = _AREAS_AT + len(SUBJECTS) * AREA_SIZE
_LARGEST_AREA = ANSWER_MOST
_head = struct.Struct('=QQQ')


class Board:
    """The side of the run, on a mapped file of `SIZE` zero bytes."""

    def __init__(self, mapped: mmap) -> None:
        self._mapped = mapped
        self._words = memoryview(mapped).cast('Q')
        self._asked = bytes(ASKED_SIZE)
        at = _MAGIC_AT // 8
        self._words[at + 1] = len(SUBJECTS)
        self._words[at + 2] = AREA_SIZE
        self._words[at] = _MAGIC

    def news(self) -> Sequence[str] | None:
        """Return what was asked for since the last call; None if nothing was.

        They are subjects, and RUNG if the bell was rung.  It costs no system call.
        """
        before = self._asked
        asked = self._mapped[:ASKED_SIZE]
        if asked == before:
            return None
        self._asked = asked
        changed = []
        for index, subject in enumerate((RUNG, *SUBJECTS)):
            at = BELL_SIZE * index
            if asked[at : at + 8] != before[at : at + 8]:
                changed.append(subject)
        return changed

    def begin(self, subject: str) -> None:
        """Note that an answer is being made from now on: what was asked until now, it answers."""
        self._words[_area(SUBJECTS.index(subject), AREA_SIZE) // 8] += 1

    def write(self, subject: str, text: bytes) -> None:
        """Write the answer that was begun; `text` is made by `packed`."""
        at = _area(SUBJECTS.index(subject), AREA_SIZE)
        start = at + _AREA_HEAD
        self._mapped[start : start + len(text)] = text
        word = at // 8
        self._words[word + 2] = len(text)
        self._words[word + 1] = self._words[word]

    def close(self) -> None:
        self._words.release()
        self._mapped.close()


def packed(text: str) -> bytes | None:
    """Return a text as it is written into an area; None if it does not fit."""
    # Level 1 makes stacks seven to twelve times smaller, and takes a fraction of the time.
    found = zlib.compress(text.encode(), 1)
    if len(found) > AREA_SIZE - _AREA_HEAD:
        return None
    return found


def _area(index: int, size: int) -> int:
    return _AREAS_AT + index * size


# -- the side that asks ----------------------------------------------------------------------------


def ask(file: int, subject: str, patience: float, pause: float) -> dict[str, Any] | None:
    """Ask through the board in an open file, and return the answer; None if it has no such board.

    Looks for the answer every `pause` seconds.  Raises NoAnswer after `patience` seconds, and
    OSError.  The file is read and not mapped: its owner might cut it off meanwhile.
    """
    magic, count, size = _numbers(file, _MAGIC_AT)
    if magic != _MAGIC or subject not in SUBJECTS[:count]:
        return None
    if not _AREA_HEAD < size <= _LARGEST_AREA:
        return None
    index = SUBJECTS.index(subject)
    at = _area(index, size)
    begun, _, _ = _numbers(file, at)
    os.pwrite(file, os.urandom(8), BELL_SIZE * (index + 1))
    until = time.monotonic() + patience
    while True:
        answer = _read(file, at, size, begun + 1)
        if answer is not None:
            return answer
        if time.monotonic() >= until:
            raise NoAnswer(f'The process has not answered within {patience:g} s.')
        time.sleep(pause)


def _read(file: int, at: int, size: int, least: int) -> dict[str, Any] | None:
    """Return the answer in an area; None if it is not there yet, or is just being written.

    `least` is the number that it must have at least.
    """
    head = _numbers(file, at)
    begun, done, length = head
    if begun != done or done < least or length > size - _AREA_HEAD:
        return None
    text = os.pread(file, length, at + _AREA_HEAD)
    if _numbers(file, at) != head:
        return None
    unpacking = zlib.decompressobj()
    try:
        document = foreignjson.parse(unpacking.decompress(text, ANSWER_MOST))
    except zlib.error:  # another CPU has not seen all of it yet; the next look does
        return None
    except ValueError:
        return {}
    if not unpacking.eof or not isinstance(document, dict):
        return {}
    return document


def _numbers(file: int, at: int) -> tuple[int, int, int]:
    found = os.pread(file, _head.size, at)
    if len(found) < _head.size:
        return 0, 0, 0
    one, two, three = _head.unpack(found)
    return one, two, three
