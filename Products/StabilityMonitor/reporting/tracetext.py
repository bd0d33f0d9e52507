"""The last requests of a black box as a trace log, see docs/trace-log.txt.

`records.Request` in, lines out.  The lines are sorted by time; a note says how many older requests
the ring no longer holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from ..model.counts import counted
from ..model.counts import plural
from ..model.records import Request
from ..model.records import isotime
from ..recording.tracelog import begin_line
from ..recording.tracelog import end_lines
from ..recording.tracelog import escaped
from ..recording.tracelog import request_id
from ..recording.tracelog import said_line
from .redaction import EVERYTHING
from .redaction import Policy
from .redaction import redacted_values


class _Event(NamedTuple):
    """The begin or the end of a request.

    Events are sorted by all fields before `lines`: at equal times the lower request number comes
    first, and its begin (`is_end` 0) before its end (1).
    """

    time: float
    number: int
    is_end: int
    lines: list[str]


def trace_lines(
    finished: Sequence[Request],
    in_flight: Sequence[Request],
    now: float,
    *,
    started: float | None = None,
    run: str = '',
    overflow: int = 0,
    policy: Policy = EVERYTHING,
) -> Iterator[str]:
    """Yield the lines, without newlines and without what the policy names.

    `now` is the time of the trace log: for a dead run, its last sign of life.  `started` and `run`
    name the process.  `overflow` is the number of requests that found no slot, from the black box.
    """
    recorded = {'finished': tuple(finished), 'in_flight': tuple(in_flight)}
    clean: dict[str, tuple[Request, ...]] = redacted_values(recorded, policy)
    finished, in_flight = clean['finished'], clean['in_flight']
    if started is not None:
        yield said_line('U', started, run or 'a process')
    events: list[_Event] = []
    for request in (*finished, *in_flight):
        events += _events(request)
    events.sort(key=lambda event: event[:3])
    first = events[0].time if events else now
    for text in _lost(finished, in_flight, overflow):
        yield said_line('N', first, text)
    for event in events:
        yield from event.lines
    for request in in_flight:
        id = request_id(request.number, request.ident)
        seconds = max(0.0, now - request.started)
        text = f'{id} has been in progress for {seconds:.3f} s, {request.phase}'
        if request.crashed:
            text += ', the crash was in it'
        yield said_line('N', now, text)


def as_text(lines: Iterable[str]) -> bytes:
    return ''.join(f'{line}\n' for line in lines).encode('utf-8', 'backslashreplace')


def _events(request: Request) -> Iterator[_Event]:
    """Yield the begin of a request, and its end if it has ended."""
    id = request_id(request.number, request.ident)
    begin = begin_line(
        id,
        request.started,
        request.method,
        request.path,
        request.cut,
    )
    yield _Event(
        time=request.started,
        number=request.number,
        is_end=0,
        lines=[begin],
    )
    if request.ended is None:
        return
    when = request.ended
    more: dict[str, Any] = {'user': request.user and escaped(request.user)}
    if request.count > 1 and request.seconds is not None:
        # One entry stands for equal requests in a row: it has the start and duration of the first
        # request, and the end of the last one.
        when = request.started + request.seconds
    if request.count != 1:
        more['count'] = request.count
        more['last'] = request.last_number
        more['until'] = isotime(request.ended)
    lines = end_lines(
        id,
        when,
        request.status,
        request.seconds,
        native=request.native_id,
        retry=request.retry,
        **more,
    )
    yield _Event(
        time=when,
        number=request.number,
        is_end=1,
        lines=lines,
    )


def _lost(
    finished: Sequence[Request], in_flight: Sequence[Request], overflow: int
) -> Iterator[str]:
    """Yield notes on missing requests.  Requests are numbered, so they can be counted."""
    newest = 0
    for request in (*finished, *in_flight):
        newest = max(newest, request.number, request.last_number)
    ended = sum(request.count for request in finished)
    lost = newest - ended - len(in_flight)
    if lost > 0:
        are = plural(lost, 'is', 'are')
        requests = counted(newest, 'request')
        yield f'{lost} of {requests} {are} missing: the ring holds only the last ones'
    if overflow:
        were = counted(overflow, 'request was', 'requests were')
        yield f'{were} not recorded: all slots were taken'
