"""A thread's slot in the black box, as the recorder knows it: made once for each thread that serves.

All that a request touches is at hand here, so that the recorder computes no place while it serves.
"""
from __future__ import annotations

import threading
import weakref

from .. import blackbox as box

#: The token of a slot whose thread serves no request.
CLOSED = object()
#: Where the tail of an entry lies behind a request, in bytes, and how many words both are.
TAIL = box.TAIL_IN_FINISHED - box.REQUEST_IN_FINISHED
WORDS = (TAIL + box.finished_tail.size) // 8
#: The word of it that says when the request ended.  Times are compared as the whole numbers that their bits are:
#: of two times after 1970 the later is the larger one.
ENDED = TAIL // 8


class Life:
    """Lies among the locals of a thread, and ends with it.

    `Thread.is_alive` will not do: for a thread that C code or `_thread` started, it says True for ever
    (3.11, 3.12) or raises (3.13).
    """

    __slots__ = ('__weakref__',)


class Slot:
    """`token` is that of the request that is in flight, or `CLOSED`.

    `view` are the words of the current half, a request and behind it room for the tail of an entry; `phase` is one
    byte of it.  That room lies in the other half or behind it, where nothing counts while this half is current.
    """

    __slots__ = ('index', 'half_offsets', 'halves', 'view', 'phase', 'half_word', 'half', 'method', 'path', 'thread',
                 'number', 'native_id', 'ident', 'words_of_thread', 'token', 'life')

    def __init__(self, index, life, buffer):
        start = box.SLOTS.at(index)
        self.index = index
        self.half_offsets = (start + box.HALVES_AT, start + box.HALVES_AT + box.HALF_SIZE)
        self.halves = tuple(_half(memoryview(buffer), at) for at in self.half_offsets)
        self.half_word = start // 8 + 3
        self.half, (self.view, self.phase) = 0, self.halves[0]
        self.method, self.path, self.number, self.token = None, None, 0, CLOSED
        self.thread, self.life = threading.current_thread(), weakref.ref(life)
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        self.words_of_thread = box.thread_words.pack(self.ident, self.native_id)

    @property
    def on(self) -> bool:
        return self.token is not CLOSED

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path

    def turn(self) -> None:
        """Write into the other half.  It is not current until `half` and the word of the slot say so."""
        self.view, self.phase = self.halves[self.half ^ 1]

    def release(self) -> None:
        """Let go of the buffer."""
        for view, phase in self.halves:
            view.release()
            phase.release()


def _half(view, at):
    phase = at + box.PHASE_IN_REQUEST
    return view[at:at + 8 * WORDS].cast('Q'), view[phase:phase + 1]
