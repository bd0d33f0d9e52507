"""The table of severities: how bad a finding is, and the words shown for it.

Code holds and compares the rows; a document has their codes.
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
    """`one` and `many` follow the number of findings; `heading` stands above a group of them.

    `alert` is the colour of the Bootstrap alert, `icon` the one of Font Awesome.
    """

    code: str
    rank: int  # the worst has the highest
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
#: The worst first: the order in which findings are shown.
WORST_FIRST = (CRITICAL, WARNING, INFO, OK)
#: By code, the mildest first.
SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {row.code: row for row in reversed(WORST_FIRST)}
)


def severity_of(code: str) -> Severity:
    """The row of a code; that of a later release counts as the mildest, and shows its code."""
    return SEVERITIES.get(code) or Severity(code, 0, code, code, code, OK.alert, OK.icon)


def _from_code(code: object) -> Severity | None:
    return severity_of(code) if isinstance(code, str) else None


#: A row as a field of a value; its code in JSON.
SeverityCode = Annotated[Severity, Form(attrgetter('code'), _from_code, always=True)]
