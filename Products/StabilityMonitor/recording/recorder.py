"""The recorder: writes requests, log lines, samples and marks into the black box.

`begin`, `phase` and `end` run inside requests: they take no lock, make no system call, and keep no
reference to a request.  The module `blackbox` defines the layout.
"""

from __future__ import annotations

import collections
import itertools
import mmap
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable

from zope.interface import implementer

from ..model.interfaces import IRecorder
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..store import blackbox as box
from ..store.blackboxreader import read_request
from .slots import CLOSED
from .slots import Life
from .slots import Slot

#: Slots are few when fewer than this many are free.
_FEW = box.SLOT_COUNT // 4
#: The tally word of an entry holds how many more equal requests it stands for (upper bits), and the
#: number of the last of them (lower bits).
_ONCE = 1 << box.COUNT_SHIFT
_COUNT_IS_FULL = 0xFFFFFF << box.COUNT_SHIFT
#: Offsets within the entry of a request, in bytes.
_PHASE = box.PHASE_IN_REQUEST
_STATUS = box.STATUS_IN_REQUEST
#: More offsets within the entry of a request, in words of 8 bytes.
_BEGAN = box.BEGAN_IN_REQUEST // 8
_LAST_END = box.LAST_END_IN_REQUEST // 8
_TALLY = box.TALLY_IN_REQUEST // 8
#: Offsets within the entry of a log line, in words.
_COUNT_IN_LOG = box.COUNT_IN_LOG // 8
_LAST_IN_LOG = box.LAST_IN_LOG // 8
_ORDER_IN_LOG = box.ORDER_IN_LOG // 8
#: The usual methods as bytes, so that `begin` need not encode them.
_USUAL = {
    'GET': b'GET',
    'POST': b'POST',
    'HEAD': b'HEAD',
    'PUT': b'PUT',
    'DELETE': b'DELETE',
    'OPTIONS': b'OPTIONS',
    'PROPFIND': b'PROPFIND',
    'PATCH': b'PATCH',
}


#: A line of the log: thread, level, logger, and as much of the text as is kept.
_Line = tuple[int, int, str, str]


@implementer(IRecorder)
class Recorder:
    """See IRecorder.  Writes into `buffer`, a sealed black box of `blackbox.SIZE` bytes.

    `on_new_thread` is called with the index of the slot, once in each thread that gets one, before
    its first request is recorded.
    """

    def __init__(
        self,
        buffer: mmap.mmap | bytearray,
        on_new_thread: Callable[[int], object] | None = None,
    ) -> None:
        self.buffer = buffer
        self.words = memoryview(buffer).cast('Q')
        self.doubles = memoryview(buffer).cast('d')
        self.on_new_thread = on_new_thread
        self.slots: dict[int, Slot] = {}
        self._free = list(range(box.SLOT_COUNT - 1, -1, -1))
        self._local = threading.local()
        self._reserved: dict[int, Slot] = {}  # by ident; see `reserve`
        self._numbers = itertools.count(1)
        self._ring = collections.deque(box.REQUESTS.places)
        self._log_numbers = itertools.count(1)
        self._log_order = itertools.count(1)
        # The lines in the ring, with their numbers; and the line at each place of the ring.
        self._log_lines: dict[_Line, int] = {}
        self._log_places: list[_Line | None] = [None] * box.LOG.count
        self._sample_numbers = itertools.count(1)
        self._note_numbers = itertools.count(1)
        self._samples = itertools.cycle(box.SAMPLES.places)
        places = box.NOTE_RING.places
        self._slow_notes = itertools.cycle(places[: box.SLOW_NOTES])
        self._notes = itertools.cycle(places[box.SLOW_NOTES :])
        self._generations = itertools.count(1)
        self._overflow = itertools.count(1)
        # The request that ended last.  The path is None until one has ended.
        self._path: str | None = None
        self._status = 0
        self._method = ''
        self._entry = 0

    # -- requests ----------------------------------------------------------------------------------

    def begin(
        self,
        method: str,
        path: str,
        retry: int = 0,
        token: object = None,
        _now: Callable[[], float] = time.time,
        _monotonic: Callable[[], float] = time.monotonic,
        _pack: Callable[..., None] = box.begun_request.pack_into,
    ) -> None:
        """Record that a request begins in this thread.

        `end` must get the same `token`; an `end` with another token does nothing.  The request gets
        the entry of the request that ended longest ago.  Entries of requests in flight are not in
        the ring, so they are never overwritten.

        The parameters with an underscore bind names early, which is faster; no caller passes them.
        """
        try:
            slot = self._local.slot
        except AttributeError:
            slot = self._adopt()
            if slot is None:
                self.set_word('overflow', next(self._overflow))
                return
        try:
            method_bytes = _USUAL[method]
            path_bytes = path.encode()
        except (KeyError, UnicodeEncodeError):
            method_bytes = method.encode('utf-8', 'backslashreplace')
            path_bytes = path.encode('utf-8', 'backslashreplace')
        number = next(self._numbers)
        at = self._ring.popleft()
        _pack(
            self.buffer,
            at,
            number,
            _now(),
            _monotonic(),
            slot.words_of_thread,
            retry,
            len(path_bytes),
            method_bytes,
            path_bytes,
            number,
        )
        outer = None if slot.token is CLOSED else slot.at
        slot.at = at
        slot.number = number
        slot.method = method
        slot.path = path
        slot.token = token
        if outer is not None:
            self._drop(outer)

    def phase(self, phase: int) -> None:
        """Record that the request of this thread enters a phase, an index of `blackbox.PHASES`."""
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token is not CLOSED:
            self.buffer[slot.at + _PHASE] = phase

    def user(self, name: str) -> None:
        """Record the user of this thread's request, who is known only after traversal."""
        slot = getattr(self._local, 'slot', None)
        if slot is None or not slot.on:
            return
        encoded = box.cut(name, box.USER_MAX)[0]
        at = slot.at + box.USER_IN_REQUEST
        self.buffer[at : at + len(encoded)] = encoded
        self.buffer[slot.at + box.USER_LENGTH_IN_REQUEST] = len(encoded)

    def end(
        self,
        status: int = 0,
        token: object = None,
        _now: Callable[[], float] = time.time,
        _pack: Callable[..., None] = box.ended_request.pack_into,
    ) -> None:
        """Record that the request of this thread ends.  Its entry joins the ring as the newest.

        A request that equals the last one that ended, for example of a health probe, is only
        counted in the entry of the last one; its own entry becomes free for the next request.

        Between the comparison with the last request and the count, nothing may be called: CPython
        switches threads at calls, and two threads that count at the same time would count only one
        request.
        """
        try:
            slot = self._local.slot
        except AttributeError:
            return
        if slot.token != token:
            return
        path = slot.path
        slot.token = CLOSED
        at = slot.at
        now = _now()
        if path == self._path and status == self._status and slot.method == self._method:
            last = self._entry // 8
            words = self.words
            doubles = self.doubles
            # A thread may have waited since it read the clock, so ends can come out of order.
            if now > doubles[last + _LAST_END]:
                doubles[last + _LAST_END] = now
            count = words[last + _TALLY] & _COUNT_IS_FULL
            if count != _COUNT_IS_FULL:
                count += _ONCE
            words[last + _TALLY] = count | slot.number
            words[at // 8] = 0
            self._ring.appendleft(at)
        else:
            _pack(self.buffer, at + _STATUS, status, now)
            self._path = path
            self._status = status
            self._method = slot.method
            self._entry = at
            self._ring.append(at)

    # -- slots -------------------------------------------------------------------------------------

    def _adopt(self) -> Slot | None:
        """Give this thread a slot, the first time that it serves.  None while all are taken."""
        life = Life()
        slot = self._reserved.pop(threading.get_ident(), None)
        if slot is not None and slot.native_id == threading.get_native_id():
            slot.adopt(life)
        else:
            try:
                index = self._free.pop()
            except IndexError:
                return None
            slot = Slot(index, life)
            self._take(slot)
        self._local.life = life
        self._local.slot = slot
        if self.on_new_thread is not None:
            self.on_new_thread(slot.index)
        return slot

    def reserve(self, threads: Iterable[threading.Thread]) -> None:
        """Give slots to threads that have not served yet, so that the watchdog guards them in their
        first request.  The heartbeat calls this.

        Only slots with a mark of the watchdog are given.  A thread may take a slot itself at the
        same moment; then the reserved one is released at the next call.
        """
        taken = {slot.ident for slot in list(self.slots.values()) if not self._is_reserved(slot)}
        for ident, slot in list(self._reserved.items()):
            if ident in taken and self._reserved.pop(ident, None) is not None:
                self._release(slot)
        known = {slot.ident for slot in list(self.slots.values())}
        for thread in threads:
            native_id = thread.native_id
            if not thread.ident or not native_id or thread.ident in known:
                continue
            if not thread.is_alive():
                continue
            if not self._free or f'watchdog-{self._free[-1]}' not in box.MARKS:
                return
            slot = Slot.reserved(self._free.pop(), thread, native_id)
            self._take(slot)
            self._reserved[thread.ident] = slot

    def _is_reserved(self, slot: Slot) -> bool:
        return self._reserved.get(slot.ident) is slot

    def _take(self, slot: Slot) -> None:
        box.slot_head.pack_into(
            self.buffer,
            box.SLOTS.at(slot.index),
            slot.ident,
            slot.native_id,
            next(self._generations),
            0,  # `stack` and `stack_used` fill in the rest
            0,
            0,
            0,
            box.cut(slot.thread.name, box.NAME_MAX)[0],
        )
        self.slots[slot.index] = slot

    def stack(self, index: int, size: int, guard: int) -> None:
        """Record the sizes in bytes of a thread's stack and guard; the thread owns slot `index`."""
        at = box.SLOTS.at(index) // 8
        self.words[at + 3] = size
        self.words[at + 4] = guard

    def stack_used(self, index: int, used: int, request: int = 0) -> None:
        """Record the high-water mark of that thread's stack, in bytes, and the number of the
        request that raised it (0: not known).
        """
        at = box.SLOTS.at(index) // 8
        self.words[at + 6] = 0  # a kill between these lines must not leave a wrong request here
        self.words[at + 5] = used
        self.words[at + 6] = request

    @property
    def is_crowded(self) -> bool:
        """Whether few slots are free, so that slots of ended threads must be released soon."""
        return len(self._free) < _FEW

    def release_dead_slots(self) -> None:
        """Release the slots of threads that have ended.  The heartbeat calls this."""
        for slot in list(self.slots.values()):
            if slot.life() is not None:
                continue
            if slot.on:
                slot.token = CLOSED  # another thread may be reading the slot
                self._drop(slot.at)
            if self._is_reserved(slot):
                del self._reserved[slot.ident]
            self._release(slot)

    def _release(self, slot: Slot) -> None:
        del self.slots[slot.index]
        at = box.SLOTS.at(slot.index) // 8
        self.words[at + 2] = 0  # generation 0: the slot is free
        self._free.append(slot.index)

    def _drop(self, at: int) -> None:
        """Make the entry at this offset free for the next request."""
        self.words[at // 8] = 0
        self._ring.appendleft(at)

    # -- everything else ---------------------------------------------------------------------------

    def detach(self) -> None:
        """In a forked child: close the mapping, which holds a descriptor of the parent's file."""
        self.words.release()
        self.doubles.release()
        if isinstance(self.buffer, mmap.mmap):
            self.buffer.close()

    def set_word(self, name: str, value: int) -> None:
        self.words[box.word_at(name)] = value

    def stamp(self, name: str, now: float) -> None:
        """Record the time of an event such as "armed", "serving" or "finished"."""
        self.set_word(name, int(now * 1e9))

    def survived(self, mark: str, length: int) -> None:
        self.words[box.mark_at(mark)] = length

    def exception(self, text: str) -> None:
        box.write_text(self.buffer, text)

    def log(self, level: int, logger: str, message: str, now: float) -> None:
        """Keep a line of the log.  A line that is in the ring already is only counted: a line that
        comes a thousand times in a second must not drive out all others.

        Between the comparison with the ring and the count nothing may be called, see `end`: another
        thread could give the entry to another line.
        """
        order = next(self._log_order)
        ident = threading.get_ident()
        line = (ident, level, logger, message[: box.MESSAGE_MAX])
        number = self._log_lines.get(line, 0)
        word = box.LOG.at(number) // 8
        words = self.words
        doubles = self.doubles
        if number and words[word] == number:
            doubles[word + _LAST_IN_LOG] = now
            words[word + _ORDER_IN_LOG] = order
            words[word + _COUNT_IN_LOG] += 1
            return
        number = next(self._log_numbers)
        place = number % box.LOG.count
        gone = self._log_places[place]
        if gone is not None and self._log_lines.get(gone) == number - box.LOG.count:
            self._log_lines.pop(gone, None)
        self._log_places[place] = line
        name, _ = box.cut(logger, box.LOGGER_MAX)
        text, was_cut = box.cut(message, box.MESSAGE_MAX)
        box.log_entry.pack_into(
            self.buffer,
            box.LOG.at(number),
            number,
            now,
            ident,
            level & 0xFFFF,
            was_cut,
            len(name),
            len(text),
            name,
            text,
            number,
            1,
            now,
            order,
        )
        self._log_lines[line] = number

    def sample(
        self,
        sample: Sample,
        _pack: Callable[..., None] = box.sample_entry.pack_into,
    ) -> None:
        """Keep a records.Sample."""
        number = next(self._sample_numbers)
        at = next(self._samples)
        values = list(vars(sample).values())
        values.insert(box.SEALED_IN_SAMPLE, number)
        _pack(self.buffer, at, number, *values)

    def note(self, note: Note) -> int:
        """Keep a records.Note.  Return the number that it gets here."""
        number = next(self._note_numbers)
        if note.kind in ('slow', 'slow-ended'):
            at = next(self._slow_notes)
        else:
            at = next(self._notes)
        title, _ = box.cut(note.title, box.TITLE_MAX)
        detail, _ = box.cut(note.detail, box.DETAIL_MAX)
        frames, was_cut = box.write_frames(note.frames)
        box.note_entry.pack_into(
            self.buffer,
            at,
            number,
            note.time,
            note.ident,
            note.native_id,
            note.request,
            note.seconds,
            box.NOTES.index(note.kind),
            was_cut or note.cut,
            len(title),
            len(detail),
            len(frames),
            title + detail + frames,
            number,
        )
        return number

    def in_flight(self) -> list[tuple[Slot, float]]:
        """Return the slots that serve a request, each with the monotonic time at its start."""
        return [
            (slot, self.doubles[slot.at // 8 + _BEGAN])
            for slot in list(self.slots.values())
            if slot.token is not CLOSED
        ]

    def request(self, slot: Slot) -> tuple[Request, float] | None:
        """Return the request in flight in a slot, and the monotonic time at which it began; None
        if it has just ended.
        """
        number = slot.number
        began = self.doubles[slot.at // 8 + _BEGAN]
        request = read_request(self.buffer, slot.at)
        if request is None or request.number != number:
            return None
        if request.ended is not None:
            return None
        return request, began
