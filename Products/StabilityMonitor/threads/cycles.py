"""Threads that wait for each other: the fields of a deadlock, and text made from these fields.

The living process makes a sentence from the fields when a deadlock begins.  A page makes its own
text from the same fields.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model.threadstates import Link
from ..model.threadstates import ThreadState
from .activity import activity_words


def link_of(state: ThreadState) -> Link:
    """Return the fields of one thread in a deadlock."""
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
    """Return for example `GET /a (waitress-1) waits for a lock: lock A at ...`."""
    subject = link.name
    if link.method or link.path:
        subject = f'{link.method} {link.path} ({link.name})'
    activity = activity_words(link.activity, link.detail)
    return f'{subject} {activity}'


def cycle_words(cycle: Iterable[Link]) -> str:
    return '; '.join(map(link_words, cycle))


def source_words(known: bool, possible: bool = False) -> str:
    """Return how a deadlock was found; `known`: the locks themselves name their owners.

    `possible`: it is not known which locks they are, see `Deadlock`.
    """
    if possible:
        return 'possible, inferred from the code'
    return 'the locks name their owners' if known else 'inferred from the code'
