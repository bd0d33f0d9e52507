"""The pen: writes requests, log lines, samples and marks into the black box.

`begin`, `phase` and `end` run inside requests: no lock, no system call, no reference to a request.
What lies where is told by `blackbox`.
"""
from __future__ import annotations

import itertools
import threading
import time

from zope.interface import implementer

from .. import blackbox as box
from ..interfaces import IRecorder
from .slots import CLOSED
from .slots import ENDED
from .slots import TAIL
from .slots import WORDS
from .slots import Life
from .slots import Slot

_PATH_MAX = box.PATH_MAX
_UNUSUAL = _PATH_MAX + 1
_FEW = box.SLOT_COUNT // 4
_ONCE = 1 << box.COUNT_SHIFT
_NUMBERS = _ONCE - 1
_COUNT_IS_FULL = 0xffffff << box.COUNT_SHIFT
# Words of an entry of the ring: what is copied there, when the last request of its kind ended, and their number.
_CONTENT = slice(box.REQUEST_IN_FINISHED // 8, box.REQUEST_IN_FINISHED // 8 + WORDS)
_LAST_END, _TALLY = box.TAIL_IN_FINISHED // 8 + 1, box.TAIL_IN_FINISHED // 8 + 2


def _encoded(method, path, retry):
    """Head, method and path of a request of which one is not as usual."""
    method_bytes, (path_bytes, was_cut) = box.cut(method, box.METHOD_MAX)[0], box.cut(path, box.PATH_MAX)
    return bytes((0, retry & 255, was_cut, len(method_bytes))), method_bytes, path_bytes


#: Head and bytes of the usual methods.
_USUAL = {m: _encoded(m, '', 0)[:2] for m in (
    'GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'PATCH')}


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
        self._entries = [self.words[at // 8:(at + box.FINISHED.size) // 8]
                         for at in range(box.FINISHED.start, box.FINISHED.end, box.FINISHED.size)]
        self._ring = itertools.cycle(self._entries)
        self._log_numbers = itertools.count(1)
        self._sample_numbers = itertools.count(1)
        self._note_numbers = itertools.count(1)
        places = [box.NOTE_RING.at(index) for index in range(box.NOTE_RING.count)]
        self._slow_notes, self._notes = (itertools.cycle(places[:box.SLOW_NOTES]),
                                         itertools.cycle(places[box.SLOW_NOTES:]))
        self._generations = itertools.count(1)
        self._overflow = itertools.count(1)
        self._last = None, None, None, None             # path, status, method, and their entry

    # -- requests --------------------------------------------------------------------------------

    def begin(self, method: str, path: str, retry: int = 0, token=None,
              _now=time.time, _monotonic=time.monotonic, _pack=box.begun_request.pack_into) -> None:
        """A request begins in this thread.  `token` is given back to `end`: another one ends nothing."""
        try:
            slot = self._local.slot
        except AttributeError:
            slot = self._adopt()
            if slot is None:
                self.set_word('overflow', next(self._overflow))
                return
        try:
            (head, method_bytes), path_bytes = _USUAL[method], path.encode()
            length = len(path_bytes)
        except (KeyError, UnicodeEncodeError):
            length = _UNUSUAL
        if retry or length > _PATH_MAX:
            head, method_bytes, path_bytes = _encoded(method, path, retry)
            length = len(path_bytes)
        nested = slot.token is not CLOSED
        if nested:
            slot.turn()
        for slot.number in self._numbers:               # next() would be a call
            break
        _pack(slot.view, 0, slot.number, _now(), _monotonic(), head, length, method_bytes, path_bytes)
        slot.phase[0] = 1
        if nested:
            self.words[slot.half_word] = slot.half = slot.half ^ 1
        slot.method, slot.path, slot.token = method, path, token

    def phase(self, phase: int) -> None:
        """The request of this thread goes on to a phase (an index of `blackbox.PHASES`)."""
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token is not CLOSED:
            slot.phase[0] = phase

    def user(self, name: str) -> None:
        """Note the user of this thread's request, known only after traversal."""
        slot = getattr(self._local, 'slot', None)
        if slot is None or not slot.on:
            return
        encoded = box.cut(name, box.USER_MAX)[0]
        at = slot.half_offsets[slot.half]
        self.buffer[at + box.USER_IN_REQUEST:at + box.USER_IN_REQUEST + len(encoded)] = encoded
        self.buffer[at + box.USER_LENGTH_IN_REQUEST] = len(encoded)

    def end(self, status: int = 0, token=None, _now=time.time, _pack=box.finished_tail.pack_into) -> None:
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
        slot.token = CLOSED
        now, number = _now(), slot.number
        view, path = slot.view, slot.path
        _pack(view, TAIL, now, now, _ONCE + number, slot.words_of_thread, status & 0xffff)
        last_path, last_status, last_method, entry = self._last
        if path == last_path and status == last_status and slot.method == last_method:
            if view[ENDED] > entry[_LAST_END]:         # a thread may have waited since it read the clock
                entry[_LAST_END] = view[ENDED]
            count = entry[_TALLY] & ~_NUMBERS
            entry[_TALLY] = (count if count == _COUNT_IS_FULL else count + _ONCE) | number
        else:
            for entry in self._ring:                    # noqa: B007 (next() would be a call)
                break
            entry[0] = 0
            entry[_CONTENT] = view
            entry[0] = number
            self._last = path, status, slot.method, entry
        slot.phase[0] = 0

    # -- slots -----------------------------------------------------------------------------------

    def _adopt(self):
        """A slot for this thread, the first time that it serves; None while all are taken."""
        try:
            index = self._free.pop()
        except IndexError:
            return None
        self._local.life = Life()
        self._local.slot = slot = Slot(index, self._local.life, self.buffer)
        slot.phase[0] = 0                               # its last thread may have ended within a request
        box.slot_head.pack_into(self.buffer, box.SLOTS.at(index), slot.ident, slot.native_id,
                                next(self._generations), slot.half, 0, 0, 0, 0)
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

    @property
    def is_crowded(self) -> bool:
        """Few slots are left: those of threads that ended are wanted soon."""
        return len(self._free) < _FEW

    def release_dead_slots(self) -> None:
        """Give back the slots of threads that ended (the heartbeat calls this)."""
        for index, slot in list(self.slots.items()):
            if slot.life() is None:
                slot.release()
                del self.slots[index]
                self.words[slot.half_word] = box.NO_HALF
                self.words[slot.half_word - 1] = 0      # its generation
                self._free.append(index)

    # -- everything else -------------------------------------------------------------------------

    def detach(self) -> None:
        """In a forked child: let go of the parent's file.  A mapping keeps a descriptor of its own."""
        for view in (*self.slots.values(), *self._entries, self.words, self.doubles):
            view.release()
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
        box.sample_entry.pack_into(self.buffer, at + 8, *sample[:9], 0, *sample[9:])
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
                for slot in list(self.slots.values()) if slot.token is not CLOSED]
