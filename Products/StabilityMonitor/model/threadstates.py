"""A thread with its stack, and what can be wrong with threads: hangs and slow requests.

The values are the same wherever a thread was seen: in the fault dump of a dead run, in this
process, or as another process answers (the stacks document).
"""

from dataclasses import dataclass
from typing import Annotated

from .jsonform import Form
from .records import Frame
from .records import Moment
from .records import Request
from .severities import CRITICAL
from .severities import SeverityCode

#: The ident of a thread, 0 if it is not known; null in a file.
Ident = Annotated[int, Form(lambda ident: ident or None, lambda nothing: 0)]


@dataclass(frozen=True)
class ThreadState:
    """A thread with its stack; frames innermost first.  0, '' and None mean "not known".

    What comes first is known of any thread, what follows `native_id` only of a living one.
    """

    ident: Ident = 0
    name: str = ''
    crashed: bool = False
    frames: tuple[Frame, ...] = ()
    cut: bool = False  # the dump ended in the middle of this stack
    note: str = ''
    stack_size: int = 0
    stack_used: int = 0  # high-water mark
    stack_request: int = 0  # the number of the request in which it rose
    native_id: int = 0
    kind: str = ''  # 'main', 'worker', 'monitor' or 'other'
    activity: str = ''  # a code of threads.activity.ACTIVITIES
    detail: str = ''
    cpu: float | None = None  # share of one CPU over the last `cpu_seconds`
    cpu_seconds: float = 0.0
    request: Request | None = None  # `seconds` is how long it has taken so far
    holders: tuple[int, ...] = ()  # idents of the threads that hold what this one waits for


@dataclass(frozen=True)
class Link:
    """One thread of a cycle, what it serves, and what it waits for; see `threads.cycles`.

    `method` and `path` are '' where it serves no request; `activity` and `detail` are those of its
    ThreadState.
    """

    ident: int
    name: str
    method: str
    path: str
    activity: str
    detail: str


@dataclass(frozen=True)
class Event:
    """A hang, a deadlock or a spinning thread; `ended` is None while it lasts, or if it lasted
    until the run ended.

    `number` is that of the note with which it began; 0 if the ring holds that note no longer.
    `summary` is for people; what a program needs of it is in the other fields.
    """

    kind: str  # a code of `model.eventkinds`
    started: Moment
    ended: Moment | None = None
    seconds: float = 0.0  # how long it lasted until it ended, or until the run did
    summary: str = ''
    number: int = 0
    threads: tuple[int, ...] = ()  # idents of those that are in it, where they have one
    severity: SeverityCode = CRITICAL  # as of a finding
    place: Frame | None = None  # of a hang or a spinning thread: where (most of) its threads stand
    known: bool | None = None  # of a deadlock: whether the locks name their owners
    cycle: tuple[Link, ...] = ()  # of a deadlock: its threads, each waits for the next

    @property
    def lasts(self) -> bool:
        return self.ended is None


@dataclass(frozen=True)
class Share:
    """How much of a slow request's time a function took, as shares of 1.

    `within`: with all that it called; `own`: without.
    """

    file: str
    function: str
    within: float
    own: float


@dataclass(frozen=True)
class SlowRequest:
    """A request that took longer than the option `slow-request`; `ended` is None in flight.

    `samples` stacks were seen, `different_stacks` of them different; `frames` is the last one.
    """

    number: int
    ident: int
    method: str
    path: str
    started: Moment
    seconds: float
    ended: Moment | None
    samples: int
    different_stacks: int
    shares: tuple[Share, ...] = ()
    frames: tuple[Frame, ...] = ()

    @property
    def lasts(self) -> bool:
        return self.ended is None


@dataclass(frozen=True)
class Stacks:
    """The stacks document: what every thread does, which requests are slow, and what hangs."""

    time: Moment = 0.0
    threads: tuple[ThreadState, ...] = ()
    slow: tuple[SlowRequest, ...] = ()
    hangs: tuple[Event, ...] = ()
