"""The values that rooms pass to each other: the contents of a black box, evidence, an instance.

Times are seconds since the epoch in memory, ISO 8601 UTC in a file, and local time for a person
(`clocktime`); sizes are bytes, durations seconds.  `model.jsonform` makes the JSON of a value from
its annotations, so this module does not postpone them.
"""

from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import Annotated
from typing import Any
from typing import ClassVar

from .counts import counted
from .jsonform import Form
from .jsonform import from_json


def isotime(seconds: float | None) -> str | None:
    """Return seconds since the epoch as `2026-11-23T07:45:01.123Z`; None if it is not a time."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    milliseconds = moment.microsecond // 1000
    return f'{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z'


def local_time(seconds: float | None) -> datetime | None:
    """Return seconds since the epoch in the time zone of this process; None if it is not a time.

    Zope's event log shows the same times.  The zone of the result is its offset to UTC.
    """
    if seconds is None:
        return None
    try:
        offset = datetime.fromtimestamp(seconds).astimezone().utcoffset()
        return datetime.fromtimestamp(seconds, timezone(offset or timedelta()))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def clocktime(seconds: float | None) -> str:
    """Return seconds since the epoch for a person: `2026-11-23 08:45:01 UTC+01:00`.

    The result is "an unknown time" for what is not a time.
    """
    moment = local_time(seconds)
    return f'{moment:%Y-%m-%d %H:%M:%S %Z}' if moment else 'an unknown time'


def short_clocktime(seconds: float | None, beside: float | None) -> str:
    """Like `clocktime`, but only `08:45:01` if a time of the same day is shown beside it."""
    moment, other = local_time(seconds), local_time(beside)
    if moment and other and (moment.date(), moment.tzinfo) == (other.date(), other.tzinfo):
        return f'{moment:%H:%M:%S}'
    return clocktime(seconds)


def from_isotime(text: str | None) -> float | None:
    """The reverse of `isotime`; None for anything else."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def duration(seconds: float | None) -> str:
    """Return seconds in words: "2 days 3 hours", "5 min 2 s"; "an unknown time" for None."""
    if seconds is None:
        return 'an unknown time'
    rest = int(seconds)
    words: list[str] = []
    for size, one, many in (
        (86400, 'day', 'days'),
        (3600, 'hour', 'hours'),
        (60, 'min', 'min'),
        (1, 's', 's'),
    ):
        number, rest = divmod(rest, size)
        if number or (size == 1 and not words):
            words.append(counted(number, one, many))
    return ' '.join(words[:2])


#: A time: in memory seconds since the epoch, in a file the text that `isotime` returns.
Moment = Annotated[float, Form(isotime, from_isotime)]


def hexadecimal(ident: int) -> str:
    """Return the ident of a thread as fault dumps write it."""
    return f'0x{ident:016x}'


def _written_ident(ident: int) -> str | None:
    """Like `hexadecimal`; None for a negative number, which is not an ident."""
    return hexadecimal(ident) if ident >= 0 else None


def _from_hexadecimal(text: object) -> int | None:
    try:
        ident = int(str(text), 16)
    except ValueError:
        return None
    return ident if ident >= 0 else None


@dataclass(frozen=True)
class Frame:
    """One entry of a Python stack; `line` is None if it is not known."""

    file: str
    line: int | None
    function: str


@dataclass(frozen=True)
class Note:
    """An observation about a thread, with its stack at that moment, from the black box.

    `kind` is one of `blackbox.NOTES`.  `request` is the number of the request that the thread
    served, 0 if there is none; in a note that ends an event, it is the number of the note that
    began the event.  `title` names the request or the event.
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
        """The number of the note that began the event which this note ends; 0: not known."""
        return 0 if self.of_thread else self.request

    @property
    def of_thread(self) -> bool:
        """Whether the note is about a thread, not about the beginning or end of an event.

        Python may not know the thread: then its `ident` is 0.
        """
        return bool(self.ident or self.native_id)


@dataclass(frozen=True)
class NativeFrame:
    """One entry of a C stack, from a fault dump.

    `binary` is the file of the library or program, `offset` the distance from `symbol` in bytes;
    `symbol` is '' and `offset` None if they are not known.
    """

    binary: str
    symbol: str
    offset: int | None
    address: int | None


@dataclass(frozen=True)
class Request:
    """A request; all rooms use this class.

    While the request is in flight, `ended` is None, and the black box does not know its `seconds`
    either.  `crashed`: its thread is the one that crashed.  `count` equal requests, one after the
    other, may share an entry; `last_number` is the number of the last one.  `status` is 0 if the
    request is in flight, or ended without an answer, as by SystemExit.  `thread_name` is '' if it
    is not known.
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
    thread_name: str = ''

    ALSO_IN_JSON: ClassVar = ('thread',)

    @property
    def thread(self) -> str:
        return hexadecimal(self.ident)

    @property
    def answer(self) -> str:
        """The status of the answer for a person; '' while the request is in flight."""
        if self.status:
            return str(self.status)
        return '' if self.ended is None else 'no answer'

    @property
    def state(self) -> str:
        """For a person: its phase while it is in flight, and then its answer."""
        return self.phase if self.ended is None else self.answer

    @property
    def served_by(self) -> str:
        """The thread for a person: its name, or else its ident."""
        return self.thread_name or self.thread


@dataclass(frozen=True)
class ThreadSlot:
    """What the black box holds about a worker; sizes in bytes.

    `stack_used` is the high-water mark, `stack_request` the number of the request that raised it.
    `name` is '' in black boxes of older releases.
    """

    native_id: int = 0
    stack_size: int = 0
    guard_size: int = 0
    stack_used: int = 0
    stack_request: int = 0
    slot: int = 0
    name: str = ''


@dataclass(frozen=True)
class LogLine:
    """A record of the event log; `level` is the name of its level.

    `count` equal records came from this thread, the first at `time` and the last at `last`, which
    is None if there was only one.
    """

    time: Moment
    level: str
    logger: str
    message: str
    ident: Annotated[int, Form(_written_ident, _from_hexadecimal, key='thread')] = 0
    cut: bool = False
    count: int = 1
    last: Moment | None = None

    @property
    def latest(self) -> float:
        """The time of the last of these records."""
        return self.last or self.time


@dataclass(frozen=True)
class Sample:
    """The vital signs of one moment; -1 means "not known on this system".

    `queue` requests wait for a worker, the oldest for `waited` seconds.  `connections` are counted
    as the server counts them; `accept_queue` more wait in the kernel.  `accept_errors` counts how
    often the server has failed to accept a connection since its start, as its log says.
    `descriptor_limit` is RLIMIT_NOFILE, `connection_limit` that of the server; -1 also stands for
    "no limit".
    """

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
    queue: int = -1
    waited: float = -1.0
    connections: int = -1
    accept_queue: int = -1
    accept_errors: int = -1
    descriptor_limit: int = -1
    connection_limit: int = -1


@dataclass(frozen=True)
class LifePoint:
    """One point of the curve over the whole life of a run, which its heartbeat thins out.

    It stands for the time from its own until that of the next point.  `rss` is the least memory in
    that time, as it was seen every 20 s, and `peak` the most; `descriptors` and `threads` are the
    most of them.  -1 means "not known on this system".
    """

    time: Moment
    monotonic: float
    rss: int = -1
    peak: int = -1
    descriptors: int = -1
    threads: int = -1


@dataclass(frozen=True)
class Evidence:
    """One fact with its source; `source` is a short name such as "fault log"."""

    source: str
    fact: str


@dataclass(frozen=True)
class Instance:
    """The Zope instance of a run.  "The last run" is the last run of an equal instance."""

    host: str = ''
    client_home: str = ''
    listen: str = ''

    @property
    def label(self) -> str:
        """For a person: "/srv/zope/var on web1 (127.0.0.1:8080)"."""
        place = f'{self.client_home or "?"} on {self.host or "?"}'
        return f'{place} ({self.listen})' if self.listen else place


def instance_of(context: dict[str, Any]) -> Instance:
    """Return the instance of a run from its context, which may be damaged."""
    known = context.get('instance')
    return from_json(Instance, known) if isinstance(known, dict) else Instance()
