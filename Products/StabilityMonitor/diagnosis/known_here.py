"""The rules in force, held against this process and against what has ended.

Imported when somebody asks: with the rules, and with the library that compares versions, it takes
more than a MiB, which a process does without where the answer is remembered (`remembered`).
"""

from __future__ import annotations

from ..eventlog import LOGGER
from ..values import Value
from . import known_issues
from . import known_system


class Known(Value):
    """The rules in force, held against this process.  `problems` are those of the site's own
    file.
    """

    affected: tuple[known_issues.Match, ...]
    unaffected: tuple[known_issues.Match, ...]
    silences: tuple[known_issues.Silence, ...]
    problems: tuple[known_issues.Problem, ...]
    count: int


def known(directory, has_started: bool = False) -> Known:
    """Known issues of this process, with what the site in that data directory adds and silences."""
    rules = known_issues.in_force(directory)
    return Known(
        *known_issues.affected(rules.rules, known_system.here(), has_started),
        rules.silences,
        rules.problems,
        len(rules.rules),
    )


def of_incident(record, directory) -> tuple[dict, ...]:
    """Known issues that an archived RunRecord may have met, see `known_issues.match_incident`;
    never raises.
    """
    if not record.is_incident:
        return record.known_issues
    try:
        rules = known_issues.in_force(directory).rules
        return (
            tuple(known_issues.match_incident(rules, record, known_system.here()))
            or record.known_issues
        )
    except Exception:  # a record is of foreign origin
        LOGGER.warning(
            'Known issues of the run %s could not be looked up.', record.run, exc_info=True
        )
        return record.known_issues
