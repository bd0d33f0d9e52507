"""The table of past runs.

The query string says which runs to show, how to sort them, and which page to show.  An unknown
value means the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..model.counts import counted
from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..postmortem.runhistory import of_instance
from ..store.acknowledged import Acknowledgements
from ..store.archive import Archive
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from . import tablequery
from .pages import ending
from .tablequery import Column
from .tablequery import Wanted

#: Runs on one page.
BATCH = 100


@dataclass(frozen=True)
class Filter:
    """A choice of which runs the table shows; `empty` is the sentence when there are none."""

    label: str
    empty: str
    shows: Callable[[RunRecord], bool]


def _confidence_rank(run: RunRecord) -> int:
    """Return 0 for "weak" to 3 for "certain".  A word of another release counts as certain."""
    less_than_certain = ('weak', 'likely', 'strong')
    if run.confidence in less_than_certain:
        return less_than_certain.index(run.confidence)
    return len(less_than_certain)


SHOWS = {
    'incidents': Filter('Incidents', 'No incidents yet.', lambda run: run.is_incident),
    'servers': Filter('Servers', 'No server runs yet.', lambda run: run.role == 'server'),
    'all': Filter('All runs', 'No runs yet.', lambda run: True),
}
COLUMNS = {
    # In their order, which a clock that was set does not change; older releases had no numbers.
    'ended': Column('Ended', lambda run: (run.number, run.ended or 0), 'desc'),
    'uptime': Column('Uptime', lambda run: run.uptime_seconds or 0, 'asc'),
    'verdict': Column('Verdict', lambda run: run.verdict, 'asc'),
    'confidence': Column('Confidence', _confidence_rank, 'desc'),
    'role': Column('Role', lambda run: run.role, 'asc'),
    'instance': Column('Instance', lambda run: run.instance.label, 'asc'),
}


def table(life: ILivingRun, archive: Archive, form: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the page for the parameters in `form`, which may be anything."""
    wanted = tablequery.wanted(form, tablequery.RUNS, SHOWS, COLUMNS, 'ended')
    known = archive.summaries()
    candidates = known
    if wanted.instances == 'this':
        candidates = of_instance(known, life.instance)
    runs = together(candidates, lambda runs: _sorted(runs, wanted))
    pages = max(1, math.ceil(len(runs) / BATCH))
    page = min(wanted.page, pages)
    on_page = runs[(page - 1) * BATCH : page * BATCH]
    shows = {name: each.label for name, each in SHOWS.items()}
    acknowledged, _ = Acknowledgements(archive.base).read()

    def row(run: RunRecord) -> dict[str, Any]:
        return ending(run, 'It') | {'acknowledged': run.run in acknowledged}

    return {
        'rows': [alone(run, row) for run in on_page],
        'count': counted(len(runs), 'run'),
        'known': len(known),
        'empty': SHOWS[wanted.show].empty,
        'page': page,
        'pages': pages,
        'all_instances': wanted.instances == 'all',
        'tables': tablequery.tables(wanted),
        'shows': tablequery.choices(wanted, 'show', shows),
        'instances': tablequery.choices(wanted, 'instances', tablequery.INSTANCES),
        'columns': tablequery.headings(wanted, COLUMNS),
        'earlier': wanted.address(page=page - 1) if page > 1 else '',
        'later': wanted.address(page=page + 1) if page < pages else '',
    }


def _sorted(runs: Iterable[RunRecord], wanted: Wanted) -> list[RunRecord]:
    shown = filter(SHOWS[wanted.show].shows, runs)
    return sorted(shown, key=COLUMNS[wanted.sort].sort_key, reverse=wanted.is_descending)
