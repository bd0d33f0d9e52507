"""The table of events: what can go wrong with the threads of a living run, and the words for it.

An event is noted when it begins and when it ends (`<kind>-ended`), see `store.blackbox.NOTES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class EventKind:
    """The texts of one kind of event.

    `title` is the heading for an event of a dead run, `headline` the heading for an event that
    still lasts.  On a terminal, `shout` begins a line about the event and `verb` a line about the
    process.
    """

    code: str
    title: str
    headline: str
    shout: str
    verb: str
    icon: str


_ROWS = (
    EventKind('hang', 'Hang', 'The site does not answer', 'HANG', 'HANGS', 'fa-hand-paper'),
    EventKind('deadlock', 'Deadlock', 'Deadlock', 'DEADLOCK', 'DEADLOCK', 'fa-lock'),
    EventKind(
        'spinning', 'Spinning thread', 'A thread spins', 'SPINNING THREAD', 'SPINS', 'fa-sync-alt'
    ),
)
#: The most serious kind first: if a run has an event of one kind, the later kinds are not examined.
EVENT_KINDS: Mapping[str, EventKind] = MappingProxyType({row.code: row for row in _ROWS})


def event_kind(code: str) -> EventKind:
    """The row of a code; for a code of a later release, a row that shows the code itself."""
    unknown = EventKind(code, 'Hang', code, code, code, 'fa-exclamation-triangle')
    return EVENT_KINDS.get(code) or unknown
