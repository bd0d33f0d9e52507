"""Whether MainThread, which runs the server's loop and accepts every connection, is blocked.

MainThread may wait for something else: a write to a stderr that nothing reads, a lock, a socket.
Then no visitor gets an answer, although all workers may be idle.

MainThread is judged only after it was seen in the loop of a known server, and only while the
function that called this loop is still on its stack.  So other servers, a start and a shutdown are
never judged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from types import CodeType

from ..model.records import Frame
from ..system.tasks import clock as clock_of
from ..system.tasks import native_id_of
from ..threads.activity import listens
from ..threads.activity import loop_in
from ..threads.codeplaces import CodePlace
from ..threads.snapshot import frames_of
from ..threads.snapshot import stack_of
from .recorder import Recorder

#: When the time between two looks is more than this many times `pause`, the process was suspended.
_SUSPENDED = 3


class ServerLoop:
    """`look` is called about every `pause` seconds, and sets `place` and `stood`.

    * `place`: the stack of MainThread, as CodePlaces, while it is outside the server's loop.  It is
      empty while MainThread is in the loop, has not reached a loop, or serves a request itself.
    * `stood`: for how many seconds MainThread has been in that place without running on a CPU.
    """

    def __init__(
        self,
        recorder: Recorder,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
        clock_of: Callable[[int], float | None] = clock_of,
        stack: Callable[[int], tuple[CodePlace, ...]] = stack_of,
    ) -> None:
        self.recorder = recorder
        self.pause = pause
        self.clock = clock
        self.clock_of = clock_of
        self.stack = stack
        self.place: tuple[CodePlace, ...] = ()
        self.stood = 0.0
        self._caller: CodeType | None = None  # the function that called the loop
        self._used: float | None = None  # CPU time of MainThread at the last look
        self._since = 0.0
        self._looked = 0.0
        self._saw = False  # whether the last look read the stack

    def look(self, used: float | None = None) -> None:
        """Set `place` and `stood`.

        `used` is the CPU time of MainThread in seconds, if the caller has just read it.
        """
        main = threading.main_thread()
        now = self.clock()
        if used is None:
            used = self.clock_of(native_id_of(main))
        was_suspended = now - self._looked > _SUSPENDED * self.pause
        has_run = was_suspended or used != self._used
        before = self.place
        saw_before = self._saw
        # The CPU time is enough if MainThread was in the loop at the last look and has run since:
        # then it is not blocked elsewhere.  Otherwise the stack is read.
        is_clock_enough = has_run and used is not None
        was_in_loop = self._caller is not None and not before
        self._saw = not (is_clock_enough and was_in_loop)
        if self._saw:
            self.place = self._stack_outside_loop(main)
        # MainThread may have run after its CPU time was read.  So a changed stack is progress, too,
        # if the last look has read the stack.
        is_comparable = saw_before or used is None
        has_moved = is_comparable and self.place != before
        if has_run or has_moved:
            self._since = now
        self._used = used
        self._looked = now
        self.stood = 0.0
        if self.place:
            self.stood = now - self._since

    def is_left(self) -> bool:
        """Return whether MainThread has left the loop, so that the server shuts down.

        This is asked at each beat just after a start, and `look` comes only in each round.  So the
        loop is learned here, too: a server may be stopped soon.
        """
        main = threading.main_thread()
        stack = self.stack(main.ident or 0)
        self._learn(stack, frames_of(stack))
        codes = [place.code for place in stack]
        return self._caller is not None and self._caller not in codes

    def _learn(self, stack: tuple[CodePlace, ...], frames: Sequence[Frame]) -> None:
        """Remember the function that called the loop, if MainThread is in a loop."""
        loop = loop_in(frames)
        if loop is not None:
            outer = stack[loop + 1 :]
            self._caller = outer[0].code if outer else None

    def _stack_outside_loop(self, main: threading.Thread) -> tuple[CodePlace, ...]:
        """Return the stack of MainThread if it is outside the loop, else (); see `place`."""
        stack = self.stack(main.ident or 0)
        frames = frames_of(stack)
        codes = [place.code for place in stack]
        self._learn(stack, frames)
        if self._caller not in codes or listens(frames):
            return ()
        # If MainThread serves a request itself, a slow request does not mean a blocked loop.
        for slot, _ in self.recorder.in_flight():
            if slot.ident == main.ident:
                return ()
        return stack
