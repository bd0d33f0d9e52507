"""The rules in force, held against this process and against what has ended.

Imported when somebody asks: with the rules, and with the library that compares versions, it takes
more than a MiB, which a process does without where the answer is remembered (`remembered`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.runrecord import RunRecord
from ..system.eventlog import LOGGER
from . import knowledgebase
from . import systemfacts
from .rules import Silence


@dataclass(frozen=True)
class Known:
    """The rules in force, held against this process.  `problems` are those of the site's own
    file.
    """

    affected: tuple[knowledgebase.Match, ...]
    unaffected: tuple[knowledgebase.Match, ...]
    silences: tuple[Silence, ...]
    problems: tuple[knowledgebase.Problem, ...]
    count: int


def known(directory: Path | str, has_started: bool = False) -> Known:
    """Known issues of this process, with what the site in that data directory adds and silences."""
    rules = knowledgebase.in_force(directory)
    return Known(
        *knowledgebase.affected(rules.rules, systemfacts.here(), has_started),
        rules.silences,
        rules.problems,
        len(rules.rules),
    )


def of_incident(record: RunRecord, directory: Path | str) -> tuple[dict[str, Any], ...]:
    """Known issues that an archived RunRecord may have met, see `known_issues.match_incident`;
    never raises.
    """
    if not record.is_incident:
        return record.known_issues
    try:
        rules = knowledgebase.in_force(directory).rules
        return (
            tuple(knowledgebase.match_incident(rules, record, systemfacts.here()))
            or record.known_issues
        )
    except Exception:  # a record is of foreign origin
        LOGGER.warning(
            'Known issues of the run %s could not be looked up.', record.run, exc_info=True
        )
        return record.known_issues
