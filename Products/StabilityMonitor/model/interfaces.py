"""The manual of the code: interfaces with their contracts.

Implementations say "see ISomething"; tests verify them.

A run is one life of one process.  In the living process, an `ILivingRun` leaves breadcrumbs in the
run directory, through an `IRecorder` and other parts.  After its death the next process claims that
directory, judges the run and adds a record to the `IArchive`.  People and programs read the archive
and the report.
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
    """The run of this process.  No method raises because of a disk, a system or an option."""

    name: str = Attribute('The name of the run: `<UTC start as 20261123T074501Z>-<pid>-<4 hex>`.')
    pid: int = Attribute('The id of this process.')
    instance: Instance = Attribute('The records.Instance: the Zope instance of this run.')
    role: str = Attribute('"server" or "script".')
    options = Attribute('The options in force, see `options.OPTIONS`.')
    findings = Attribute(
        'Iterable of finding.Finding: what is wrong with the product, and what to do.'
    )
    recorder = Attribute('The IRecorder, or None when nothing is recorded.')
    path: Path = Attribute('The data directory; several instances may share it.')
    base = Attribute(
        'The data directory as a store.rundirectory.Base, with the permissions of its files.'
    )
    directory = Attribute(
        'The store.rundirectory.RunDirectory of this run; None if nothing is kept on disk.'
    )
    safe_mode: bool = Attribute(
        'Whether the risky parts are off because two starts died while arming.'
    )
    context: dict[str, Any] = Attribute(
        'Dict of the facts that were known at the start, see system.runcontext.'
    )
    software: dict[str, Any] = Attribute(
        'Dict of the facts about Zope: versions, directories, threads.'
    )
    started: float = Attribute('When the run began, in seconds since the epoch.')
    started_monotonic: float = Attribute('The same moment on the monotonic clock, in seconds.')
    smallest_stack: tuple[int, int] | None = Attribute(
        '(size, guard) in bytes of the smallest stack of a worker, or None.'
    )
    fault_log = Attribute('The recording.faulthandler_compat.FaultLog, or None.')
    marks = Attribute('The recording.faulthandler_compat.SignalMarks, or None.')
    is_watched: bool = Attribute(
        'Whether a heartbeat watches this run: yes if anything is recorded.  In a script, only '
        'after its first request.'
    )

    is_serving: bool = Attribute('Whether Zope serves requests, see `serving`.')

    def start() -> None:
        """Make the parts.  A part that fails becomes a finding; the others work without it."""

    def in_background(errand: Callable[[], object]) -> None:
        """Call `errand` once, in the background thread; without a heartbeat, call it at once."""

    def every_beat(duty: Callable[[], object]) -> None:
        """Call `duty` at each beat, in the thread of the heartbeat.  A duty may take microseconds.

        A duty is never added twice; a duty that raises is removed, with a finding.  Without a
        heartbeat, `every_beat`, `every_round` and `answer` do nothing.
        """

    def every_round(duty: Callable[[], object]) -> None:
        """Like `every_beat`, but at each twentieth beat.  Such a duty may take milliseconds."""

    def answer(subject: str, tell: Callable[[], dict[str, Any]]) -> None:
        """From now on, answer mailbox requests for `subject` with the result of `tell`.

        `tell` gets no arguments and returns a dict for JSON, within seconds.
        """

    def stacks() -> Stacks:
        """Return what every thread does, which requests are slow, and what hangs.

        It is empty without a heartbeat.
        """

    def slow_requests() -> tuple[Any, ...]:
        """Return the recording.slowrequests.Profile of each slow request in flight, and of the
        latest slow requests that have ended.
        """

    def serving(listen: str = '') -> None:
        """Note that Zope serves requests now, and which compiled modules are loaded."""

    def armed() -> None:
        """Note that arming, with its triage, is over."""

    def failed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Note that the main thread ends with an exception."""

    def finish() -> None:
        """Note that the interpreter ends normally."""

    def detach() -> None:
        """In a forked child: release what belongs to the parent, without changing it."""


class IRecorder(Interface):
    """Writes into the black box.

    `begin`, `phase`, `user` and `end` run inside requests, in the thread of the request: they take
    no lock, make no system call and keep no reference to a request.  If all slots are taken, the
    request is only counted.
    """

    def begin(method: str, path: str, retry: int = 0, token: object = None) -> None:
        """Note that a request begins.

        The first 16 bytes of the method and 320 bytes of the path are kept, in UTF-8.  The reader
        drops a character that is cut in the middle.
        """

    def phase(phase: int) -> None:
        """Note the phase of the request: an index of `blackbox.PHASES`."""

    def user(name: str) -> None:
        """Note the name of the user of the request."""

    def end(status: int = 0, token: object = None) -> None:
        """Note that the request ends; does nothing if `token` is not the token of `begin`.

        `status` is 0 if it ends without an answer.
        """

    def log(level: int, logger: str, message: str, now: float) -> None:
        """Keep a log record; `now` in seconds since the epoch."""

    def sample(sample: Sample) -> None:
        """Keep a records.Sample."""

    def note(note: Note) -> int:
        """Keep a records.Note: an observation about a thread, with its stack at that moment.

        Gives the note its number, and returns it.
        """

    def stack_used(index: int, used: int, request: int = 0) -> None:
        """Keep the high-water mark, in bytes, of the stack of the thread that owns a slot.

        `request` is the number of the request that raised the mark, 0 if it is not known.
        """

    def stamp(name: str, now: float) -> None:
        """Note that `name`, one of `blackbox.WORDS`, happened at `now` (as in `log`)."""


class IArchive(Interface):
    """The archived runs: each dead run is archived once and never changed afterwards."""

    def summaries() -> tuple[RunRecord, ...]:
        """Return all RunRecords, newest first, each without its large parts."""

    def last_server_run(instance: Instance) -> RunRecord | None:
        """Return the newest RunRecord of a server of that instance, or None.

        Reads only the records that it needs.
        """

    def record(run: str, is_lean: bool = False) -> RunRecord:
        """Return one whole RunRecord; its context has the versions that were installed then.

        If it `is_lean`, it lacks what is slow to read: the shared objects and the core file, so
        that an overflow of the stack may be a crash.  Raises errors.NoSuchRun.
        """

    def add(path: Path, record: RunRecord) -> None:
        """Archive the directory of a claimed run; a clean run of a script is only counted."""

    def prune(keep_runs: int, keep_days: float, keep_bytes: int, now: float | None = None) -> int:
        """Remove runs until the archive is within these limits, wanted stops before incidents.

        `now` is in seconds since the epoch.  The newest ten incidents are never too old, and a
        clock that is ahead makes no run older.  Returns the number of removed runs.
        """


class IRule(Interface):
    """A row of `verdict.RULES`: takes evidence.Traces and returns a verdict.Judgement, or None.

    A rule reads no files.
    """

    def __call__(traces: Any) -> Any:
        """Return the judgement if this rule applies, else None."""


class IRenderer(Interface):
    """The function in a row of `renderers.FORMATS`: takes a report (a dict) and returns bytes."""

    def __call__(report: dict[str, Any]) -> bytes:
        """Return the whole report as bytes."""
