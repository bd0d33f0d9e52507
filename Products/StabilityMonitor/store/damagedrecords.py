"""Shows the records of runs, each under a guard of its own.

The values of a record are checked when it is read (`model.jsonform`).  A record that still raises
while it is shown is an error of this product.  Then that one record is shown as damaged, all others
are shown, and the event log has the traceback once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import TypeVar

from ..model.runrecord import RunRecord
from ..system.eventlog import LOGGER
from .rundirectory import name_facts

Shown = TypeVar('Shown')

#: The runs whose record has raised in this process, so that each is logged once.
_LOGGED: set[str] = set()
#: At most this many are logged.
_MOST_LOGGED = 1000


def damaged(name: str) -> RunRecord:
    """Return a record for a run whose own record is damaged, so that the run still counts."""
    _, pid, _ = name.split('-')
    started = None
    with contextlib.suppress(ValueError):  # it looks like a run's name, but its day does not exist
        started, _ = name_facts(name)
    return RunRecord(
        run=name,
        pid=int(pid),
        started=started,
        summary='The archived record of this run cannot be read.',
    )


def alone(record: RunRecord, show: Callable[[RunRecord], Shown]) -> Shown:
    """Return what `show` returns for a record; if it raises, what it returns for a damaged one."""
    try:
        return show(record)
    except Exception:
        log_once(record.run)
        return show(damaged(record.run))


def together(
    records: Iterable[RunRecord],
    show: Callable[[tuple[RunRecord, ...]], Shown],
) -> Shown:
    """Return what `show` returns for all records, for example a sorted list or a chart.

    If it raises, the records that cause it are replaced by damaged ones.  `show` is then called
    again, so it must have no effects.
    """
    records = tuple(records)
    try:
        return show(records)
    except Exception:
        return show(tuple(_sound(record, show) for record in records))


def _sound(record: RunRecord, show: Callable[[tuple[RunRecord, ...]], object]) -> RunRecord:
    """Return the record, or a damaged one if it raises alone or beside a record that is known to
    be sound, as where both are compared.
    """
    instead = damaged(record.run)
    try:
        show((record, instead))
        show((instead, record))
    except Exception:
        log_once(record.run)
        return instead
    return record


def log_once(name: str) -> None:
    """Log that the record of this run raises, with the traceback of the present exception."""
    if name in _LOGGED or len(_LOGGED) >= _MOST_LOGGED:
        return
    _LOGGED.add(name)
    with contextlib.suppress(Exception):  # the handlers of the log are those of the site
        LOGGER.warning('The record of the run %s is shown as damaged.', name, exc_info=True)
