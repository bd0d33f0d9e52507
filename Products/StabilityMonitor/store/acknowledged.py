"""The incidents that a person has acknowledged, with name and note: `acknowledged.json` of the data
directory.

A file that cannot be read acknowledges nothing, and is itself a finding.
"""

import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from ..model.action import Action
from ..model.finding import Finding
from ..model.jsonform import from_json
from ..model.records import isotime
from ..model.severities import WARNING
from .editedlist import MOST_TEXT
from .editedlist import EditedList
from .regularfiles import is_folder
from .rundirectory import RUN_NAME
from .rundirectory import Base

FILE = 'acknowledged.json'
#: An entry names at most this many runs: `model.foreignjson` reads no longer list.
_MOST_RUNS = 1000


@dataclass(frozen=True)
class Acknowledgement:
    """Who acknowledged these runs, when (ISO, UTC) and with which note, which may be empty."""

    runs: tuple[str, ...]
    who: str
    note: str = ''
    when: str = ''


class Acknowledgements:
    """The acknowledged incidents of a data directory, by the name of their run."""

    def __init__(self, base: Base, clock: Callable[[], float] = time.time) -> None:
        self.path = base.path / FILE
        self._base = base
        self._clock = clock
        self._list = EditedList(self.path, 'acknowledged', _from_row, self._is_kept, base.file_mode)

    def read(self) -> tuple[dict[str, Acknowledgement], Finding | None]:
        """Return {run: its acknowledgement}, and a finding if something is wrong with the file.

        ({}, None) if this process cannot open it, because no descriptor is left.
        """
        try:
            entries, problem = self._list.read()
        except OSError:
            return {}, None
        by_run = {run: entry for entry in entries for run in entry.runs}
        return by_run, self._damaged(problem) if problem else None

    def acknowledge(self, runs: Sequence[str], who: str, note: str) -> int:
        """Acknowledge these runs, except for those that are acknowledged; return how many.

        Raises ListIsBusy, and OSError if the file cannot be written.
        """
        name = who.strip()[:MOST_TEXT] or '?'
        words = note.strip()[:MOST_TEXT]
        when = isotime(self._clock()) or ''
        count = 0

        def added(entries: list[Acknowledgement]) -> list[Acknowledgement]:
            nonlocal count
            known = {run for entry in entries for run in entry.runs}
            new = [run for run in runs if run not in known]
            count = len(new)
            for start in range(0, count, _MOST_RUNS):
                some = tuple(new[start : start + _MOST_RUNS])
                entries = [*entries, Acknowledgement(some, name, words, when)]
            return entries

        self._list.change(added)
        return count

    def withdraw(self, runs: Sequence[str]) -> int:
        """Take back the acknowledgement of these runs; return how many had one.

        Raises what `acknowledge` raises.
        """
        count = 0

        def without(entries: list[Acknowledgement]) -> list[Acknowledgement]:
            nonlocal count
            kept = []
            count = 0
            for entry in entries:
                others = tuple(run for run in entry.runs if run not in runs)
                count += len(entry.runs) - len(others)
                if others:
                    kept.append(replace(entry, runs=others))
            return kept

        self._list.change(without)
        return count

    def _is_kept(self, entry: Acknowledgement) -> bool:
        """Whether a run of the entry is still there; pruned runs need no acknowledgement."""
        folders = (self._base.archive, self._base.runs)
        return any(is_folder(folder / run) for run in entry.runs for folder in folders)

    def _damaged(self, detail: str) -> Finding:
        return Finding(
            'acknowledged',
            WARNING,
            'The list of acknowledged incidents is damaged; incidents whose entry is unreadable '
            'count as not acknowledged.',
            f'{self.path}: {detail}',
            Action('Delete the file {path}, and acknowledge the incidents again.', path=self.path),
            FILE,
        )


def _from_row(row: object) -> Acknowledgement | None:
    """Return a row of the file as an acknowledgement; None if it is not valid."""
    try:
        entry = from_json(Acknowledgement, row, strict=True)
    except ValueError:
        return None
    if not entry.runs or not all(map(RUN_NAME.fullmatch, entry.runs)):
        return None
    return entry
