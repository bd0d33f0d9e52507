"""What is known of an incident from earlier ones with the same signature.  No I/O."""

from dataclasses import dataclass
from typing import Any

from . import jsonform
from .comparisons import Difference
from .records import Moment


@dataclass(frozen=True)
class SeenBefore:
    """The incidents with the signature of an incident.

    `signature` is the title and the id of the signature.  `count`, `first`, `last` and `runs` are
    about those before the incident, `since` counts those after it.  `runs` are the newest names,
    newest first.  `different` says in what the incident differs from the last of them.  `unsigned`
    incidents were not looked at yet.
    """

    signature: str
    id: str
    weak: bool = False
    count: int = 0
    first: Moment | None = None
    last: Moment | None = None
    since: int = 0
    runs: tuple[str, ...] = ()
    different: tuple[Difference, ...] = ()
    unsigned: int = 0

    def to_json(self) -> dict[str, Any]:
        return jsonform.to_json(self)
