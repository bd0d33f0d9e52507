"""All runs of a data directory: those that live, and the dead ones, archived or not.

A dead run that waits for the archive is judged in memory, as triage would do it, and left where it
is.  So a command that only reads, as a member of `group`, shows the newest end and changes nothing.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from ..model.errors import NoSuchRun
from ..model.runrecord import RunRecord
from ..store.archive import Archive
from ..store.archive import is_clean_script
from ..store.archive import newest_first
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import read_json
from .triage import examine

if TYPE_CHECKING:  # `evidence` is loaded only when a dead run waits
    from .evidence import World


class AllRuns(Archive):
    """An IArchive that also tells of the dead runs that wait for it.  Read only.

    `living`: (name, context) of the runs that live.
    """

    def __init__(self, base: Base, world: World | None = None) -> None:
        super().__init__(base)
        self._world = world
        self.living: list[tuple[str, dict[str, Any]]] = []
        self._dead: list[str] = []
        for name in base.waiting():
            path = base.runs / name
            if may_live(path):
                self.living.append((name, read_json(path / CONTEXT)))
            else:
                self._dead.append(name)

    @property
    def waiting(self) -> tuple[RunRecord, ...]:
        """The whole records of the dead runs that wait, newest first, without clean scripts."""
        return newest_first(record for record in self._judged if not is_clean_script(record))

    @property
    def clean_waiting(self) -> list[str]:
        """The names of the clean runs of scripts that wait to be counted."""
        return [record.run for record in self._judged if is_clean_script(record)]

    @functools.cached_property
    def _judged(self) -> list[RunRecord]:
        """The records of the dead runs that wait, judged once, at the first request."""
        found = []
        for name in self._dead:
            path = self.base.runs / name
            record = examine(path, self._world)
            # Another process may have archived it meanwhile: the record may not be whole then.
            if path.exists():
                found.append(record)
        return found

    def summaries(self) -> tuple[RunRecord, ...]:
        """See IArchive; those that wait are whole records."""
        archived = super().summaries()
        found = list(archived)
        known = {record.run for record in archived}
        for record in self.waiting:
            if record.run not in known:  # else another process has archived it meanwhile
                found.append(record)
        return newest_first(found)

    def record(self, run: str) -> RunRecord:
        """See IArchive."""
        try:
            return super().record(run)
        except NoSuchRun:
            for record in self.waiting:
                if record.run == run:
                    return record
            raise

    def folder(self, run: str) -> Path:
        """Where the files of that run are; another process may have archived it meanwhile."""
        waiting = self.base.runs / run
        if waiting.is_dir():
            return waiting
        return self.path / run

    @property
    def clean_scripts(self) -> int:
        """How many runs of scripts came to a clean end."""
        counted = super().clean_scripts
        return counted + len(self.clean_waiting)

    @property
    def incidents(self) -> tuple[RunRecord, ...]:
        """The runs that ended badly, newest first."""
        return tuple(record for record in self.summaries() if record.is_incident)

    def names(self) -> list[str]:
        """The names of all runs, also of those that live, oldest first."""
        living = [name for name, _ in self.living]
        return sorted({*living, *self._dead, *self._names()})
