"""The rules in force, compared with this process and with runs that have ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..system.eventlog import LOGGER
from . import knowledgebase
from . import systemfacts
from .rules import MutedIssue


@dataclass(frozen=True)
class Known:
    """The rules in force, compared with this process.  `problems` are those of the rule files."""

    affected: tuple[knowledgebase.Match, ...]
    unaffected: tuple[knowledgebase.Match, ...]
    muted: tuple[MutedIssue, ...]
    problems: tuple[knowledgebase.Problem, ...]
    count: int


def known(directory: Path | str, has_started: bool = False) -> Known:
    """Return the known issues of this process; `directory` is the data directory, where the site
    adds and mutes rules.
    """
    rules = knowledgebase.in_force(directory)
    system = systemfacts.here()
    affected, unaffected = knowledgebase.affected(rules.rules, system, has_started)
    return Known(
        affected=affected,
        unaffected=unaffected,
        muted=rules.muted,
        problems=rules.problems,
        count=len(rules.rules),
    )


def of_incident(record: RunRecord, directory: Path | str) -> tuple[KnownIssue, ...]:
    """Return the known issues that an archived RunRecord may have met.

    See `knowledgebase.match_incident`.

    Never raises.
    """
    if not record.is_incident:
        return record.known_issues
    try:
        rules = knowledgebase.in_force(directory).rules
        system = systemfacts.here()
        found = knowledgebase.match_incident(rules, record, system)
        return tuple(found) or record.known_issues
    except Exception:  # the record is from a file, so nothing in it is trusted
        LOGGER.warning(
            'Known issues of the run %s could not be looked up.', record.run, exc_info=True
        )
        return record.known_issues
