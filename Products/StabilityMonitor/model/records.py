"""What a black box holds of a run, and what is said of it: values that pass between the rooms.

Times are seconds since the epoch inside the process and ISO 8601 UTC in a file, sizes are bytes,
durations seconds.  `model.jsonform` makes the JSON of a value from its annotations, which are
therefore not postponed here.
"""

from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from typing import Annotated
from typing import Any
from typing import ClassVar

from .jsonform import Form
from .jsonform import from_json


def isotime(seconds: float | None) -> str | None:
    """Seconds since the epoch as `2026-11-23T07:45:01.123Z`; None and nonsense become None."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    milliseconds = moment.microsecond // 1000
    return f'{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z'


def clocktime(seconds: float | None) -> str:
    """Seconds since the epoch as a person reads it: `2026-11-23 07:45:01 UTC`."""
    text = isotime(seconds) or '?'
    whole_seconds, _, _ = text.partition('.')
    return whole_seconds.replace('T', ' ') + ' UTC'


def from_isotime(text: str | None) -> float | None:
    """The reverse of `isotime`; None for anything that is not such a time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


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
            unit = one if number == 1 else many
            words.append(f'{number} {unit}')
    return ' '.join(words[:2])


#: A moment: seconds since the epoch, in a file as `isotime` writes it.
Moment = Annotated[float, Form(isotime, from_isotime)]


def hexadecimal(ident: int) -> str:
    """The ident of a thread as fault dumps write it."""
    return f'0x{ident:016x}'


def _written_ident(ident: int) -> str | None:
    """As `hexadecimal`; None for a negative number, which is no ident."""
    return hexadecimal(ident) if ident >= 0 else None


def _from_hexadecimal(text: object) -> int | None:
    try:
        ident = int(str(text), 16)
    except ValueError:
        return None
    return ident if ident >= 0 else None


@dataclass(frozen=True)
class Frame:
    """A Python function that a thread was in; `line` is None if it is not known."""

    file: str
    line: int | None
    function: str


@dataclass(frozen=True)
class Note:
    """What was noticed about a thread, with its stack at that moment, as the black box keeps it.

    `kind` is one of `blackbox.NOTES`.  `request` is the number of the request that the thread
    served, 0 if none; in the note of an event's end, it is the number of the note with which the
    event began.  `title` names the request or the event.
    """

    number: int
    time: Moment
    kind: str
    ident: int
    native_id: int = 0
    request: int = 0
    seconds: float = 0.0
    title: str = ''
    detail: str = ''
    frames: tuple[Frame, ...] = ()
    cut: bool = False

    ALSO_IN_JSON: ClassVar = ('thread',)

    @property
    def thread(self) -> str:
        return hexadecimal(self.ident)

    @property
    def begun(self) -> int:
        """The number of the note with which the event began that this note ends; 0: not known."""
        return 0 if self.of_thread else self.request

    @property
    def of_thread(self) -> bool:
        """Whether it is about a thread, and not about the beginning or end of an event.

        Python need not know the thread: its `ident` may be 0.
        """
        return bool(self.ident or self.native_id)


@dataclass(frozen=True)
class NativeFrame:
    """A C function that a thread was in, as a fault dump has it.

    `binary` is the file of the library or program, `offset` the distance from `symbol` in bytes;
    `symbol` is '' and `offset` None if they are not known.
    """

    binary: str
    symbol: str
    offset: int | None
    address: int | None


@dataclass(frozen=True)
class Request:
    """A request, from the black box to the page.

    `ended` is None while it is in flight; the black box then does not know its `seconds` either.
    `crashed`: its thread is the one that crashed.  `count` requests of the same kind, one after
    the other, may share an entry; `last_number` is that of the last one.
    """

    number: int
    ident: int
    native_id: int
    method: str
    path: str
    started: Moment
    phase: str
    retry: int = 0
    user: str = ''
    cut: bool = False
    ended: Moment | None = None
    seconds: float | None = None
    status: int = 0
    count: int = 1
    last_number: int = 0
    crashed: bool = False

    ALSO_IN_JSON: ClassVar = ('thread',)

    @property
    def thread(self) -> str:
        return hexadecimal(self.ident)


@dataclass(frozen=True)
class ThreadSlot:
    """What the black box holds of a thread that serves requests; sizes in bytes.

    `stack_request` is the number of the request in which `stack_used`, the high-water mark, rose.
    """

    native_id: int = 0
    stack_size: int = 0
    guard_size: int = 0
    stack_used: int = 0
    stack_request: int = 0
    slot: int = 0


@dataclass(frozen=True)
class LogLine:
    """A line of the event log; `level` is its name."""

    time: Moment
    level: str
    logger: str
    message: str
    ident: Annotated[int, Form(_written_ident, _from_hexadecimal, key='thread')] = 0
    cut: bool = False


@dataclass(frozen=True)
class Sample:
    """Vital signs at one moment; -1 means "not known on this system"."""

    time: Moment
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
        """For a person, such as "/srv/zope/var on web1 (127.0.0.1:8080)"."""
        place = f'{self.client_home or "?"} on {self.host or "?"}'
        return f'{place} ({self.listen})' if self.listen else place


def instance_of(context: dict[str, Any]) -> Instance:
    """The instance of a run, out of its context, which may be damaged."""
    known = context.get('instance')
    return from_json(Instance, known) if isinstance(known, dict) else Instance()
