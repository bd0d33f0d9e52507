"""The table of past runs: filtered, sorted and cut into pages by the address; nonsense in it means
the default.
"""

from __future__ import annotations

from urllib.parse import urlencode

from ..model.records import Instance
from ..model.records import from_isotime
from ..postmortem.runhistory import of_instance
from .pages import ending

BATCH = 100

#: Filters: name, label, which runs it shows.
SHOWS = {
    'incidents': ('Incidents', lambda run: run.is_incident),
    'servers': ('Servers', lambda run: run.role == 'server'),
    'all': ('All runs', lambda run: True),
}
INSTANCES = {'this': 'This instance', 'all': 'All instances'}
#: Columns: name, label, sort key, and the direction that is wanted first.
COLUMNS = {
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


def table(life, archive, form: dict) -> dict:
    """The page for the parameters in `form`, whatever they are."""
    wanted = _wanted(form)
    runs = archive.summaries()
    known = len(runs)
    if wanted['instances'] == 'this':
        runs = of_instance(runs, Instance(**life.instance))
    runs = [run for run in runs if SHOWS[wanted['show']][1](run)]
    runs.sort(key=COLUMNS[wanted['sort']][1], reverse=wanted['dir'] == 'desc')
    pages = max(1, -(-len(runs) // BATCH))
    page = min(wanted['page'], pages)
    return {
        'rows': [ending(run, 'It') for run in runs[(page - 1) * BATCH : page * BATCH]],
        'count': len(runs),
        'known': known,
        'page': page,
        'pages': pages,
        'all_instances': wanted['instances'] == 'all',
        'shows': _choices(wanted, 'show', {name: label for name, (label, _) in SHOWS.items()}),
        'instances': _choices(wanted, 'instances', INSTANCES),
        'columns': _columns(wanted),
        'earlier': _address(wanted, page=page - 1) if page > 1 else '',
        'later': _address(wanted, page=page + 1) if page < pages else '',
    }


def _wanted(form):
    sort = _one_of(form.get('sort'), COLUMNS, 'ended')
    return {
        'show': _one_of(form.get('show'), SHOWS, 'incidents'),
        'sort': sort,
        'instances': _one_of(form.get('instances'), INSTANCES, 'this'),
        'dir': _one_of(form.get('dir'), _DIRECTIONS, COLUMNS[sort][2]),
        'page': _page(form.get('page')),
    }


def _one_of(value, allowed, default):
    return value if isinstance(value, str) and value in allowed else default


def _page(value):
    return (
        int(value)
        if isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) < 7
        and int(value)
        else 1
    )


def _choices(wanted, name, labels):
    return [
        {
            'label': label,
            'active': wanted[name] == value,
            'address': _address(wanted, **{name: value, 'page': 1}),
        }
        for value, label in labels.items()
    ]


def _columns(wanted):
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


def _address(wanted, **changed):
    return 'manage_incidents?' + urlencode(wanted | changed)
