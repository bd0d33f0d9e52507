"""Threads that wait for each other, as fields, and the words that are made of them.

The living process makes a sentence of the fields when a deadlock begins, and a page makes its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model.threadstates import Link
from ..model.threadstates import ThreadState
from .activity import activity_words


def link_of(state: ThreadState) -> Link:
    request = state.request
    return Link(
        ident=state.ident,
        name=state.name,
        method=request.method if request else '',
        path=request.path if request else '',
        activity=state.activity,
        detail=state.detail,
    )


def link_words(link: Link) -> str:
    """As `GET /a (waitress-1) waits for a lock: lock A at ...`."""
    who = link.name
    if link.method or link.path:
        who = f'{link.method} {link.path} ({link.name})'
    activity = activity_words(link.activity, link.detail)
    return f'{who} {activity}'


def cycle_words(cycle: Iterable[Link]) -> str:
    return '; '.join(map(link_words, cycle))


def source_words(known: bool) -> str:
    """How a deadlock was found: `known` where the locks say which thread holds them."""
    return 'the locks name their owners' if known else 'inferred from the code'
