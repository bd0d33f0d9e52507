"""A thread's slot in the black box, as the recorder knows it.  It is made once for each thread
that serves.
"""

from __future__ import annotations

import threading
import weakref

from ..store import blackbox as box

#: The token of a slot whose thread serves no request.
CLOSED = object()


class Life:
    """Lies among the locals of a thread, and ends when the thread ends.

    `Thread.is_alive` will not do: for a thread that C code or `_thread` started, it returns True
    for ever (3.11, 3.12) or raises (3.13).
    """

    __slots__ = ('__weakref__',)


class Slot:
    """`token` is that of the request in flight, or `CLOSED`; number, method and path are those of
    the last request.

    `at` is where the entry of that request lies in the black box.  After its end, the entry may
    belong to another thread.
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

    def __init__(self, index: int, life: Life) -> None:
        self.index = index
        self.at = 0
        self.number = 0
        self.method = ''
        self.path = ''
        self.token: object = CLOSED
        self.thread = threading.current_thread()
        self.life = weakref.ref(life)
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        self.words_of_thread = box.thread_words.pack(self.ident, self.native_id)

    @property
    def on(self) -> bool:
        return self.token is not CLOSED

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path
