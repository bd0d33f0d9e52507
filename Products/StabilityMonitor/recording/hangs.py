"""Hangs, deadlocks and spinning threads: which threads are the cause, and where in the code they
are.

A hang begins when every worker (a thread that serves requests) is busy with a request older than
the option "stall", or when the server's loop has been blocked for that long.  It is written into
the black box at once, with the stack of each worker, because the process may be killed next.  A
hang that ends is an event of the run.

A deadlock, and a thread that serves no request but keeps a CPU busy, are noted the same way.  Other
threads may still serve requests meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.action import Action
from ..model.records import Frame
from ..model.records import Note
from ..model.severities import CRITICAL
from ..model.severities import WARNING
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..system import loglater
from ..threads.activity import own_frame
from ..threads.activity import words
from ..threads.codeplaces import CodePlace
from ..threads.cycles import cycle_words
from ..threads.cycles import link_of
from ..threads.cycles import link_words
from ..threads.cycles import source_words
from ..threads.snapshot import Observation
from .partguard import Findings
from .recorder import Recorder

if TYPE_CHECKING:  # arming does not wait for it, see threads.snapshot
    from ..threads.locks import Deadlock

#: The key of an event that lasts: "hang", or a kind with its subject (one thread, the threads of a
#: cycle, or "loop").
_Key = str | tuple[str, str | int | tuple[int, ...]]

#: At most this many threads are noted for one hang, and for one deadlock.  The ring of notes must
#: hold both, and some other events.
_MOST_THREADS = 24
_MOST_IN_CYCLE = 6
#: At most this many events that have ended are kept.
_KEPT = 50
#: The keys of the two kinds of hangs: all workers are busy, or the server's loop is blocked.
_WORKERS: _Key = 'hang'
_LOOP: _Key = ('hang', 'loop')
#: A thread spins if it demands at least this share of one CPU at _LOOKS looks in a row.
SPINNING = 0.8
_LOOKS = 2
#: A spin ends when the thread demands less than this share of one CPU.
_CALM = 0.5
#: The server's loop needs at most this much CPU time (seconds) for each request; a fifth of it is
#: usual.
_A_REQUEST = 0.005
#: {kind of thread: severity when it spins}.  A thread that other code started may have work to do,
#: so that is only a warning.
_SPINNERS = {'main': CRITICAL, 'other': WARNING}

_LOOK = Action('Look at the page "Threads": it shows what each thread waits for.')


class Hangs:
    """The hangs, deadlocks and spinning threads of this run.

    `observe` looks at all threads; it is called only when something seems wrong.  `is_over` returns
    whether the server shuts down.  A server that shuts down waits for its last workers, which is
    not a hang.
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
        self.suspected: set[_Key] = set()  # the deadlocks that the last look has shown
        self.lasting: dict[_Key, Event] = {}
        self._since: dict[_Key, float] = {}  # when each of them began, on the monotonic clock
        self._past: list[Event] = []
        self._busy: dict[int, int] = {}  # {native id: at how many looks in a row it was busy}
        self._stuck_at: tuple[CodePlace, ...] = ()  # the stack in which the server's loop is stuck

    # -- all workers are busy ----------------------------------------------------------------------

    def look(self, busy: list[float], serving: int, now: float) -> None:
        """Begin or end the hang "all workers are busy".

        Called at each beat while a request is old or an event lasts.  `busy` holds the time at
        which each request in flight began, `serving` is the number of workers.  Times are seconds
        of the monotonic clock.
        """
        all_are_busy = bool(busy) and len(busy) >= serving
        hangs = all_are_busy and now - max(busy) > self.stall
        lasts = _WORKERS in self.lasting
        if lasts and not hangs:
            self._end_of_hang(_WORKERS, 'The site answers again.')
        elif hangs and not lasts and not self.is_over():
            self._begin_hang(len(busy), now - max(busy))

    def _begin_hang(self, count: int, since: float) -> None:
        started = time.time() - since
        seen = self.observe()
        serving = _serving(seen)
        if count == 1:
            busy = 'The only worker has been busy with a request'
        else:
            busy = f'All {count} workers have been busy with requests'
        summary = f'{busy} for longer than {self.stall:g} s: {_summary_of(serving)}.'
        hang = Event(
            'hang',
            started,
            summary=summary,
            threads=_idents(serving),
            place=_place(_largest_group(serving)),
        )
        noted = serving[:_MOST_THREADS] + _main(seen)
        self._note_hang(_WORKERS, hang, noted, seen)

    def _note_hang(
        self,
        key: _Key,
        hang: Event,
        states: list[ThreadState],
        seen: Observation,
    ) -> None:
        self._begin(key, hang)
        self._stamp()
        for state in states:
            self.recorder.note(_note('hang', state))
        self.look_for_deadlock(seen)

    def _end_of_hang(self, key: _Key, how: str) -> None:
        self._end(key, how)
        self._stamp()

    def _stamp(self) -> None:
        """Write into the black box since when the site hangs; 0 when it does not."""
        began = []
        for key in (_WORKERS, _LOOP):
            if key in self.lasting:
                began.append(self.lasting[key].started)
        self.recorder.stamp('hung_since', min(began, default=0))

    # -- the server's loop is blocked --------------------------------------------------------------

    @property
    def loop_is_stuck(self) -> bool:
        return _LOOP in self.lasting

    def look_at_loop(self, place: tuple[CodePlace, ...], stood: float) -> None:
        """Begin or end the hang "the server's loop is blocked".  Called in each round.

        `place` is the stack of MainThread while it is outside the server's loop, and `stood` is the
        number of seconds that it has been there; see ServerLoop.  Only a changed place ends the
        hang: in a process that was suspended and resumed, `stood` starts at 0 again, but the
        process may still hang.
        """
        if self.loop_is_stuck:
            if place != self._stuck_at:
                self._end_of_hang(_LOOP, 'The loop runs again.')
        elif stood > self.stall:
            self._stuck_at = place
            self._begin_loop_hang(stood)

    def _begin_loop_hang(self, stood: float) -> None:
        started = time.time() - stood
        seen = self.observe()
        main = _main(seen)
        doing = 'its activity is not known'
        if main:
            doing = f'it {words(main[0])}'
        hang = Event(
            'hang',
            started,
            summary=f"The server's loop (MainThread) is stuck: {doing}.",
            threads=_idents(main),
            place=_place(main),
        )
        noted = main + _serving(seen)[:_MOST_THREADS]
        self._note_hang(_LOOP, hang, noted, seen)

    # -- locks -------------------------------------------------------------------------------------

    def look_for_deadlock(self, seen: Observation | None = None) -> None:
        """Begin or end the events of deadlocks.

        Called while a request is slow, the site hangs, or a deadlock lasts.  A deadlock that is
        only inferred from the code begins when two looks in a row show it.
        """
        if seen is None:
            seen = self.observe()
        if not seen.states:
            return  # looking at the threads has failed
        found = {_key(deadlock): deadlock for deadlock in seen.deadlocks}
        for key in list(self.lasting):
            is_deadlock = key[0] == 'deadlock'
            if is_deadlock and key not in found:
                self._end(key, 'The deadlock has ended.')
        for key, deadlock in found.items():
            is_sure = deadlock.known or key in self.suspected
            if is_sure and key not in self.lasting:
                self._begin_deadlock(key, deadlock, seen)
        self.suspected = set(found)

    def _begin_deadlock(self, key: _Key, deadlock: Deadlock, seen: Observation) -> None:
        if deadlock.known:
            first = 'Restart Zope'
        else:
            first = 'If the threads keep waiting, restart Zope'
        action = Action(
            f'{first}; then change the code: take the locks in the same order everywhere, or take '
            'fewer locks.'
        )
        self._begin(key, _deadlock_event(deadlock, seen), action)
        for state in _threads_in(deadlock, seen)[:_MOST_IN_CYCLE]:
            self.recorder.note(_note('deadlock', state))

    # -- CPUs --------------------------------------------------------------------------------------

    def look_for_spinning(
        self,
        states: Collection[ThreadState],
        loads: dict[int, float],
        served: float = 0.0,
    ) -> None:
        """Find threads that serve no request and demand a whole CPU.  Called in each round.

        `loads` is {native id: share of the time since the last look in which the thread ran on a
        CPU or waited for one}.  `served` is how many requests have begun per second since then:
        each of them costs the server's loop some CPU time, which is subtracted for MainThread.
        """
        idle = {}
        for state in states:
            if state.kind in _SPINNERS and not state.request:
                idle[state.native_id] = state
        busy = {}
        for tid, state in idle.items():
            load = loads.get(tid, 0.0)
            if state.kind == 'main':
                load -= served * _A_REQUEST
            if load >= SPINNING:
                looks_before = self._busy.get(tid, 0)
                busy[tid] = looks_before + 1
        self._busy = busy
        for tid, looks in busy.items():
            is_known = ('spinning', tid) in self.lasting
            if looks >= _LOOKS and not is_known:
                self._begin_spinning(idle[tid], loads[tid])
        seen = {state.native_id for state in states}
        for key in list(self.lasting):
            match key:
                case 'spinning', int(tid):
                    serves_now = tid in seen and tid not in idle
                    is_calm = loads.get(tid, 0.0) < _CALM
                    if serves_now or is_calm:
                        self._end(key, 'The thread no longer spins.')

    def _begin_spinning(self, state: ThreadState, load: float) -> None:
        name = state.name or 'A thread'
        if not state.ident:  # threads that Python does not know often have the same name
            name += f' (native id {state.native_id})'
        place = None
        where = ''
        if state.frames:
            place = state.frames[0]
            where = f' in {place.function} ({place.file})'
        share = f'{min(load, 1):.0%} of one CPU'
        event = Event(
            'spinning',
            time.time(),
            summary=f'{name}, which serves no request, uses {share}{where}.',
            threads=_idents([state]),
            severity=_SPINNERS[state.kind],
            place=place,
        )
        self._begin(
            ('spinning', state.native_id),
            event,
            Action(
                'Look at its stack on the page "Threads", and at the known issues of the server.'
            ),
        )
        self.recorder.note(_note('spinning', state))

    # -- events ------------------------------------------------------------------------------------

    def _begin(
        self,
        key: _Key,
        event: Event,
        action: Action = _LOOK,
    ) -> None:
        number = self.recorder.note(
            Note(
                number=0,  # the recorder gives it
                time=event.started,
                kind=event.kind,
                ident=0,
                title=event.summary,
            )
        )
        age = max(0.0, time.time() - event.started)  # it may have begun before this look
        self._since[key] = time.monotonic() - age
        self.lasting[key] = replace(event, number=number)
        self.findings.add(
            _finding_id(key),
            title=event.summary,
            action=action,
            severity=event.severity,
        )

    def _end(self, key: _Key, how: str) -> None:
        event = self.lasting.pop(key)
        now = time.time()
        seconds = time.monotonic() - self._since.pop(key)
        past = [*self._past, replace(event, ended=now, seconds=seconds)]
        self._past = past[-_KEPT:]  # a new list, because another thread may be reading the old one
        self.findings.drop(_finding_id(key))
        self.recorder.note(
            Note(
                number=0,
                time=now,
                kind=f'{event.kind}-ended',
                ident=0,
                request=event.number,
                seconds=seconds,
                title=event.summary,
            )
        )
        loglater.log(logging.WARNING, '%s %s It lasted %.1f s.', event.summary, how, seconds)

    def lasts(self, *kinds: str) -> bool:
        """Return whether an event of one of these kinds lasts."""
        return any(event.kind in kinds for event in list(self.lasting.values()))

    def known(self, seen: Observation | None = None) -> list[Event]:
        """Return the events that last, and then those that ended, newest first.

        Deadlocks in `seen`, an observation of this moment, come first if they have not begun yet.
        Any thread may call this: it begins and ends no event.
        """
        lasting = dict(self.lasting)
        now = time.monotonic()
        events = []
        if seen is not None:
            for deadlock in seen.deadlocks:
                if _key(deadlock) not in lasting:
                    events.append(_deadlock_event(deadlock, seen))
        for key, event in lasting.items():
            since = self._since.get(key, now)  # it may end at this moment
            events.append(replace(event, seconds=now - since))
        events += self._past[::-1]
        return events


def _finding_id(key: _Key) -> str:
    if isinstance(key, str):
        return key
    kind, subject = key
    return f'{kind}-{subject}'


def _key(deadlock: Deadlock) -> tuple[str, tuple[int, ...]]:
    return 'deadlock', tuple(sorted(deadlock.idents))


def _threads_in(deadlock: Deadlock, seen: Observation) -> list[ThreadState]:
    """Return the threads of the cycle, each before the one that it waits for."""
    states = {state.ident: state for state in seen.states}
    return [states[ident] for ident in deadlock.idents if ident in states]


def _deadlock_event(deadlock: Deadlock, seen: Observation) -> Event:
    cycle = tuple(link_of(state) for state in _threads_in(deadlock, seen))
    source = source_words(deadlock.known)
    _, idents = _key(deadlock)
    return Event(
        'deadlock',
        time.time(),
        summary=f'Deadlock ({source}): {cycle_words(cycle)}.',
        threads=idents,
        severity=CRITICAL if deadlock.known else WARNING,
        known=deadlock.known,
        cycle=cycle,
    )


def _serving(seen: Observation) -> list[ThreadState]:
    return [state for state in seen.states if state.request]


def _main(seen: Observation) -> list[ThreadState]:
    """Return [MainThread], or [] if it serves a request or was not seen."""
    return [state for state in seen.states if state.kind == 'main' and not state.request]


def _idents(states: list[ThreadState]) -> tuple[int, ...]:
    """Return the idents of those threads that Python knows."""
    return tuple(state.ident for state in states if state.ident)


def _note(kind: str, state: ThreadState) -> Note:
    number = 0
    seconds = 0.0
    title = state.name
    request = state.request
    if request:
        number = request.number
        seconds = request.seconds or 0.0
        title = f'{request.method} {request.path}'
    return Note(
        number=0,  # the recorder gives it
        time=time.time(),
        kind=kind,
        ident=state.ident,
        native_id=state.native_id,
        request=number,
        seconds=seconds,
        title=title,
        detail=words(state),
        frames=state.frames,
    )


def _summary_of(states: list[ThreadState]) -> str:
    """Return in words what most of these threads do.

    If some threads hold locks that the others wait for, the words also say what the holders do.
    """
    most = _largest_group(states)
    if not most:
        return 'their activity is not known'
    first = most[0]
    if any(words(state) != words(first) for state in most):
        # The words of `first` may contain its CPU share or its line, which differ between threads.
        first = replace(first, detail=_where(first))
    if len(states) == 1:
        subject = 'it'
    elif len(most) == 1:
        subject = 'one of them'
    else:
        subject = f'each of {len(most)}'
    summary = f'{subject} {words(first)}'
    holders: set[int] = set()
    for state in states:
        holders.update(state.holders)
    for state in states:
        holds_others_up = state.ident in holders and not state.holders
        if holds_others_up and state not in most:
            summary += f'; {link_words(link_of(state))}'
    return summary


def _largest_group(states: list[ThreadState]) -> list[ThreadState]:
    """Return the largest group of threads that do the same in the same function."""
    groups: dict[tuple[str, str], list[ThreadState]] = {}
    for state in states:
        group = groups.setdefault((state.activity, _where(state)), [])
        group.append(state)
    return max(groups.values(), key=len, default=[])


def _place(states: list[ThreadState]) -> Frame | None:
    """Return the innermost frame, outside Python's library, of the first of these threads."""
    if not states:
        return None
    return own_frame(states[0].frames)


def _where(state: ThreadState) -> str:
    frame = own_frame(state.frames)
    if frame is None:
        return ''
    return f'in {frame.function} ({frame.file})'
