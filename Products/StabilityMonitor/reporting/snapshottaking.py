"""Takes a snapshot of a living process: of this one, or of another one, seen from a command.

The files of a run and the answers of other processes are not trusted.  Nothing is written here.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checks import allfindings
from ..inspection import outside
from ..inspection.outside import View
from ..model.errors import UnreadableRecord
from ..model.eventkinds import event_kind
from ..model.finding import Finding
from ..model.finding import finding_from
from ..model.interfaces import ILivingRun
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.snapshotrecord import BY_KERNEL
from ..model.snapshotrecord import FAILED
from ..model.snapshotrecord import READ
from ..model.snapshotrecord import SnapshotRecord
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..postmortem import corestacks
from ..postmortem import hangnotes
from ..store.archive import Archive
from ..store.blackboxreader import Recording
from ..store.blackboxreader import load
from ..store.blackboxreader import read
from ..store.editedlist import MOST_TEXT
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import new_name
from ..system.runcontext import compiled_modules
from . import fromdisk
from . import outsidetext
from . import stackssummary
from .fromdisk import RecordedRun
from .inventory import inventory
from .report import checks_state
from .report import in_flight
from .report import process
from .report import with_seconds
from .stacksdocument import lasting_trouble

#: Seconds over which `outside.look` measures the CPU time of threads.
_LOOKED = 0.3


def of_life(life: ILivingRun, who: str, note: str, own: int = 0) -> SnapshotRecord:
    """Return a snapshot of this process, in which something must be recorded.

    `own` is the ident of the calling thread, whose request does not count.
    """
    stacks = life.stacks()
    state, look = checks_state(life)
    findings = (*look.shown, *(finding for finding, _ in look.muted))
    databases = fromdisk.databases({'software': life.software})
    record = SnapshotRecord(
        new_name(time.time(), life.pid),
        run=life.name,
        instance=life.instance,
        role=life.role,
        pid=life.pid,
        started=life.started,
        monotonic=life.started_monotonic,
        own=own,
        stall=life.options.stall,
        requests=tuple(in_flight(life)),
        findings=findings,
        checked=from_isotime(state['as_of']),
        process=process(life),
        inventory=inventory(compiled_modules(), databases),
    )
    record = _with_recording(record, read(bytes(life.recorder.buffer)))
    return _finished(_with_stacks(record, stacks), who, note)


def of_run(
    archive: Archive,
    path: Path,
    context: dict[str, Any],
    told: Stacks | None,
    view: View | None,
    reason: str,
    who: str,
    note: str,
) -> SnapshotRecord:
    """Return a snapshot of the living run in the directory `path`.

    `told` is what the process answered; without an answer it is None, `reason` says why, and `view`
    is what can be seen from outside.
    """
    last = RecordedRun(path, context, alive=True)
    findings, checked = _last_findings(path)
    since = context.get('monotonic')
    record = SnapshotRecord(
        new_name(time.time(), last.pid),
        run=last.run,
        instance=instance_of(context),
        role='script' if context.get('role') == 'script' else 'server',
        pid=last.pid,
        started=last.started,
        monotonic=since if isinstance(since, int | float) else None,
        stall=stackssummary.stall_of(context),
        findings=findings,
        checked=checked,
        process=fromdisk.process(last, archive),
        inventory=fromdisk.inventory(last),
    )
    with contextlib.suppress(OSError, UnreadableRecord):
        recording = load(path / BLACKBOX)
        record = _with_recording(record, recording)
        record = replace(record, requests=tuple(with_seconds(recording.in_flight, time.time())))
    if told is None and view is not None:
        told = from_outside(view)
        conclusions = outsidetext.document(view)['summary']
        record = replace(record, told_by=BY_KERNEL, reason=reason, seen=tuple(conclusions))
    return _finished(_with_stacks(record, told or Stacks(time.time())), who, note)


def from_outside(view: View) -> Stacks:
    """Return the threads of a process that does not answer: what the kernel says they do, and the
    Python frames that the watchdog has had them write.
    """
    kernel = outside.completed(Stacks(time=view.time), view.pid)
    seen = {each.kernel.tid: each for each in view.threads}
    recording = view.traces.recording
    requests = with_seconds(recording.in_flight if recording else (), view.time)
    by_ident = {request.ident: request for request in requests}
    threads = []
    for thread in kernel.threads:
        known = seen.get(thread.native_id)
        if known:
            thread = replace(thread, ident=known.ident, cpu=known.cpu, cpu_seconds=_LOOKED)
        if thread.ident:
            thread = _with_mark(_with_slot(thread, recording), view)
            thread = replace(thread, request=by_ident.get(thread.ident))
        threads.append(thread)
    notes = recording.notes if recording else ()
    hangs = hangnotes.hangs(notes, view.time, view.traces.by_last_clock)
    return Stacks(view.time, tuple(threads), hangs=tuple(hangs))


def _with_slot(thread: ThreadState, recording: Recording | None) -> ThreadState:
    """Return it with what the black box knows about a worker."""
    slot = recording.threads.get(thread.ident) if recording else None
    if slot is None:
        return thread
    return replace(
        thread,
        name=slot.name or thread.name,
        kind='worker',
        stack_size=slot.stack_size,
        stack_used=slot.stack_used,
        stack_request=slot.stack_request,
    )


def _with_mark(thread: ThreadState, view: View) -> ThreadState:
    """Return it with the stack that the watchdog has had it write, if it has."""
    mark = view.traces.stuck.get(thread.ident)
    dumped = [each for dump in mark.dumps[-1:] for each in dump.threads] if mark else []
    if not dumped:
        return thread
    return replace(thread, frames=dumped[0].frames, cut=dumped[0].cut)


def with_native(record: SnapshotRecord, output: str, error: str) -> SnapshotRecord:
    """Return it with the native stacks in the output of a tool, see `inspection.nativestacks`."""
    names = {thread.native_id: thread.name for thread in record.threads}
    threads = tuple(
        replace(thread, name=names.get(thread.native_id) or thread.name)
        for thread in corestacks.of_pystack(output)
    )
    return replace(
        record,
        native_threads=threads,
        native_state=READ if threads else FAILED,
        native_error=error,
    )


def _with_stacks(record: SnapshotRecord, stacks: Stacks) -> SnapshotRecord:
    return replace(
        record,
        time=stacks.time or time.time(),
        threads=stacks.threads,
        slow_requests=stacks.slow,
        hangs=stacks.hangs,
        connections=stacks.connections,
    )


def _with_recording(record: SnapshotRecord, recording: Recording) -> SnapshotRecord:
    return replace(
        record,
        recent=tuple(reversed(recording.finished)),
        samples=recording.samples,
        curve=recording.curve,
        log=recording.log,
    )


def _finished(record: SnapshotRecord, who: str, note: str) -> SnapshotRecord:
    return replace(
        record,
        who=who.strip()[:MOST_TEXT] or '?',
        note=note.strip()[:MOST_TEXT],
        summary=_summary(record),
    )


def _summary(record: SnapshotRecord) -> str:
    """Return one sentence: what hangs, and how busy the workers are."""
    if record.told_by == BY_KERNEL:
        return ' '.join(['The process did not answer.', *record.seen[:1]])
    titles = {event_kind(event.kind).title: None for event in lasting_trouble(record.stacks)}
    busy = next(stackssummary.lines(record.stacks, record.own), 'No thread serves requests.')
    return ' '.join([*(f'{title}.' for title in titles), busy])


def _last_findings(path: Path) -> tuple[tuple[Finding, ...], float | None]:
    """Return (findings, when they were made) of the last checks of a run, also the muted ones."""
    word = allfindings.last_word(path)
    rows = word.get('checks')
    findings = map(finding_from, rows if isinstance(rows, list) else ())
    when = word.get('when')
    checked = from_isotime(when) if isinstance(when, str) else None
    return tuple(finding for finding in findings if finding), checked
