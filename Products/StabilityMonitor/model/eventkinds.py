"""The table of events: what can go wrong with the threads of a living run, and the words for it.

An event is noted when it begins and when it ends (`<kind>-ended`), see `store.blackbox.NOTES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class EventKind:
    """`title` stands above the event of a run that has ended, `headline` above one that lasts.

    `shout` is for the text of a terminal, `verb` for a line that begins with it.
    """

    code: str
    title: str
    headline: str
    shout: str
    verb: str
    icon: str


_ROWS = (
    EventKind('hang', 'Hang', 'Nobody answers', 'HANG', 'HANGS', 'fa-hand-paper'),
    EventKind('deadlock', 'Deadlock', 'Deadlock', 'DEADLOCK', 'DEADLOCK', 'fa-lock'),
    EventKind(
        'spinning', 'Spinning thread', 'A thread spins', 'SPINNING THREAD', 'SPINS', 'fa-sync-alt'
    ),
)
#: The gravest first: where an event of one kind tells what was wrong, the next ones are not asked.
EVENT_KINDS: Mapping[str, EventKind] = MappingProxyType({row.code: row for row in _ROWS})


def event_kind(code: str) -> EventKind:
    """The row of a code; for one of a later release, a row that shows the code itself."""
    unknown = EventKind(code, 'Hang', code, code, code, 'fa-exclamation-triangle')
    return EVENT_KINDS.get(code) or unknown
