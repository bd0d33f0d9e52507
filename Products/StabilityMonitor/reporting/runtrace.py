"""The trace log of any run in a data directory.

It is made from the black box of a living run, or from the record of a dead run.  A dead run that
waits for triage is judged as triage does it, but not archived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace

from ..model.errors import NoSuchRun
from ..model.errors import StabilityError
from ..model.records import Request
from ..model.records import from_isotime
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..postmortem.triage import examine
from ..recording.tracelog import said_line
from ..store import runnumbers
from ..store.archive import Archive
from ..store.blackboxreader import Recording
from ..store.blackboxreader import load
from ..store.damagedrecords import alone
from ..store.regularfiles import is_folder
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import name_facts
from ..store.rundirectory import number_of
from ..store.rundirectory import read_json
from .redaction import EVERYTHING
from .redaction import Policy
from .tracetext import trace_lines


class NoBlackBox(StabilityError):
    next_step = 'The page "Threads" of that process has the trace log.'


def trace(
    base: Base, run: str, policy: Policy = EVERYTHING, clock: Callable[[], float] = time.time
) -> Iterator[str]:
    """Return the lines, without what the policy names.

    Raises NoSuchRun, UnreadableRecord, and NoBlackBox for a living run without a black box on disk.
    """
    path = base.runs / run
    is_waiting = RUN_NAME.fullmatch(run) and is_folder(path)
    if not is_waiting:
        return of_record(Archive(base).record(run), policy)
    if not may_live(path):
        return of_record(examine(path), policy)
    try:
        recording = load(path / BLACKBOX)
    except FileNotFoundError:
        raise NoBlackBox(f'The run {run} has no black box on disk.') from None
    started, *_ = name_facts(run)
    return of_recording(recording, clock(), started, run, policy)


def newest(base: Base) -> str:
    """Return the living server, else the last server, else the living or last script.

    Raises NoSuchRun if there is no run.
    """
    found = []  # (is a server, may live, number, start in whole seconds, name)
    for name in base.waiting():
        path = base.runs / name
        is_script = read_json(path / CONTEXT).get('role') == 'script'
        started, _ = name_facts(name)
        found.append((not is_script, may_live(path), number_of(path), started, name))
    for record in Archive(base).summaries():
        is_server = record.role == 'server'
        started, _ = name_facts(record.run)
        found.append((is_server, False, runnumbers.valid(record.number), started, record.run))
    if not found:
        raise NoSuchRun('No run has been recorded here yet.')
    *_, run = max(found)
    return run


def of_recording(
    recording: Recording, now: float, started: float, run: str, policy: Policy = EVERYTHING
) -> Iterator[str]:
    """Return the trace log of a living run."""
    return trace_lines(
        recording.finished,
        recording.in_flight,
        now,
        started=started,
        run=run,
        overflow=recording.words['overflow'],
        policy=policy,
    )


def of_record(record: RunRecord, policy: Policy = EVERYTHING) -> Iterator[str]:
    """Return the trace log of a dead run; the last line says how it ended."""
    return iter(alone(record, lambda record: list(_of_record(record, policy))))


def _of_record(record: RunRecord, policy: Policy) -> Iterator[str]:
    ended = _archived(record.ended or record.started or 0.0)
    finished = []
    for request in record.recent:
        if request.started > 0:
            end_of_request = _of_request(request.ended or ended)
            finished.append(replace(_tidy(request), ended=end_of_request))
    in_flight = []
    for request in record.requests:
        if request.started > 0:
            in_flight.append(replace(_tidy(request), ended=None, seconds=None))
    overflow = record.counters.get('requests_without_slot')
    yield from trace_lines(
        finished,
        in_flight,
        ended,
        started=None if record.started is None else _archived(record.started),
        run=record.run,
        overflow=overflow if isinstance(overflow, int) else 0,
        policy=policy,
    )
    yield said_line('N', ended, f'the process ended: {record.verdict}, {record.confidence}')


def _archived(moment: float) -> float:
    """Round to milliseconds, as the archive does, so that triage does not change the trace log."""
    return from_isotime(isotime(moment)) or moment


def _of_request(moment: float) -> float:
    """Round to milliseconds plus 1 µs: a float may be just too small, and a line truncates it."""
    return _archived(moment) + 1e-6


def _tidy(request: Request) -> Request:
    """Return the request with 0 in place of numbers that no black box can hold."""
    seconds = request.seconds or 0.0
    return replace(
        request,
        started=_of_request(request.started),
        number=max(0, request.number),
        ident=max(0, request.ident),
        native_id=max(0, request.native_id),
        retry=max(0, request.retry),
        status=max(0, request.status),
        count=max(0, request.count),
        last_number=max(0, request.last_number),
        seconds=seconds if 0 <= seconds < 1e11 else 0.0,
    )
