"""The table of events: what can go wrong with the threads of a living run, and the words for it.

An event is noted when it begins and when it ends (`<kind>-ended`), see `store.blackbox.NOTES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .records import duration

#: The kind of event that the process did not run for a while.  The detail of its note is SUSPENDED
#: if the whole machine did not.
FROZEN = 'frozen'
SUSPENDED = 'suspended'
#: A slow start or stop at one place is critical after this many times the option "stall".
CRITICAL_AFTER = 10


@dataclass(frozen=True)
class EventKind:
    """The texts of one kind of event.

    `title` is the heading for an event of a dead run, `headline` the heading for an event that
    still lasts.  On a terminal, `shout` begins a line about the event and `verb` a line about the
    process.  `delay` begins the summary of a start or stop that takes long; it is empty for the
    other kinds.  The site is not broken as long as such an event is not critical.  An event that
    is no trouble does not mean that a visitor waits.
    """

    code: str
    title: str
    headline: str
    shout: str
    verb: str
    icon: str
    is_trouble: bool = True
    delay: str = ''

    @property
    def is_delay(self) -> bool:
        return bool(self.delay)


_ROWS = (
    EventKind('hang', 'Hang', 'The site does not answer', 'HANG', 'HANGS', 'fa-hand-paper'),
    EventKind('deadlock', 'Deadlock', 'Deadlock', 'DEADLOCK', 'DEADLOCK', 'fa-lock'),
    EventKind(
        'spinning', 'Spinning thread', 'A thread spins', 'SPINNING THREAD', 'SPINS', 'fa-sync-alt'
    ),
    EventKind(
        'slow-start',
        'Slow start',
        'Zope is slow to start',
        'SLOW START',
        'STARTS SLOWLY',
        'fa-hourglass-start',
        is_trouble=False,
        delay='Zope does not serve yet',
    ),
    EventKind(
        'slow-stop',
        'Slow stop',
        'Zope is slow to stop',
        'SLOW STOP',
        'STOPS SLOWLY',
        'fa-hourglass-end',
        is_trouble=False,
        delay='Zope has not ended yet',
    ),
    EventKind(
        'saturated',
        'All workers busy',
        'All workers are busy',
        'ALL WORKERS BUSY',
        'is busy',
        'fa-tachometer-alt',
        is_trouble=False,
    ),
    EventKind(
        FROZEN,
        'Frozen',
        'The process is frozen',
        'FROZEN',
        'is frozen',
        'fa-snowflake',
        is_trouble=False,
    ),
)
#: Why a site hangs: what a visitor waits for.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        'workers': 'the workers do not progress',
        'queue': 'requests wait for a worker',
        'connections': 'all connections are in use',
        'descriptors': 'all file descriptors are in use',
        'loop': "the server's loop is blocked",
        'gil': 'C code holds the GIL',
    }
)
#: The most serious kind first: if a run has an event of one kind, the later kinds are not examined.
EVENT_KINDS: Mapping[str, EventKind] = MappingProxyType({row.code: row for row in _ROWS})


def freeze_words(seconds: float, of_machine: bool) -> str:
    """Return a sentence that says for how long the process was frozen."""
    if of_machine:
        return f'The machine was suspended for {duration(seconds)}.'
    return (
        f'The process was frozen for {duration(seconds)}: none of its threads ran, as after '
        'SIGSTOP, in a debugger, or on a machine without a free CPU.'
    )


def event_kind(code: str) -> EventKind:
    """The row of a code; for a code of a later release, a row that shows the code itself."""
    unknown = EventKind(code, 'Hang', code, code, code, 'fa-exclamation-triangle')
    return EVENT_KINDS.get(code) or unknown
