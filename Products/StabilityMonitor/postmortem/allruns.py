"""All runs of a data directory: the living ones, and the dead ones, archived or not.

A dead run that is not archived yet is judged in memory, in the same way as triage does it, and left
where it is.  So a command that may only read, as a member of `group` may, shows the newest end too
and changes nothing.  The runs of another machine in a copied data directory stay where they are,
too, see `triage.examine`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from ..model.errors import NoSuchRun
from ..model.runrecord import RunRecord
from ..model.witnesses import amended
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.archive import is_clean_script
from ..store.archive import newest_first
from ..store.regularfiles import is_folder
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import read_json
from .triage import examine

if TYPE_CHECKING:  # `evidence` is loaded only when a dead run waits
    from .evidence import World


class AllRuns(Archive):
    """An IArchive that also includes the dead runs that are not archived yet.  It only reads.

    `living` is a list of (name, context) of the living runs.
    """

    only_reads = True

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
        """The whole records of the dead runs that are not archived yet, newest first.

        Clean runs of scripts are left out, and so are copied runs, which nobody will archive.
        """
        return newest_first(
            record
            for record in self._judged
            if record.copied is None and not is_clean_script(record)
        )

    @property
    def copied(self) -> tuple[RunRecord, ...]:
        """The whole records of the runs of another machine, newest first; see `RunRecord`."""
        return newest_first(record for record in self._judged if record.copied is not None)

    @property
    def clean_waiting(self) -> list[str]:
        """The names of the clean runs of scripts that are not counted yet."""
        return [
            record.run
            for record in self._judged
            if record.copied is None and is_clean_script(record)
        ]

    @functools.cached_property
    def _judged(self) -> list[RunRecord]:
        """The records of the dead runs that are not archived yet, judged at the first access."""
        found = []
        for name in self._dead:
            path = self.base.runs / name
            record = examine(path, self._world)
            # If the path is gone, another process has archived the run meanwhile, and this record
            # may be incomplete.
            if is_folder(path):
                found.append(amended(record, witnessfiles.of_run(path)))
        return found

    def summaries(self) -> tuple[RunRecord, ...]:
        """See IArchive.  Those of runs that are not archived yet are whole records."""
        archived = super().summaries()
        found = list(archived)
        known = {record.run for record in archived}
        for record in (*self.waiting, *self.copied):
            if record.run not in known:  # otherwise another process has archived it meanwhile
                found.append(record)
        return newest_first(found)

    def record(self, run: str, is_lean: bool = False) -> RunRecord:
        """See IArchive."""
        try:
            return super().record(run, is_lean)
        except NoSuchRun:
            for record in (*self.waiting, *self.copied):
                if record.run == run:
                    return record
            raise

    def folder(self, run: str) -> Path:
        """See `Base.folder_of`."""
        return self.base.folder_of(run)

    @property
    def clean_scripts(self) -> int:
        """How many runs of scripts ended cleanly."""
        counted = super().clean_scripts
        return counted + len(self.clean_waiting)

    @property
    def incidents(self) -> tuple[RunRecord, ...]:
        """The incidents, newest first."""
        return tuple(record for record in self.summaries() if record.is_incident)

    def names(self) -> list[str]:
        """Return the names of all runs, oldest first, the living ones included."""
        living = [name for name, _ in self.living]
        return sorted({*living, *self._dead, *self._names()})
