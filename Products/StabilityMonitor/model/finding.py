"""A finding: the answer of a check, or what a living process says about itself.

Title, detail and action are for people; programs decide only by the other fields.
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

#: Keys that the JSON form omits if they are empty.
_SOMETIMES = ('check', 'issue')


def _plain_action(text: object) -> Action | None:
    return Action.plain(text) if isinstance(text, str) else None


@dataclass(frozen=True)
class Finding:
    """The answer of a check: something should be done, or, with severity OK, all is well.

    Findings are muted by their `id`.  `check` is the id of the check that made the finding, `issue`
    the id of the rule if the finding reports a known issue.
    """

    id: str
    severity: SeverityCode
    title: str
    detail: str = ''
    action: Annotated[Action, Form(str, _plain_action, always=True)] = NOTHING
    source: str = ''
    check: str = ''
    issue: str = ''

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, all as texts; the severity as its code.

        `check` and `issue` are omitted if they are empty.
        """
        document = to_json(self)
        for key in _SOMETIMES:
            if not document[key]:
                del document[key]
        return document


def finding_from(row: object) -> 'Finding | None':
    """Read a finding from a foreign document; None if it is not a finding."""
    if not isinstance(row, dict):
        return None
    severity = SEVERITIES.get(str(row.get('severity')))
    if severity is None:
        return None

    def text(key: str) -> str:
        value = row.get(key)
        return value if isinstance(value, str) else ''

    return Finding(
        id=text('id'),
        severity=severity,
        title=text('title'),
        detail=text('detail'),
        action=Action.plain(text('action')),
        source=text('source'),
        check=text('check'),
        issue=text('issue'),
    )
