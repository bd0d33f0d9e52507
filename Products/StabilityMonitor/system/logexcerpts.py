"""Reads the lines of a log around one moment, however large the log is.

The place is found by the times of the lines, by halves, and only what is around it is read.  A log
that is compressed can only be read from its start, so only a small one is read.  Lines without a
time belong to the line before them: the traceback to the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..model.plaintext import clean
from . import logtimes

#: Seconds of a log that are shown before the moment, and after it.
BEFORE = 300.0
AFTER = 60.0
#: At least this many lines before the moment are shown, however old they are, and at most this many
#: before it and after it.
LEAST_LINES = 20
MOST_BEFORE = 160
MOST_AFTER = 40
#: Bytes that are read before the place, and after it.
_BYTES_BEFORE = 48 << 10
_BYTES_AFTER = 16 << 10
#: Bytes that are read to find a line with a time, and how much of the log may be left then.
_STEP = 8 << 10
_LONG_STEP = 64 << 10
#: More characters of a line are not shown.
_LONGEST_LINE = 4000
#: Bytes of a log after decompression that are looked at, in pieces of this size.
_MOST_UNPACKED = 32 << 20
_PIECE = 256 << 10

#: Returns bytes: of (offset, length).
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Excerpt:
    """Lines of a log.  `before` of them are not later than the moment.

    `first` and `last` are the times of the first and the last line that has one, None if none has.
    `cut`: more lines are of that time than are here.  `reaches_end`: after them the log ends.
    """

    lines: tuple[str, ...] = ()
    before: int = 0
    first: float | None = None
    last: float | None = None
    cut: bool = False
    reaches_end: bool = True


def of_file(descriptor: int, moment: float, now: float) -> Excerpt:
    """Return the lines of an open log around that moment, in seconds since the epoch.

    At most some hundred KiB are read.  In a log without times these are the last lines.
    """
    size = os.fstat(descriptor).st_size

    def read(start: int, length: int) -> bytes:
        return os.pread(descriptor, length, start)

    place = _place_after(read, size, moment, now)
    start = max(0, place - _BYTES_BEFORE)
    before = read(start, place - start)
    if start:
        before = before.partition(b'\n')[2]  # that line is torn
    after = read(place, _BYTES_AFTER)
    reaches_end = place + len(after) >= size
    return _excerpt(before, after, moment, now, start > 0, reaches_end)


def of_packed(read: Callable[[int], bytes], moment: float, now: float) -> Excerpt:
    """Like `of_file`, of a log that is decompressed from its start by `read(length)`.

    Raises what `read` raises.
    """
    before, after = b'', b''
    is_cut, found = False, False
    done = 0
    while done < _MOST_UNPACKED and (piece := read(_PIECE)):
        done += len(piece)
        if found:
            after += piece
        else:
            before += piece
            place = None
            if _last_time(before, now) > moment:  # most pieces need no more
                place = _later_line(before, moment, now)
            if place is None:
                is_cut = is_cut or len(before) > _BYTES_BEFORE
                before = before[-_BYTES_BEFORE - _LONG_STEP :]
                continue
            before, after, found = before[:place], before[place:], True
        if len(after) >= _BYTES_AFTER:
            break
    if len(before) > _BYTES_BEFORE:
        before = before[-_BYTES_BEFORE:]
        is_cut = True
    if is_cut:
        before = before.partition(b'\n')[2]
    return _excerpt(before, after[:_BYTES_AFTER], moment, now, is_cut, len(after) < _BYTES_AFTER)


def of_lines(lines: Sequence[str], moment: float, now: float) -> Excerpt:
    """The same of lines that were read elsewhere: those of one time."""
    text = ''.join(f'{line}\n' for line in lines).encode('utf-8', 'replace')
    place = _later_line(text, moment, now)
    before = text if place is None else text[:place]
    after = b'' if place is None else text[place:]
    return _excerpt(before, after, moment, now, False, True)


# -- the place -------------------------------------------------------------------------------------


def _place_after(read: Read, size: int, moment: float, now: float) -> int:
    """Return the offset of the first line that is later than the moment; `size` if none is."""
    low, high = 0, size
    while high - low > _STEP:
        middle = (low + high) // 2
        found = _next_time(read, middle, high, now)
        if found is None:  # as in the hole that a truncated log has at its beginning
            low = middle
        elif found[1] > moment:
            high = middle
        else:
            low = max(found[0], middle)
    # `high` may be within the lines without a time that belong to an earlier line.
    rest = read(low, high - low + _LONG_STEP)
    place = _later_line(rest, moment, now)
    if place is not None:
        return low + place
    return min(size, low + len(rest))


def _next_time(read: Read, start: int, end: int, now: float) -> tuple[int, float] | None:
    """Return (offset, time) of the next whole line from `start` on that has a time."""
    for length in (_STEP, _LONG_STEP):
        text = read(start, min(length, end - start))
        offset = text.find(b'\n') + 1
        while 0 < offset < len(text):
            line_end = text.find(b'\n', offset)
            if line_end < 0:
                break
            at = _time_of(text[offset:line_end], now)
            if at is not None:
                return start + offset, at
            offset = line_end + 1
        if len(text) < length:
            break
    return None


def _later_line(text: bytes, moment: float, now: float) -> int | None:
    """Return the offset of the first line of a text that is later than the moment."""
    offset = 0
    while offset < len(text):
        end = text.find(b'\n', offset)
        end = len(text) if end < 0 else end
        at = _time_of(text[offset:end], now)
        if at is not None and at > moment:
            return offset
        offset = end + 1
    return None


def _last_time(text: bytes, now: float) -> float:
    """Return the time of the last whole line that has one; 0.0 if none has."""
    end = text.rfind(b'\n')
    while end > 0:
        begin = text.rfind(b'\n', 0, end) + 1
        at = _time_of(text[begin:end], now)
        if at is not None:
            return at
        end = begin - 1
    return 0.0


def _time_of(line: bytes, now: float) -> float | None:
    # Most lines of a traceback are recognized by their first byte.
    if line[:1] in (b' ', b''):
        return None
    return logtimes.moment(line[:400].lstrip(b'\0').decode('utf-8', 'replace'), now)


# -- the lines -------------------------------------------------------------------------------------


def _excerpt(
    before: bytes, after: bytes, moment: float, now: float, is_torn: bool, reaches_end: bool
) -> Excerpt:
    """`is_torn`: before these bytes are more.  The last line of `after` may be torn, too."""
    earlier = _timed(before, now)
    later = _timed(after if reaches_end else after[: after.rfind(b'\n') + 1], now)
    wanted = [number for number, (at, _) in enumerate(earlier) if _is_late(at, moment - BEFORE)]
    begin = wanted[0] if wanted else len(earlier)
    begin = max(min(begin, len(earlier) - LEAST_LINES), 0)
    cut = begin == 0 and is_torn
    if len(earlier) - begin > MOST_BEFORE:
        begin, cut = len(earlier) - MOST_BEFORE, True
    begin = _begin_of_record(earlier, begin)
    end = 0
    for at, _ in later:
        if _is_late(at, moment + AFTER):
            break
        end += 1
    if end > MOST_AFTER:
        end, cut = MOST_AFTER, True
    elif end == len(later) and not reaches_end:
        cut = True
    shown = earlier[begin:] + later[:end]
    times = [at for at, _ in shown if at is not None]
    return Excerpt(
        lines=tuple(line for _, line in shown),
        before=len(earlier) - begin,
        first=times[0] if times else None,
        last=times[-1] if times else None,
        cut=cut,
        reaches_end=reaches_end and end == len(later),
    )


def _is_late(at: float | None, limit: float) -> bool:
    return at is not None and at >= limit


def _begin_of_record(lines: Sequence[tuple[float | None, str]], begin: int) -> int:
    """Return the number of the line with a time to which that line belongs, or else of the next.

    Half of a secret that goes over several lines would not be recognized.
    """
    earliest = max(0, len(lines) - MOST_BEFORE)
    for number in chain(range(begin, earliest - 1, -1), range(begin, len(lines))):
        is_there = number < len(lines)
        if is_there and lines[number][0] is not None:
            return number
    return begin


def _timed(text: bytes, now: float) -> list[tuple[float | None, str]]:
    found = []
    lines = text.split(b'\n')
    if lines and not lines[-1]:
        del lines[-1]
    for line in lines:
        words = line.strip(b'\0\r').decode('utf-8', 'replace').expandtabs()
        found.append((_time_of(line, now), clean(_shortened(words))))
    return found


def _shortened(line: str) -> str:
    """Return a line, without its end if it is too long: no word is torn, it may be a secret."""
    if len(line) <= _LONGEST_LINE:
        return line
    begin, space, _ = line[:_LONGEST_LINE].rpartition(' ')
    return f'{begin} ...' if space else '...'
