"""The table of past runs.

The query string says which runs to show, how to sort them, and which page to show.  An unknown
value means the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ..model.counts import counted
from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..postmortem.runhistory import of_instance
from ..store.acknowledged import Acknowledgements
from ..store.archive import Archive
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from .pages import ending

#: Runs on one page.
BATCH = 100


@dataclass(frozen=True)
class Filter:
    """A choice of which runs the table shows; `empty` is the sentence when there are none."""

    label: str
    empty: str
    shows: Callable[[RunRecord], bool]


@dataclass(frozen=True)
class Column:
    """A column of the table; `first` is the sort direction after the first click on its header."""

    label: str
    sort_key: Callable[[RunRecord], float | str | tuple[float, ...]]
    first: str


@dataclass(frozen=True)
class Wanted:
    """The parameters of the page; the fields have the names in the query string."""

    show: str
    sort: str
    instances: str
    dir: str
    page: int

    def address(self, **changed: str | int) -> str:
        """Return the URL with the same parameters, except for `changed`."""
        return 'manage_incidents?' + urlencode(vars(self) | changed)


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
INSTANCES = {'this': 'This instance', 'all': 'All instances'}
COLUMNS = {
    # In their order, which a clock that was set does not change; older releases had no numbers.
    'ended': Column('Ended', lambda run: (run.number, run.ended or 0), 'desc'),
    'uptime': Column('Uptime', lambda run: run.uptime_seconds or 0, 'asc'),
    'verdict': Column('Verdict', lambda run: run.verdict, 'asc'),
    'confidence': Column('Confidence', _confidence_rank, 'desc'),
    'role': Column('Role', lambda run: run.role, 'asc'),
    'instance': Column('Instance', lambda run: run.instance.label, 'asc'),
}
_OPPOSITE = {'asc': 'desc', 'desc': 'asc'}
_ARROWS = {'asc': 'fa-caret-up', 'desc': 'fa-caret-down'}
#: Values of aria-sort.
_SORTED = {'asc': 'ascending', 'desc': 'descending'}


def table(life: ILivingRun, archive: Archive, form: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the page for the parameters in `form`, which may be anything."""
    wanted = _wanted(form)
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
        'shows': _choices(wanted, 'show', shows),
        'instances': _choices(wanted, 'instances', INSTANCES),
        'columns': _columns(wanted),
        'earlier': wanted.address(page=page - 1) if page > 1 else '',
        'later': wanted.address(page=page + 1) if page < pages else '',
    }


def _sorted(runs: Iterable[RunRecord], wanted: Wanted) -> list[RunRecord]:
    shown = filter(SHOWS[wanted.show].shows, runs)
    sort_key = COLUMNS[wanted.sort].sort_key
    return sorted(shown, key=sort_key, reverse=wanted.dir == 'desc')


def _wanted(form: dict[str, Any]) -> Wanted:
    sort = _one_of(form.get('sort'), COLUMNS, 'ended')
    return Wanted(
        show=_one_of(form.get('show'), SHOWS, 'incidents'),
        sort=sort,
        instances=_one_of(form.get('instances'), INSTANCES, 'this'),
        dir=_one_of(form.get('dir'), _OPPOSITE, COLUMNS[sort].first),
        page=_page_number(form.get('page')),
    )


def _one_of(value: object, allowed: Container[str], default: str) -> str:
    return value if isinstance(value, str) and value in allowed else default


def _page_number(value: object) -> int:
    """Return the page number, from 1 to 999999; 1 for any other value."""
    if not isinstance(value, str) or len(value) > 6:
        return 1
    if not value.isascii() or not value.isdigit():  # int() also accepts other digits
        return 1
    return max(1, int(value))


def _choices(wanted: Wanted, name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the buttons for one parameter.  Each leads to the first page of its choice."""
    active = getattr(wanted, name)
    return [
        {
            'label': label,
            'active': value == active,
            'address': wanted.address(**{name: value}, page=1),
        }
        for value, label in labels.items()
    ]


def _columns(wanted: Wanted) -> list[dict[str, str]]:
    """Return the column headers.  A click on the sorted column reverses the sort direction."""
    headings = []
    for name, column in COLUMNS.items():
        if name == wanted.sort:
            direction = _OPPOSITE[wanted.dir]
            arrow = _ARROWS[wanted.dir]
            is_sorted = _SORTED[wanted.dir]
        else:
            direction = column.first
            arrow = ''
            is_sorted = 'none'
        headings.append(
            {
                'label': column.label,
                'address': wanted.address(sort=name, dir=direction, page=1),
                'arrow': arrow,
                'sorted': is_sorted,
            }
        )
    return headings
