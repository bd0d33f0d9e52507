"""What a person chose for a report: its parts, and what they write about it.

A report in, a report out.  Parts that were not chosen become empty, so that the report keeps its
shape.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..model.feature import PATH
from ..model.feature import USER
from .fromdisk import Document

#: The most characters of what a person writes in one field; more is left out.
MOST_NAME = 200
MOST_TEXT = 10_000


@dataclass(frozen=True)
class Part:
    """A part of a report that can be left out.

    `paths` are the keys of what is emptied, with dots, in the report and in each run in it.
    """

    id: str
    label: str
    paths: tuple[str, ...] = ()
    empty: Callable[[Document], None] | None = None


def _only_crashed(run: Document) -> None:
    """Leave only the stack of the thread that crashed."""
    for holder in (run, run.get('core') or {}):
        threads = holder.get('threads')
        if isinstance(threads, list):
            holder['threads'] = [each for each in threads if _is_crashed(each)]


def _is_crashed(thread: object) -> bool:
    return isinstance(thread, dict) and bool(thread.get('crashed'))


def _without_paths(run: Document) -> None:
    """Leave out whose requests, and to which paths, differed the last time."""
    seen = run.get('seen_before')
    if isinstance(seen, dict) and isinstance(seen.get('different'), list):
        kept = [each for each in seen['different'] if each.get('kind') not in (PATH, USER)]
        run['seen_before'] = seen | {'different': kept}


_ROWS = (
    Part(
        'requests',
        'Requests, with their paths',
        ('requests', 'recent', 'in_flight'),
        _without_paths,
    ),
    Part(
        'threads',
        'Stacks of the other threads, slow requests and hangs',
        ('notes', 'hangs', 'slow_requests', 'connections', 'native_threads'),
        _only_crashed,
    ),
    Part('log', 'Log records, and the logs around the end', ('log', 'logs')),
    Part('configuration', 'The configuration, without secrets', ('configuration',)),
    Part('checks', 'Findings of the checks', ('checks', 'findings')),
    Part('vitals', 'Memory and other vital signs', ('samples', 'curve')),
    Part(
        'versions',
        'All installed distributions',
        ('inventory.distributions', 'context.distributions', 'context.builds'),
    ),
    Part(
        'modules',
        'Compiled modules',
        ('compiled_modules', 'shared_objects', 'inventory.compiled_modules'),
    ),
    Part('history', 'The list of past runs', ('history',)),
    Part('reporter', 'Your name and e-mail address', ('reporter.name', 'reporter.email')),
)
#: {id: part}, in the order of the page.
PARTS = {row.id: row for row in _ROWS}


@dataclass(frozen=True)
class Reporter:
    """Who files a report, and what they say: the key `reporter` of a report."""

    name: str = ''
    email: str = ''
    did: str = ''
    expected: str = ''


def chosen(report: Document, parts: Collection[str], reporter: Reporter) -> Document:
    """Return a copy of a report with what the reporter says, and only these of PARTS.

    The key `parts` lists them.
    """
    report = report | {
        'reporter': vars(reporter),
        'parts': [name for name in PARTS if name in parts],
    }
    for part in PARTS.values():
        if part.id in parts:
            continue
        report = _without(report, part)
        for key in ('incident', 'previous', 'snapshot'):
            if isinstance(report.get(key), dict):
                report[key] = _without(report[key], part)
        _empty_in_list(report, 'history', part)
        if isinstance(report.get('signature'), dict):
            report['signature'] = dict(report['signature'])
            _empty_in_list(report['signature'], 'incidents', part)
    return report


def _empty_in_list(node: Document, key: str, part: Part) -> None:
    """Leave out a part in each of a list of runs."""
    runs = node.get(key)
    if isinstance(runs, list):
        node[key] = [_without(run, part) if isinstance(run, dict) else run for run in runs]


def _without(node: Document, part: Part) -> Document:
    node = dict(node)
    for path in part.paths:
        _empty(node, path.split('.'))
    if part.empty:
        if isinstance(node.get('core'), dict):
            node['core'] = dict(node['core'])
        part.empty(node)
    return node


def _empty(node: Document, keys: list[str]) -> None:
    """Empty the value at a path; the dicts on the way are copied."""
    key, *rest = keys
    value: Any = node.get(key)
    if rest and isinstance(value, dict):
        node[key] = dict(value)
        _empty(node[key], rest)
    elif not rest and isinstance(value, list | tuple | dict | str):
        node[key] = type(value)()
