"""Where MainThread stands at the two ends of a life: before Zope serves, and after the server's
loop was left.

A start that waits for a database, and a stop that waits for a thread, look the same from outside as
a healthy process.  So the heartbeat looks at MainThread at each beat of these two phases, and notes
its place when it has not changed for the option "slow-request"; in a stop after three seconds
already, because docker kills after ten.  While Zope serves, nothing is
looked at here; see `serverloop` for a loop that is blocked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..model.eventkinds import CRITICAL_AFTER
from ..threads.activity import own_frame
from ..threads.codeplaces import CodePlace
from ..threads.snapshot import frames_of
from ..threads.snapshot import stack_of
from .hangs import Hangs

START = 'slow-start'
STOP = 'slow-stop'
#: When the time between two looks is more than this many seconds plus three times `pause`, the
#: process was suspended: the time before does not count.
_SUSPENDED = 2.0
#: The place in a stop is noted after this many seconds, or after `slow` if that is shorter.
#: waitress waits 5 s for its workers, so it is named here which of them keep it waiting.
_SLOW_STOP = 3.0
#: For this many seconds after a signal that asks for a stop, each beat looks whether the server's
#: loop was left.
_ASKED = 10.0


class LifeEnds:
    """Watches MainThread while the process starts and stops.

    A place is noted after `slow` seconds, in a stop earlier.  From CRITICAL_AFTER times `stall` on
    it is critical.

    `is_on` says whether `look` must be called at this beat; it is called about every `pause`
    seconds.  `is_left` returns whether MainThread has left the server's loop.
    """

    def __init__(
        self,
        hangs: Hangs,
        slow: float,
        stall: float,
        pause: float,
        is_left: Callable[[], bool],
        is_server: bool = True,
        clock: Callable[[], float] = time.monotonic,
        stack: Callable[[int], tuple[CodePlace, ...]] = stack_of,
    ) -> None:
        self.hangs = hangs
        self.slow = slow
        self.critical = CRITICAL_AFTER * stall
        self.pause = pause
        self.is_left = is_left
        self.clock = clock
        self.stack = stack
        self.is_on = is_server
        self._serves = not is_server
        self._stops = False
        self._place: tuple[CodePlace, ...] = ()
        self._since = clock()
        self._looked = self._since
        self._asked = self._since - _ASKED  # when a signal last asked for a stop

    def serve(self) -> None:
        """Note that the start is over.  The next `look` ends its event.

        The beats go on for a while as after a signal, so that new workers are found at once.
        """
        self._serves = True
        self._asked = self.clock()

    def expect_stop(self) -> None:
        """Look at the next beats whether the server's loop is left: a signal has come."""
        self._asked = self.clock()
        self.is_on = True

    def finish(self) -> None:
        """Note that the interpreter ends: from now on this is a stop, whatever ran before."""
        if not self._serves:
            self.hangs.end_of_delay(START, 'It ends before it served.')
        self._serves = True
        self._stops = True
        self.is_on = True
        self._start_anew()

    def look_for_stop(self) -> None:
        """Look whether the loop was left without a signal.  Called in each round."""
        if self._serves and not self.is_on and self.is_left():
            self.is_on = True

    def look(self) -> None:
        """Note or forget the place of MainThread.  Called at each beat while `is_on`."""
        if not self._serves:
            self._look_at_place(START)
            return
        self.hangs.end_of_delay(START, 'It serves now.')
        if not self._stops and self.is_left():
            self._stops = True
            self._start_anew()
        if self._stops:
            self._look_at_place(STOP)
        elif self.clock() - self._asked > _ASKED:
            self.is_on = False

    def _start_anew(self) -> None:
        self._place = ()
        self._since = self.clock()
        self._looked = self._since

    def _look_at_place(self, kind: str) -> None:
        now = self.clock()
        place = self._place_of_main()
        was_suspended = now - self._looked > 3 * self.pause + _SUSPENDED
        self._looked = now
        if place != self._place or was_suspended:
            if place != self._place:
                self.hangs.end_of_delay(kind, 'MainThread goes on.')
            self._place = place
            self._since = now
            return
        stood = now - self._since
        slow = self.slow if kind == START else min(self.slow, _SLOW_STOP)
        if stood > slow:
            self.hangs.look_at_delay(kind, stood, is_critical=stood > self.critical)

    def _place_of_main(self) -> tuple[CodePlace, ...]:
        """Return where MainThread is: the innermost place outside Python's library, and its
        callers.

        What the library does below it does not count, nor does the line in the innermost function:
        a loop that sleeps and tries again is one place.
        """
        main = threading.main_thread()
        stack = self.stack(main.ident or 0)
        frames = frames_of(stack)
        own = own_frame(frames)
        if own is None:
            return ()
        innermost, *callers = stack[frames.index(own) :]
        return (innermost._replace(offset=0, line=None), *callers)
