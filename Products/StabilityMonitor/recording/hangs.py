"""Hangs, deadlocks and spinning threads: which threads are the cause, and where in the code they
are.

A hang begins when a visitor has waited for longer than the option "stall", or when for that long
all workers (threads that serve requests) are busy and none progresses, or the server's loop is
blocked.  It is written into the black box at once, with the stack of each worker, because the
process may be killed next.  A hang that ends is an event of the run.

If all workers are busy for that long, progress, and no visitor has to wait long, the server is
saturated.  That is an event, too, but no trouble.

A deadlock, and a thread that serves no request but keeps a CPU busy, are noted the same way.  Other
threads may still serve requests meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.action import Action
from ..model.counts import counted
from ..model.eventkinds import FROZEN
from ..model.eventkinds import SUSPENDED
from ..model.eventkinds import event_kind
from ..model.eventkinds import freeze_words
from ..model.records import Frame
from ..model.records import Note
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.severities import Severity
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..system import loglater
from ..system.tasks import native_id_of
from ..threads.activity import own_frame
from ..threads.activity import words
from ..threads.awaited import awaited
from ..threads.codeplaces import CodePlace
from ..threads.cycles import cycle_words
from ..threads.cycles import link_of
from ..threads.cycles import link_words
from ..threads.cycles import source_words
from ..threads.snapshot import Observation
from .partguard import Findings
from .recorder import Recorder
from .visitors import Answering

if TYPE_CHECKING:  # arming does not wait for it, see threads.snapshot
    from ..threads.locks import Deadlock

#: The key of an event that lasts: "hang", or a kind with its subject (one thread, the threads of a
#: cycle, or "loop").
_Key = str | tuple[str, str | int | tuple[int, ...]]

#: At most this many threads are noted for one hang, and for one deadlock.  The ring of notes must
#: hold both, and some other events.
_MOST_THREADS = 24
_MOST_IN_CYCLE = 6
#: At most this many requests are named in the summary of a stop that takes long.
_MOST_NAMED = 2
#: At most this many events that have ended are kept.
_KEPT = 50
#: The keys of the two kinds of hangs: visitors wait, or the server's loop is blocked.
_WORKERS: _Key = 'hang'
_LOOP: _Key = ('hang', 'loop')
_SATURATED: _Key = 'saturated'
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

_LOOK = Action(
    'Run "stabilitymonitor stacks", which needs no free worker, or look at the page "Threads": '
    'they show what each thread waits for.'
)


class Hangs:
    """The hangs, deadlocks and spinning threads of this run.

    `observe` looks at all threads; it is called only when something seems wrong.  `is_over` returns
    whether the server shuts down.  A server that shuts down waits for its last workers, which is
    not a hang.  `clock` is the clock by which durations are measured, in seconds, see RunClock.
    `unchanged_since` returns since when the thread with an ident has the same stack, by that clock,
    or None if that is not known.
    """

    def __init__(
        self,
        recorder: Recorder,
        observe: Callable[[], Observation],
        findings: Findings,
        stall: float,
        is_over: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        unchanged_since: Callable[[int], float | None] = lambda ident: None,
    ) -> None:
        self.recorder = recorder
        self.observe = observe
        self.unchanged_since = unchanged_since
        self.findings = findings
        self.stall = stall
        self.is_over = is_over
        self.clock = clock
        # Since when each deadlock of the last look lasts, by `clock`.
        self.suspected: dict[_Key, float] = {}
        #: The deadlocks that last, but that the last look did not show.
        self._missing: set[_Key] = set()
        self.lasting: dict[_Key, Event] = {}
        self._since: dict[_Key, float] = {}  # when each of them began, by `clock`
        self._past: list[Event] = []
        self._busy: dict[int, int] = {}  # {native id: at how many looks in a row it was busy}
        self._stuck_at: tuple[CodePlace, ...] = ()  # the stack in which the server's loop is stuck

    # -- visitors wait -----------------------------------------------------------------------------

    def look(self, now: Answering) -> None:
        """Begin or end a hang in which visitors wait, and the event "saturated".

        Called at each beat while all workers are busy, a visitor waits, or an event lasts.
        """
        reason = self._reason(now)
        if not reason and _WORKERS in self.lasting:
            self._end_of_hang(_WORKERS, 'The site answers again.')
        elif reason and _WORKERS not in self.lasting and not self.is_over():
            if _SATURATED in self.lasting:
                self._end(_SATURATED, 'Now the site hangs.')
            self._begin_hang(reason, now)
        is_saturated = now.all_busy > self.stall and not reason
        if not is_saturated and _SATURATED in self.lasting:
            self._end(_SATURATED, 'A worker is free again.')
        elif is_saturated and _SATURATED not in self.lasting:
            # Without progress for half of the time it is more likely that a hang begins soon.
            if now.stood < self.stall / 2 and not self.is_over():
                self._begin_saturated(now)

    def _reason(self, now: Answering) -> str:
        """Return why visitors are not answered: a code of REASONS, or ''."""
        if now.stood > self.stall:
            return 'workers'
        if now.waited > self.stall:
            return 'queue'
        if now.refused > self.stall:
            return now.reason
        return ''

    def _begin_hang(self, reason: str, now: Answering) -> None:
        seen = self.observe()
        serving = _serving(seen)
        since, summary = self._words_of(reason, now)
        if reason in ('workers', 'queue'):
            summary += f': {_summary_of(serving)}'
        hang = Event(
            'hang',
            time.time() - since,
            summary=f'{summary}.',
            threads=_idents(serving),
            place=_place(_largest_group(serving)),
            reason=reason,
        )
        noted = serving[:_MOST_THREADS] + _main(seen)
        self._note_hang(_WORKERS, hang, since, noted, seen)

    def _words_of(self, reason: str, now: Answering) -> tuple[float, str]:
        """Return for how many seconds the hang has lasted, and the beginning of its summary."""
        longer = f'for longer than {self.stall:g} s'
        if reason == 'workers':
            if now.serving == 1:
                return now.stood, f'The only worker has been busy with a request {longer}'
            return now.stood, f'All {now.serving} workers have been busy with requests {longer}'
        if reason == 'queue':
            waiting = counted(now.queue, 'request waits', 'requests wait')
            return now.waited, f'{waiting} for a worker, the oldest {longer}'
        if reason == 'connections':
            full = f'{now.connections} of {now.limit} connections are in use'
        else:
            full = 'the process has used up its file descriptors'
        waiting = counted(now.accept_queue, 'visitor waits', 'visitors wait')
        return now.refused, f'No visitor could connect {longer}: {full}, and {waiting}'

    def _begin_saturated(self, now: Answering) -> None:
        if now.serving == 1:
            busy = 'The only worker has been busy'
        else:
            busy = f'All {now.serving} workers have been busy'
        event = Event(
            'saturated',
            time.time() - now.all_busy,
            summary=f'{busy} for longer than {self.stall:g} s, but progress is made.',
            severity=INFO,
        )
        self._begin(_SATURATED, event, now.all_busy, action=None)

    def _note_hang(
        self,
        key: _Key,
        hang: Event,
        age: float,
        states: list[ThreadState],
        seen: Observation,
    ) -> None:
        self._begin(key, hang, age)
        self._stamp()
        for state in states:
            self.recorder.note(_note('hang', state))
        self.look_for_deadlock(seen)

    def _end_of_hang(self, key: _Key, how: str) -> None:
        self._end(key, how)
        self._stamp()

    def _stamp(self) -> None:
        """Write into the black box since when the site hangs, by both clocks; 0: it does not."""
        began = []
        ages = []
        for key in (_WORKERS, _LOOP):
            if key in self.lasting:
                began.append(self.lasting[key].started)
                ages.append(self.clock() - self._since[key])
        monotonic = time.monotonic() - max(ages) if ages else 0.0
        self.recorder.stamp('hung_monotonic', monotonic)
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
            reason='loop',
        )
        noted = main + _serving(seen)[:_MOST_THREADS]
        self._note_hang(_LOOP, hang, stood, noted, seen)

    # -- the start and the end of a life -----------------------------------------------------------

    def look_at_delay(self, kind: str, stood: float, is_critical: bool) -> None:
        """Begin the event that a start or stop takes long, or make it critical.

        `kind` is "slow-start" or "slow-stop", `stood` the number of seconds that MainThread has
        been at its place.
        """
        key = (kind, 'main')
        severity = CRITICAL if is_critical else INFO
        event = self.lasting.get(key)
        if event is None:
            self._begin_delay(key, kind, stood, severity)
        elif event.severity != severity:
            self.lasting[key] = replace(event, severity=severity)
            self.findings.drop(_finding_id(key))
            self.findings.add(
                _finding_id(key),
                title=event.summary,
                action=_LOOK,
                severity=severity,
            )

    def _begin_delay(self, key: _Key, kind: str, stood: float, severity: Severity) -> None:
        started = time.time() - stood
        seen = self.observe()
        main = [state for state in seen.states if state.kind == 'main']
        main = main or _main_without_python(seen)
        known = awaited(threading.main_thread().ident or 0)
        place = _place(main)
        server = ''
        doing = 'is in an unknown state'
        if known:
            place = known.frame
            server = known.server
            doing = f'is in {known.frame.function} and waits for {server}'
        elif main and not main[0].frames:
            doing = f'runs no Python code: it {words(main[0])}'
        elif main and _joins_all(main[0]):
            doing = f'waits for other threads to end: {_names_of_others()}'
        elif main:
            doing = words(main[0])
        serving = [state for state in _serving(seen) if state.kind != 'main']
        for state in serving[:_MOST_NAMED]:
            doing += f'; {_request_words(state)} {words(state)}'
        event = Event(
            kind,
            started,
            summary=f'{event_kind(kind).delay}: MainThread {doing}.',
            threads=_idents(main),
            severity=severity,
            place=place,
        )
        self._begin(key, event, stood, detail=server)
        noted = main + serving[:_MOST_THREADS]
        for state in noted:
            self.recorder.note(_note(kind, state))
        self.look_for_deadlock(seen)

    def end_of_delay(self, kind: str, how: str) -> None:
        """End the event that a start or stop takes long, if it lasts."""
        key = (kind, 'main')
        if key in self.lasting:
            self._end(key, how)

    # -- locks -------------------------------------------------------------------------------------

    def look_for_deadlock(self, seen: Observation | None = None) -> None:
        """Begin or end the events of deadlocks.

        Called while a request is slow, the site hangs, or a deadlock lasts.  A deadlock that is
        only inferred from the code begins when two looks in a row show it.  Each deadlock ends when
        two looks in a row do not show it: a signal wakes a thread that waits for a lock.
        """
        if seen is None:
            seen = self.observe()
        if not seen.states:
            return  # looking at the threads has failed
        found = {_key(deadlock): deadlock for deadlock in seen.deadlocks}
        lasting = {key for key in self.lasting if key[0] == 'deadlock'}
        missing = lasting - found.keys()
        for key in missing & self._missing:
            self._end(key, 'The deadlock has ended.')
        self._missing = missing
        for key, deadlock in found.items():
            is_sure = deadlock.known or key in self.suspected
            if is_sure and key not in self.lasting:
                self._begin_deadlock(key, deadlock, seen)
        self.suspected = {key: self._suspected_since(self.suspected, key) for key in found}

    def _begin_deadlock(self, key: _Key, deadlock: Deadlock, seen: Observation) -> None:
        if deadlock.known:
            first = 'Restart Zope'
        else:
            first = 'If the threads keep waiting, restart Zope'
        action = Action(
            f'{first}; then change the code: take the locks in the same order everywhere, or take '
            'fewer locks.'
        )
        age = self._suspected_for(self.suspected, key)
        event = _deadlock_event(deadlock, seen, time.time() - age)
        self._begin(key, event, age, action)
        for state in _threads_in(deadlock, seen)[:_MOST_IN_CYCLE]:
            self.recorder.note(_note('deadlock', state))

    def _suspected_for(self, suspected: dict[_Key, float], key: _Key) -> float:
        """Return for how many seconds this deadlock has been suspected."""
        return self.clock() - self._suspected_since(suspected, key)

    def _suspected_since(self, suspected: dict[_Key, float], key: _Key) -> float:
        """Return since when a deadlock lasts: since the last of its threads came to its place.

        Where that is not known, since it was first seen, which is now if it is not suspected yet.
        """
        since = suspected.get(key)
        if since is not None:
            return since
        now = self.clock()
        idents = key[1] if isinstance(key[1], tuple) else ()
        known = [self.unchanged_since(ident) for ident in idents]
        return min(now, max((at for at in known if at is not None), default=now))

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
            0.0,
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
        age: float,
        action: Action | None = _LOOK,
        detail: str = '',
    ) -> None:
        """Note that an event began `age` seconds ago; without an action it is no finding."""
        number = self.recorder.note(
            Note(
                number=0,  # the recorder gives it
                time=event.started,
                kind=event.kind,
                ident=0,
                title=event.summary,
                detail=detail or event.reason,
            )
        )
        self._since[key] = self.clock() - age
        self.lasting[key] = replace(event, number=number)
        if action:
            self.findings.add(
                _finding_id(key),
                title=event.summary,
                action=action,
                severity=event.severity,
            )

    def _end(self, key: _Key, how: str) -> None:
        event = self.lasting.pop(key)
        now = time.time()
        seconds = self.clock() - self._since.pop(key)
        self._keep(replace(event, ended=now, seconds=seconds))
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
        level = logging.INFO if event.severity == INFO else logging.WARNING
        loglater.log(level, '%s %s It lasted %.1f s.', event.summary, how, seconds)

    def _keep(self, event: Event) -> None:
        past = [*self._past, event]
        self._past = past[-_KEPT:]  # a new list, because another thread may be reading the old one

    def note_freeze(self, seconds: float, of_machine: bool) -> None:
        """Note that the process, or the whole machine, was frozen until now.

        It is known only afterwards, so the event has no note of its beginning.
        """
        now = time.time()
        summary = freeze_words(seconds, of_machine)
        event = Event(
            FROZEN,
            now - seconds,
            summary=summary,
            severity=INFO,
            ended=now,
            seconds=seconds,
        )
        self._keep(event)
        self.recorder.note(
            Note(
                number=0,  # the recorder gives it
                time=now,
                kind=f'{FROZEN}-ended',
                ident=0,
                seconds=seconds,
                title=summary,
                detail=SUSPENDED if of_machine else '',
            )
        )
        loglater.log(logging.INFO, '%s', summary)

    def lasts(self, *kinds: str) -> bool:
        """Return whether an event of one of these kinds lasts."""
        return any(event.kind in kinds for event in list(self.lasting.values()))

    def known(self, seen: Observation | None = None) -> list[Event]:
        """Return the events that last, and then those that ended, newest first.

        Deadlocks in `seen`, an observation of this moment, come first if they have not begun yet.
        Any thread may call this: it begins and ends no event.
        """
        lasting = dict(self.lasting)
        suspected = dict(self.suspected)
        now = self.clock()
        events = []
        if seen is not None:
            for deadlock in seen.deadlocks:
                cycle = _key(deadlock)
                if cycle not in lasting:
                    age = self._suspected_for(suspected, cycle)
                    events.append(_deadlock_event(deadlock, seen, time.time() - age))
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


def _deadlock_event(deadlock: Deadlock, seen: Observation, started: float) -> Event:
    cycle = tuple(link_of(state) for state in _threads_in(deadlock, seen))
    kind = f'Deadlock ({source_words(deadlock.known)})'
    if deadlock.possible:
        kind = 'Possible deadlock (inferred)'
    _, idents = _key(deadlock)
    return Event(
        'deadlock',
        started,
        summary=f'{kind}: {cycle_words(cycle)}.',
        threads=idents,
        severity=CRITICAL if deadlock.known else WARNING,
        known=deadlock.known,
        possible=deadlock.possible,
        cycle=cycle,
    )


def _serving(seen: Observation) -> list[ThreadState]:
    """Return the busy workers.  Without a request of Zope, one is in WSGI middleware, or waits for
    a client.
    """
    found = []
    for state in seen.states:
        is_busy_worker = state.kind == 'worker' and state.activity != 'idle'
        if state.request or is_busy_worker:
            found.append(state)
    return found


def _main(seen: Observation) -> list[ThreadState]:
    """Return [MainThread], or [] if it serves a request or was not seen."""
    return [state for state in seen.states if state.kind == 'main' and not state.request]


def _joins_all(main: ThreadState) -> bool:
    """Whether MainThread waits at the end for all threads that are no daemons."""
    innermost = main.frames[0]
    return innermost.function == '_shutdown' and innermost.file.endswith('threading.py')


def _names_of_others() -> str:
    """Return the names of threads that keep the interpreter from ending: those that are no daemons.

    `threading.enumerate` is not called, because a stuck thread may hold its lock.
    """
    threads = dict(threading._active)  # type: ignore[attr-defined]  # private to threading
    names = []
    for thread in threads.values():
        if thread is not threading.main_thread() and not thread.daemon:
            names.append(str(thread.name))
    more = len(names) - _MOST_NAMED
    rest = f' and {counted(more, "more thread")}' if more > 0 else ''
    return f'{", ".join(names[:_MOST_NAMED]) or "not known"}{rest}'


def _main_without_python(seen: Observation) -> list[ThreadState]:
    """Return [MainThread] as the kernel sees it, when it runs no Python code; [] if not seen."""
    main = threading.main_thread()
    for state in seen.states:
        if state.native_id == native_id_of(main) and not state.frames:
            return [replace(state, ident=main.ident or 0, name='MainThread', kind='main')]
    return []


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
        title = _request_words(state)
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


def _request_words(state: ThreadState) -> str:
    """Return for example "GET /front-page"; the name of a thread that serves nothing."""
    request = state.request
    return f'{request.method} {request.path}' if request else state.name


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
