"""A finding: the answer of a check, or what a living process says about itself.

What a program decides rests on its fields; title, detail and action are for people.
"""

from dataclasses import dataclass
from typing import Annotated
from typing import Any

from .action import NOTHING
from .action import Action
from .jsonform import Form
from .jsonform import to_json
from .severities import SEVERITIES
from .severities import SeverityCode

#: Keys of the JSON form that are there only where they say something.
_SOMETIMES = ('check', 'issue')


def _plain(text: object) -> Action | None:
    return Action.plain(text) if isinstance(text, str) else None


@dataclass(frozen=True)
class Finding:
    """The answer of a check when something should be done; with severity OK, when all is well.

    Findings are muted by their `id`.  `check` is the id of the check that made it, `issue` the id
    of the rule where it tells of a known issue.
    """

    id: str
    severity: SeverityCode
    title: str
    detail: str = ''
    action: Annotated[Action, Form(str, _plain, always=True)] = NOTHING
    source: str = ''
    check: str = ''
    issue: str = ''

    def to_json(self) -> dict[str, Any]:
        """The fields by name, all of them texts: of the severity its code.

        `check` and `issue` are left out where they are empty.
        """
        told = to_json(self)
        return {key: value for key, value in told.items() if value or key not in _SOMETIMES}


def finding_from(row: object) -> 'Finding | None':
    """A finding out of a foreign document; None if it is none."""
    if not isinstance(row, dict):
        return None
    severity = SEVERITIES.get(str(row.get('severity')))
    if severity is None:
        return None

    def text(key: str) -> str:
        return str(row.get(key) or '')

    return Finding(
        text('id'),
        severity,
        text('title'),
        text('detail'),
        Action.plain(text('action')),
        text('source'),
        text('check'),
        text('issue'),
    )
