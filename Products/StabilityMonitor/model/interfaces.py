"""The contracts, in prose.  Implementations say "see ISomething"; tests verify them.

A run is one life of one process.  While it lives, an `ILivingRun` leaves breadcrumbs through an
`IRecorder` into an `IRunDirectory`; when it is dead, the next process claims that directory, judges
it and adds a record to the `IArchive`; people and programs read only the archive and the report.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from zope.interface import Attribute
from zope.interface import Interface

from .records import Instance
from .records import Note
from .records import Sample
from .runrecord import RunRecord
from .threadstates import Stacks


class ILivingRun(Interface):
    """This process's run.  Nothing here raises because of a disk, a system or an option."""

    name: str = Attribute('The run: `<UTC start as 20261123T074501Z>-<pid>-<4 hex>`.')
    pid: int = Attribute('The id of this process.')
    instance: Instance = Attribute('The records.Instance: which Zope instance this is.')
    role: str = Attribute('"server" or "script".')
    options = Attribute('The options in force, see `options.OPTIONS`.')
    findings = Attribute('Iterable of finding.Finding: what is off, and what to do.')
    recorder = Attribute('The IRecorder, or None when nothing is recorded.')
    path: Path = Attribute('The data directory that several instances may share.')
    base = Attribute('The same as a store.rundirectory.Base, with the rights of its files.')
    directory = Attribute(
        'The store.rundirectory.RunDirectory of this run, or None: nothing is kept on disk.'
    )
    safe_mode: bool = Attribute(
        'Whether the risky parts are off since two starts died while arming.'
    )
    context: dict[str, Any] = Attribute(
        'Dict of what the run knew at its start, see system.runcontext.'
    )
    software: dict[str, Any] = Attribute('Dict of what Zope told about itself.')
    started: float = Attribute('When it began, in seconds since the epoch.')
    started_monotonic: float = Attribute('The same moment on the monotonic clock, in seconds.')
    smallest_stack: tuple[int, int] | None = Attribute(
        '(size, guard) in bytes of the smallest stack of a thread that serves, or None.'
    )
    fault_log = Attribute('The recording.faulthandler_compat.FaultLog, or None.')
    marks = Attribute('The recording.faulthandler_compat.SignalMarks, or None.')
    is_watched: bool = Attribute(
        'Whether a heartbeat watches this run: it does where anything is recorded.'
    )

    def start() -> None:
        """Make the parts: each that cannot be had is a finding and leaves the others."""

    def in_background(errand: Callable[[], object]) -> None:
        """Call `errand` once, in a thread for such work; at once where there is no heartbeat."""

    def every_beat(duty: Callable[[], object]) -> None:
        """Call `duty` at each beat of the heartbeat, in its thread; it may take microseconds.

        A duty that is there already is not added again; one that raises is taken out, with a
        finding.  Without a heartbeat nothing happens, here and in the next two.
        """

    def every_round(duty: Callable[[], object]) -> None:
        """The same at each twentieth beat; it may take milliseconds."""

    def answer(subject: str, tell: Callable[[], dict[str, Any]]) -> None:
        """From now on, call `tell` for whoever asks for `subject` through the mailbox of this run.

        It gets no arguments and returns a dict for JSON, within seconds.
        """

    def stacks() -> Stacks:
        """What every thread does, which requests are slow, and what hangs: a stacks.Stacks, empty
        without a heartbeat.
        """

    def slow_requests() -> tuple[Any, ...]:
        """The recording.slowrequests.Profile of each slow request, those that last and the last
        ones that have ended.
        """

    def serving(listen: str = '') -> None:
        """Zope is up: note it, and which compiled modules are loaded by now."""

    def armed() -> None:
        """Arming, and the triage that belongs to it, is over."""

    def failed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """The main thread ends with an exception."""

    def finish() -> None:
        """The interpreter comes to its normal end."""

    def detach() -> None:
        """In a forked child: let go of what is the parent's without changing it."""


class IRecorder(Interface):
    """The pen.  `begin`, `phase`, `user` and `end` run inside requests, in the thread of the
    request:  no lock, no system call, no reference to a request.  More threads than slots are
    counted.
    """

    def begin(method: str, path: str, retry: int = 0, token: object = None) -> None:
        """A request begins.  Of its strings the first 16 and 320 bytes of UTF-8 are kept, of these
        whole characters read.
        """

    def phase(phase: int) -> None:
        """It goes on to a phase: an index of `blackbox.PHASES`."""

    def user(name: str) -> None:
        """Its user is known now."""

    def end(status: int = 0, token: object = None) -> None:
        """It ends; nothing happens when `token` is not that of `begin`."""

    def log(level: int, logger: str, message: str, now: float) -> None:
        """Keep a log record; `now` in seconds since the epoch."""

    def sample(sample: Sample) -> None:
        """Keep a records.Sample."""

    def note(note: Note) -> int:
        """Keep a records.Note: a thread's stack at the moment when something was seen of it.

        Its number is given here, and returned.
        """

    def stack_used(index: int, used: int, request: int = 0) -> None:
        """The high-water mark, in bytes, of the stack of the thread that owns a slot; `request` is
        the number of the request in which it rose to that, 0 where this is not known.
        """

    def stamp(name: str, now: float) -> None:
        """Note that `name`, one of `blackbox.WORDS`, happened at `now`."""


class IArchive(Interface):
    """The archived runs: each dead run once, never changed afterwards."""

    def summaries() -> tuple[RunRecord, ...]:
        """All RunRecords without what is large (RunRecord.HEAVY), newest first."""

    def last_server_run(instance: Instance) -> RunRecord | None:
        """The newest RunRecord of a server of that instance, or None.  Reads no more than it
        must.
        """

    def record(run: str) -> RunRecord:
        """One whole RunRecord, its context with the versions of then.  Raises errors.NoSuchRun."""

    def add(path: Path, record: RunRecord) -> None:
        """Archive a claimed run's directory; a clean run of a script is only counted."""

    def prune(keep_runs: int, keep_days: float, keep_bytes: int, now: float | None = None) -> int:
        """Remove what is too much, wanted stops before incidents; how many runs that were."""


class IRule(Interface):
    """A row of `verdict.RULES`: evidence.Traces in, a verdict.Judgement or None out.  Reads no
    file.
    """

    def __call__(traces: Any) -> Any:
        """The judgement, if this rule applies."""


class IRenderer(Interface):
    """The function in a row of `renderers.FORMATS`: a report (dict, DESIGN section 4) in, bytes
    out.
    """

    def __call__(report: dict[str, Any]) -> bytes:
        """The whole document."""
