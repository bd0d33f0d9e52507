"""A stop that was asked for: by which signal, and how long the process lived on after it.

Traces in, values and evidence out.  A stop takes time: docker waits 10 s before it kills,
Kubernetes 30 s, systemd 90 s.  So a process that lives on after SIGTERM or SIGINT, and is gone
without a trace soon after, was stopped.  After a longer time the signal is evidence only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..model.records import Evidence
from ..model.records import Request
from ..model.records import clocktime
from ..model.records import duration
from ..model.tracebacksummary import exception_name
from . import hangnotes
from .evidence import Traces
from .hangsummary import place_words

STOP_SIGNALS = ('SIGTERM', 'SIGINT')
#: Seconds that a stop may take: systemd waits 90 s, and then kills.
GRACE = 120
#: Seconds that a stop may take if no request began after the signal.
LONG_GRACE = 900
#: Seconds by which the time of a mark, which is that of a file, may differ from other times.
SLACK = 1
#: Seconds that the process may live on after a signal that ended it.
_AT_ONCE = 10
#: At most this many requests in progress are named.
_MOST_REQUESTS = 4


@dataclass(frozen=True)
class Stop:
    """The last SIGTERM or SIGINT.

    `time` is when it came, by the clock as it was at the end.  `lived_on` is for how many seconds
    the process certainly lived on.  `went_on_serving`: a request began after it.
    `left_loop`: the server had left its loop, so the process was ending.
    """

    signal: str
    time: float
    lived_on: float
    went_on_serving: bool
    left_loop: bool

    @property
    def confidence(self) -> str:
        """How sure it is that a process without a trace of its end was stopped; '': not at all."""
        if self.lived_on <= GRACE:
            return 'likely'
        was_ending = self.left_loop or not self.went_on_serving
        if was_ending and self.lived_on <= LONG_GRACE:
            return 'weak'
        return ''


def last_stop(t: Traces) -> Stop | None:
    """Return the last SIGTERM or SIGINT, whether the process survived it or not."""
    times = _times(t)
    if not times:
        return None
    name = max(times, key=lambda name: times[name])
    came = t.came(name, times[name])
    return Stop(
        signal=name,
        time=came,
        lived_on=max(0.0, t.last_sign - came),
        went_on_serving=_began_after(t, came),
        left_loop=_left_loop(t),
    )


def _left_loop(t: Traces) -> bool:
    """Whether the server had left its loop: the heartbeat notes where a slow stop stands."""
    return bool(t.word('finished')) or any(note.kind.startswith('slow-stop') for note in t.notes)


def _times(t: Traces) -> dict[str, float]:
    """Return when SIGTERM and SIGINT last came, by the clock of that moment.

    A signal that the process survived came before its last sign of life.  A later time is not that
    of the signal: the files were copied.
    """
    times = {}
    for name in STOP_SIGNALS:
        if name in t.asked:
            came = t.asked[name]
        elif name in t.marks:
            came = t.marks[name].time
        else:
            continue
        is_later = t.came(name, came) > t.last_sign + _AT_ONCE
        if name in t.survived_marks and is_later:
            continue
        times[name] = came
    return times


def outlived_stop(t: Traces) -> Stop | None:
    """Return the stop that was asked for and that did not end before the process was gone.

    None if nobody asked, if it is too long ago, if the end was recorded, or if the process still
    exists.
    """
    stop = last_stop(t)
    if stop is None or not stop.confidence:
        return None
    if t.word('finished') or t.still_there:
        return None
    if ended_by(t, stop.signal):
        return None
    return stop


def stop_signal(t: Traces) -> str | None:
    """Return the signal that asked for a stop which was obeyed, or None.

    It counts even if the process ran on for a while after it, because a stop takes time.
    """
    for name in STOP_SIGNALS:
        if ended_by(t, name):
            return name
    if is_interrupt(t):
        return 'SIGINT'
    for name in STOP_SIGNALS:
        if name in t.asked and _exited_soon_after(t, t.came(name, t.asked[name])):
            return name
    return None


def ended_by(t: Traces, signal: str) -> bool:
    """Whether the process ended just after this signal.

    Where the heartbeat does not beat, as in a script, it notes no mark as survived: then other
    signs of life count.
    """
    if signal not in t.marks or is_without_effect(t, signal):
        return False
    came = t.marks[signal].time
    return t.last_sign - came <= _AT_ONCE


def is_interrupt(t: Traces) -> bool:
    return exception_name(t.exception) == 'KeyboardInterrupt'


def is_without_effect(t: Traces, signal: str) -> bool:
    """Whether the kernel keeps this signal from the process.

    It does so for pid 1 of a pid namespace, unless the signal has a handler.  A run of an older
    release does not say whether it had one; Zope has none for SIGTERM under waitress.
    """
    if t.pid != 1:
        return False
    if t.handled is None:
        return signal != 'SIGINT'  # for which Python has a handler
    return signal not in t.handled


def hung_before(t: Traces, moment: float) -> bool:
    """Whether the site hung already at that moment, by the clock as it was at the end."""
    since = t.word('hung_since')
    if since:
        return t.by_last_clock(since) <= moment
    for begun in hangnotes.all_lasting(t.notes):
        if t.by_last_clock(begun.time) <= moment:
            return True
    if t.hang and t.last_sample:
        return t.last_sample.time <= moment
    return bool(t.hang)


def marks(t: Traces) -> Iterator[Evidence]:
    """Yield the evidence of each SIGTERM and SIGINT: when it came, and what became of it."""
    for name, came in _times(t).items():
        lived_on = t.last_sign - t.came(name, came)
        if lived_on > SLACK:
            continue
        fact = f'{name} arrived at {clocktime(came)}'
        if name in t.marks and not is_without_effect(t, name):
            fact += '; the process did not survive it'
        yield Evidence('signal mark', f'{fact}.')
    yield from outlived_marks(t)


def outlived_marks(t: Traces) -> Iterator[Evidence]:
    """Yield the evidence of each SIGTERM and SIGINT that the process outlived."""
    stop = last_stop(t)
    for name, came in _times(t).items():
        lived_on = t.last_sign - t.came(name, came)
        if lived_on <= SLACK:
            continue
        when = clocktime(came)
        if stop and not stop.confidence and _began_after(t, t.came(name, came)):
            fact = f'{name} at {when} had no effect; Zope went on serving for {duration(lived_on)}.'
        else:
            fact = f'{name} arrived at {when}; the process lived on for {duration(lived_on)}.'
        yield Evidence('signal mark', fact)


def why_it_took_long(t: Traces, stop: Stop) -> Iterator[Evidence]:
    """Yield why the process did not end at once, and where its threads stood, as far as known."""
    if is_without_effect(t, stop.signal):
        yield Evidence(
            'pid',
            f'Zope was pid 1 of its container: there the kernel drops {stop.signal}, unless it has '
            'a handler.',
        )
    elif t.handled is not None and stop.signal in t.handled and stop.signal != 'SIGINT':
        yield Evidence('signal handlers', f'Other code handled {stop.signal}.')
    mark = t.marks.get(stop.signal) or t.survived_marks.get(stop.signal)
    for thread in mark.last_threads if mark else ():
        if thread.frames:
            place = place_words(thread.frames)
            yield Evidence('signal mark', f'When {stop.signal} arrived, MainThread was in {place}.')
    place = main_thread_place(t, stop)
    if place:
        yield Evidence('black box', f'After that, MainThread was last seen in {place}.')
    requests = sorted(t.in_flight, key=lambda request: request.started)
    if requests:
        named = [_request_words(t, request) for request in requests[:_MOST_REQUESTS]]
        more = len(requests) - len(named)
        rest = f'; and {more} more' if more else ''
        fact = f'Requests were still in progress: {"; ".join(named)}{rest}.'
        yield Evidence('black box', fact)


def main_thread_place(t: Traces, stop: Stop) -> str:
    """Return where MainThread was when it was last seen after the signal; '' if not known."""
    of_main = [note for note in t.notes if note.ident == t.main_ident]
    if not of_main:
        return ''
    newest = of_main[-1]
    is_later = t.by_last_clock(newest.time) >= stop.time
    if not newest.frames or not is_later:
        return ''
    return place_words(newest.frames)


def _request_words(t: Traces, request: Request) -> str:
    lasted = max(0.0, t.last_sign - t.start_of(request))
    words = f'{request.method} {request.path} for {duration(lasted)}'
    mark = t.stuck.get(request.ident)
    for thread in mark.last_threads if mark else ():
        if thread.frames:
            return f'{words}, in {place_words(thread.frames)}'
    return words


def _exited_soon_after(t: Traces, came: float) -> bool:
    """Whether a normal exit began soon after the stop signal that came at that moment."""
    finished = t.word('finished')
    if not finished:
        return False
    took = t.by_last_clock(finished) - came
    if -SLACK <= took <= GRACE:
        return True
    return GRACE < took <= LONG_GRACE and not _began_after(t, came)


def _began_after(t: Traces, moment: float) -> bool:
    """Whether a request began after that moment, by the clock as it was at the end."""
    if not t.recording:
        return False
    for request in (*t.recording.finished, *t.in_flight):
        began = t.start_of(request)
        if request.ended is not None and request.count > 1:
            # Equal requests share an entry, and `started` is that of the first one.
            began = t.by_last_clock(request.ended) - (request.seconds or 0.0)
        if began > moment + SLACK:
            return True
    return False
