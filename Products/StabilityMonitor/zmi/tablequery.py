"""What the query string of a table of past runs may ask for: rows, sorting and a page.

The query string may hold anything; an unknown value means the default.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

#: The two tables of the page of incidents, and their labels.
RUNS = 'run'
SIGNATURES = 'signature'
TABLES = {RUNS: 'Each run', SIGNATURES: 'By signature'}
INSTANCES = {'this': 'This instance', 'all': 'All instances'}
_OPPOSITE = {'asc': 'desc', 'desc': 'asc'}
_ARROWS = {'asc': 'fa-caret-up', 'desc': 'fa-caret-down'}
#: Values of aria-sort.
_SORTED = {'asc': 'ascending', 'desc': 'descending'}


@dataclass(frozen=True)
class Column:
    """A column of a table; `first` is the sort direction after the first click on its header."""

    label: str
    sort_key: Callable[[Any], float | str | tuple[float, ...]]
    first: str


@dataclass(frozen=True)
class Wanted:
    """The parameters of the page; the fields have the names in the query string."""

    by: str
    show: str
    sort: str
    instances: str
    dir: str
    page: int

    @property
    def is_descending(self) -> bool:
        return self.dir == 'desc'

    def address(self, **changed: str | int) -> str:
        """Return the URL with the same parameters, except for `changed`."""
        return 'manage_incidents?' + urlencode(vars(self) | changed)


def wanted(
    form: dict[str, Any],
    by: str,
    shows: Mapping[str, object],
    columns: Mapping[str, Column],
    default_sort: str,
) -> Wanted:
    """Return what `form` asks for; the first of `shows` is the default."""
    sort = _one_of(form.get('sort'), columns, default_sort)
    return Wanted(
        by=by,
        show=_one_of(form.get('show'), shows, next(iter(shows))),
        sort=sort,
        instances=_one_of(form.get('instances'), INSTANCES, 'this'),
        dir=_one_of(form.get('dir'), _OPPOSITE, columns[sort].first),
        page=page_number(form.get('page')),
    )


def _one_of(value: object, allowed: Container[str], default: str) -> str:
    return value if isinstance(value, str) and value in allowed else default


def page_number(value: object) -> int:
    """Return the page number, from 1 to 999999; 1 for any other value."""
    if not isinstance(value, str) or len(value) > 6:
        return 1
    if not value.isascii() or not value.isdigit():  # int() also accepts other digits
        return 1
    return max(1, int(value))


def choices(wanted: Wanted, name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
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


def tables(wanted: Wanted) -> list[dict[str, Any]]:
    """Return the buttons for the two tables; the other one is sorted in its own way."""
    return [
        {
            'label': label,
            'active': table == wanted.by,
            'address': wanted.address(by=table, sort='', dir='', page=1),
        }
        for table, label in TABLES.items()
    ]


def headings(wanted: Wanted, columns: Mapping[str, Column]) -> list[dict[str, str]]:
    """Return the column headers.  A click on the sorted column reverses the sort direction."""
    found = []
    for name, column in columns.items():
        if name == wanted.sort:
            direction = _OPPOSITE[wanted.dir]
            arrow = _ARROWS[wanted.dir]
            is_sorted = _SORTED[wanted.dir]
        else:
            direction = column.first
            arrow = ''
            is_sorted = 'none'
        found.append(
            {
                'name': name,
                'label': column.label,
                'address': wanted.address(sort=name, dir=direction, page=1),
                'arrow': arrow,
                'sorted': is_sorted,
            }
        )
    return found
