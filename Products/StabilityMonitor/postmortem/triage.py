"""Triage: the next process claims the dead runs that it finds, judges and archives them.

A triage that fails never stops Zope.  A run that cannot be judged is archived as unreadable.  A run
that cannot be archived is judged all the same: the event log says how it ended, and it becomes a
finding with the reason that the system gave.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.action import Action
from ..model.errors import NoSuchRun
from ..model.interfaces import ILivingRun
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..model.witnesses import SOURCES
from ..model.witnesses import amended
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.archive import newest_first
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import is_copy
from ..store.rundirectory import is_possible
from ..store.rundirectory import last_change
from ..store.rundirectory import may_live
from ..store.rundirectory import name_facts
from ..store.rundirectory import number_of
from ..store.rundirectory import read_json
from ..system.eventlog import LOGGER

#: For this many seconds after a start, what a witness writes about the last run is told.
OPEN_FOR = 60.0
#: What to do about the reason why the system refused to write, by its error number.
_REMEDIES = {
    errno.ENOSPC: 'Free space on the disk of {folder}, or inodes ("df -i"): it is full.',
    errno.EDQUOT: 'Raise the disk quota of the user of Zope, or remove files of that user.',
    errno.EROFS: 'Mount the volume of {folder} so that it can be written to.',
    errno.EACCES: 'Give the user of Zope permission to write to {folder} and all below it.',
    errno.EPERM: 'Give the user of Zope permission to write to {folder} and all below it.',
    errno.EMFILE: 'Raise the number of files that Zope may open ("ulimit -n").',
    errno.ENFILE: 'Raise the number of files that this system may open ("fs.file-max").',
}

if TYPE_CHECKING:  # `evidence` is loaded only when a dead run is found
    from .evidence import World


def triage(
    base: Base,
    own: str = '',
    world: World | None = None,
    on_error: Callable[[str, Exception, RunRecord | None], object] | None = None,
) -> list[RunRecord]:
    """Judge and archive every dead run below `base` except the run `own`.

    Returns the records that this process archived, oldest first, with what witnesses have told so
    far.  An error is passed to `on_error`
    with the name of the run and its record, which is None if the run was not judged; without
    `on_error` it is raised.
    """
    archive = Archive(base)
    done = []
    for name in base.waiting():
        if name == own:
            continue
        try:
            claimed = base.claim(name)
        except OSError as error:
            path = base.runs / name
            if on_error and path.exists() and not is_alive(path):
                # `may_live` takes the lock for a moment, but this process cannot claim anyway.
                unclaimed = None if may_live(path) else examine(path, world, own)
                on_error(name, error, unclaimed)
            continue
        if claimed is None:
            continue
        record = None
        try:
            record = examine(claimed.path, world, own)
            archive.add(claimed.path, record)
            done.append(amended(record, witnessfiles.of_run(archive.path / name)))
        except Exception as error:
            if on_error is None:
                raise
            on_error(name, error, record)
        finally:
            claimed.abandon()
    base.sweep()
    return done


def examine(path: Path, world: World | None = None, found_by: str = '') -> RunRecord:
    """Return the record of the dead run in directory `path`, which the run `found_by` has found.

    Its verdict is "unreadable" if it cannot be judged.  Of a run in a copied data directory only
    its own files count: if they tell nothing of its end, it was alive when the copy was made.
    """
    if not is_possible(path.name):
        return _foreign(path)
    from . import evidence  # imported here because it is needed only if a run is dead
    from . import incident
    from . import verdict

    try:
        world = world or evidence.World()
        copied = min(last_change(path), world.now) if is_copy(path) else None
        if copied is not None:
            world = replace(world, is_of_run=False)
        traces = evidence.collect(path, world)
        if copied is not None and not traces.end_was_seen:
            return replace(incident.record(traces, verdict.alive_in_copy(copied)), copied=copied)
        record = replace(incident.record(traces, verdict.judge(traces)), copied=copied)
        if traces.end_was_seen:
            return record
        return replace(record, ended_before=world.now, found_by=found_by)
    except Exception as error:
        LOGGER.warning('The run %s could not be judged.', path.name, exc_info=True)
        started, pid = name_facts(path.name)
        return RunRecord(
            run=path.name,
            pid=pid,
            started=started,
            ended=started,
            instance=instance_of(read_json(path / CONTEXT)),
            number=number_of(path),
            summary=f'This run could not be judged: {type(error).__name__}: {error}.',
        )


def _foreign(path: Path) -> RunRecord:
    """Return the record of a folder with the name of a run that no process can have made.

    Nothing in it is read.  `ended` is the last change of the folder, so that it is kept for as long
    as other runs are.
    """
    changed = 0.0
    with contextlib.suppress(OSError):
        changed = path.lstat().st_mtime
    _, pid = name_facts(path.name)
    return RunRecord(
        run=path.name,
        pid=pid,
        ended=max(0.0, min(changed, time.time())),
        summary='This is not a run: the time or the process in its name does not exist.',
    )


def at_start(life: ILivingRun) -> None:
    """Run the triage of a process that has just armed.  Each error becomes a finding."""
    options = life.options
    left: list[RunRecord] = []

    def add_finding(name: str, error: Exception, record: RunRecord | None) -> None:
        detail = f'{type(error).__name__}: {error}.'
        if record:
            left.append(record)
            detail += f' How it ended: {record.summary} [{record.verdict}, {record.confidence}]'
        life.findings.add(
            f'triage-{name}',
            f'The dead run {name} could not be archived.',
            detail,
            remedy(error, life.base.path),
        )

    with life.findings.guarded(
        'triage',
        'Dead runs could not be judged.',
        Action('Run "stabilitymonitor triage" by hand to see the error.'),
    ):
        done = triage(life.base, life.name, on_error=add_finding)
        archive = Archive(life.base)
        if life.role == 'server':
            of_this_instance = [
                record
                for record in (*left, *done)
                if record.role == 'server' and record.instance == life.instance
            ]
            # Usually the last run has just been archived.  To read all summaries takes longer.
            archived = None
            if not any(record.number for record in of_this_instance):
                archived = archive.last_server_run(life.instance)
            if archived:
                of_this_instance.append(archived)
            for record in newest_first(of_this_instance)[:1]:
                _say_how_it_ended(record)
                if record in done:
                    life.every_round(LateWitnesses(life, archive, record).look)
        if left or done:
            # In MainThread, because it defines classes; without a dead run it is not needed.
            from . import witnesslogs

            witnesslogs.ask_later(life, (*left, *done))
        incidents = [record for record in done if record.is_incident]
        if incidents:  # a run that was stopped as asked leaves no core file
            from . import corereading
            from . import earlysigning

            corereading.read_later(life, incidents)
            earlysigning.sign_later(life, incidents)
        life.in_background(
            lambda: archive.prune(options.keep_runs, options.keep_days, options.keep_bytes)
        )


class LateWitnesses:
    """Tells once if the last run, which was judged at this start, gets another verdict by what a
    witness writes soon after.

    For example, another Zope learns the exit status only when a supervisor has waited for the
    process.
    """

    def __init__(
        self,
        life: ILivingRun,
        archive: Archive,
        record: RunRecord,
    ) -> None:
        self._life = life
        self._archive = archive
        self._run = record.run
        self._verdict = record.verdict
        self._seen = len(record.amendments)
        self._until: float | None = time.monotonic() + OPEN_FOR

    def look(self) -> None:
        """Read the files of the witnesses again, in the background.  Called in each round."""
        if self._until is not None:
            if time.monotonic() >= self._until:
                self._until = None  # after one more look
            self._life.in_background(self._read)

    def _read(self) -> None:
        if len(witnessfiles.of_run(self._archive.path / self._run)) == self._seen:
            return
        try:
            record = self._archive.record(self._run)
        except NoSuchRun:  # it was removed meanwhile
            self._until = None
            return
        self._seen = len(record.amendments)
        if record.verdict != self._verdict:
            self._until = None
            _say_what_was_seen(record)


def remedy(error: Exception, folder: Path) -> Action:
    """Return what to do if a run below that folder cannot be archived because of this error."""
    number = error.errno if isinstance(error, OSError) else None
    words = _REMEDIES.get(number or 0)
    if words:
        return Action(words, folder=folder)
    return Action('Run "stabilitymonitor triage" by hand to see the error.')


def _say_how_it_ended(last: RunRecord) -> None:
    """Write one line into the event log: how the last run ended."""
    level = logging.WARNING if last.is_incident else logging.INFO
    LOGGER.log(
        level,
        'The last run (pid %s, started %s, uptime %s) ended: %s [%s, %s] %s',
        last.pid,
        clocktime(last.started),
        duration(last.uptime_seconds),
        last.summary,
        last.verdict,
        last.confidence,
        last.run,
    )


def _say_what_was_seen(last: RunRecord) -> None:
    """Write one line into the event log: what a witness has changed in the verdict."""
    changes = [each for each in last.amendments if each.before.verdict != each.after.verdict]
    source = (changes or last.amendments)[-1].source  # a later witness may only have confirmed it
    LOGGER.log(
        logging.WARNING if last.is_incident else logging.INFO,
        'The last run (pid %s, started %s) has another verdict, by what was seen by %s: %s '
        '[%s, %s] %s',
        last.pid,
        clocktime(last.started),
        SOURCES.get(source, source),
        last.summary,
        last.verdict,
        last.confidence,
        last.run,
    )
