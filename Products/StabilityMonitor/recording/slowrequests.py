"""Slow requests: their stacks, which the heartbeat reads, and where their time went.

A request that lasts longer than two beats is watched: its stack is counted at each beat.  When it
is older than the option "slow-request", its stack is kept in the black box, and again whenever its
age has doubled; one line goes to the log.  Only files, lines and functions are read, never locals
and never a request object.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Iterable

from ..model.records import Frame
from ..model.records import Note
from ..model.threadstates import SlowRequest
from ..model.threadstates import ThreadState
from ..store.blackbox import METHOD_MAX
from ..store.blackbox import PATH_MAX
from ..system import loglater
from ..threads.activity import words
from ..threads.frames import stacks
from ..threads.stackprofile import PackedStacks
from ..threads.stackprofile import StackCounts
from .recorder import Recorder
from .slots import Slot

#: At most this many requests that have ended are kept.
_KEPT = 50
#: At most this many innermost frames of each request are kept and shown.
_INNERMOST = 10
#: "Where the time went" names at most this many functions, each with at least this share.
_SHOWN = 4
_LEAST_SHARE = 0.05


class Profile:
    """What is known about one slow request.  `stacks` counts the stacks in which it was seen."""

    def __init__(
        self,
        number: int,
        slot: Slot,
        key: tuple[str, str],
        began: float,
        due: float,
        started: float = 0.0,
    ) -> None:
        method, path = key
        self.number = number
        self.ident = slot.ident
        self.thread_name = slot.thread.name
        self.native_id = slot.native_id
        self.method = method[:METHOD_MAX]
        self.path = path[:PATH_MAX]
        self.began = began  # seconds of the clock of SlowRequests
        self.due = due  # the age in seconds at which its stack is kept next
        self.started = started  # seconds since the epoch
        self.samples = 0
        self.stacks: StackCounts | PackedStacks = StackCounts()
        self.last: tuple[Frame, ...] = ()  # the stack at the last look
        self.unchanged_since = began  # when that stack was first seen, by the same clock
        self.shown: tuple[Frame, ...] = ()  # the stack in the last note
        self.seconds = 0.0
        self.noted = 0
        self.ended: float | None = None

    @property
    def title(self) -> str:
        return f'{self.method} {self.path}'

    def add(self, frames: tuple[Frame, ...], seconds: float) -> None:
        self.samples += 1
        self.seconds = seconds
        if frames != self.last:
            self.unchanged_since = self.began + seconds
        self.last = frames
        if isinstance(self.stacks, StackCounts):  # it has not ended
            self.stacks.add(frames)

    def end(self) -> None:
        """Note that the request has ended, and release what is not needed any more."""
        self.ended = time.time()
        if isinstance(self.stacks, StackCounts):
            self.stacks = self.stacks.packed()
        self.last = self.last[:_INNERMOST]
        self.shown = ()

    def where(self) -> str:
        """Return where the time went, in words."""
        places = []
        for share in self.stacks.shares()[:_SHOWN]:
            if share.own >= _LEAST_SHARE:
                places.append(f'{share.own:.0%} in {share.function} ({share.file})')
        return ', '.join(places)

    def as_slow_request(self) -> SlowRequest:
        """Return what pages and programs show of this request.  The picture also needs `stacks`."""
        return SlowRequest(
            number=self.number,
            ident=self.ident,
            method=self.method,
            path=self.path,
            started=self.started,
            seconds=self.seconds,
            ended=self.ended,
            samples=self.samples,
            different_stacks=len(self.stacks),
            shares=tuple(self.stacks.shares()),
            frames=self.last[:_INNERMOST],
        )

    def change(self) -> str:
        """Return what has changed in the stack since it was last kept, in words."""
        if not self.shown:
            return ''
        if self.last == self.shown:
            return 'the stack has not changed'
        same = 0  # how many of the outermost frames are the same
        outermost_first = zip(reversed(self.last), reversed(self.shown), strict=False)
        for new, old in outermost_first:
            if new != old:
                break
            same += 1
        if not same:
            return 'the whole stack has changed'
        frame = self.last[-same]
        return f'the stack is the same down to {frame.function} ({frame.file}:{frame.line})'


class SlowRequests:
    """The slow requests of this process.

    `look` is called at each beat while a request is at least `watched_from` seconds old, or is in
    `watched`.  `states` returns the ThreadStates of all threads; it is called when a stack is due
    to be kept.  `at` returns what `clock` showed at a moment of the monotonic clock, see RunClock.
    """

    def __init__(
        self,
        recorder: Recorder,
        slow: float,
        interval: float,
        states: Callable[[], Iterable[ThreadState]],
        clock: Callable[[], float] = time.monotonic,
        at: Callable[[float], float] = float,
    ) -> None:
        self.recorder = recorder
        self.slow = slow
        self.states = states
        self.clock = clock
        self.at = at
        self.watched_from = min(slow, 2 * interval)
        self.watched: dict[int, Profile] = {}  # by number of the request
        self._kept: list[Profile] = []

    def look(self) -> None:
        now = self.clock()
        old = []
        for slot, began in self.recorder.in_flight():
            if now - self.at(began) >= self.watched_from:
                old.append((slot, began, slot.number, slot.key))
        if not old and not self.watched:
            return
        taken = stacks({slot.ident for slot, *_ in old})
        # A thread may have begun another request while the stacks were read.  So a stack is counted
        # only if the request that was read from the slot before is still in flight.
        still = dict(self.recorder.in_flight())
        in_flight = set()
        for slot, began, number, key in old:
            if still.get(slot) != began:
                continue
            in_flight.add(number)
            if slot.ident not in taken:
                continue  # the thread has ended without ending the request
            if number not in self.watched:
                started = time.time() - (time.monotonic() - began)
                self.watched[number] = Profile(
                    number, slot, key, self.at(began), self.slow, started
                )
            self.watched[number].add(taken[slot.ident], now - self.at(began))
        for number in list(self.watched):
            if number not in in_flight:
                self._end(self.watched.pop(number), now)
        self._keep_due(now)

    def unchanged_since(self, ident: int) -> float | None:
        """Return since when a watched thread has the same stack, by `clock`; None if it is not
        watched.
        """
        for profile in list(self.watched.values()):
            if profile.ident == ident:
                return profile.unchanged_since
        return None

    def _keep_due(self, now: float) -> None:
        due = []
        for profile in self.watched.values():
            if now - profile.began >= profile.due:
                due.append(profile)
        if not due:
            return
        doing = {}
        for state in self.states():
            if state.request:
                doing[state.request.number] = state
        for profile in due:
            self._keep(profile, doing.get(profile.number), now)

    def _keep(self, profile: Profile, state: ThreadState | None, now: float) -> None:
        while profile.due <= now - profile.began:
            profile.due *= 2
        activity = ''
        if state:
            activity = words(state)
            if state.frames:
                profile.last = state.frames
        frames = profile.last
        parts = [activity, profile.change(), profile.where()]
        detail = '; '.join(part for part in parts if part)
        self._note('slow', profile, detail, frames)
        if not profile.noted:
            loglater.log(
                logging.WARNING,
                'Slow request: %s has taken %.1f s so far in thread %s. %s',
                profile.title,
                profile.seconds,
                profile.thread_name,
                _line(frames, activity),
            )
        profile.noted += 1
        profile.shown = frames

    def _end(self, profile: Profile, now: float) -> None:
        if not profile.noted:
            return
        profile.seconds = now - profile.began
        self._note('slow-ended', profile, profile.where(), profile.last)
        profile.end()
        kept = [*self._kept, profile]
        self._kept = kept[-_KEPT:]  # a new list, because another thread may be reading the old one

    def _note(
        self,
        kind: str,
        profile: Profile,
        detail: str,
        frames: tuple[Frame, ...],
    ) -> None:
        self.recorder.note(
            Note(
                number=0,  # the recorder gives it
                time=time.time(),
                kind=kind,
                ident=profile.ident,
                native_id=profile.native_id,
                request=profile.number,
                seconds=profile.seconds,
                title=profile.title,
                detail=detail,
                frames=frames,
            )
        )

    def are_in_flight(self) -> bool:
        """Return whether any slow request is in flight."""
        return any(profile.noted for profile in list(self.watched.values()))

    def known(self) -> list[Profile]:
        """Return the slow requests: first those in flight, then those that ended, newest first."""
        in_flight = [profile for profile in list(self.watched.values()) if profile.noted]
        in_flight.sort(key=lambda profile: profile.began)
        newest_first = self._kept[::-1]
        return in_flight + newest_first


def _line(frames: tuple[Frame, ...], activity: str) -> str:
    places = [f'{frame.function} ({frame.file}:{frame.line})' for frame in frames[:5]]
    line = f'At {" < ".join(places)}'
    if activity:
        return f'It {activity}. {line}'
    return line
