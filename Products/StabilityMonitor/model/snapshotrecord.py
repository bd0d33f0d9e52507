"""A snapshot: what a living process did at one moment, kept because a person wanted to keep it.

It is no run and no incident: it counts for no crash loop, and for no exit status of the command.
"""

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from . import jsonform
from .corefile import CoreThread
from .finding import Finding
from .records import Instance
from .records import LifePoint
from .records import LogLine
from .records import Moment
from .records import Request
from .records import Sample
from .threadstates import Connection
from .threadstates import Event
from .threadstates import SlowRequest
from .threadstates import Stacks
from .threadstates import ThreadState

#: Who told what the threads do: the process itself, or, since it did not answer, the kernel, the
#: black box and the marks of the watchdog.
BY_PROCESS = 'process'
BY_KERNEL = 'kernel'
#: How far the native stacks of a snapshot are; NONE: nobody wanted them.
NONE, READING, READ, FAILED = '', 'reading', 'read', 'failed'


@dataclass(frozen=True)
class SnapshotRecord:
    """One snapshot: the contents of `snapshot.json`.

    `id` names the snapshot, `run` the run of its process, which began at `started`, by its
    monotonic clock at `monotonic` (seconds; None: not known).  `time` is the moment that was kept;
    `who` wanted it, and `note` is what that person wrote.  `summary` is one sentence.  `stall` is
    the option of the process (seconds; None: not known).

    `told_by` is BY_PROCESS or BY_KERNEL; then `reason` says why the process did not answer, and
    `seen` is what can be concluded from outside, in sentences.  `own` is the ident of the thread
    that took the snapshot if it belongs to the process, else 0.

    `requests` are in progress, `recent` have ended, newest first; `findings` are those of the
    checks that ended at `checked` (None: no results), also the muted ones.  `process` and
    `inventory` have the keys of these parts of a report.

    `native_state` says how far the native stacks `native_threads` are, which are read after `time`.
    `native_error` is a sentence if they could not be read, or not all of them.
    """

    id: str
    run: str = ''
    instance: Instance = Instance()
    role: str = 'server'
    pid: int = 0
    started: Moment | None = None
    monotonic: float | None = None
    time: Moment = 0.0
    who: str = ''
    note: str = ''
    summary: str = ''
    told_by: str = BY_PROCESS
    reason: str = ''
    seen: tuple[str, ...] = ()
    own: int = 0
    stall: float | None = None
    requests: tuple[Request, ...] = ()
    recent: tuple[Request, ...] = ()
    threads: tuple[ThreadState, ...] = ()
    slow_requests: tuple[SlowRequest, ...] = ()
    hangs: tuple[Event, ...] = ()
    connections: tuple[Connection, ...] = ()
    samples: tuple[Sample, ...] = ()
    curve: tuple[LifePoint, ...] = ()
    log: tuple[LogLine, ...] = ()
    findings: tuple[Finding, ...] = ()
    checked: Moment | None = None
    process: dict[str, Any] = field(default_factory=dict)
    inventory: dict[str, Any] = field(default_factory=dict)
    native_state: str = NONE
    native_error: str = ''
    native_threads: tuple[CoreThread, ...] = ()

    @property
    def stacks(self) -> Stacks:
        """What the threads did, as a living process tells it."""
        return Stacks(self.time, self.threads, self.slow_requests, self.hangs, self.connections)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of the snapshot; do not change the dicts in it."""
        return jsonform.to_json(self)

    def without_heavy(self) -> 'SnapshotRecord':
        """Return the snapshot without its large parts."""
        return replace(self, **_WITHOUT_HEAVY)

    def summary_json(self) -> dict[str, Any]:
        """Return the JSON form without the large parts, for lists."""
        document = jsonform.to_json(self.without_heavy())
        return {key: value for key, value in document.items() if key not in _WITHOUT_HEAVY}

    @classmethod
    def from_json(cls, document: object) -> 'SnapshotRecord':
        """Read a snapshot, see `model.jsonform`.  Raises ValueError if it is not one."""
        if not isinstance(document, dict) or not isinstance(document.get('id'), str):
            raise ValueError('not a snapshot')
        return jsonform.from_json(cls, document)


#: The large parts of a snapshot, and their values in a summary.
_WITHOUT_HEAVY: dict[str, Any] = {
    'requests': (),
    'recent': (),
    'threads': (),
    'slow_requests': (),
    'hangs': (),
    'connections': (),
    'samples': (),
    'curve': (),
    'log': (),
    'findings': (),
    'process': {},
    'inventory': {},
    'native_threads': (),
}
