"""The trace log of any run of a data directory.

That of a living run comes from its black box, that of a dead run from its record.  A dead run that
waits for triage is judged as triage would do it, and left where it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from ..model.errors import NoSuchRun
from ..model.errors import StabilityError
from ..model.records import Request
from ..model.records import from_isotime
from ..model.runrecord import RunRecord
from ..postmortem.triage import examine
from ..recording.tracelog import said_line
from ..store.archive import Archive
from ..store.blackboxreader import Recording
from ..store.blackboxreader import load
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from .tracetext import trace_lines

#: The largest number that the black box can hold.
_LARGEST = (1 << 64) - 1
#: Seconds.  The float nearest to a millisecond may be just below it, and a line is cut to
#: milliseconds.
_JUST_ABOVE = 1e-6


class NoBlackBox(StabilityError):
    next_step = 'Ask that process itself: the page "Threads" of its tab has the trace log.'


def trace(base: Base, run: str, clock: Callable[[], float] = time.time) -> Iterator[str]:
    """The lines.  Raises NoSuchRun, UnreadableRecord, and NoBlackBox for a living run that has
    none on disk.
    """
    path = base.runs / run
    if not RUN_NAME.fullmatch(run) or not path.is_dir():
        return of_record(Archive(base).record(run))
    if not may_live(path):
        return of_record(examine(path))
    try:
        recording = load(path / BLACKBOX)
    except FileNotFoundError:
        raise NoBlackBox(f'The run {run} has no black box on disk.') from None
    return of_recording(recording, clock(), name_facts(run)[0], run)


def newest(base: Base) -> str:
    """The living server, else the last server, else the living or last script.

    Raises NoSuchRun where there is no run.
    """
    found = []  # (is it a server, does it live, its name, which begins with its start)
    for name in base.waiting():
        path = base.runs / name
        is_server = read_json(path / CONTEXT).get('role') != 'script'
        found.append((is_server, may_live(path), name))
    for record in Archive(base).summaries():
        found.append((record.role == 'server', False, record.run))
    if not found:
        raise NoSuchRun('No run has been recorded here yet.')
    return max(found)[-1]


def of_recording(recording: Recording, now: float, started: float, run: str) -> Iterator[str]:
    """The trace log of a living run."""
    return trace_lines(
        recording.finished,
        recording.in_flight,
        now,
        started=started,
        run=run,
        overflow=recording.words['overflow'],
    )


def of_record(record: RunRecord) -> Iterator[str]:
    """The trace log of a dead run; the last line says how it ended."""
    started = from_isotime(record.started)
    ended = from_isotime(record.ended) or started or 0.0
    overflow = record.counters.get('requests_without_slot')
    yield from trace_lines(
        _requests(record.recent, ended),
        _requests(record.requests),
        ended,
        started=started,
        run=record.run,
        overflow=_number(overflow),
    )
    yield said_line('N', ended, f'the process ended: {record.verdict}, {record.confidence}')


def _requests(documents: Iterable[dict[str, Any]], ended: float | None = None) -> Iterator[Request]:
    """Requests of a record, as they were in the black box.

    `ended` is None for requests that are in flight.  Else it stands in for requests that do not
    say when they ended.
    """
    for document in documents:
        started = _moment(document['started'])
        if started is None or started < 0:
            continue
        over = ended
        if over:
            over = _moment(document['ended']) or over
        yield _request(document, started, over)


def _moment(text: str | None) -> float | None:
    seconds = from_isotime(text)
    return None if seconds is None else seconds + _JUST_ABOVE


def _request(document: dict[str, Any], started: float, ended: float | None) -> Request:
    seconds = document['seconds'] if 0 <= document['seconds'] < 1e11 else 0.0
    return Request(
        number=_number(document['number']),
        ident=_number(document['ident']),
        native_id=_number(document['native_id']),
        method=document['method'],
        path=document['path'],
        started=started,
        phase=document['phase'],
        retry=_number(document['retry']),
        user=document['user'],
        cut=document['cut'],
        ended=ended,
        seconds=None if ended is None else seconds,
        status=_number(document['status']),
        count=_number(document['count']),
        last_number=_number(document['last_number']),
        crashed=document['crashed'],
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        return 0
    return int(min(max(0, value), _LARGEST))
