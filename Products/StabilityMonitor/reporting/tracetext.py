"""The last requests of a black box as a trace log: pure, records.Request in, lines out; see
docs/trace-log.txt.

Lines stand in the order of their times, and what the ring does not hold any more is said, not
hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from ..model.records import Request
from ..model.records import isotime
from ..recording.tracelog import begin_line
from ..recording.tracelog import end_lines
from ..recording.tracelog import escaped
from ..recording.tracelog import request_id
from ..recording.tracelog import said_line


def trace_lines(
    finished: Iterable[Request],
    in_flight: Iterable[Request],
    now: float,
    *,
    started: float | None = None,
    run: str = '',
    overflow: int = 0,
) -> Iterator[str]:
    """Lines without their ends.  `now`: the moment this is true of, for a dead run that of its last
    sign of life.

    `started` and `run` name the process, `overflow` counts requests that found no slot (a word of
    the black box).
    """
    finished, in_flight = tuple(finished), tuple(in_flight)
    if started is not None:
        yield said_line('U', started, run or 'a process')
    events = [event for request in (*finished, *in_flight) for event in _events(request)]
    first = min((when for when, *_ in events), default=now)
    yield from (said_line('N', first, text) for text in _lost(finished, in_flight, overflow))
    for _, _, _, lines in sorted(events, key=lambda event: event[:3]):
        yield from lines
    yield from (said_line('N', now, _in_flight(request, now)) for request in in_flight)


def as_text(lines: Iterable[str]) -> bytes:
    return ''.join(f'{line}\n' for line in lines).encode('utf-8', 'backslashreplace')


def _events(request: Request) -> Iterator[tuple[float, int, int, list[str]]]:
    """(time, number, 0 for a begin or 1 for an end, lines): of one moment, what ends there was
    first.
    """
    id = request_id(request.number, request.ident)
    yield (
        request.started,
        request.number,
        0,
        [begin_line(id, request.started, request.method, request.path, request.cut)],
    )
    if request.ended is not None:
        when = _first_end(request, request.ended)
        yield (
            when,
            request.number,
            1,
            end_lines(
                id,
                when,
                request.status,
                request.seconds,
                native=request.native_id,
                retry=request.retry,
                **_more(request),
            ),
        )


def _first_end(request: Request, ended: float) -> float:
    """Of equal requests in a row only the first has both its times in the ring; `ended` is that of
    the last one.
    """
    if request.count > 1 and request.seconds is not None:
        return request.started + request.seconds
    return ended


def _more(request: Request) -> dict[str, Any]:
    user = {'user': request.user and escaped(request.user)}
    if request.count == 1:
        return user
    return {
        **user,
        'count': request.count,
        'last': request.last_number,
        'until': isotime(request.ended),
    }


def _lost(
    finished: Sequence[Request], in_flight: Sequence[Request], overflow: int
) -> Iterator[str]:
    """Each request has a number, so that the missing ones can be counted."""
    newest = max((max(r.number, r.last_number) for r in (*finished, *in_flight)), default=0)
    lost = newest - sum(r.count for r in finished) - len(in_flight)
    if lost > 0:
        yield f'{lost} of {newest} requests are not here: the ring holds the last ones only'
    if overflow:
        yield f'{overflow} requests were not recorded: all slots were taken'


def _in_flight(request: Request, now: float) -> str:
    crashed = ', the crash was in it' if request.crashed else ''
    return (
        f'{request_id(request.number, request.ident)} is in flight for '
        f'{max(0.0, now - request.started):.3f} s, '
        f'{request.phase}{crashed}'
    )
