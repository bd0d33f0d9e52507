"""The record of one run: how it ended, with everything known about it."""

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from . import jsonform
from .eventkinds import EVENT_KINDS
from .finding import Finding
from .records import Evidence
from .records import Instance
from .records import LogLine
from .records import Moment
from .records import NativeFrame
from .records import Note
from .records import Request
from .records import Sample
from .threadstates import Event
from .threadstates import ThreadState
from .verdicts import verdict


@dataclass(frozen=True)
class KnownIssue:
    """A known issue that a run may have met, see `knowledge.knowledgebase.match_incident`.

    `strength` is "strong", "likely", "possible" or "weak".  `matched` and `against` are sentences.
    """

    id: str = ''
    title: str = ''
    severity: str = ''
    strength: str = ''
    score: int = 0
    matched: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    fixed: str = ''
    action: str = ''
    source: str = ''


@dataclass(frozen=True)
class RunRecord:
    """How one run ended, with everything known about it: the contents of `incident.json`.

    The keys are the contract of DESIGN section 4; keys are only ever added.
    """

    run: str
    instance: Instance = Instance()
    role: str = 'server'
    pid: int = 0
    started: Moment | None = None
    ended: Moment | None = None
    uptime_seconds: float | None = None
    verdict: str = 'unreadable'
    confidence: str = 'weak'
    summary: str = ''
    signal: str | None = None
    exit_code: int | None = None
    evidence: tuple[Evidence, ...] = ()
    ruled_out: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    recent: tuple[Request, ...] = ()
    threads: tuple[ThreadState, ...] = ()
    native: tuple[NativeFrame, ...] = ()
    suspects: tuple[dict[str, Any], ...] = ()  # no release writes one yet
    known_issues: tuple[KnownIssue, ...] = ()
    samples: tuple[Sample, ...] = ()
    log: tuple[LogLine, ...] = ()
    signature: str = ''
    phase: str = ''
    exception: str = ''
    counters: dict[str, Any] = field(default_factory=dict)
    compiled_modules: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    drill: str = ''
    notes: tuple[Note, ...] = ()
    hangs: tuple[Event, ...] = ()

    @property
    def is_incident(self) -> bool:
        return not verdict(self.verdict).is_wanted

    @property
    def hung_at_the_end(self) -> bool:
        """Whether a hang, deadlock or spinning thread lasted until the run ended, in any way."""
        return any(hang.lasts for hang in self.hangs)

    @property
    def stood_still(self) -> list[Note]:
        """The notes that have the stack of a thread that hung or spun."""
        return [note for note in self.notes if note.kind in EVENT_KINDS]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON has it; do not change the dicts in it."""
        return jsonform.to_json(self)

    def without_heavy(self) -> 'RunRecord':
        """The record without what is large."""
        return replace(self, **_WITHOUT_HEAVY)

    def summary_json(self) -> dict[str, Any]:
        """The same as JSON, without these keys: as lists and the `history` of a report show it."""
        document = jsonform.to_json(self.without_heavy())
        return {key: value for key, value in document.items() if key not in _WITHOUT_HEAVY}

    @classmethod
    def from_json(cls, document: object) -> 'RunRecord':
        """Read back, see `model.jsonform`.  Raises ValueError for what is no record."""
        if not isinstance(document, dict) or not isinstance(document.get('run'), str):
            raise ValueError('not a run record')
        return jsonform.from_json(cls, document)


#: The large parts of a record, and what stands for them in a summary.
_WITHOUT_HEAVY: dict[str, Any] = {
    'threads': (),
    'native': (),
    'samples': (),
    'log': (),
    'recent': (),
    'notes': (),
    'compiled_modules': (),
    'context': {},
}
