"""Where the loop of the server stands: MainThread, which accepts every connection, or is kept from
it.

A write to a stderr that nobody reads, a lock, a socket: while MainThread waits there nobody is
answered, and all threads that serve may be idle.  Only who was seen in the loop of a known server,
and is still called by what called that loop, is looked at: nothing is said of other servers, of a
start, or of a shut-down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import CodeType

from ..system.tasks import clock as clock_of
from ..threads.activity import listens
from ..threads.activity import loop_in
from ..threads.snapshot import frames_of
from ..threads.snapshot import stack_of
from ..threads.spots import Spot
from .recorder import Recorder

#: Looks that are so many times as far apart as they should be tell that the process was suspended
#: meanwhile.
_SUSPENDED = 3


class ServerLoop:
    """`look` is called about every `pause` seconds; then `place` and `stood` tell.

    place    the Spots of MainThread where it stands outside the loop; () while it is in there, or
    in none, or serves stood    for how many seconds it has been in that place without a turn on a
    processor
    """

    def __init__(
        self,
        recorder: Recorder,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
        clock_of: Callable[[int], float | None] = clock_of,
        stack: Callable[[int], tuple[Spot, ...]] = stack_of,
    ) -> None:
        self.recorder = recorder
        self.pause = pause
        self.clock = clock
        self.clock_of = clock_of
        self.stack = stack
        self.place: tuple[Spot, ...] = ()
        self.stood = 0.0
        self._caller: CodeType | None = None  # what calls the loop
        self._used: float | None = None  # CPU time of MainThread at the last look
        self._since = 0.0
        self._looked = 0.0
        self._saw = False  # the last look was one at its stack

    def look(self, used: float | None = None) -> None:
        """`used`: what MainThread's clock of processor time shows, where somebody has just read
        that.
        """
        main, now, before = threading.main_thread(), self.clock(), self.place
        used = self.clock_of(main.native_id or 0) if used is None else used
        goes_on = used != self._used or now - self._looked > _SUSPENDED * self.pause
        saw, self._saw = (
            self._saw,
            bool(before or not goes_on or self._caller is None or used is None),
        )
        if self._saw:
            self.place = self._outside(main)
        if (
            goes_on or self.place != before and (saw or used is None)
        ):  # it went on since its clock was read
            self._since = now
        self._used, self._looked = used, now
        self.stood = now - self._since if self.place else 0.0

    def is_left(self) -> bool:
        """Whether MainThread has come out of the loop: the server shuts down."""
        codes = [spot.code for spot in self.stack(threading.main_thread().ident or 0)]
        return self._caller is not None and self._caller not in codes

    def _outside(self, main: threading.Thread) -> tuple[Spot, ...]:
        spots = self.stack(main.ident or 0)
        frames, codes = frames_of(spots), [spot.code for spot in spots]
        inner = loop_in(frames)
        if inner is not None:
            self._caller = next(iter(codes[inner + 1 :]), None)
        return (
            spots
            if self._caller in codes and not listens(frames) and not self._serves(main)
            else ()
        )

    def _serves(self, main: threading.Thread) -> bool:
        """Where MainThread serves requests itself, one that takes long is none of the loop's
        matter.
        """
        return any(slot.ident == main.ident for slot, _ in self.recorder.in_flight())
