"""The record of one run: how it ended, and everything known about it."""

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from . import jsonform
from .corefile import CoreFile
from .eventkinds import EVENT_KINDS
from .eventkinds import event_kind
from .faultfacts import FatalError
from .faultfacts import KernelFault
from .finding import Finding
from .records import Evidence
from .records import Instance
from .records import LifePoint
from .records import LogLine
from .records import Moment
from .records import NativeFrame
from .records import Note
from .records import Request
from .records import Sample
from .sharedobject import SharedObject
from .suspects import DeathClass
from .suspects import Suspect
from .threadstates import Event
from .threadstates import ThreadState
from .verdicts import WANTED


@dataclass(frozen=True)
class KnownIssue:
    """A known issue that may have caused an incident, see `knowledge.knowledgebase.match_incident`.

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
class Decision:
    """How a run ended, as it was known at one time."""

    verdict: str = ''
    confidence: str = ''
    signal: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Amendment:
    """What one witness has changed in a record, see `model.witnesses`.

    `time` is when the witness wrote it down; `before` and `after` are equal if it changed nothing.
    """

    time: Moment | None = None
    source: str = ''
    before: Decision = Decision()
    after: Decision = Decision()


@dataclass(frozen=True)
class RunRecord:
    """How one run ended, and everything known about it: the contents of `incident.json`.

    docs/formats.rst describes the keys; keys are only ever added.  Runs are ordered by `number`; 0:
    an older release.  `monotonic` is the start by the monotonic clock of the boot `boot_id`.

    If nothing of the run tells when it ended, `ended` is its last sign of life, and `ended_before`
    the time at which it was found dead, by the start of the run `found_by` or, if that is '', by
    the command.  `ended_before` is None if its end was recorded, and in records of older releases.

    `copied` is None but for a run of another machine in a copied data directory: the last change of
    its files, so the copy was made then or later.  Such a run is never archived, and judged only if
    its own files tell how it ended; else its verdict is "running".

    `fatal` is what the dump of a fatal error says besides the stacks, and `kernel_fault` what the
    kernel logged about the fault, as triage or a witness saw it.

    Never in `incident.json`, but made when the record is read: `amendments` from the files of
    witnesses beside it, `core` from `core.json` beside it, `shared_objects` from the file of the
    set that was loaded, and `death` and `suspects` from all of them (`knowledge.diagnosis`).
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
    suspects: tuple[Suspect, ...] = ()
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
    last_words: tuple[str, ...] = ()
    curve: tuple[LifePoint, ...] = ()
    number: int = 0
    boot_id: str = ''
    monotonic: float | None = None
    ended_before: Moment | None = None
    found_by: str = ''
    fatal: FatalError | None = None
    kernel_fault: KernelFault | None = None
    amendments: tuple[Amendment, ...] = ()
    core: CoreFile | None = None
    death: DeathClass | None = None
    shared_objects: tuple[SharedObject, ...] = ()
    copied: Moment | None = None

    @property
    def is_incident(self) -> bool:
        return self.verdict not in WANTED

    @property
    def is_open_end(self) -> bool:
        """Whether the run was alive when the copy was made in which it lies."""
        return self.copied is not None and self.verdict == 'running'

    @property
    def hung_at_the_end(self) -> bool:
        """Whether a hang, deadlock or spinning thread lasted until the run ended.

        Neither a slow start or stop counts, nor workers that are busy.
        """
        return any(hang.lasts and event_kind(hang.kind).is_trouble for hang in self.hangs)

    @property
    def stood_still(self) -> list[Note]:
        """The notes with the stacks of threads in a hang, a deadlock or a spin."""
        return [note for note in self.notes if note.kind in EVENT_KINDS]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of the record; do not change the dicts in it."""
        return jsonform.to_json(self)

    def without_heavy(self) -> 'RunRecord':
        """Return the record without its large parts."""
        return replace(self, **_WITHOUT_HEAVY)

    def summary_json(self) -> dict[str, Any]:
        """Return the JSON form without the large parts, for lists and the `history` of a report."""
        document = jsonform.to_json(self.without_heavy())
        return {key: value for key, value in document.items() if key not in _WITHOUT_HEAVY}

    @classmethod
    def from_json(cls, document: object) -> 'RunRecord':
        """Read a record, see `model.jsonform`.  Raises ValueError if it is not a record."""
        if not isinstance(document, dict) or not isinstance(document.get('run'), str):
            raise ValueError('not a run record')
        return jsonform.from_json(cls, document)


#: The large parts of a record, and their values in a summary.
_WITHOUT_HEAVY: dict[str, Any] = {
    'threads': (),
    'native': (),
    'samples': (),
    'curve': (),
    'log': (),
    'recent': (),
    'notes': (),
    'compiled_modules': (),
    'core': None,
    'shared_objects': (),
    'context': {},
}
