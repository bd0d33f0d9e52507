"""Finds the last run, a crash loop and the open incidents among the past runs of an instance.

An open incident is one that nobody has acknowledged, and that was no drill.  Only open incidents
count for a crash loop and for an exit status.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable

from ..model.records import Instance
from ..model.runrecord import RunRecord

#: A crash loop is at least this many incidents whose runs began within LOOP_SECONDS.
LOOP_INCIDENTS = 3
LOOP_SECONDS = 600
#: An incident that ended longer ago than this is not recent: a site that nobody watches need not
#: acknowledge its whole archive.
RECENT_SECONDS = 7 * 86400


#: {instance: (summaries, its runs among them)} of the last call.
_OF_INSTANCE: dict[Instance, tuple[object, tuple[RunRecord, ...]]] = {}
#: For this many instances the result is kept.
_KEPT = 10


def of_instance(summaries: Iterable[RunRecord], instance: Instance) -> tuple[RunRecord, ...]:
    """Return the runs of one instance, in the same order.

    An archive returns the same tuple until it changes: then this does not look again.
    """
    before, runs = _OF_INSTANCE.get(instance, (None, ()))
    if before is summaries and isinstance(summaries, tuple):
        return runs
    runs = tuple(record for record in summaries if record.instance == instance)
    if len(_OF_INSTANCE) >= _KEPT:
        _OF_INSTANCE.clear()
    _OF_INSTANCE[instance] = (summaries, runs)
    return runs


def last_server_run(summaries: Iterable[RunRecord]) -> RunRecord | None:
    """Return the newest run of a server, or None.  `summaries` are sorted newest first."""
    for record in summaries:
        if record.role == 'server':
            return record
    return None


def is_open(record: RunRecord, acknowledged: Container[str]) -> bool:
    """Whether a run is an open incident.  `acknowledged` has the names of runs."""
    return record.is_incident and not record.drill and record.run not in acknowledged


def recent_incidents(
    summaries: Iterable[RunRecord],
    acknowledged: Container[str],
    age: Callable[[RunRecord], float | None],
) -> tuple[RunRecord, ...]:
    """Return the open incidents that ended within RECENT_SECONDS, in the same order.

    `age(record)` is how many seconds ago a run ended, None if that is not known: such a run counts.
    """
    recent = []
    for record in summaries:
        if is_open(record, acknowledged) and (age(record) or 0.0) <= RECENT_SECONDS:
            recent.append(record)
    return tuple(recent)


def crash_loop(
    summaries: Iterable[RunRecord], acknowledged: Container[str] = ()
) -> tuple[RunRecord, ...]:
    """Return the runs of the current crash loop, newest first; () if there is none.

    These are the open incidents among the newest server runs, if all of these are incidents, and
    the open ones began within LOOP_SECONDS.  There is no loop if the last run was not an incident.
    `summaries` are those of one instance, sorted newest first.
    """
    incidents = []
    for record in summaries:
        if record.role != 'server':
            continue
        if not record.is_incident:
            break
        if is_open(record, acknowledged):
            incidents.append(record)

    if len(incidents) < LOOP_INCIDENTS:
        return ()
    newest = incidents[0]
    loop = [record for record in incidents if seconds_between(record, newest) <= LOOP_SECONDS]
    return tuple(loop) if len(loop) >= LOOP_INCIDENTS else ()


def seconds_since_end(
    record: RunRecord,
    boot_id: str,
    monotonic: float,
    now: float,
) -> float | None:
    """Return how many seconds ago a run ended; None if its end is not known.

    `boot_id` is that of this boot, `monotonic` and `now` are this moment by both clocks.  For a run
    of the same boot the monotonic clock tells, which cannot be set.
    """
    if record.ended is None:
        return None
    is_same_boot = bool(boot_id) and record.boot_id == boot_id
    if is_same_boot and record.monotonic is not None and record.uptime_seconds is not None:
        passed = monotonic - record.monotonic - record.uptime_seconds
        if passed >= 0:  # in another time namespace it may be behind
            return passed
    return max(0.0, now - record.ended)


def seconds_between(older: RunRecord, newer: RunRecord) -> float:
    """Return how many seconds lie between the starts of two runs.

    In one boot the monotonic clock tells, which cannot be set.  Otherwise the other clock does, but
    the newer run did not start before the older one had ended.  If a start is not known, the result
    is infinite.
    """
    is_same_boot = bool(older.boot_id) and older.boot_id == newer.boot_id
    if is_same_boot and older.monotonic is not None and newer.monotonic is not None:
        passed = newer.monotonic - older.monotonic
        if passed >= 0:  # in another time namespace it may be behind
            return passed
    if newer.started is None or older.started is None:
        return math.inf
    passed = newer.started - older.started
    least = 0.0 if older is newer else older.uptime_seconds or 0.0
    return max(passed, least)
