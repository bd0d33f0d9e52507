"""The table of past runs: filtered, sorted and cut into pages by the address; nonsense in it means
the default.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from typing import Any
from urllib.parse import urlencode

from ..model.interfaces import ILivingRun
from ..model.records import Instance
from ..model.records import from_isotime
from ..model.runrecord import RunRecord
from ..postmortem.runhistory import of_instance
from ..store.archive import Archive
from .pages import ending

BATCH = 100

#: Filters: name, label, which runs it shows.
SHOWS: dict[str, tuple[str, Callable[[RunRecord], bool]]] = {
    'incidents': ('Incidents', lambda run: run.is_incident),
    'servers': ('Servers', lambda run: run.role == 'server'),
    'all': ('All runs', lambda run: True),
}
INSTANCES = {'this': 'This instance', 'all': 'All instances'}
#: Columns: name, label, sort key, and the direction that is wanted first.
COLUMNS: dict[str, tuple[str, Callable[[RunRecord], float | str], str]] = {
    'ended': ('Ended', lambda run: from_isotime(run.ended) or 0, 'desc'),
    'uptime': ('Was up', lambda run: run.uptime_seconds or 0, 'asc'),
    'verdict': ('How it ended', lambda run: run.verdict, 'asc'),
    'confidence': (
        'Confidence',
        lambda run: (
            ('weak', 'likely', 'strong', 'certain').index(run.confidence)
            if run.confidence in ('weak', 'likely', 'strong')
            else 3
        ),
        'desc',
    ),
    'role': ('Role', lambda run: run.role, 'asc'),
    'instance': ('Instance', lambda run: run.instance.label, 'asc'),
}
_DIRECTIONS = {'asc': 'desc', 'desc': 'asc'}


def table(life: ILivingRun, archive: Archive, form: dict[str, Any]) -> dict[str, Any]:
    """The page for the parameters in `form`, whatever they are."""
    wanted = _wanted(form)
    known = archive.summaries()
    if wanted['instances'] == 'this':
        candidates = of_instance(known, Instance(**life.instance))
    else:
        candidates = known
    _, is_shown = SHOWS[wanted['show']]
    runs = [run for run in candidates if is_shown(run)]
    runs.sort(key=COLUMNS[wanted['sort']][1], reverse=wanted['dir'] == 'desc')
    pages = max(1, -(-len(runs) // BATCH))
    page = min(wanted['page'], pages)
    return {
        'rows': [ending(run, 'It') for run in runs[(page - 1) * BATCH : page * BATCH]],
        'count': len(runs),
        'known': len(known),
        'page': page,
        'pages': pages,
        'all_instances': wanted['instances'] == 'all',
        'shows': _choices(wanted, 'show', {name: label for name, (label, _) in SHOWS.items()}),
        'instances': _choices(wanted, 'instances', INSTANCES),
        'columns': _columns(wanted),
        'earlier': _address(wanted, page=page - 1) if page > 1 else '',
        'later': _address(wanted, page=page + 1) if page < pages else '',
    }


def _wanted(form: dict[str, Any]) -> dict[str, Any]:
    sort = _one_of(form.get('sort'), COLUMNS, 'ended')
    return {
        'show': _one_of(form.get('show'), SHOWS, 'incidents'),
        'sort': sort,
        'instances': _one_of(form.get('instances'), INSTANCES, 'this'),
        'dir': _one_of(form.get('dir'), _DIRECTIONS, COLUMNS[sort][2]),
        'page': _page(form.get('page')),
    }


def _one_of(value: object, allowed: Container[str], default: str) -> str:
    return value if isinstance(value, str) and value in allowed else default


def _page(value: object) -> int:
    return (
        int(value)
        if isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) < 7
        and int(value)
        else 1
    )


def _choices(wanted: dict[str, Any], name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            'label': label,
            'active': wanted[name] == value,
            'address': _address(wanted | {name: value}, page=1),
        }
        for value, label in labels.items()
    ]


def _columns(wanted: dict[str, Any]) -> list[dict[str, str]]:
    columns = []
    for name, (label, _, first) in COLUMNS.items():
        active = wanted['sort'] == name
        direction = _DIRECTIONS[wanted['dir']] if active else first
        columns.append(
            {
                'label': label,
                'address': _address(wanted, sort=name, dir=direction, page=1),
                'arrow': {'asc': 'fa-caret-up', 'desc': 'fa-caret-down'}[wanted['dir']]
                if active
                else '',
                'sorted': {'asc': 'ascending', 'desc': 'descending'}[wanted['dir']]
                if active
                else 'none',
            }
        )
    return columns


def _address(wanted: dict[str, Any], **changed: str | int) -> str:
    return 'manage_incidents?' + urlencode(wanted | changed)
