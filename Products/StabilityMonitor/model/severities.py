"""The table of severities: how bad a finding is, and the words shown for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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


_ROWS = (
    Severity('ok', 0, 'Fine', 'fine', 'fine', 'success', 'fa-check-circle'),
    Severity(
        'info',
        1,
        'For information',
        'for information',
        'for information',
        'info',
        'fa-info-circle',
    ),
    Severity(
        'warning',
        2,
        'Warnings',
        'warning',
        'warnings',
        'warning',
        'fa-exclamation-triangle',
        presses=True,
    ),
    Severity(
        'critical',
        3,
        'Critical',
        'critical',
        'critical',
        'danger',
        'fa-times-circle',
        presses=True,
    ),
)
#: By code, the mildest first.
SEVERITIES: Mapping[str, Severity] = MappingProxyType({row.code: row for row in _ROWS})
#: The same, the worst first: the order in which findings are shown.
WORST_FIRST = tuple(reversed(_ROWS))


def rank(code: str) -> int:
    """How bad a severity is; one of a later release counts as the mildest."""
    known = SEVERITIES.get(code)
    return known.rank if known else 0


def presses(code: str) -> bool:
    """Whether something should be done about a finding of that severity."""
    known = SEVERITIES.get(code)
    return known is not None and known.presses
