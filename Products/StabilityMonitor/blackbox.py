"""The binary layout of the black box: bytes in, values out.

One file of fixed size that a run maps into memory and writes while it lives, and that the next process
reads as plain bytes.  No I/O here: `lay_out` and the offsets work on any buffer, `read` on any bytes.

* The header holds the sizes of all parts, so that a later release may append fields to any of them;
  magic, version and byte order are written last (`seal`): without them the file is not a black box.
* A slot belongs to one thread.  It has two halves; the half that is not current is written, then one
  aligned word makes it current.  A kill in between leaves the earlier half whole.
* A ring entry is invalid (word 0) while it is written and valid (its number) afterwards.  Rings have
  spare entries, so that the ones that were being written are not missed among the ones promised.
* All words that stand alone are aligned and 8 bytes wide: the processor stores them at once.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass
from dataclasses import replace

from .errors import UnreadableRecord
from .records import LogLine
from .records import Request
from .records import Sample

MAGIC = b'\x89STABMON'
VERSION = 1
ORDER = 0x0102

#: Names of the single words of the header, in their order; append only.
WORDS = ('armed', 'serving', 'finished', 'overflow', 'errors', 'forked', 'hung_since', 'drill')
#: Files of marks whose survived length the heartbeat notes, in their order; append only.
MARKS = ('faults', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGXCPU', 'deadman')
#: Ids of the drills; the word "drill" holds a place in here, from 1; append only.
DRILLS = ('segfault', 'abort', 'fatal-error', 'stack-overflow', 'exit', 'kill', 'memory', 'gil', 'lock')
PHASES = ('idle', 'traversing', 'publishing', 'committing', 'finishing', 'aborting', 'failed', 'streaming')

HEADER_SIZE = 8192
_SIZES_AT, _WORDS_AT, _MARKS_AT, _TEXT_AT = 16, 128, 512, 1024
TEXT_SIZE = 4096

_PREFIX = '8sHHI'
_SIZES = '8I'
_SLOT_HEAD = 'QQQQQQ'
_REQUEST = 'QddBBBBHH16s320s64s'
_FINISHED = 'Q' + _REQUEST + 'ddQQQH'
_LOG = 'QdQHBxHH64s800s'
_SAMPLE = 'Qddqdiiiiiiqqqqq'

SLOT_COUNT, FINISHED_COUNT, LOG_COUNT, SAMPLE_COUNT = 64, 256, 64, 900
_SPARE = 64
METHOD_MAX, PATH_MAX, USER_MAX, LOGGER_MAX, MESSAGE_MAX = 16, 320, 64, 64, 800
COUNT_SHIFT = 40


@dataclass(frozen=True)
class Part:
    """Where one part of the file lies: `count` pieces of `size` bytes from `start`."""

    start: int
    count: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.count * self.size

    def at(self, index: int) -> int:
        return self.start + (index % self.count) * self.size


def _parts(sizes):
    parts, start = [], HEADER_SIZE
    for count, size in zip(sizes[::2], sizes[1::2], strict=True):
        parts.append(Part(start, count, size))
        start = parts[-1].end
    return parts


_LAYOUT = (SLOT_COUNT, 1024, FINISHED_COUNT + _SPARE, 512, LOG_COUNT + 8, 1024, SAMPLE_COUNT + 4, 128)
SLOTS, FINISHED, LOG, SAMPLES = _parts(_LAYOUT)
SIZE = SAMPLES.end
HALF_SIZE = 448
HALVES_AT = 64
PHASE_IN_REQUEST = struct.calcsize('=Qdd')
USER_LENGTH_IN_REQUEST = struct.calcsize('=QddBBBBH')
USER_IN_REQUEST = struct.calcsize('=QddBBBBHH16s320s')
REQUEST_IN_FINISHED = 8
TAIL_IN_FINISHED = REQUEST_IN_FINISHED + struct.calcsize('=' + _REQUEST)
NO_HALF = 2

slot_head = struct.Struct('=' + _SLOT_HEAD)
request = struct.Struct('=' + _REQUEST)
finished_tail = struct.Struct('=ddQQQH')
log_entry = struct.Struct('=' + _LOG[1:])
sample_entry = struct.Struct('=' + _SAMPLE[1:])


def word_at(name: str) -> int:
    """The index of a header word among the 8-byte words of the file."""
    return (_WORDS_AT // 8) + WORDS.index(name)


def mark_at(name: str) -> int:
    """The index of the word that says how much of a mark file was survived."""
    return (_MARKS_AT // 8) + MARKS.index(name)


def lay_out(buffer) -> None:
    """Write the sizes; the buffer has `SIZE` zero bytes and is no black box until `seal`."""
    struct.pack_into('=' + _SIZES, buffer, _SIZES_AT, *_LAYOUT)
    for index in range(SLOT_COUNT):
        slot_head.pack_into(buffer, SLOTS.at(index), 0, 0, 0, NO_HALF, 0, 0)


def seal(buffer) -> None:
    struct.pack_into('=HHI', buffer, 8, VERSION, ORDER, HEADER_SIZE)
    buffer[0:8] = MAGIC


def write_text(buffer, text: str) -> None:
    """Note the exception that ends the main thread, of a long one the end: length last."""
    encoded = text.encode('utf-8', 'backslashreplace')[8 - TEXT_SIZE:].decode('utf-8', 'ignore').encode()
    buffer[_TEXT_AT + 8:_TEXT_AT + 8 + len(encoded)] = encoded
    struct.pack_into('=Q', buffer, _TEXT_AT, len(encoded))


def cut(text: str, most: int) -> tuple[bytes, int]:
    """UTF-8 of `text` in at most `most` bytes, no character split; 1 if something was cut off."""
    encoded = text.encode('utf-8', 'backslashreplace')
    if len(encoded) <= most:
        return encoded, 0
    return encoded[:most].decode('utf-8', 'ignore').encode(), 1


# -- reading -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Recording:
    """What a black box tells."""

    words: dict
    survived: dict
    exception: str
    in_flight: tuple[Request, ...]
    finished: tuple[Request, ...]
    log: tuple[LogLine, ...]
    samples: tuple[Sample, ...]
    threads: dict

    @property
    def last_sample(self) -> Sample | None:
        return self.samples[-1] if self.samples else None


def read(data: bytes) -> Recording:
    """Everything valid in a black box.  Raises UnreadableRecord when it is none; never anything else."""
    order = _order(data)
    slots, finished, log, samples = _checked_parts(data, order)
    done = _finished(data, order, finished)
    flying, threads = _slots(data, order, slots)
    over = {r.number for r in done} | {r.last_number for r in done}
    return Recording(
        words=_words(data, order, _WORDS_AT, WORDS),
        survived=_words(data, order, _MARKS_AT, MARKS),
        exception=_text(data, order),
        in_flight=tuple(r for r in flying if r.number not in over),
        finished=tuple(done[-FINISHED_COUNT:]),
        log=tuple(_log(data, order, log)[-LOG_COUNT:]),
        samples=tuple(_samples(data, order, samples)[-SAMPLE_COUNT:]),
        threads=threads)


def _order(data):
    if len(data) < HEADER_SIZE or data[:8] != MAGIC:
        raise UnreadableRecord('The black box has no valid beginning.')
    for order in '<>':
        version, marker, header = struct.unpack_from(order + 'HHI', data, 8)
        if marker == ORDER:
            if version != VERSION or header != HEADER_SIZE:
                raise UnreadableRecord(f'The black box has format {version}, this release reads {VERSION}.')
            return order
    raise UnreadableRecord('The black box has no valid byte order.')


def _checked_parts(data, order):
    sizes = struct.unpack_from(order + _SIZES, data, _SIZES_AT)
    if any(not 0 < count <= 1 << 16 for count in sizes[::2]) or any(
            not least <= size <= 1 << 16 for size, least in zip(sizes[1::2], _LAYOUT[1::2], strict=True)):
        raise UnreadableRecord('The black box has impossible sizes.')
    parts = _parts(sizes)
    if parts[-1].end > len(data):
        raise UnreadableRecord('The black box is cut short.')
    return parts


def _words(data, order, start, names):
    return dict(zip(names, struct.unpack_from(f'{order}{len(names)}Q', data, start), strict=True))


def _text(data, order):
    length, = struct.unpack_from(order + 'Q', data, _TEXT_AT)
    return data[_TEXT_AT + 8:_TEXT_AT + 8 + min(length, TEXT_SIZE - 8)].decode('utf-8', 'replace')


def _slots(data, order, part):
    flying, threads = [], {}
    for index in range(part.count):
        ident, native_id, generation, half, stack, guard = struct.unpack_from(order + _SLOT_HEAD, data, part.at(index))
        if not generation or half > NO_HALF:
            continue
        threads[ident] = {'native_id': native_id, 'stack_size': stack, 'guard_size': guard}
        if half != NO_HALF:
            found = _request(data, order, part.at(index) + HALVES_AT + half * HALF_SIZE, ident, native_id)
            if found is not None and found.phase != 'idle':
                flying.append(found)
    return flying, threads


def _request(data, order, offset, ident, native_id):
    (number, started, _, phase, retry, was_cut, method_length, path_length, user_length,
     method, path, user) = struct.unpack_from(order + _REQUEST, data, offset)
    if not _plausible(started) or phase >= len(PHASES):
        return None
    return Request(number=number, ident=ident, native_id=native_id, started=started, phase=PHASES[phase],
                   retry=retry, cut=bool(was_cut), method=_string(method, method_length),
                   path=_string(path, path_length), user=_string(user, user_length))


def _finished(data, order, part):
    found = []
    entry = struct.Struct(order + _FINISHED)
    for index in range(part.count):
        offset = part.at(index)
        fields = entry.unpack_from(data, offset)
        number, (ended, last_end, tally, ident, native_id, status) = fields[0], fields[-6:]
        if number and fields[1] == number and _plausible(ended) and _plausible(last_end):
            base = _request(data, order, offset + REQUEST_IN_FINISHED, ident, native_id)
            if base is not None:
                found.append(_closed(base, tally, ended, last_end, status))
    return sorted(found, key=lambda r: (r.ended, r.number))


def _closed(base, tally, ended, last_end, status):
    return replace(base, ended=last_end, seconds=max(0.0, ended - base.started), status=status,
                   count=tally >> COUNT_SHIFT or 1, last_number=tally & ((1 << COUNT_SHIFT) - 1))


def _log(data, order, part):
    found = []
    for offset in range(part.start, part.end, part.size):
        (number, time, ident, level, was_cut, logger_length, message_length,
         logger, message) = struct.unpack_from(order + _LOG, data, offset)
        if number and _plausible(time):
            found.append((number, LogLine(time, level, ident, _string(logger, logger_length),
                                          _string(message, message_length), bool(was_cut))))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def _samples(data, order, part):
    found = []
    for offset in range(part.start, part.end, part.size):
        number, *values = struct.unpack_from(order + _SAMPLE, data, offset)
        del values[9]  # padding
        if number and _plausible(values[0]) and _plausible(values[1]) and abs(values[3]) < 1e12:
            found.append((number, Sample(*values)))
    return [sample for _, sample in sorted(found, key=lambda pair: pair[0])]


def _plausible(seconds):
    return 0 <= seconds < 1e11


def _string(field, length):
    return field[:min(length, len(field))].decode('utf-8', 'replace')


