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
    return tuple(r for r in summaries if r.instance == instance)


def last_server_run(summaries: Iterable[RunRecord]) -> RunRecord | None:
    """The newest run of a server among runs that are sorted newest first."""
    return next((r for r in summaries if r.role == 'server'), None)


def crash_loop(summaries: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """The newest server runs of one instance, if they are incidents that began shortly after each
    other.

    `summaries` are sorted newest first.  () if there is no loop now, as when the last run was no
    incident.
    """
    loop = []
    for record in summaries:
        if record.role == 'server':
            if not record.is_incident:
                break
            loop.append(record)
    known = (record.started for record in loop[:LOOP_INCIDENTS])
    starts = [start for start in known if start is not None]
    if len(starts) < LOOP_INCIDENTS or starts[0] - starts[-1] > LOOP_SECONDS:
        return ()
    return tuple(r for r in loop if starts[0] - (r.started or 0) <= LOOP_SECONDS)
