"""What the recorder knows of a worker and of its slot in the black box.  A Slot is made once for
each worker.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from ..store import blackbox as box

#: The token of a slot whose thread serves no request.
CLOSED = object()


class Life:
    """An object in the thread-local data of a thread: it is freed when the thread ends.

    `Thread.is_alive` is not enough: for a thread that C code or `_thread` started, it always
    returns True (Python 3.11, 3.12) or raises (3.13).
    """

    __slots__ = ('__weakref__',)


class Slot:
    """`token` is the token of the request in flight, or `CLOSED`.  `number`, `method` and `path`
    belong to the last request.

    `at` is the offset of the entry of that request in the black box.  After the end of the request,
    the entry may belong to another thread.
    """

    __slots__ = (
        'index',
        'at',
        'number',
        'method',
        'path',
        'token',
        'thread',
        'native_id',
        'ident',
        'words_of_thread',
        'life',
    )

    life: Callable[[], object]

    def __init__(self, index: int, life: Life) -> None:
        self._begin(index, threading.current_thread(), threading.get_native_id())
        self.ident = threading.get_ident()
        self.adopt(life)

    @classmethod
    def reserved(cls, index: int, thread: threading.Thread, native_id: int) -> Slot:
        """Return the slot of a thread that has not served yet, made in another thread.

        The thread must be one that `threading` has started, see Life.
        """
        slot = cls.__new__(cls)
        slot._begin(index, thread, native_id)
        slot.ident = thread.ident or 0
        slot.words_of_thread = box.thread_words.pack(slot.ident, slot.native_id)
        slot.life = lambda: thread if thread.is_alive() else None
        return slot

    def adopt(self, life: Life) -> None:
        """Let the slot live as long as `life`.  Called in its thread."""
        self.life = weakref.ref(life)
        self.words_of_thread = box.thread_words.pack(self.ident, self.native_id)

    def _begin(self, index: int, thread: threading.Thread, native_id: int) -> None:
        self.index = index
        self.at = 0
        self.number = 0
        self.method = ''
        self.path = ''
        self.token: object = CLOSED
        self.thread = thread
        self.native_id = native_id

    @property
    def on(self) -> bool:
        return self.token is not CLOSED

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path
