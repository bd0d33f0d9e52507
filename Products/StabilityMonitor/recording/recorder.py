"""The pen: writes requests, log lines, samples and marks into the black box.

`begin`, `phase` and `end` run inside requests: no lock, no system call, no reference to a request.
What lies where is told by `blackbox`.
"""
from __future__ import annotations

import itertools
import threading
import time
import weakref

from zope.interface import implementer

from .. import blackbox as box
from ..interfaces import IRecorder

_ENCODED_METHODS = {m: m.encode() for m in ('GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'PATCH')}


_ONCE = 1 << box.COUNT_SHIFT
_NUMBERS = _ONCE - 1
_COUNT_IS_FULL = 0xffffff << box.COUNT_SHIFT
_CLOSED = object()


class _Life:
    """Lies among the locals of a thread, and ends with it.

    `Thread.is_alive` will not do: for a thread that C code or `_thread` started, it says True for ever
    (3.11, 3.12) or raises (3.13).
    """

    __slots__ = ('__weakref__',)


def _ring():
    """Of each entry of the ring: the word that makes it valid, the place of the rest, the word that counts."""
    tail = box.TAIL_IN_FINISHED + box.finished_tail.size
    for at in range(box.FINISHED.start, box.FINISHED.end, box.FINISHED.size):
        yield at // 8, slice(at + box.REQUEST_IN_FINISHED, at + tail), (at + box.TAIL_IN_FINISHED) // 8 + 2


class Slot:
    """What the recorder keeps in Python about the slot of one thread.

    `token` is that of the request that is in flight, or `_CLOSED`.
    """

    __slots__ = ('index', 'half_offsets', 'phase_offsets', 'places', 'half_word', 'half', 'key', 'thread', 'number',
                 'native_id', 'ident', 'token', 'life')

    def __init__(self, index, thread, life):
        start = box.SLOTS.at(index)
        self.index = index
        self.half_offsets = (start + box.HALVES_AT, start + box.HALVES_AT + box.HALF_SIZE)
        self.phase_offsets = tuple(at + box.PHASE_IN_REQUEST for at in self.half_offsets)
        self.places = tuple(slice(at, at + box.request.size) for at in self.half_offsets)
        self.half_word = start // 8 + 3
        self.half, self.key, self.number, self.token = 1, None, 0, _CLOSED
        self.thread, self.life = thread, weakref.ref(life)
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()

    @property
    def on(self) -> bool:
        return self.token is not _CLOSED


def _encoded(method, path):
    """The bytes of an unusual method, and of a path with surrogates in it."""
    return (_ENCODED_METHODS.get(method) or box.cut(method, box.METHOD_MAX)[0],
            path.encode('utf-8', 'backslashreplace'))


@implementer(IRecorder)
class Recorder:
    """See IRecorder.  Writes into `buffer`, a sealed black box of `blackbox.SIZE` bytes.

    `on_new_thread` is called once in each thread that gets a slot, before its first request is recorded.
    """

    def __init__(self, buffer, on_new_thread=None):
        self.buffer = buffer
        self.words = memoryview(buffer).cast('Q')
        self.doubles = memoryview(buffer).cast('d')
        self.on_new_thread = on_new_thread
        self.slots = {}
        self._free = list(range(box.SLOT_COUNT - 1, -1, -1))
        self._local = threading.local()
        self._numbers = itertools.count(1)
        self._ring = itertools.cycle(tuple(_ring()))
        self._log_numbers = itertools.count(1)
        self._sample_numbers = itertools.count(1)
        self._note_numbers = itertools.count(1)
        places = [box.NOTE_RING.at(index) for index in range(box.NOTE_RING.count)]
        self._slow_notes, self._notes = (itertools.cycle(places[:box.SLOW_NOTES]),
                                         itertools.cycle(places[box.SLOW_NOTES:]))
        self._generations = itertools.count(1)
        self._overflow = itertools.count(1)
        self._last = (None, 0)

    # -- requests --------------------------------------------------------------------------------

    def begin(self, method: str, path: str, retry: int = 0, token=None,
              _now=time.time, _monotonic=time.monotonic, _pack=box.request.pack_into) -> None:
        """A request begins in this thread.  `token` is given back to `end`: another one ends nothing."""
        try:
            slot = self._local.slot
        except AttributeError:
            slot = self._adopt()
            if slot is None:
                self.set_word('overflow', next(self._overflow))
                return
        try:
            method_bytes, path_bytes, was_cut = _ENCODED_METHODS[method], path.encode(), 0
        except (KeyError, UnicodeEncodeError):
            method_bytes, path_bytes, was_cut = *_encoded(method, path), 0
        if len(path_bytes) > box.PATH_MAX:
            path_bytes, was_cut = box.cut(path, box.PATH_MAX)
        half = slot.half ^ 1
        slot.number = number = next(self._numbers)
        _pack(self.buffer, slot.half_offsets[half], number, _now(), _monotonic(), 1, retry & 255,
              was_cut, len(method_bytes), len(path_bytes), 0, method_bytes, path_bytes, b'')
        self.words[slot.half_word] = half
        slot.half, slot.key, slot.token = half, (method, path), token

    def phase(self, phase: int) -> None:
        """The request of this thread goes on to a phase (an index of `blackbox.PHASES`)."""
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token is not _CLOSED:
            self.buffer[slot.phase_offsets[slot.half]] = phase

    def user(self, name: str) -> None:
        """Note the user of this thread's request, known only after traversal."""
        slot = getattr(self._local, 'slot', None)
        if slot is None or not slot.on:
            return
        encoded = box.cut(name, box.USER_MAX)[0]
        at = slot.half_offsets[slot.half]
        self.buffer[at + box.USER_IN_REQUEST:at + box.USER_IN_REQUEST + len(encoded)] = encoded
        self.buffer[at + box.USER_LENGTH_IN_REQUEST] = len(encoded)

    def end(self, status: int = 0, token=None, _now=time.time, _pack=box.finished_tail.pack) -> None:
        """The request of this thread ends: first it enters the ring, then its slot becomes idle.

        The same request as the last one, as health probes send, is counted in that one's entry.  Once the
        ring is touched nothing is called any more: it is between calls that CPython lets another thread go
        on, and two threads in one entry would tear it.
        """
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token != token:
            return
        slot.token, now, number, half, buffer, words = _CLOSED, _now(), slot.number, slot.half, self.buffer, self.words
        key = slot.key, status
        tail = _pack(now, now, _ONCE | number, slot.ident, slot.native_id, status & 0xffff)
        last, tally = self._last
        if key == last:
            if now > self.doubles[tally - 1]:           # a thread may have waited since it read the clock
                self.doubles[tally - 1] = now
            count = words[tally] & ~_NUMBERS
            words[tally] = (count if count == _COUNT_IS_FULL else count + _ONCE) | number
        else:
            for valid, place, tally in self._ring:      # noqa: B007 (next() would be a call)
                break
            words[valid] = 0
            buffer[place] = buffer[slot.places[half]] + tail
            words[valid] = number
            self._last = key, tally
        buffer[slot.phase_offsets[half]] = 0

    # -- slots -----------------------------------------------------------------------------------

    def _adopt(self):
        """A slot for this thread, the first time that it serves; None while all are taken."""
        try:
            index = self._free.pop()
        except IndexError:
            return None
        self._local.life = _Life()
        self._local.slot = slot = Slot(index, threading.current_thread(), self._local.life)
        box.slot_head.pack_into(self.buffer, box.SLOTS.at(index), slot.ident, slot.native_id,
                                next(self._generations), box.NO_HALF, 0, 0, 0, 0)
        self.slots[index] = slot
        if self.on_new_thread is not None:
            self.on_new_thread(index)
        return slot

    def stack(self, index: int, size: int, guard: int) -> None:
        """Note the stack of the thread that owns a slot, in bytes."""
        at = box.SLOTS.at(index) // 8
        self.words[at + 4], self.words[at + 5] = size, guard

    def stack_used(self, index: int, used: int, request: int = 0) -> None:
        """Note how deep the stack of that thread has ever been, in bytes, and in which request it came so deep."""
        at = box.SLOTS.at(index) // 8
        self.words[at + 7] = 0                          # a kill in between leaves no mark with another's request
        self.words[at + 6], self.words[at + 7] = used, request

    def release_dead_slots(self) -> None:
        """Give back the slots of threads that ended (the heartbeat calls this)."""
        for index, slot in list(self.slots.items()):
            if slot.life() is None:
                del self.slots[index]
                self.words[slot.half_word] = box.NO_HALF
                self.words[slot.half_word - 1] = 0      # its generation
                self._free.append(index)

    # -- everything else -------------------------------------------------------------------------

    def detach(self) -> None:
        """In a forked child: let go of the parent's file.  A mapping keeps a descriptor of its own."""
        self.words.release()
        self.doubles.release()
        if hasattr(self.buffer, 'close'):
            self.buffer.close()

    def set_word(self, name: str, value: int) -> None:
        self.words[box.word_at(name)] = value

    def stamp(self, name: str, now: float) -> None:
        """Note that something happened now, such as "armed", "serving", "finished"."""
        self.set_word(name, int(now * 1e9))

    def survived(self, mark: str, length: int) -> None:
        self.words[box.mark_at(mark)] = length

    def exception(self, text: str) -> None:
        box.write_text(self.buffer, text)

    def log(self, level: int, logger: str, message: str, now: float) -> None:
        number = next(self._log_numbers)
        at = box.LOG.at(number)
        name, _ = box.cut(logger, box.LOGGER_MAX)
        text, was_cut = box.cut(message, box.MESSAGE_MAX)
        self.words[at // 8] = 0
        box.log_entry.pack_into(self.buffer, at + 8, now, threading.get_ident(), level & 0xffff, was_cut,
                                len(name), len(text), name, text)
        self.words[at // 8] = number

    def sample(self, sample) -> None:
        """Keep a records.Sample."""
        number = next(self._sample_numbers)
        at = box.SAMPLES.at(number)
        self.words[at // 8] = 0
        box.sample_entry.pack_into(
            self.buffer, at + 8, *sample[:9], 0, *sample[9:])
        self.words[at // 8] = number

    def note(self, note) -> None:
        """Keep a records.Note; its number is given here."""
        number = next(self._note_numbers)
        at = next(self._slow_notes if note.kind in ('slow', 'slow-ended') else self._notes)
        texts = (*box.cut(note.title, box.TITLE_MAX)[:1], *box.cut(note.detail, box.DETAIL_MAX)[:1])
        frames, was_cut = box.write_frames(note.frames)
        text = b''.join((*texts, frames))
        self.words[at // 8] = 0
        box.note_head.pack_into(
            self.buffer, at + 8, note.time, note.ident, note.native_id, note.request, note.seconds,
            box.NOTES.index(note.kind), was_cut or note.cut, *map(len, (*texts, frames)))
        self.buffer[at + box.NOTE_TEXT_AT:at + box.NOTE_TEXT_AT + len(text)] = text
        self.words[at // 8] = number

    def in_flight(self) -> list[tuple[Slot, float]]:
        """Slots with a request, and the monotonic time at which it began."""
        return [(slot, self.doubles[(slot.half_offsets[slot.half] + 16) // 8])
                for slot in list(self.slots.values()) if slot.token is not _CLOSED]
