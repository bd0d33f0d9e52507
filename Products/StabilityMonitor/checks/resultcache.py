"""Caches the answers of checks across starts, until something changes that they look at.

Comparing versions takes 1.5 MiB of rules and libraries, which a process never gives back, and the
result is the same at each start as long as nothing is installed.  So these checks are made again
only when one of their inputs has changed, also where a person asks for it.
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
#: This many answers of each check are kept, the newest ones.  Instances that share a data directory
#: may differ, and soon after a start not all modules are loaded.
_MOST = 8


def remembering(checks: Iterable[ICheck], life: ILivingRun) -> tuple[ICheck, ...]:
    """The same checks, each ILasting one with a cache."""
    return tuple(
        Remembered(check, life) if ILasting.providedBy(check) else check for check in checks
    )


@implementer(ILasting)
class Remembered(Check):
    """A check whose answer is kept in the data directory of `life`.  See ILasting."""

    def __init__(self, check: ILasting, life: ILivingRun):
        self.check = check
        self.life = life
        self.id = check.id
        self.question = check.question
        self.source = check.source

    def looks_at(self, site: Site) -> tuple[object, ...]:
        return self.check.looks_at(site)

    def look(self, site: Site) -> Finding | list[Finding]:
        file = site.directory / FILE
        fingerprint = self._fingerprint(site)
        kept = self._kept(file, fingerprint)
        if kept:
            return kept
        found = self.check.look(site)
        findings = [found] if isinstance(found, Finding) else list(found)
        if self.life.directory and fingerprint and self._is_answer(findings):
            # Not if something was installed meanwhile: the answer may be of before or after.
            if self._fingerprint(site) == fingerprint:
                with contextlib.suppress(OSError):  # the disk is full: the next start asks again
                    self._keep(file, {'of': fingerprint, 'findings': list(map(shallow, findings))})
        return findings

    def _fingerprint(self, site: Site) -> str:
        """Changes with the inputs of the check; '' where they cannot be read."""
        try:
            return fingerprints.digest(self.looks_at(site))
        except Exception as error:  # then the check is asked, and nothing is kept
            loglater.log(
                logging.WARNING,
                'What the check %s looks at is not known.',
                self.id,
                exc_info=error,
            )
            return ''

    def _kept(self, file: Path, fingerprint: str) -> list[Finding]:
        """The answer that was kept for these inputs; [] where there is none."""
        if not fingerprint:
            return []
        answers = [row for row in self._rows(read_json(file)) if row.get('of') == fingerprint]
        kept = answers[0].get('findings') if answers else None
        if not isinstance(kept, list):
            return []
        found = [finding for finding in map(finding_from, kept) if finding is not None]
        return found if len(found) == len(kept) and self._is_answer(found) else []

    def _is_answer(self, found: Iterable[Finding]) -> bool:
        """Whether all of it answers the question.

        A file or a library that cannot be read is a finding with another id.  That trouble may
        pass, so it is not kept.
        """
        return all(f'{finding.id}:'.startswith(f'{self.id}:') for finding in found)

    def _keep(self, file: Path, answer: dict[str, Any]) -> None:
        known = read_json(file)
        others = [row for row in self._rows(known) if row.get('of') != answer['of']]
        newest = [*others, answer][-_MOST:]
        write_whole(file, json.dumps(known | {self.id: newest}), self.life.base.file_mode)

    def _rows(self, known: dict[str, Any]) -> list[dict[str, Any]]:
        rows = known.get(self.id)
        if not isinstance(rows, list):
            return []
        return [row for row in rows if isinstance(row, dict)]
