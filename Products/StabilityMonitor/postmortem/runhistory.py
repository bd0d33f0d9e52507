"""Finds the last run and a crash loop among the past runs of an instance."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.records import Instance
from ..model.runrecord import RunRecord

#: A crash loop is at least this many incidents whose runs began within LOOP_SECONDS.
LOOP_INCIDENTS = 3
LOOP_SECONDS = 600


def of_instance(summaries: Iterable[RunRecord], instance: Instance) -> tuple[RunRecord, ...]:
    """Return the runs of one instance, in the same order."""
    return tuple(record for record in summaries if record.instance == instance)


def last_server_run(summaries: Iterable[RunRecord]) -> RunRecord | None:
    """Return the newest run of a server, or None.  `summaries` are sorted newest first."""
    for record in summaries:
        if record.role == 'server':
            return record
    return None


def crash_loop(summaries: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """Return the runs of the current crash loop, newest first; () if there is none.

    These are the newest server runs, if all are incidents and began within LOOP_SECONDS.  There is
    no loop if the last run was not an incident.  `summaries` are those of one instance, sorted
    newest first.
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
