"""Triage: the next process claims the dead runs that it finds, judges and archives them.

A triage that fails never stops Zope.  A run that cannot be judged is archived as unreadable.  A run
that cannot be archived becomes a finding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.action import Action
from ..model.interfaces import ILivingRun
from ..model.records import duration
from ..model.records import instance_of
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..store.archive import Archive
from ..store.regularfiles import is_folder
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system.eventlog import LOGGER

if TYPE_CHECKING:  # `evidence` is loaded only when a dead run is found
    from .evidence import World


def triage(
    base: Base,
    own: str = '',
    world: World | None = None,
    on_error: Callable[[str, Exception], object] | None = None,
) -> list[RunRecord]:
    """Judge and archive every dead run below `base` except the run `own`.

    Returns the records that this process archived, oldest first.  An error is passed to `on_error`
    with the name of the run; without `on_error` it is raised.
    """
    archive = Archive(base)
    done = []
    for name in base.waiting():
        if name == own:
            continue
        claimed = base.claim(name)
        if claimed is None:
            if on_error and _is_out_of_reach(base.runs / name):
                on_error(name, PermissionError('this user may not write its directory'))
            continue
        try:
            record = examine(claimed.path, world)
            archive.add(claimed.path, record)
            done.append(record)
        except Exception as error:
            if on_error is None:
                raise
            on_error(name, error)
        finally:
            claimed.abandon()
    base.sweep()
    return done


def _is_out_of_reach(path: Path) -> bool:
    """Whether a dead run cannot be claimed because this process may not write its directory.

    The directory no longer exists if another process has archived it meanwhile.
    """
    may_archive = is_folder(path) and os.access(path, os.W_OK | os.X_OK)
    if may_archive or not os.path.lexists(path):
        return False
    return not is_alive(path)


def examine(path: Path, world: World | None = None) -> RunRecord:
    """Return the record of the dead run in directory `path`.

    Its verdict is "unreadable" if it cannot be judged.
    """
    from . import evidence  # imported here because it is needed only if a run is dead
    from . import incident
    from . import verdict

    try:
        traces = evidence.collect(path, world or evidence.World())
        return incident.record(traces, verdict.judge(traces))
    except Exception as error:
        LOGGER.warning('The run %s could not be judged.', path.name, exc_info=True)
        started, pid = _facts_of_damaged(path.name)
        return RunRecord(
            run=path.name,
            pid=pid,
            started=started,
            ended=started,
            instance=instance_of(read_json(path / CONTEXT)),
            summary=f'This run could not be judged: {type(error).__name__}: {error}.',
        )


def _facts_of_damaged(run: str) -> tuple[float, int]:
    """Return (start, pid) from the run's name; the start is 0.0 if the name holds no valid day."""
    try:
        return name_facts(run)
    except ValueError:
        _, pid, _ = run.split('-')
        return 0.0, int(pid)


def at_start(life: ILivingRun) -> None:
    """Run the triage of a process that has just armed.  Each error becomes a finding."""
    options = life.options

    def add_finding(name: str, error: Exception) -> None:
        life.findings.add(
            f'triage-{name}',
            f'The dead run {name} could not be archived.',
            f'{type(error).__name__}: {error}.',
            Action(
                'Check that the user of Zope may write to its directory and that the disk has room.'
            ),
        )

    with life.findings.guarded(
        'triage',
        'Dead runs could not be judged.',
        Action('Run "stabilitymonitor triage" by hand to see the error.'),
    ):
        triage(life.base, life.name, on_error=add_finding)
        archive = Archive(life.base)
        if life.role == 'server':
            _say_how_it_ended(archive.last_server_run(life.instance))
        life.in_background(
            lambda: archive.prune(options.keep_runs, options.keep_days, options.keep_bytes)
        )


def _say_how_it_ended(last: RunRecord | None) -> None:
    """Write one line into the event log: how the last run ended."""
    if last is None:
        return
    level = logging.WARNING if last.is_incident else logging.INFO
    LOGGER.log(
        level,
        'The last run (pid %s, started %s, up %s) ended: %s [%s, %s] %s',
        last.pid,
        isotime(last.started),
        duration(last.uptime_seconds),
        last.summary,
        last.verdict,
        last.confidence,
        last.run,
    )
