"""Threads that wait for each other, as fields, and the words that are made of them.

The living process makes a sentence of the fields when a deadlock begins, and a page makes its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..model.records import ThreadState
from .activity import activity_words


@dataclass(frozen=True)
class Link:
    """One thread of a cycle, what it serves, and what it waits for.

    `method` and `path` are '' where it serves no request; `activity` and `detail` are those of its
    ThreadState.
    """

    ident: int
    name: str
    method: str
    path: str
    activity: str
    detail: str

    @property
    def words(self) -> str:
        """As `GET /a (waitress-1) waits for a lock: lock A at ...`."""
        who = self.name
        if self.method or self.path:
            who = f'{self.method} {self.path} ({self.name})'
        return f'{who} {activity_words(self.activity, self.detail)}'


def link_of(state: ThreadState) -> Link:
    request = state.request or {'method': '', 'path': ''}
    return Link(
        state.ident,
        state.name,
        request['method'],
        request['path'],
        state.activity,
        state.detail,
    )


def cycle_words(cycle: Iterable[Link]) -> str:
    return '; '.join(link.words for link in cycle)


def source_words(known: bool) -> str:
    """How a deadlock was found: `known` where the locks say which thread holds them."""
    return 'the locks name their owners' if known else 'inferred from the code'
