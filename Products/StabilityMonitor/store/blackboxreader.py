"""Reads a black box: bytes in, values out.  Whatever the bytes are, it raises UnreadableRecord or
nothing.

`load` reads one from a file, and no more of it than the box itself says that it has.

The layout is told by `blackbox`.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from mmap import mmap
from pathlib import Path

from ..model.errors import UnreadableRecord
from ..model.records import Frame
from ..model.records import LogLine
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from . import blackbox as box
from .regularfiles import open_regular


@dataclass(frozen=True)
class Recording:
    """What a black box tells."""

    words: dict[str, int]
    survived: dict[str, int]
    exception: str
    in_flight: tuple[Request, ...]
    finished: tuple[Request, ...]
    log: tuple[LogLine, ...]
    samples: tuple[Sample, ...]
    threads: dict[int, dict[str, int]]
    notes: tuple[Note, ...] = ()

    @property
    def last_sample(self) -> Sample | None:
        return self.samples[-1] if self.samples else None


#: What is read: bytes of a file, or the memory of the living process.
Readable = bytes | bytearray | mmap

#: No release writes a larger one (bytes).
LARGEST = 16 << 20


def load(path: Path) -> Recording:
    """What the black box in a file tells.  Raises UnreadableRecord, FileNotFoundError, or another
    OSError.
    """
    with open(open_regular(path), 'rb', buffering=0) as file:
        header = file.read(box.HEADER_SIZE)
        return read(header + file.read(_parts(header, _order(header))[-1].end - len(header)))


def read(data: Readable) -> Recording:
    """Everything valid in a black box.  Raises UnreadableRecord when it is none; never anything
    else.
    """
    order = _order(data)
    slots, requests, log, samples, notes = _checked_parts(data, order)
    in_flight, finished = _requests(data, order, requests)
    return Recording(
        words=_words(data, order, box.WORDS_AT, box.WORDS),
        survived=_words(data, order, box.MARKS_AT, box.MARKS),
        exception=_text(data, order),
        in_flight=tuple(in_flight),
        finished=tuple(finished[-box.FINISHED_COUNT :]),
        log=tuple(_log(data, order, log)[-box.LOG_COUNT :]),
        samples=tuple(_samples(data, order, samples)[-box.SAMPLE_COUNT :]),
        threads=_threads(data, order, slots),
        notes=tuple(_notes(data, order, notes)),
    )


def read_samples(data: Readable) -> tuple[Sample, ...]:
    """Its samples, oldest first.  No more of it is touched: pages of a mapped file that nobody
    reads cost nothing.
    """
    order = _order(data)
    return tuple(_samples(data, order, _checked_parts(data, order)[3])[-box.SAMPLE_COUNT :])


def _order(data: Readable) -> str:
    if len(data) < box.HEADER_SIZE or data[:8] != box.MAGIC:
        raise UnreadableRecord('The black box has no valid beginning.')
    for order in '<>':
        version, marker, header = struct.unpack_from(order + 'HHI', data, 8)
        if marker == box.ORDER:
            if version != box.VERSION or header != box.HEADER_SIZE:
                raise UnreadableRecord(
                    f'The black box has format {version}, this release reads {box.VERSION}.'
                )
            return order
    raise UnreadableRecord('The black box has no valid byte order.')


def _checked_parts(data: Readable, order: str) -> list[box.Part]:
    parts = _parts(data, order)
    if parts[-1].end > len(data):
        raise UnreadableRecord('The black box is cut short.')
    return parts


def _parts(data: Readable, order: str) -> list[box.Part]:
    """As its header tells of them."""
    sizes = struct.unpack_from(order + box.SIZES_FORMAT, data, box.SIZES_AT)
    if any(not 0 < count <= 1 << 16 for count in sizes[::2]) or any(
        not least <= size <= 1 << 16
        for size, least in zip(sizes[1::2], box.LAYOUT[1::2], strict=True)
    ):
        raise UnreadableRecord('The black box has impossible sizes.')
    parts = box.parts_of(sizes)
    if parts[-1].end > LARGEST:
        raise UnreadableRecord(f'The black box has impossible sizes: more than {LARGEST} bytes.')
    return parts


def _words(data: Readable, order: str, start: int, names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, struct.unpack_from(f'{order}{len(names)}Q', data, start), strict=True))


def _text(data: Readable, order: str) -> str:
    (length,) = struct.unpack_from(order + 'Q', data, box.TEXT_AT)
    return data[box.TEXT_AT + 8 : box.TEXT_AT + 8 + min(length, box.TEXT_SIZE - 8)].decode(
        'utf-8', 'replace'
    )


def _threads(data: Readable, order: str, part: box.Part) -> dict[int, dict[str, int]]:
    threads = {}
    for index in range(part.count):
        ident, native_id, generation, stack, guard, used, deepest = struct.unpack_from(
            order + box.SLOT_FORMAT, data, part.at(index)
        )
        if generation:
            threads[ident] = {
                'native_id': native_id,
                'stack_size': stack,
                'guard_size': guard,
                'stack_used': used,
                'stack_request': deepest,
                'slot': index,
            }
    return threads


def _requests(data: Readable, order: str, part: box.Part) -> tuple[list[Request], list[Request]]:
    """(in flight, finished).  Of a thread only what began last can be in flight: what is around it,
    or was cut off by an exception from outside, is over.
    """
    found = [r for at in part.places if (r := read_request(data, at, order)) is not None]
    finished = sorted((r for r in found if r.ended is not None), key=lambda r: (r.ended, r.number))
    counted = {r.last_number for r in finished}
    last = {r.ident: r for r in sorted(found, key=lambda r: r.number)}
    return [r for r in last.values() if r.ended is None and r.number not in counted], finished


def read_request(data: Readable, at: int, order: str = '=') -> Request | None:
    """That of one entry; None where there is none, or one that is being written."""
    (
        number,
        started,
        _,
        ident,
        native_id,
        retry,
        path_length,
        method,
        path,
        phase,
        user_length,
        user,
        last_end,
        tally,
        status,
        ended,
        seal,
    ) = struct.unpack_from(order + box.REQUEST_FORMAT, data, at)
    if (
        not number
        or seal != number
        or phase >= len(box.PHASES)
        or not all(map(_plausible, (started, last_end, ended)))
    ):
        return None
    request = Request(
        number=number,
        ident=ident,
        native_id=native_id,
        started=started,
        phase=box.PHASES[phase],
        retry=retry,
        cut=path_length > box.PATH_MAX,
        method=_whole(method.rstrip(b'\0')),
        path=_whole(path[:path_length]),
        user=_string(user, user_length),
    )
    if not ended:
        return request
    return replace(
        request,
        ended=max(ended, last_end),
        seconds=max(0.0, ended - started),
        status=status,
        count=(tally >> box.COUNT_SHIFT) + 1,
        last_number=tally & box.LAST_NUMBER or number,
    )


def _log(data: Readable, order: str, part: box.Part) -> list[LogLine]:
    found = []
    for offset in part.places:
        (
            number,
            time,
            ident,
            level,
            was_cut,
            logger_length,
            message_length,
            logger,
            message,
            seal,
        ) = struct.unpack_from(order + box.LOG_FORMAT, data, offset)
        if number and seal == number and _plausible(time):
            found.append(
                (
                    number,
                    LogLine(
                        time,
                        level,
                        ident,
                        _string(logger, logger_length),
                        _string(message, message_length),
                        bool(was_cut),
                    ),
                )
            )
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def _samples(data: Readable, order: str, part: box.Part) -> list[Sample]:
    found = []
    for offset in part.places:
        number, *values, seal = struct.unpack_from(order + box.SAMPLE_FORMAT, data, offset)
        if (
            number
            and seal == number
            and _plausible(values[0])
            and _plausible(values[1])
            and abs(values[3]) < 1e12
        ):
            found.append((number, Sample(*values)))
    return [sample for _, sample in sorted(found, key=lambda pair: pair[0])]


def _notes(data: Readable, order: str, part: box.Part) -> list[Note]:
    found = []
    for at in part.places:
        (number, time, ident, native_id, request, seconds, kind, was_cut, *lengths, text, seal) = (
            struct.unpack_from(order + box.NOTE_FORMAT, data, at)
        )
        if (
            number
            and seal == number
            and _plausible(time)
            and abs(seconds) < 1e11
            and kind < len(box.NOTES)
        ):
            title, detail, frames = _texts(text, lengths)
            found.append(
                Note(
                    number,
                    time,
                    box.NOTES[kind],
                    ident,
                    native_id,
                    request,
                    seconds,
                    title.decode('utf-8', 'replace'),
                    detail.decode('utf-8', 'replace'),
                    read_frames(frames),
                    bool(was_cut),
                )
            )
    return sorted(found, key=lambda note: note.number)


def _texts(field: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    """Texts that stand one after the other."""
    for length in lengths:
        yield field[:length]
        field = field[length:]


def read_frames(field: bytes) -> tuple[Frame, ...]:
    """The reverse of `blackbox.write_frames`; what cannot be read is left out."""
    frames: list[Frame] = []
    before = ''
    for line in field.decode('utf-8', 'replace').split('\n'):
        parts = line.split('\0')
        if len(parts) == 4 and parts[0].isdecimal():
            before = before[: int(parts[0][:6])] + parts[1]
            frames.append(
                Frame(before, int(parts[2][:9]) if parts[2].isdecimal() else None, parts[3])
            )
    return tuple(frames)


def _plausible(seconds: float) -> bool:
    return 0 <= seconds < 1e11


def _whole(field: bytes) -> str:
    """Text of which the end may be missing, within a character, too."""
    return codecs.getincrementaldecoder('utf-8')('replace').decode(field)


def _string(field: bytes, length: int) -> str:
    return field[: min(length, len(field))].decode('utf-8', 'replace')
