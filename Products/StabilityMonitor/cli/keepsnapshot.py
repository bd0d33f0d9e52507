"""The command "snapshot": keep what a living process does now, and show what was kept.

The heartbeat of the process tells it, also while all workers are busy.  If it does not answer, what
the kernel, the black box and the watchdog know is kept instead.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..inspection import nativestacks
from ..model.snapshotrecord import SnapshotRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.manualtriage import as_recorded
from ..postmortem.manualtriage import recorded_options
from ..reporting import snapshottaking
from ..reporting import snapshottext
from ..store.rundirectory import is_alive
from ..store.snapshotfiles import Snapshots
from . import dataowner
from . import stacks as clistacks
from . import whichrun
from .exitstatus import WELL
from .terminal import notice
from .terminal import print_json
from .terminal import print_lines


def keep(runs: AllRuns, options: Namespace, who: str) -> int:
    """Keep a snapshot of the wanted living run, or of each living server.

    `options`: run, note, with_native.  Raises NotLiving, OnlyTheOwner, and OSError.
    """
    dataowner.refuse_others(runs.base.path, 'keep a snapshot there')
    wanted = options.run
    living = runs.living
    if wanted is not None:
        wanted = whichrun.by_beginning([name for name, _ in living], wanted)
    else:
        servers = [each for each in living if each[1].get('role') != 'script']
        living = servers or living
    base = as_recorded(runs.base, recorded_options(runs.base))
    for name, context in clistacks.chosen(runs.base, living, wanted):
        record = _taken(runs, name, context, who, options.note)
        if options.with_native:
            record = _with_native(runs, record)
        Snapshots(base).add(record)
        print_lines(
            [
                f'Kept as snapshot {record.id}: {record.summary}',
                f'See it with "stabilitymonitor show {record.id}".',
            ]
        )
    return WELL


def show(record: SnapshotRecord, form: str) -> int:
    """Print one snapshot as "text" or "json"."""
    if form == 'json':
        print_json(record.to_json())
    else:
        print_lines(snapshottext.lines(record))
    return WELL


def named(runs: AllRuns, word: str | None) -> SnapshotRecord | None:
    """Return the snapshot whose name begins with the word; None if the word means a run.

    Raises AmbiguousRun if names of runs begin with it, too.
    """
    snapshots = Snapshots(runs.base)
    names = snapshots.names()
    if not word or not names:
        return None
    name = whichrun.by_beginning([*names, *runs.names()], word)
    return snapshots.record(name) if name in names else None


def _taken(
    runs: AllRuns, name: str, context: dict[str, Any], who: str, note: str
) -> SnapshotRecord:
    path = runs.base.runs / name
    found = clistacks.ask(path, context)
    return snapshottaking.of_run(
        runs, path, context, found.stacks, found.view, found.reason, who, note
    )


def _with_native(runs: AllRuns, record: SnapshotRecord) -> SnapshotRecord:
    """Return it with the native stacks, which a tool reads; progress goes to standard error."""
    if not is_alive(runs.base.runs / record.run):
        # The tool stops the process while it reads, so it must be the right process.
        error = 'This command cannot verify which process belongs to the run.'
        return snapshottaking.with_native(record, '', error)
    taking = nativestacks.NativeStacks(record.pid)
    if taking.start():
        while not taking.wait(1.0):
            notice(taking.words)
    record = snapshottaking.with_native(record, taking.result or '', taking.error)
    if record.native_error:
        notice(record.native_error)
    return record
