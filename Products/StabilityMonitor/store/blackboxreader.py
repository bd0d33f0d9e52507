"""Reads a black box: bytes in, values out.  `blackbox` describes the layout.

Whatever the bytes are, only UnreadableRecord is raised.  `load` reads a black box from a file, and
only as many bytes as its header says that it has.
"""

from __future__ import annotations

import codecs
import logging
import struct
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from mmap import mmap
from pathlib import Path

from ..model.errors import UnreadableRecord
from ..model.records import Frame
from ..model.records import LifePoint
from ..model.records import LogLine
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..model.records import ThreadSlot
from . import blackbox as box
from .regularfiles import open_regular
from .wallclock import WallClock


@dataclass(frozen=True)
class Recording:
    """The values in a black box.

    `words` and `survived` hold the words of the header by their names in `blackbox.WORDS` and
    `blackbox.MARKS`.  `threads` is {ident: slot}.  `began` is {number of a request: when it began},
    by the monotonic clock.  `curve` is empty in files of older releases.
    """

    words: dict[str, int]
    survived: dict[str, int]
    exception: str
    in_flight: tuple[Request, ...]
    finished: tuple[Request, ...]
    log: tuple[LogLine, ...]
    samples: tuple[Sample, ...]
    threads: dict[int, ThreadSlot]
    notes: tuple[Note, ...] = ()
    began: dict[int, float] = field(default_factory=dict)
    curve: tuple[LifePoint, ...] = ()

    @property
    def last_sample(self) -> Sample | None:
        return self.samples[-1] if self.samples else None


#: What can be read: the bytes of a file, or the mapped memory of the living process.
Readable = bytes | bytearray | mmap

#: No release writes a black box larger than this (bytes).
LARGEST = 16 << 20
#: No release has more entries in a part than this, nor an entry with more bytes than this.
_MOST = 1 << 16
#: A time or a duration above this is damaged (seconds).
_MOST_SECONDS = 1e11
#: A share of a CPU above this is damaged.
_MOST_CPU = 1e12


def load(path: Path) -> Recording:
    """Read the black box in a file.

    Raises UnreadableRecord, FileNotFoundError, or another OSError.
    """
    with open(open_regular(path), 'rb', buffering=0) as file:
        header = file.read(box.HEADER_SIZE)
        parts = _parts(header, _order(header))
        last = parts[-1]
        rest = file.read(last.end - len(header))
    return read(header + rest)


def read(data: Readable) -> Recording:
    """Return all valid values of a black box.  Raises only UnreadableRecord, if it is not one."""
    order = _order(data)
    slots, requests, log, samples, notes, *curves = _checked_parts(data, order)
    in_flight, finished, began = _requests(data, order, requests)
    known_samples = _samples(data, order, samples)
    threads = _threads(data, order, slots)
    return Recording(
        words=_words(data, order, box.WORDS_AT, box.WORDS),
        survived=_words(data, order, box.MARKS_AT, box.MARKS),
        exception=_text(data, order),
        in_flight=tuple(_with_name(request, threads) for request in in_flight),
        finished=_with_measured(finished, began, known_samples),
        log=_log(data, order, log),
        samples=known_samples,
        threads=threads,
        notes=_notes(data, order, notes),
        began=began,
        curve=_points(data, order, curves),
    )


def read_samples(data: Readable) -> tuple[Sample, ...]:
    """Return the samples of a black box, oldest first.

    Only the pages with the samples are read: unread pages of a mapped file cost nothing.
    """
    order = _order(data)
    samples = _checked_parts(data, order)[3]
    return _samples(data, order, samples)


def read_curve(data: Readable) -> tuple[LifePoint, ...]:
    """Return the curve over the whole life, oldest point first; () in files of older releases."""
    order = _order(data)
    return _points(data, order, _checked_parts(data, order)[5:])


def _order(data: Readable) -> str:
    has_beginning = len(data) >= box.HEADER_SIZE and data[:8] == box.MAGIC
    if not has_beginning:
        raise UnreadableRecord('The black box has no valid beginning.')
    for order in '<>':
        version, marker, header = struct.unpack_from(order + 'HHI', data, 8)
        if marker != box.ORDER:
            continue
        if version != box.VERSION or header != box.HEADER_SIZE:
            raise UnreadableRecord(
                f'The black box has format {version}; this release reads format {box.VERSION}.'
            )
        return order
    raise UnreadableRecord('The black box has no valid byte order.')


def _checked_parts(data: Readable, order: str) -> list[box.Part]:
    parts = _parts(data, order)
    if parts[-1].end > len(data):
        raise UnreadableRecord('The black box is cut short.')
    return parts


def _parts(data: Readable, order: str) -> list[box.Part]:
    """Return the parts as the header describes them."""
    sizes = struct.unpack_from(order + box.SIZES_FORMAT, data, box.SIZES_AT)
    if sizes[-2:] == (0, 0):  # an older release had no curve
        sizes = sizes[:-2]
    counts = sizes[::2]
    entry_sizes = sizes[1::2]
    # A later release may append to an entry, and has more parts than an older one.
    for count, size, least in zip(counts, entry_sizes, box.FIRST_SIZES, strict=False):
        is_possible = 0 < count <= _MOST and least <= size <= _MOST
        if not is_possible:
            raise UnreadableRecord('The black box has impossible sizes.')
    parts = box.parts_of(sizes)
    if parts[-1].end > LARGEST:
        raise UnreadableRecord(f'The black box has impossible sizes: more than {LARGEST} bytes.')
    return parts


def _words(
    data: Readable,
    order: str,
    start: int,
    names: Sequence[str],
) -> dict[str, int]:
    values = struct.unpack_from(f'{order}{len(names)}Q', data, start)
    return dict(zip(names, values, strict=True))


def _text(data: Readable, order: str) -> str:
    (length,) = struct.unpack_from(order + 'Q', data, box.TEXT_AT)
    start = box.TEXT_AT + 8
    end = start + min(length, box.TEXT_SIZE - 8)
    return data[start:end].decode('utf-8', 'replace')


def _threads(
    data: Readable,
    order: str,
    part: box.Part,
) -> dict[int, ThreadSlot]:
    threads = {}
    entry = struct.Struct(order + box.SLOT_FORMAT)
    if part.size < entry.size:  # of an older release
        entry = struct.Struct(order + box.FIRST_SLOT_FORMAT)
    for index, offset in enumerate(part.places):
        (
            ident,
            native_id,
            generation,
            stack_size,
            guard_size,
            stack_used,
            stack_request,
            *name,
        ) = entry.unpack_from(data, offset)
        if not generation:  # no thread has this slot
            continue
        threads[ident] = ThreadSlot(
            native_id=native_id,
            stack_size=stack_size,
            guard_size=guard_size,
            stack_used=stack_used,
            stack_request=stack_request,
            slot=index,
            name=b''.join(name).rstrip(b'\0').decode('utf-8', 'replace'),
        )
    return threads


def _with_name(request: Request, threads: Mapping[int, ThreadSlot]) -> Request:
    slot = threads.get(request.ident)
    return replace(request, thread_name=slot.name) if slot else request


def _requests(
    data: Readable,
    order: str,
    part: box.Part,
) -> tuple[tuple[Request, ...], tuple[Request, ...], dict[int, float]]:
    """Return the requests as (in flight, finished, when each began by the monotonic clock).

    Only the last request that a thread began can be in flight.  An earlier one without an end is
    over: the last one began inside it, or an exception from outside interrupted it.
    """
    requests = []
    began = {}
    for offset in part.places:
        request = read_request(data, offset, order)
        if request is not None:
            requests.append(request)
            (monotonic,) = struct.unpack_from(order + 'd', data, offset + box.BEGAN_IN_REQUEST)
            if monotonic and _plausible(monotonic):
                began[request.number] = monotonic
    requests.sort(key=lambda request: request.number)

    finished = [request for request in requests if request.ended is not None]
    finished.sort(key=lambda request: (request.ended, request.number))

    counted = {request.last_number for request in finished}
    last_of_threads = {request.ident: request for request in requests}
    in_flight = []
    for request in last_of_threads.values():
        if request.ended is None and request.number not in counted:
            in_flight.append(request)
    newest = finished[-box.FINISHED_COUNT :]
    return tuple(in_flight), tuple(newest), began


def _with_measured(
    finished: tuple[Request, ...],
    began: dict[int, float],
    samples: Sequence[Sample],
) -> tuple[Request, ...]:
    """Return the requests with their durations by the monotonic clock, if the clock was set."""
    clock = WallClock([(sample.time, sample.monotonic) for sample in samples], has_start=False)
    if not clock.was_set:
        return finished
    found = []
    for request in finished:
        since = began.get(request.number)
        until = request.ended
        if since is not None and until is not None and request.count == 1:
            seconds = clock.monotonic(until) - since
            request = replace(request, seconds=max(0.0, seconds))
        found.append(request)
    return tuple(found)


def read_request(
    data: Readable,
    at: int,
    order: str = '=',
) -> Request | None:
    """Return the request of one entry; None if it is empty or being written."""
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
    if not number or seal != number:
        return None
    if phase >= len(box.PHASES):
        return None
    if not (_plausible(started) and _plausible(last_end) and _plausible(ended)):
        return None
    request = Request(
        number=number,
        ident=ident,
        native_id=native_id,
        started=started,
        phase=box.PHASES[phase],
        retry=retry,
        cut=path_length > box.PATH_MAX,
        method=_without_cut_character(method.rstrip(b'\0')),
        path=_without_cut_character(path[:path_length]),
        user=_string(user, user_length),
    )
    if not ended:
        return request
    repeated = tally >> box.COUNT_SHIFT
    last_number = tally & box.LAST_NUMBER
    return replace(
        request,
        ended=max(ended, last_end),
        seconds=max(0.0, ended - started),
        status=status,
        count=repeated + 1,
        last_number=last_number or number,
    )


def _log(
    data: Readable,
    order: str,
    part: box.Part,
) -> tuple[LogLine, ...]:
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
            count,
            last,
            place,
        ) = struct.unpack_from(order + box.LOG_FORMAT, data, offset)
        if not number or seal != number:
            continue
        if not _plausible(time):
            continue
        # An older release did not count, and left zeros.
        is_repeated = count > 1 and _plausible(last)
        line = LogLine(
            time=time,
            level=logging.getLevelName(level),
            ident=ident,
            logger=_string(logger, logger_length),
            message=_string(message, message_length),
            cut=bool(was_cut),
            count=count if is_repeated else 1,
            last=last if is_repeated else None,
        )
        found.append((place or number, line))
    found.sort(key=_first)
    newest = found[-box.LOG_COUNT :]
    return tuple(line for _, line in newest)


def _samples(
    data: Readable,
    order: str,
    part: box.Part,
) -> tuple[Sample, ...]:
    found = []
    entry = struct.Struct(order + box.SAMPLE_FORMAT)
    if part.size < entry.size:  # of an older release
        entry = struct.Struct(order + box.FIRST_SAMPLE_FORMAT)
    for offset in part.places:
        number, *values = entry.unpack_from(data, offset)
        seal = values.pop(box.SEALED_IN_SAMPLE)
        if not number or seal != number:
            continue
        sample = Sample(*values)
        if (
            not sample.connection_limit
        ):  # the last field is not there yet; -1 stands for "not known"
            sample = replace(sample, accept_errors=-1, descriptor_limit=-1, connection_limit=-1)
        # A release that knew nothing of the server left zeros; a server has a connection: its own.
        if not sample.connections:
            sample = replace(sample, queue=-1, waited=-1.0, connections=-1, accept_queue=-1)
        elif _plausible(sample.waited):
            sample = replace(sample, waited=round(sample.waited, 3))  # it has 24 binary digits
        moments = (sample.time, sample.monotonic, sample.waited + 1)
        if not all(map(_plausible, moments)):
            continue
        if abs(sample.cpu) < _MOST_CPU:
            found.append((number, sample))
    found.sort(key=_first)
    newest = found[-box.SAMPLE_COUNT :]
    return tuple(sample for _, sample in newest)


def _points(
    data: Readable,
    order: str,
    parts: Sequence[box.Part],
) -> tuple[LifePoint, ...]:
    found = []
    for part in parts:
        for offset in part.places:
            number, *values, seal = struct.unpack_from(order + box.POINT_FORMAT, data, offset)
            if not number or seal != number:
                continue
            point = LifePoint(*values)
            if _plausible(point.time) and _plausible(point.monotonic):
                found.append(point)
    found.sort(key=lambda point: point.monotonic)
    return tuple(found)


def _notes(
    data: Readable,
    order: str,
    part: box.Part,
) -> tuple[Note, ...]:
    found = []
    for offset in part.places:
        (
            number,
            time,
            ident,
            native_id,
            request,
            seconds,
            kind,
            was_cut,
            title_length,
            detail_length,
            frames_length,
            text,
            seal,
        ) = struct.unpack_from(order + box.NOTE_FORMAT, data, offset)
        if not number or seal != number:
            continue
        if kind >= len(box.NOTES):
            continue
        if not _plausible(time) or not _plausible(abs(seconds)):
            continue
        # The three texts are stored one after another.
        title = text[:title_length]
        rest = text[title_length:]
        detail = rest[:detail_length]
        frames = rest[detail_length : detail_length + frames_length]
        note = Note(
            number=number,
            time=time,
            kind=box.NOTES[kind],
            ident=ident,
            native_id=native_id,
            request=request,
            seconds=seconds,
            title=title.decode('utf-8', 'replace'),
            detail=detail.decode('utf-8', 'replace'),
            frames=read_frames(frames),
            cut=bool(was_cut),
        )
        found.append(note)
    found.sort(key=lambda note: note.number)
    return tuple(found)


def _first(pair: tuple[int, object]) -> int:
    return pair[0]


def read_frames(field: bytes) -> tuple[Frame, ...]:
    """Reverse `blackbox.write_frames`.  Lines that cannot be read are left out."""
    frames: list[Frame] = []
    before = ''
    text = field.decode('utf-8', 'replace')
    for line in text.split('\n'):
        parts = line.split('\0')
        if len(parts) != 4:
            continue
        shared, rest, number, function = parts
        if not shared.isdecimal():
            continue
        kept = int(shared[:6])  # int() refuses 5000 digits
        before = before[:kept] + rest
        line_number = None
        if number.isdecimal():
            line_number = int(number[:9])
        frames.append(Frame(file=before, line=line_number, function=function))
    return tuple(frames)


def _plausible(seconds: float) -> bool:
    return 0 <= seconds < _MOST_SECONDS


def _without_cut_character(field: bytes) -> str:
    """Decode text that may be cut off inside a character, which is then left out."""
    decoder = codecs.getincrementaldecoder('utf-8')('replace')
    return decoder.decode(field)


def _string(field: bytes, length: int) -> str:
    return field[:length].decode('utf-8', 'replace')
