"""Reads a black box: bytes in, values out.  Whatever the bytes are, it raises UnreadableRecord or nothing.

The layout is told by `blackbox`; parts that an earlier release did not have yet are taken for empty.
"""
from __future__ import annotations

import struct

from . import blackbox as box
from .errors import UnreadableRecord
from .records import Frame
from .records import LogLine
from .records import Note
from .records import Request
from .records import Sample
from .values import Value
from .values import replace

#: Numbers in the sizes of the parts that every black box has; the ring of notes came later.
_FIRST_PARTS = 8
_NO_NOTES = (0, box.NOTE_RING.size)


class Recording(Value):
    """What a black box tells."""

    words: dict
    survived: dict
    exception: str
    in_flight: tuple[Request, ...]
    finished: tuple[Request, ...]
    log: tuple[LogLine, ...]
    samples: tuple[Sample, ...]
    threads: dict
    notes: tuple[Note, ...] = ()

    @property
    def last_sample(self) -> Sample | None:
        return self.samples[-1] if self.samples else None


def read(data: bytes) -> Recording:
    """Everything valid in a black box.  Raises UnreadableRecord when it is none; never anything else."""
    order = _order(data)
    slots, finished, log, samples, notes = _checked_parts(data, order)
    done = _finished(data, order, finished)
    flying, threads = _slots(data, order, slots)
    over = {r.number for r in done} | {r.last_number for r in done}
    return Recording(
        words=_words(data, order, box.WORDS_AT, box.WORDS),
        survived=_words(data, order, box.MARKS_AT, box.MARKS),
        exception=_text(data, order),
        in_flight=tuple(r for r in flying if r.number not in over),
        finished=tuple(done[-box.FINISHED_COUNT:]),
        log=tuple(_log(data, order, log)[-box.LOG_COUNT:]),
        samples=tuple(_samples(data, order, samples)[-box.SAMPLE_COUNT:]),
        threads=threads,
        notes=tuple(_notes(data, order, notes)))


def read_samples(data) -> tuple[Sample, ...]:
    """Its samples, oldest first.  No more of it is touched: pages of a mapped file that nobody reads cost nothing."""
    order = _order(data)
    return tuple(_samples(data, order, _checked_parts(data, order)[3])[-box.SAMPLE_COUNT:])


def _order(data):
    if len(data) < box.HEADER_SIZE or data[:8] != box.MAGIC:
        raise UnreadableRecord('The black box has no valid beginning.')
    for order in '<>':
        version, marker, header = struct.unpack_from(order + 'HHI', data, 8)
        if marker == box.ORDER:
            if version != box.VERSION or header != box.HEADER_SIZE:
                raise UnreadableRecord(f'The black box has format {version}, this release reads {box.VERSION}.')
            return order
    raise UnreadableRecord('The black box has no valid byte order.')


def _checked_parts(data, order):
    sizes = struct.unpack_from(order + box.SIZES_FORMAT, data, box.SIZES_AT)
    if not any(sizes[_FIRST_PARTS:]):
        sizes = (*sizes[:_FIRST_PARTS], *_NO_NOTES)
    if any(not 0 < count <= 1 << 16 for count in sizes[:_FIRST_PARTS:2]) or any(
            not 0 <= count <= 1 << 16 for count in sizes[_FIRST_PARTS::2]) or any(
            not least <= size <= 1 << 16 for size, least in zip(sizes[1::2], box.LAYOUT[1::2], strict=True)):
        raise UnreadableRecord('The black box has impossible sizes.')
    parts = box.parts_of(sizes)
    if parts[-1].end > len(data):
        raise UnreadableRecord('The black box is cut short.')
    return parts


def _words(data, order, start, names):
    return dict(zip(names, struct.unpack_from(f'{order}{len(names)}Q', data, start), strict=True))


def _text(data, order):
    length, = struct.unpack_from(order + 'Q', data, box.TEXT_AT)
    return data[box.TEXT_AT + 8:box.TEXT_AT + 8 + min(length, box.TEXT_SIZE - 8)].decode('utf-8', 'replace')


def _slots(data, order, part):
    flying, threads = [], {}
    for index in range(part.count):
        ident, native_id, generation, half, stack, guard, used, deepest = struct.unpack_from(
            order + box.SLOT_FORMAT, data, part.at(index))
        if not generation or half > box.NO_HALF:
            continue
        threads[ident] = {'native_id': native_id, 'stack_size': stack, 'guard_size': guard, 'stack_used': used,
                          'stack_request': deepest, 'slot': index}
        if half != box.NO_HALF:
            found = _request(data, order, part.at(index) + box.HALVES_AT + half * box.HALF_SIZE, ident, native_id)
            if found is not None and found.phase != 'idle':
                flying.append(found)
    return flying, threads


def _request(data, order, offset, ident, native_id):
    (number, started, _, phase, retry, was_cut, method_length, path_length, user_length,
     method, path, user) = struct.unpack_from(order + box.REQUEST_FORMAT, data, offset)
    if not _plausible(started) or phase >= len(box.PHASES):
        return None
    return Request(number=number, ident=ident, native_id=native_id, started=started, phase=box.PHASES[phase],
                   retry=retry, cut=bool(was_cut), method=_string(method, method_length),
                   path=_string(path, path_length), user=_string(user, user_length))


def _finished(data, order, part):
    found = []
    entry = struct.Struct(order + box.FINISHED_FORMAT)
    for index in range(part.count):
        offset = part.at(index)
        fields = entry.unpack_from(data, offset)
        number, (ended, last_end, tally, ident, native_id, status) = fields[0], fields[-6:]
        if number and fields[1] == number and _plausible(ended) and _plausible(last_end):
            base = _request(data, order, offset + box.REQUEST_IN_FINISHED, ident, native_id)
            if base is not None:
                found.append(_closed(base, tally, ended, last_end, status))
    return sorted(found, key=lambda r: (r.ended, r.number))


def _closed(base, tally, ended, last_end, status):
    return replace(base, ended=last_end, seconds=max(0.0, ended - base.started), status=status,
                   count=tally >> box.COUNT_SHIFT or 1, last_number=tally & ((1 << box.COUNT_SHIFT) - 1))


def _log(data, order, part):
    found = []
    for offset in range(part.start, part.end, part.size):
        (number, time, ident, level, was_cut, logger_length, message_length,
         logger, message) = struct.unpack_from(order + box.LOG_FORMAT, data, offset)
        if number and _plausible(time):
            found.append((number, LogLine(time, level, ident, _string(logger, logger_length),
                                          _string(message, message_length), bool(was_cut))))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def _samples(data, order, part):
    found = []
    for offset in range(part.start, part.end, part.size):
        number, *values = struct.unpack_from(order + box.SAMPLE_FORMAT, data, offset)
        del values[9]  # padding
        if number and _plausible(values[0]) and _plausible(values[1]) and abs(values[3]) < 1e12:
            found.append((number, Sample(*values)))
    return [sample for _, sample in sorted(found, key=lambda pair: pair[0])]


def _notes(data, order, part):
    found = []
    for at in range(part.start, part.end, part.size):
        (number, time, ident, native_id, request, seconds, kind, was_cut, *lengths) = struct.unpack_from(
            order + box.NOTE_FORMAT, data, at)
        if number and _plausible(time) and abs(seconds) < 1e11 and kind < len(box.NOTES):
            title, detail, frames = _texts(data[at + box.NOTE_TEXT_AT:at + part.size], lengths)
            found.append(Note(number, time, box.NOTES[kind], ident, native_id, request, seconds,
                              title.decode('utf-8', 'replace'), detail.decode('utf-8', 'replace'),
                              read_frames(frames), bool(was_cut)))
    return sorted(found, key=lambda note: note.number)


def _texts(field, lengths):
    """Texts that stand one after the other."""
    for length in lengths:
        yield field[:length]
        field = field[length:]


def read_frames(field: bytes) -> tuple[Frame, ...]:
    """The reverse of `blackbox.write_frames`; what cannot be read is left out."""
    frames, before = [], ''
    for line in field.decode('utf-8', 'replace').split('\n'):
        parts = line.split('\0')
        if len(parts) == 4 and parts[0].isdecimal():
            before = before[:int(parts[0][:6])] + parts[1]
            frames.append(Frame(before, int(parts[2][:9]) if parts[2].isdecimal() else None, parts[3]))
    return tuple(frames)


def _plausible(seconds):
    return 0 <= seconds < 1e11


def _string(field, length):
    return field[:min(length, len(field))].decode('utf-8', 'replace')


