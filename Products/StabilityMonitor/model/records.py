"""The values that pass between the rooms: frozen, plain, and the same as in the report JSON.

Imports nothing of Zope and nothing of this package.  Times are seconds since the epoch (float)
inside the process and ISO 8601 UTC in JSON; sizes are bytes, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from datetime import UTC
from datetime import datetime
from typing import Any
from typing import NamedTuple


def isotime(seconds: float | None) -> str | None:
    """Seconds since the epoch as `2026-11-23T07:45:01.123Z`; None and nonsense become None."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return moment.strftime('%Y-%m-%dT%H:%M:%S.') + f'{moment.microsecond // 1000:03d}Z'


def clocktime(seconds: float | None) -> str:
    """Seconds since the epoch as a person reads it: `2026-11-23 07:45:01 UTC`."""
    return (isotime(seconds) or '?').replace('T', ' ').split('.')[0] + ' UTC'


def from_isotime(text: str | None) -> float | None:
    """The reverse of `isotime`; None for anything that is not such a time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def shallow(value: object) -> dict[str, Any]:
    """The fields of one of these value objects, by name; what is in them stays what it is."""
    return dict(vars(value))


def duration(seconds: float | None) -> str:
    """Seconds in words: "2 days 3 hours", "5 min 2 sec"; "an unknown time" for None."""
    if seconds is None:
        return 'an unknown time'
    rest = int(seconds)
    words: list[str] = []
    for size, one, many in (
        (86400, 'day', 'days'),
        (3600, 'hour', 'hours'),
        (60, 'min', 'min'),
        (1, 'sec', 'sec'),
    ):
        number, rest = divmod(rest, size)
        if number or (size == 1 and not words):
            words.append(f'{number} {one if number == 1 else many}')
    return ' '.join(words[:2])


@dataclass(frozen=True)
class Frame:
    file: str
    line: int | None
    function: str


@dataclass(frozen=True)
class ThreadStack:
    """One thread of a fault dump; frames innermost first."""

    ident: int | None
    name: str
    crashed: bool
    frames: tuple[Frame, ...]
    cut: bool = False
    note: str = ''


@dataclass(frozen=True)
class ThreadState:
    """What one living thread is doing; frames innermost first.

    0, '' and None mean "not known".
    """

    ident: int
    native_id: int
    name: str
    kind: str  # 'main', 'worker', 'monitor' or 'other'
    activity: str  # a code of threads.activity.ACTIVITIES
    detail: str = ''
    frames: tuple[Frame, ...] = ()
    cpu: float | None = None  # share of one CPU over the last `cpu_seconds`
    cpu_seconds: float = 0.0
    request: dict[str, Any] | None = None  # {number, method, path, started, seconds, phase}
    stack_size: int = 0
    stack_used: int = 0  # high-water mark
    holders: tuple[int, ...] = ()  # threads that hold what this one waits for


@dataclass(frozen=True)
class Note:
    """What was noticed about a thread, with its stack at that moment, as the black box keeps it.

    `kind` is one of `blackbox.NOTES`.  `request` is the number of the request that the thread
    served, 0 if none.  `title` names the request or the event.
    """

    number: int
    time: float
    kind: str
    ident: int
    native_id: int = 0
    request: int = 0
    seconds: float = 0.0
    title: str = ''
    detail: str = ''
    frames: tuple[Frame, ...] = ()
    cut: bool = False

    @property
    def of_thread(self) -> bool:
        """Whether it is about a thread, and not about the beginning or end of an event.

        Python need not know the thread: its `ident` may be 0.
        """
        return bool(self.ident or self.native_id)


@dataclass(frozen=True)
class NativeFrame:
    binary: str
    symbol: str
    offset: int | None
    address: int | None


@dataclass(frozen=True)
class Request:
    """A request as the black box has it.  `ended` is None while it is in flight."""

    number: int
    ident: int
    native_id: int
    method: str
    path: str
    started: float
    phase: str
    retry: int = 0
    user: str = ''
    cut: bool = False
    ended: float | None = None
    seconds: float | None = None
    status: int = 0
    count: int = 1
    last_number: int = 0
    crashed: bool = False


@dataclass(frozen=True)
class LogLine:
    time: float
    level: int
    ident: int
    logger: str
    message: str
    cut: bool = False


class Sample(NamedTuple):
    """Vital signs at one moment; -1 means "not known on this system".

    A tuple, because it is made each second, by code that is cold by then.
    """

    time: float
    monotonic: float
    rss: int = -1
    cpu: float = -1.0
    threads: int = -1
    descriptors: int = -1
    in_flight: int = 0
    overdue: int = 0
    workers: int = 0
    cgroup_current: int = -1
    cgroup_limit: int = -1
    cgroup_kills: int = -1
    host_kills: int = -1
    stderr_size: int = -1


@dataclass(frozen=True)
class Evidence:
    """One fact with its source; `source` is a short name such as "fault log"."""

    source: str
    fact: str


@dataclass(frozen=True)
class Instance:
    """Which Zope instance a run belongs to; equal instances share "the last run"."""

    host: str = ''
    client_home: str = ''
    listen: str = ''

    @property
    def label(self) -> str:
        place = f'{self.client_home or "?"} on {self.host or "?"}'
        return f'{place} ({self.listen})' if self.listen else place


def instance_of(context: dict[str, Any]) -> Instance:
    """The instance of a run, out of its context, which may be damaged."""
    known = context.get('instance')
    if not isinstance(known, dict):
        return Instance()
    return Instance(**{field.name: str(known.get(field.name) or '') for field in fields(Instance)})
