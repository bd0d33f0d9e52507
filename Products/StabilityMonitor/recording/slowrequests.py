"""Slow requests: their stacks, taken by the heartbeat, and where their time went.

A request that lasts longer than two beats is watched: its stack is counted at each beat.  When it
is older than the option "slow-request", its stack is kept among the breadcrumbs, and again whenever
its age has doubled; one line goes to the log.  Only files, lines and functions are read: never
locals, never a request object.
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
#: At most this many of its innermost frames are kept of each, and shown.
_INNERMOST = 10
#: At most this many functions are named where the time went; those with a smaller share are not.
_SHOWN = 4
_LEAST_SHARE = 0.05


class Profile:
    """What is known of one slow request.  `stacks` counts the stacks it was seen in."""

    def __init__(
        self, number: int, slot: Slot, key: tuple[str, str], began: float, due: float
    ) -> None:
        method, path = key
        self.number = number
        self.ident = slot.ident
        self.native_id = slot.native_id
        self.method = method[:METHOD_MAX]
        self.path = path[:PATH_MAX]
        self.began = began  # monotonic, as `due`
        self.due = due
        self.started = time.time() - (time.monotonic() - began)
        self.samples = 0
        self.stacks: StackCounts | PackedStacks = StackCounts()
        self.last: tuple[Frame, ...] = ()  # at the last look
        self.shown: tuple[Frame, ...] = ()  # in the last note
        self.seconds = 0.0
        self.noted = 0
        self.ended: float | None = None

    @property
    def title(self) -> str:
        return f'{self.method} {self.path}'

    def add(self, frames: tuple[Frame, ...], seconds: float) -> None:
        self.samples += 1
        self.seconds = seconds
        self.last = frames
        if isinstance(self.stacks, StackCounts):  # it has not ended
            self.stacks.add(frames)

    def end(self) -> None:
        """Nothing is added any more; only a little is kept."""
        self.ended = time.time()
        if isinstance(self.stacks, StackCounts):
            self.stacks = self.stacks.packed()
        self.last = self.last[:_INNERMOST]
        self.shown = ()

    def where(self) -> str:
        """Where the time went, in words."""
        return ', '.join(
            f'{share.own:.0%} in {share.function} ({share.file})'
            for share in self.stacks.shares()[:_SHOWN]
            if share.own >= _LEAST_SHARE
        )

    def told(self) -> SlowRequest:
        """What a page or a program shows of it.  `stacks` has more, for the picture."""
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
        """What has changed in the stack since it was last kept."""
        if not self.shown:
            return ''
        if self.last == self.shown:
            return 'the stack has not changed'
        same = 0  # how many of the outermost frames
        for new, old in zip(reversed(self.last), reversed(self.shown), strict=False):
            if new != old:
                break
            same += 1
        if not same:
            return 'the whole stack has changed'
        frame = self.last[-same]
        return f'the stack is the same down to {frame.function} ({frame.file}:{frame.line})'


class SlowRequests:
    """`look` is called at each beat while a request is as old as `watched_from`, or is `watched`.

    `states` gives the ThreadStates of all threads; it is called when a stack is due to be kept.
    """

    def __init__(
        self,
        recorder: Recorder,
        slow: float,
        interval: float,
        states: Callable[[], Iterable[ThreadState]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recorder = recorder
        self.slow = slow
        self.states = states
        self.clock = clock
        self.watched_from = min(slow, 2 * interval)
        self.watched: dict[int, Profile] = {}  # by number of the request
        self._kept: list[Profile] = []

    def look(self) -> None:
        now = self.clock()
        old = [
            (slot, began, slot.number, slot.key)
            for slot, began in self.recorder.in_flight()
            if now - began >= self.watched_from
        ]
        if not old and not self.watched:
            return
        taken = stacks({slot.ident for slot, *_ in old})
        self._sample(old, taken, dict(self.recorder.in_flight()), now)
        self._keep_due(now)

    def _sample(
        self,
        old: list[tuple[Slot, float, int, tuple[str, str]]],
        taken: dict[int, tuple[Frame, ...]],
        still: dict[Slot, float],
        now: float,
    ) -> None:
        """Count the stacks that were `taken` of `old` requests: (slot, begin, number, key).

        What was read of a slot belongs together only if the same request is `still` in flight after
        the stacks were taken.
        """
        flying = set()
        for slot, began, number, key in old:
            if still.get(slot) != began:
                continue
            flying.add(number)
            if slot.ident not in taken:
                continue  # its thread has ended without ending it
            if number not in self.watched:
                self.watched[number] = Profile(number, slot, key, began, self.slow)
            self.watched[number].add(taken[slot.ident], now - began)
        for number in list(self.watched):
            if number not in flying:
                self._end(self.watched.pop(number), now)

    def _keep_due(self, now: float) -> None:
        due = [profile for profile in self.watched.values() if now - profile.began >= profile.due]
        if not due:
            return
        doing = {state.request.number: state for state in self.states() if state.request}
        for profile in due:
            self._keep(profile, doing.get(profile.number), now)

    def _keep(self, profile: Profile, state: ThreadState | None, now: float) -> None:
        while profile.due <= now - profile.began:
            profile.due *= 2
        frames = state.frames if state and state.frames else profile.last
        activity = words(state) if state else ''
        profile.last = frames
        detail = '; '.join(filter(None, (activity, profile.change(), profile.where())))
        self._note('slow', profile, detail, frames)
        if not profile.noted:
            loglater.log(
                logging.WARNING,
                'Slow request: %s has taken %.1f s so far in thread 0x%x. %s',
                profile.title,
                profile.seconds,
                profile.ident,
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
        self._kept = [*self._kept[1 - _KEPT :], profile]

    def _note(self, kind: str, profile: Profile, detail: str, frames: tuple[Frame, ...]) -> None:
        self.recorder.note(
            Note(
                0,
                time.time(),
                kind,
                profile.ident,
                profile.native_id,
                profile.number,
                profile.seconds,
                profile.title,
                detail,
                frames,
            )
        )

    def are_in_flight(self) -> bool:
        return any(profile.noted for profile in list(self.watched.values()))

    def known(self) -> list[Profile]:
        """The slow requests of this process, those in flight first, then the newest that ended."""
        flying = [profile for profile in list(self.watched.values()) if profile.noted]
        return sorted(flying, key=lambda p: p.began) + self._kept[::-1]


def _line(frames: tuple[Frame, ...], activity: str) -> str:
    places = ' < '.join(f'{frame.function} ({frame.file}:{frame.line})' for frame in frames[:5])
    if activity:
        return f'It {activity}. At {places}'
    return f'At {places}'
