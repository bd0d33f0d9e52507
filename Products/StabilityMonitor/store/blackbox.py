"""The binary layout of the black box, and how it is written; `blackboxreader` reads it.

The black box is one file of fixed size.  A run maps it into memory and writes it while it lives;
the next process reads it as plain bytes.  There is no I/O here: `lay_out` and the offsets work on
any buffer.

* The header holds the sizes of all parts, so that a later release may append fields to any of them.
  Magic, version and byte order are written last (`seal`).  Without them the file is not a black
  box.
* A slot belongs to one thread.
* An entry is written by one `struct.pack_into`, which fills it with zeros and then writes field
  after field.  Its number is its first and its last field.  If the two differ, the entry is being
  written, or is no longer in use.
* A request keeps its entry after its end.  It is in flight until the time of its end is there,
  which is the last word that is written.
* The life curve is no ring: when it is full, two neighbouring points become one each, so that it
  always reaches from the start of the run to its end.
* Rings have spare entries, so that entries that are being written do not reduce the number of
  entries that can be read.
* Single words are aligned and 8 bytes wide, so that the CPU stores each of them at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

from ..model.records import Frame

MAGIC = b'\x89STABMON'
VERSION = 2
ORDER = 0x0102

#: Names of the single words of the header, in their order.  New names are only appended.  In the
#: word "unmarked" each bit stands for one of the MARKS, see `bits_of`.
WORDS = (
    'armed',
    'serving',
    'finished',
    'overflow',
    'errors',
    'forked',
    'hung_since',
    'drill',
    'main_stack',
    'main_stack_used',
    'unmarked',
    'hung_monotonic',
)
#: Mark files, in the order of their words in the header.  New names are only appended.  The
#: heartbeat writes into such a word how many bytes of the file the process has survived.
MARKS = (
    'faults',
    'SIGTERM',
    'SIGINT',
    'SIGHUP',
    'SIGQUIT',
    'SIGUSR1',
    'SIGUSR2',
    'SIGALRM',
    'SIGXCPU',
    'watchdog',
    *(f'watchdog-{slot}' for slot in range(16)),
    'ending',
)
#: Ids of the drills.  The word "drill" holds a position in this list, counted from 1.  New ids are
#: only appended.
DRILLS = (
    'segfault',
    'abort',
    'fatal-error',
    'stack-overflow',
    'exit',
    'kill',
    'memory',
    'gil',
    'lock',
)
#: Kinds of notes.  New kinds are only appended.
NOTES = (
    'slow',
    'slow-ended',
    'hang',
    'hang-ended',
    'deadlock',
    'deadlock-ended',
    'spinning',
    'spinning-ended',
    'saturated',
    'saturated-ended',
    'slow-start',
    'slow-start-ended',
    'slow-stop',
    'slow-stop-ended',
    'frozen',
    'frozen-ended',
)
PHASES = ('traversing', 'publishing', 'committing', 'finishing', 'aborting', 'failed', 'streaming')

HEADER_SIZE = 8192
#: Offsets of the parts of the header, in bytes.
SIZES_AT = 16
WORDS_AT = 128
MARKS_AT = 512
TEXT_AT = 1024
TEXT_SIZE = 4096

#: Count and size of the entries of each part.  The sixth part was appended later: in older files,
#: its count is 0.
SIZES_FORMAT = '12I'
FIRST_SLOT_FORMAT = 'QQQQQQQ'
#: The name of the thread, by which the entry of a slot grew.
SLOT_FORMAT = f'{FIRST_SLOT_FORMAT}64s'
REQUEST_FORMAT = 'QddQQII16s320sBB6x64sdQqdQ'
#: The last three fields were appended later, so they come after the seal.
LOG_FORMAT = 'QdQHBxHH64s800sQQdQ'
#: Four fields were appended later, so they come after the seal.
FIRST_SAMPLE_FORMAT = 'Qddqdiiiii4xqqqqqQifii'
#: More fields, by which the entry of a sample grew.
SAMPLE_FORMAT = f'{FIRST_SAMPLE_FORMAT}iii4x'
POINT_FORMAT = 'QddqqiiQ'
NOTE_TEXT_MAX = 4030
NOTE_FORMAT = f'QdQQQdHBxHHH{NOTE_TEXT_MAX}sQ'

#: How many entries of each part can always be read.
SLOT_COUNT = 64
FINISHED_COUNT = 256
LOG_COUNT = 64
SAMPLE_COUNT = 900
NOTE_COUNT = 66
POINT_COUNT = 256
#: This many of the notes are reserved for slow requests, so that these never overwrite a hang.
SLOW_NOTES = 24
#: At most this many bytes of a text are kept.
METHOD_MAX = 16
PATH_MAX = 320
USER_MAX = 64
NAME_MAX = 64
LOGGER_MAX = 64
MESSAGE_MAX = 800
TITLE_MAX = 640
DETAIL_MAX = 640
COUNT_SHIFT = 40
SEALED_IN_SAMPLE = 14  # this many values come before the seal
LAST_NUMBER = (1 << COUNT_SHIFT) - 1


@dataclass(frozen=True)
class Part:
    """One part of the file: `count` entries of `size` bytes each, from the offset `start` on."""

    start: int
    count: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.count * self.size

    @property
    def places(self) -> range:
        return range(self.start, self.end, self.size)

    def at(self, index: int) -> int:
        return self.start + (index % self.count) * self.size


def parts_of(sizes: Sequence[int]) -> list[Part]:
    parts: list[Part] = []
    start = HEADER_SIZE
    for count, size in zip(sizes[::2], sizes[1::2], strict=True):
        parts.append(Part(start, count, size))
        start = parts[-1].end
    return parts


LAYOUT = (
    SLOT_COUNT,
    128,
    FINISHED_COUNT + SLOT_COUNT,
    512,
    LOG_COUNT + 8,
    1024,
    SAMPLE_COUNT + 4,
    144,
    NOTE_COUNT,
    4096,
    POINT_COUNT,
    64,
)
#: The sizes of the entries of each part in the first release: no file has smaller ones.
FIRST_SIZES = (64, 512, 1024, 128, 4096, 64)
SLOTS, REQUESTS, LOG, SAMPLES, NOTE_RING, LIFE_CURVE = parts_of(LAYOUT)
SIZE = LIFE_CURVE.end
BEGAN_IN_REQUEST = struct.calcsize('=Qd')
PHASE_IN_REQUEST = struct.calcsize('=QddQQII16s320s')
USER_LENGTH_IN_REQUEST = PHASE_IN_REQUEST + 1
USER_IN_REQUEST = PHASE_IN_REQUEST + 8
LAST_END_IN_REQUEST = USER_IN_REQUEST + USER_MAX
TALLY_IN_REQUEST = LAST_END_IN_REQUEST + 8
STATUS_IN_REQUEST = LAST_END_IN_REQUEST + 16
COUNT_IN_LOG = struct.calcsize('=QdQHBxHH64s800sQ')
LAST_IN_LOG = COUNT_IN_LOG + 8
ORDER_IN_LOG = LAST_IN_LOG + 8

slot_head = struct.Struct('=' + SLOT_FORMAT)
# With "@" each word is stored at once.  There is no padding, because all fields are aligned.
#: The beginning of a request, without a user.  "16s" stands for the two words of its thread, see
#: `thread_words`.
begun_request = struct.Struct('@Qdd16sII16s320s104xQ')
#: The end of a request: status and time.
ended_request = struct.Struct('@qd')
thread_words = struct.Struct('=QQ')
log_entry = struct.Struct('@' + LOG_FORMAT)
sample_entry = struct.Struct('@' + SAMPLE_FORMAT)
note_entry = struct.Struct('@' + NOTE_FORMAT)
point_entry = struct.Struct('@' + POINT_FORMAT)
FRAMES_MAX = NOTE_TEXT_MAX - TITLE_MAX - DETAIL_MAX


def word_at(name: str) -> int:
    """Return the index of a header word among the 8-byte words of the file."""
    return (WORDS_AT // 8) + WORDS.index(name)


def mark_at(name: str) -> int:
    """Return the index of the word that says how many bytes of a mark file were survived."""
    return (MARKS_AT // 8) + MARKS.index(name)


def bits_of(marks: Iterable[str]) -> int:
    """Return the value of the word "unmarked" for these names of marks."""
    bits = 0
    for mark in marks:
        bits |= 1 << MARKS.index(mark)
    return bits


def marks_of(bits: int) -> frozenset[str]:
    """The reverse of `bits_of`.  A later release may have more marks: their bits are ignored."""
    return frozenset(mark for position, mark in enumerate(MARKS) if bits >> position & 1)


def lay_out(buffer: bytearray | mmap) -> None:
    """Write the sizes into a buffer of `SIZE` zero bytes; `seal` makes it a black box."""
    struct.pack_into('=' + SIZES_FORMAT, buffer, SIZES_AT, *LAYOUT)


def seal(buffer: bytearray | mmap) -> None:
    struct.pack_into('=HHI', buffer, 8, VERSION, ORDER, HEADER_SIZE)
    buffer[0:8] = MAGIC


def write_text(buffer: bytearray | mmap, text: str) -> None:
    """Write the text of the exception that ends the main thread.

    Of a long text only the end is kept.  The length is written last.
    """
    end = text.encode('utf-8', 'backslashreplace')[8 - TEXT_SIZE :]
    encoded = end.decode('utf-8', 'ignore').encode()  # drops a partial character
    buffer[TEXT_AT + 8 : TEXT_AT + 8 + len(encoded)] = encoded
    struct.pack_into('=Q', buffer, TEXT_AT, len(encoded))


def cut(text: str, most: int) -> tuple[bytes, int]:
    """Return at most `most` bytes of UTF-8 without a partial character, and 1 if cut, else 0."""
    encoded = text.encode('utf-8', 'backslashreplace')
    if len(encoded) <= most:
        return encoded, 0
    return encoded[:most].decode('utf-8', 'ignore').encode(), 1


def _shared(before: str, text: str) -> int:
    """Return the length of the common beginning of two texts.

    It is written here because Python 3.15 deprecates `os.path.commonprefix`.
    """
    count = 0
    for one, other in zip(before, text, strict=False):
        if one != other:
            break
        count += 1
    return count


def write_frames(frames: Iterable[Frame], most: int = FRAMES_MAX) -> tuple[bytes, int]:
    """Return the frames, innermost first, as at most `most` bytes; and 1 if some did not fit.

    Each frame is a line of four fields separated by NUL: how many characters the file's name shares
    with that of the line before, the rest of the name, the line number, the function.  Neighbouring
    frames are mostly in one folder, so this takes a third of the space.
    """
    before = ''
    lines: list[bytes] = []
    length = 0
    for frame in frames:
        shared = _shared(before, frame.file)
        number = '' if frame.line is None else frame.line
        line = f'{shared}\0{frame.file[shared:]}\0{number}\0{frame.function}'
        encoded = line.replace('\n', ' ').encode('utf-8', 'backslashreplace') + b'\n'
        length += len(encoded)
        if length > most:
            return b''.join(lines), 1
        lines.append(encoded)
        before = frame.file
    return b''.join(lines), 0
