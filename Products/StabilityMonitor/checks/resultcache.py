"""What a check has found is remembered, also for the next starts, until something changes that it
looks at.

To compare versions takes a MiB and a half of rules and libraries, for good, and gives the same at
each start as long as nothing is installed.  So it is "run again" when that is of use: whoever asks
for a second look gets one as soon as anything is different, and what was found before as long as
nothing is.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ..model.interfaces import ILivingRun
from ..model.records import Finding
from ..model.records import finding_from
from ..model.records import shallow
from ..store.rundirectory import read_json
from ..store.rundirectory import write_whole
from ..system import fingerprints
from ..system import loglater
from .check import Check
from .check import ICheck
from .check import ILasting
from .livesite import Site

FILE = 'compared.json'
#: Answers of each check that are kept, the newest: instances that share a data directory may
#: differ, and what is loaded soon after a start is not yet all.
_MOST = 8


def remembering(checks: Iterable[ICheck], life: ILivingRun) -> tuple[ICheck, ...]:
    """The same checks, those that ILasting tells of in their Remembered form."""
    return tuple(
        Remembered(check, life) if ILasting.providedBy(check) else check for check in checks
    )


@implementer(ILasting)
class Remembered(Check):
    """Asks the check, and keeps its answer with the runs of `life`; or has it from there.  See
    ILasting.
    """

    def __init__(self, check: ILasting, life: ILivingRun):
        self.check, self.life = check, life
        self.id, self.question, self.source = check.id, check.question, check.source

    def looks_at(self, site: Site) -> tuple[object, ...]:
        return self.check.looks_at(site)

    def look(self, site: Site) -> Finding | list[Finding]:
        mark, file = self._mark(site), site.directory / FILE
        return self._kept(file, mark) or self._asked(site, mark, file)

    def _mark(self, site: Site) -> str:
        try:
            return fingerprints.digest(self.looks_at(site))
        except Exception as error:  # then it is asked, as if nothing was ever kept
            loglater.log(
                logging.WARNING,
                'What the check %s looks at is not known.',
                self.id,
                exc_info=error,
            )
            return ''

    def _kept(self, file: Path, mark: str) -> list[Finding]:
        """[] where nothing is kept that could be an answer."""
        if not mark:
            return []
        answers = [row for row in self._rows(read_json(file)) if row.get('of') == mark]
        kept = answers[0].get('findings') if answers else None
        if not isinstance(kept, list):
            return []
        found = [finding for finding in map(finding_from, kept) if finding is not None]
        return found if len(found) == len(kept) and self._is_answer(found) else []

    def _asked(self, site: Site, mark: str, file: Path) -> list[Finding]:
        found = self.check.look(site)
        found = [found] if isinstance(found, Finding) else list(found)
        if self.life.directory and mark and self._is_answer(found) and self._mark(site) == mark:
            with contextlib.suppress(OSError):  # on a full disk it is asked again
                self._keep(file, {'of': mark, 'findings': list(map(shallow, found))})
        return found

    def _is_answer(self, found: Iterable[Finding]) -> bool:
        """A file that cannot be read, or a library, is trouble of its own (its id is another one)
        and may pass.
        """
        return all(f'{finding.id}:'.startswith(f'{self.id}:') for finding in found)

    def _keep(self, file: Path, answer: dict[str, Any]) -> None:
        known = read_json(file)
        others = [row for row in self._rows(known) if row.get('of') != answer['of']]
        write_whole(
            file,
            json.dumps(known | {self.id: [*others, answer][-_MOST:]}),
            self.life.base.file_mode,
        )

    def _rows(self, known: dict[str, Any]) -> list[dict[str, Any]]:
        rows = known.get(self.id)
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
