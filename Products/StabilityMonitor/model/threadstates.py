"""A thread with its stack, and what can be wrong with threads: hangs and slow requests.

The classes are the same for threads in the fault dump of a dead run, in this process, and in the
answer of another process (the stacks document).
"""

from dataclasses import dataclass
from typing import Annotated

from .jsonform import Form
from .records import Frame
from .records import Moment
from .records import Request
from .severities import CRITICAL
from .severities import SeverityCode

#: The ident of a thread; if it is not known, 0 in memory and null in a file.
Ident = Annotated[int, Form(lambda ident: ident or None, lambda nothing: 0)]


@dataclass(frozen=True)
class ThreadState:
    """A thread with its stack, innermost frame first.  0, '' and None mean "not known".

    The fields after `native_id` are known only for a living thread.
    """

    ident: Ident = 0
    name: str = ''
    crashed: bool = False
    frames: tuple[Frame, ...] = ()
    cut: bool = False  # the dump ended in the middle of this stack
    note: str = ''
    stack_size: int = 0
    stack_used: int = 0  # high-water mark
    stack_request: int = 0  # the number of the request that raised the high-water mark
    native_id: int = 0
    kind: str = ''  # 'main', 'worker', 'monitor' or 'other'
    activity: str = ''  # a code of threads.activity.ACTIVITIES
    detail: str = ''
    cpu: float | None = None  # share of one CPU over the last `cpu_seconds`
    cpu_seconds: float = 0.0
    request: Request | None = None  # with the `seconds` that it has taken so far
    holders: tuple[int, ...] = ()  # idents of the threads that hold what this thread waits for


@dataclass(frozen=True)
class Link:
    """One thread of a cycle, its request, and what it waits for; see `threads.cycles`.

    `method` and `path` are '' if it serves no request; `activity` and `detail` come from its
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
    """A hang, a deadlock, a spinning thread, or a start or stop that takes long.

    `ended` is None while it lasts, or if it lasted until the run ended.  `number` is the number of
    the note that began it, 0 if the ring no longer holds that note.  `summary` is for people;
    programs use the other fields.
    """

    kind: str  # a code of `model.eventkinds`
    started: Moment
    ended: Moment | None = None
    seconds: float = 0.0  # how long it lasted, at most until the end of the run
    summary: str = ''
    number: int = 0
    threads: tuple[int, ...] = ()  # idents of its threads that have an ident
    severity: SeverityCode = CRITICAL  # as in a finding
    place: Frame | None = None  # but for a deadlock: where (most of) its threads are
    known: bool | None = None  # of a deadlock: whether the locks name their owners
    possible: bool = False  # of a deadlock: it is not known which locks its threads wait for
    cycle: tuple[Link, ...] = ()  # of a deadlock: its threads; each waits for the next
    reason: str = ''  # of a hang: a code of `model.eventkinds.REASONS`, '' if it is not known

    @property
    def lasts(self) -> bool:
        return self.ended is None


@dataclass(frozen=True)
class Share:
    """The share of a slow request's time that a function took, from 0 to 1.

    `within` includes the functions that it called; `own` does not.
    """

    file: str
    function: str
    within: float
    own: float


@dataclass(frozen=True)
class SlowRequest:
    """A request that took longer than the option `slow-request`; `ended` is None in flight.

    `samples` is the number of stacks that were read, `different_stacks` the number of different
    ones; `frames` is the last stack.
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
class Connection:
    """A connection that is in use but keeps no thread busy.

    `does` is 'arriving' (its request is not complete) or 'sending' (MainThread sends the rest of an
    answer).  `bytes` have arrived, or are still to be sent.  `path` is '' while it is not known.
    """

    does: str
    seconds: float
    bytes: int
    path: str


@dataclass(frozen=True)
class Stacks:
    """The stacks document: what every thread does, which requests are slow, and what hangs.

    `without_kernel`: the process could not read what the kernel knows of its threads, because no
    descriptor was left.
    """

    time: Moment = 0.0
    threads: tuple[ThreadState, ...] = ()
    slow: tuple[SlowRequest, ...] = ()
    hangs: tuple[Event, ...] = ()
    connections: tuple[Connection, ...] = ()
    without_kernel: bool = False
