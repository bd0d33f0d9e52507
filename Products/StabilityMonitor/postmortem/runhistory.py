"""What the past runs of an instance say together: the last run, a crash loop."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.records import Instance
from ..model.runrecord import RunRecord

#: This many incidents whose runs began within LOOP_SECONDS are a crash loop.
LOOP_INCIDENTS = 3
LOOP_SECONDS = 600


def of_instance(summaries: Iterable[RunRecord], instance: Instance) -> tuple[RunRecord, ...]:
    """The runs of one instance only, in the same order."""
    return tuple(record for record in summaries if record.instance == instance)


def last_server_run(summaries: Iterable[RunRecord]) -> RunRecord | None:
    """The newest run of a server among runs that are sorted newest first."""
    for record in summaries:
        if record.role == 'server':
            return record
    return None


def crash_loop(summaries: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """The newest server runs of one instance, if they are incidents that began shortly after each
    other.

    `summaries` are sorted newest first.  () if there is no loop now, as when the last run was no
    incident.
    """
    incidents = []
    for record in summaries:
        if record.role != 'server':
            continue
        if not record.is_incident:
            break
        incidents.append(record)

    starts = []
    for record in incidents[:LOOP_INCIDENTS]:
        if record.started is not None:
            starts.append(record.started)
    if len(starts) < LOOP_INCIDENTS:
        return ()
    newest = starts[0]
    oldest = starts[-1]
    if newest - oldest > LOOP_SECONDS:
        return ()

    loop = []
    for record in incidents:
        age = newest - (record.started or 0)
        if age <= LOOP_SECONDS:
            loop.append(record)
    return tuple(loop)
