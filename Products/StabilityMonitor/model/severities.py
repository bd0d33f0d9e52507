"""The table of severities: how serious a finding is, and the words for it.

Critical: the site will stop, freeze or lose data.  Warning: something does harm as soon as a
certain condition holds; the command `checks` exits with 1.  Information: good to know, nothing has
to be done now.

Code compares the rows; documents contain their codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated

from .jsonform import Form


@dataclass(frozen=True)
class Severity:
    """One severity, and how pages and texts show it.

    `one` and `many` are the words after a number, as in "1 warning" and "2 warnings"; `heading` is
    the heading of a group of findings.  `alert` is the class of the Bootstrap alert, `icon` the
    Font Awesome icon.
    """

    code: str
    rank: int  # the most serious severity has the highest
    heading: str
    one: str
    many: str
    alert: str
    icon: str
    presses: bool = False  # something should be done


OK = Severity('ok', 0, 'Fine', 'fine', 'fine', 'success', 'fa-check-circle')
INFO = Severity(
    'info', 1, 'For information', 'for information', 'for information', 'info', 'fa-info-circle'
)
WARNING = Severity(
    'warning',
    2,
    'Warnings',
    'warning',
    'warnings',
    'warning',
    'fa-exclamation-triangle',
    presses=True,
)
CRITICAL = Severity(
    'critical', 3, 'Critical', 'critical', 'critical', 'danger', 'fa-times-circle', presses=True
)
#: The most serious first: the order in which findings are shown.
WORST_FIRST = (CRITICAL, WARNING, INFO, OK)
#: By code, the least serious first.
SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {row.code: row for row in reversed(WORST_FIRST)}
)


def severity_of(code: str) -> Severity:
    """The row of a code; for a code of a later release, a row of the lowest rank that shows it."""
    return SEVERITIES.get(code) or Severity(code, 0, code, code, code, OK.alert, OK.icon)


def _from_code(code: object) -> Severity | None:
    return severity_of(code) if isinstance(code, str) else None


#: The annotation of a field that holds a row; JSON has its code.
SeverityCode = Annotated[Severity, Form(attrgetter('code'), _from_code, always=True)]
