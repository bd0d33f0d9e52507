"""Hangs: when nobody answers any more, who is in the way, and where; noted when it begins.

A hang begins when every thread that serves is busy with a request older than the option "stall", or
the loop of the server has stood still for so long.  It is written into the black box at once, with
the stack of each serving thread, because what follows may be a kill.  A hang that dissolves is an
event of the run.  A deadlock, and a thread that serves no request but keeps a processor busy, are
noted the same way, while others may serve.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.records import Note
from ..model.records import ThreadState
from ..system import loglater
from ..threads.activity import own_frame
from ..threads.activity import words
from ..threads.snapshot import Observation
from ..threads.spots import Spot
from .partguard import Findings
from .recorder import Recorder

if TYPE_CHECKING:  # arming does not wait for it, see threads.snapshot
    from ..threads.locks import Deadlock

#: What tells one of the lasting events from the others: "hang", or a kind and what it is about.
_Key = str | tuple[str, str | int | tuple[int, ...]]

#: So many threads of one hang, and of one deadlock, are noted: the ring must hold both, and some
#: events besides.
_MOST_THREADS, _MOST_IN_CYCLE = 24, 6
_KEPT = 50
#: The two ways to hang.
_WORKERS: _Key = 'hang'
_LOOP: _Key = ('hang', 'loop')
#: A thread "spins" when it wants so much of one processor, at so many looks in a row, until it
#: wants but so much.
SPINNING, _LOOKS, _CALM = 0.8, 2, 0.5
#: A busy loop of a server wants so much of a processor (seconds) for each request, and no more; a
#: fifth is usual.
_A_REQUEST = 0.005
#: Who spins, and how bad that is: a thread of other code may have much to do.
_SPINNERS = {'main': 'critical', 'other': 'warning'}


@dataclass(frozen=True)
class Hang:
    """A hang, deadlock or spinning thread of this run; `ended` is None while it lasts."""

    kind: str  # 'hang', 'deadlock' or 'spinning'
    started: float
    summary: str
    ended: float | None = None
    threads: tuple[int, ...] = ()  # idents of those that are in it, where they have one
    severity: str = 'critical'  # as of a finding


class Hangs:
    """`observe` gives a threads.Observation; it is asked only when something seems wrong.
    `is_over`: the server shuts down, and waits for the last of its threads.
    """

    def __init__(
        self,
        recorder: Recorder,
        observe: Callable[[], Observation],
        findings: Findings,
        stall: float,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recorder = recorder
        self.observe = observe
        self.findings = findings
        self.stall = stall
        self.is_over = is_over
        self.suspected: set[_Key] = set()  # the cycles of locks that the last look has shown
        self.lasting: dict[_Key, Hang] = {}
        self._past: list[Hang] = []
        self._busy: dict[int, int] = {}  # {native id: at how many looks in a row it was busy}
        self._place: tuple[Spot, ...] = ()  # where the loop of the server has come to a stand

    # -- nobody answers ----------------------------------------------------------------------------

    def look(self, busy: list[float], serving: int, now: float) -> None:
        """At each beat while a request is old or something lasts: when the requests in flight
        began, how many threads serve, now; all monotonic.
        """
        hangs = bool(busy) and len(busy) >= serving and now - max(busy) > self.stall
        if hangs and _WORKERS not in self.lasting and not self.is_over():
            self._begin_hang(len(busy), now - max(busy))
        elif not hangs and _WORKERS in self.lasting:
            self._end_of_hang(_WORKERS, 'It answers again.')

    def _begin_hang(self, count: int, since: float) -> None:
        started, seen = time.time() - since, self.observe()
        serving, main = _serving(seen), _main(seen)
        summary = (
            f'All {count} threads that serve have been busy with requests for longer than '
            f'{self.stall:g} s'
        )
        self._note_hang(
            _WORKERS,
            Hang('hang', started, f'{summary}: {_mostly(serving)}.', threads=_idents(serving)),
            serving[:_MOST_THREADS] + main,
            seen,
        )

    def _note_hang(
        self, key: _Key, hang: Hang, states: list[ThreadState], seen: Observation
    ) -> None:
        self._begin(key, 'hang', hang)
        self._stamp()
        for state in states:
            self.recorder.note(_note('hang', state))
        self.look_for_deadlock(seen)

    def _end_of_hang(self, key: _Key, how: str) -> None:
        self._end(key, how)
        self._stamp()

    def _stamp(self) -> None:
        """Note since when nobody is answered; 0: all is well."""
        began = [self.lasting[key].started for key in (_WORKERS, _LOOP) if key in self.lasting]
        self.recorder.stamp('hung_since', min(began, default=0))

    # -- nobody is let in --------------------------------------------------------------------------

    @property
    def loop_stands(self) -> bool:
        return _LOOP in self.lasting

    def look_at_loop(self, place: tuple[Spot, ...], stood: float) -> None:
        """In each round: where MainThread stands outside the loop of the server, and for how long;
        see ServerLoop.

        What hangs may have been suspended and resumed: only who leaves the place goes on.
        """
        if self.loop_stands and place != self._place:
            self._end_of_hang(_LOOP, 'It goes on.')
        elif not self.loop_stands and stood > self.stall:
            self._place = place
            self._begin_loop(stood)

    def _begin_loop(self, stood: float) -> None:
        started, seen = time.time() - stood, self.observe()
        serving, main = _serving(seen), _main(seen)
        doing = words(main[0]) if main else 'it is not known what it does'
        self._note_hang(
            _LOOP,
            Hang(
                'hang',
                started,
                f'The loop of the server (MainThread) stands still: {doing}.',
                threads=_idents(main),
            ),
            main + serving[:_MOST_THREADS],
            seen,
        )

    # -- locks -------------------------------------------------------------------------------------

    def look_for_deadlock(self, seen: Observation | None = None) -> None:
        """Called while something takes long: a request is slow, nobody answers, or a deadlock was
        found before.

        What is only inferred from the code must be seen in two looks one after the other.
        """
        seen = self.observe() if seen is None else seen
        if not seen.states:
            return  # the look has failed
        found = {_key(deadlock): deadlock for deadlock in seen.deadlocks}
        for key in [k for k in self.lasting if k[0] == 'deadlock' and k not in found]:
            self._end(key, 'It has dissolved.')
        for key, deadlock in found.items():
            if key not in self.lasting and (deadlock.known or key in self.suspected):
                self._begin_deadlock(key, deadlock, seen)
        self.suspected = set(found)

    def _begin_deadlock(self, key: _Key, deadlock: Deadlock, seen: Observation) -> None:
        action = 'Restart Zope' if deadlock.known else 'If they go on waiting, restart Zope'
        self._begin(
            key,
            'deadlock',
            _deadlock(deadlock, seen),
            f'{action}; then take the locks in one order everywhere, or fewer of them.',
        )
        for state in _cycle(deadlock, seen)[:_MOST_IN_CYCLE]:
            self.recorder.note(_note('deadlock', state))

    # -- processors --------------------------------------------------------------------------------

    def look_for_spinning(
        self, states: Collection[ThreadState], loads: dict[int, float], served: float = 0.0
    ) -> None:
        """In each round: threads that serve no request and want a whole processor.

        `loads`: {native id: share of the time since the last look that it had a processor, or was
        ready for one}; `served`: how many requests a second have begun since, which give the loop
        of a server something to do.
        """
        idle = {
            state.native_id: state
            for state in states
            if not state.request and state.kind in _SPINNERS
        }
        load = {
            tid: loads.get(tid, 0.0) - (served * _A_REQUEST if state.kind == 'main' else 0.0)
            for tid, state in idle.items()
        }
        self._busy = {tid: self._busy.get(tid, 0) + 1 for tid in load if load[tid] >= SPINNING}
        for tid, looks in self._busy.items():
            if looks >= _LOOKS and ('spinning', tid) not in self.lasting:
                self._begin_spinning(idle[tid], loads[tid])
        seen = {state.native_id for state in states}
        for key in list(self.lasting):
            match key:
                case 'spinning', int(tid):
                    serves_now = tid in seen and tid not in idle
                    if serves_now or loads.get(tid, 0.0) < _CALM:
                        self._end(key, 'It has stopped.')

    def _begin_spinning(self, state: ThreadState, load: float) -> None:
        summary = (
            f'{_called(state)}, which serves no request, uses {min(load, 1):.0%} of a '
            f'processor{_at(state)}'
        )
        self._begin(
            ('spinning', state.native_id),
            'spinning',
            Hang(
                'spinning',
                time.time(),
                f'{summary}.',
                threads=_idents([state]),
                severity=_SPINNERS[state.kind],
            ),
            'Look at its stack among the threads, and at the known issues of the server.',
        )
        self.recorder.note(_note('spinning', state))

    # -- events ------------------------------------------------------------------------------------

    def _begin(
        self,
        key: _Key,
        kind: str,
        hang: Hang,
        action: str = 'Look at the threads: each says what it waits for.',
    ) -> None:
        self.lasting[key] = hang
        self.findings.add(_id(key), hang.summary, '', action, hang.severity)
        self.recorder.note(Note(0, hang.started, kind, 0, title=hang.summary))

    def _end(self, key: _Key, how: str) -> None:
        hang = self.lasting.pop(key)
        now = time.time()
        self._past = [*self._past[1 - _KEPT :], replace(hang, ended=now)]
        self.findings.drop(_id(key))
        self.recorder.note(
            Note(0, now, f'{hang.kind}-ended', 0, seconds=now - hang.started, title=hang.summary)
        )
        loglater.log(
            logging.WARNING, '%s %s It lasted %.1f s.', hang.summary, how, now - hang.started
        )

    def lasts(self, *kinds: str) -> bool:
        return any(hang.kind in kinds for hang in list(self.lasting.values()))

    def known(self, seen: Observation | None = None) -> list[Hang]:
        """Those that last, then those that ended, newest first; with the deadlocks of what was
        `seen` just now.

        Any thread may ask: nothing begins by that, or ends.
        """
        lasting = dict(self.lasting)
        new = []
        if seen is not None:
            new = [
                _deadlock(deadlock, seen)
                for deadlock in seen.deadlocks
                if _key(deadlock) not in lasting
            ]
        return [*new, *lasting.values(), *self._past[::-1]]


def _id(key: _Key) -> str:
    return key if isinstance(key, str) else f'{key[0]}-{key[1]}'


def _key(deadlock: Deadlock) -> tuple[str, tuple[int, ...]]:
    return 'deadlock', tuple(sorted(deadlock.idents))


def _cycle(deadlock: Deadlock, seen: Observation) -> list[ThreadState]:
    states = {state.ident: state for state in seen.states}
    return [states[ident] for ident in deadlock.idents if ident in states]


def _deadlock(deadlock: Deadlock, seen: Observation) -> Hang:
    source = 'the locks name their owners' if deadlock.known else 'inferred from the code'
    summary = '; '.join(f'{_who(state)} {words(state)}' for state in _cycle(deadlock, seen))
    return Hang(
        'deadlock',
        time.time(),
        f'Deadlock ({source}): {summary}.',
        threads=_key(deadlock)[1],
        severity='critical' if deadlock.known else 'warning',
    )


def _serving(seen: Observation) -> list[ThreadState]:
    return [state for state in seen.states if state.request]


def _main(seen: Observation) -> list[ThreadState]:
    """MainThread, unless it serves itself; at most one."""
    return [state for state in seen.states if state.kind == 'main' and not state.request]


def _idents(states: list[ThreadState]) -> tuple[int, ...]:
    """Not all threads have one."""
    return tuple(state.ident for state in states if state.ident)


def _note(kind: str, state: ThreadState) -> Note:
    request = state.request or {}
    title = f'{request["method"]} {request["path"]}' if request else state.name
    return Note(
        0,
        time.time(),
        kind,
        state.ident,
        state.native_id,
        request.get('number', 0),
        request.get('seconds', 0.0),
        title,
        words(state),
        state.frames,
    )


def _mostly(states: list[ThreadState]) -> str:
    """What most of them do, in words; and what those do that they wait for."""
    groups: dict[tuple[str, str], list[ThreadState]] = {}
    for state in states:
        groups.setdefault((state.activity, _where(state)), []).append(state)
    if not groups:
        return 'it is not known what they do'
    most = max(groups.values(), key=len)
    holders = {ident for state in states for ident in state.holders}
    roots = [
        f'; {_who(state)} {words(state)}'
        for state in states
        if state.ident in holders and not state.holders and state not in most
    ]
    return f'{len(most)} of them: {_together(most)}' + ''.join(roots)


def _together(states: list[ThreadState]) -> str:
    """What all of them do at one place: the share of a processor that one has, or its line, is
    wrong for others.
    """
    same = len({words(state) for state in states}) == 1
    return words(states[0] if same else replace(states[0], detail=_where(states[0])))


def _where(state: ThreadState) -> str:
    frame = own_frame(state.frames)
    return f'in {frame.function} ({frame.file})' if frame else ''


def _who(state: ThreadState) -> str:
    request = state.request
    return f'{request["method"]} {request["path"]} ({state.name})' if request else state.name


def _called(state: ThreadState) -> str:
    """Threads that Python does not know share their names."""
    return (state.name or 'A thread') + ('' if state.ident else f' (native id {state.native_id})')


def _at(state: ThreadState) -> str:
    return f' in {state.frames[0].function} ({state.frames[0].file})' if state.frames else ''
