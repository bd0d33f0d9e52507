"""What the next process does with the dead runs that it finds: claim, collect, judge, archive.

A triage that fails never stops Zope.  A run that cannot be judged is archived as unreadable; one
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
from ..model.runrecord import RunRecord
from ..store.archive import Archive
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
    """Judge and archive every dead run below `base` but `own`.

    Returns the records that this process archived, oldest first.  An error is told to `on_error`,
    and raised where there is none.
    """
    archive = Archive(base)
    done = []
    for name in base.waiting():
        if name == own:
            continue
        claimed = base.claim(name)
        if claimed is None:
            if on_error and _is_out_of_reach(base.runs / name):
                on_error(name, PermissionError('it belongs to another user'))
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
    """Whether only its permissions keep this process from judging a dead run.

    It does not exist any more where another process has archived it meanwhile.
    """
    if os.access(path, os.W_OK | os.X_OK) or not os.path.exists(path):
        return False
    return not is_alive(path)


def examine(path: Path, world: World | None = None) -> RunRecord:
    """The record of the dead run in directory `path`, with the verdict "unreadable" where it cannot
    be judged.
    """
    from . import evidence  # most of this room is needed only for a dead run
    from . import incident
    from . import verdict

    try:
        traces = evidence.collect(path, world or evidence.World())
        return incident.record(traces, verdict.judge(traces))
    except Exception as error:
        LOGGER.warning('The run %s could not be judged.', path.name, exc_info=True)
        started, pid = _named(path.name)
        return RunRecord(
            run=path.name,
            pid=pid,
            started=started,
            ended=started,
            instance=instance_of(read_json(path / CONTEXT)),
            summary=f'The record of this run is damaged: {type(error).__name__}: {error}.',
        )


def _named(run: str) -> tuple[float, int]:
    """(start, pid) out of the run's name; the start is 0.0 where the name holds no real day."""
    try:
        return name_facts(run)
    except ValueError:
        return 0.0, int(run.split('-')[1])


def at_start(life: ILivingRun) -> None:
    """The triage of a process that has just armed: each error becomes a finding."""
    options = life.options
    with life.findings.guarded(
        'triage',
        'Dead runs could not be judged.',
        Action('Run "stabilitymonitor triage" by hand to see the error.'),
    ):
        triage(
            life.base,
            life.name,
            on_error=lambda name, error: life.findings.add(
                f'triage-{name}',
                f'The dead run {name} could not be archived.',
                f'{type(error).__name__}: {error}.',
                Action('Make the directory writable for the user that Zope runs as.'),
            ),
        )
        archive = Archive(life.base)
        if life.role == 'server':
            _say_how_it_ended(archive.last_server_run(life.instance))
        life.in_background(
            lambda: archive.prune(options.keep_runs, options.keep_days, options.keep_bytes)
        )


def _say_how_it_ended(last: RunRecord | None) -> None:
    """One line in the event log: how the last run ended."""
    if last is None:
        return
    level = logging.WARNING if last.is_incident else logging.INFO
    LOGGER.log(
        level,
        'The last run (pid %s, started %s, up %s) ended: %s [%s, %s] %s',
        last.pid,
        last.started,
        duration(last.uptime_seconds),
        last.summary,
        last.verdict,
        last.confidence,
        last.run,
    )
