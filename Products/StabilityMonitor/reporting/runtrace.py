"""The trace log of any run of a data directory: of one that lives from its black box, of a dead one
from its record.

A dead run that waits for triage is examined as triage would, and left where it is.
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

_LARGEST, _JUST_ABOVE = (1 << 64) - 1, 1e-6


class NoBlackBox(StabilityError):
    next_step = 'Ask that process itself: the page "Threads" of its tab has the trace log.'


def trace(base: Base, run: str, clock: Callable[[], float] = time.time) -> Iterator[str]:
    """The lines.  Raises NoSuchRun, NoBlackBox for a living run without one on disk,
    UnreadableRecord.
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
    """The server that lives, else that which was last; only then scripts.  Raises NoSuchRun where
    there is nothing.
    """
    found = [
        (
            read_json(base.runs / name / CONTEXT).get('role') != 'script',
            may_live(base.runs / name),
            name,
        )
        for name in base.waiting()
    ]
    found += [(record.role == 'server', False, record.run) for record in Archive(base).summaries()]
    if not found:
        raise NoSuchRun('No run has been recorded here yet.')
    return max(found)[-1]


def of_recording(recording: Recording, now: float, started: float, run: str) -> Iterator[str]:
    """Of a run that lives."""
    return trace_lines(
        recording.finished,
        recording.in_flight,
        now,
        started=started,
        run=run,
        overflow=recording.words['overflow'],
    )


def of_record(record: RunRecord) -> Iterator[str]:
    """Of a dead run; the last line says how it ended."""
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
    """Requests of a record as they were in the black box; `ended` for one that does not say when it
    was over.
    """
    for document in documents:
        started = _moment(document['started'])
        if started is not None and started >= 0:
            yield _request(document, started, ended and (_moment(document['ended']) or ended))


def _moment(text: str | None) -> float | None:
    """The number nearest to a millisecond may lie just below it, and a line is cut to
    milliseconds.
    """
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
    return int(min(max(0, value), _LARGEST)) if isinstance(value, int) else 0
