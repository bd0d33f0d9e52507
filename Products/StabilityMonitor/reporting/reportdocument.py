"""The shape of a report as JSON: `report.schema.json` is made from these annotations.

To add a key to the report, add it here, with the class of the model that it is made from, and run
`python tools/report_schema.py`.  A class of the model stands for its JSON form (`model.jsonform`).
Nothing at run time imports this module.  The annotations are not postponed.
"""

from dataclasses import dataclass
from dataclasses import field
from typing import Annotated
from typing import Any
from typing import Literal
from typing import NotRequired
from typing import TypedDict

from ..model.finding import Finding
from ..model.records import Instance
from ..model.records import Moment
from ..model.records import Request
from ..model.reportparts import ChangedSince
from ..model.reportparts import ConfigurationFile
from ..model.reportparts import Gap
from ..model.reportparts import LogPortion
from ..model.runrecord import RunRecord
from ..model.seenbefore import SeenBefore
from ..model.siteparts import ConfiguredDatabase
from ..model.siteparts import PloneSite
from ..model.snapshotrecord import SnapshotRecord
from ..model.threadstates import Event
from ..model.threadstates import SlowRequest
from ..model.threadstates import ThreadState
from .report import SCHEMA


@dataclass(frozen=True)
class Changed:
    """How a part of the report differs from the JSON form of the class of which it is made.

    `more` is a TypedDict with further keys; `without` are keys that it lacks, and `optional` those
    that it lacks at times.  `name` is that of the part in the schema.
    """

    name: str
    more: type | None = None
    without: frozenset[str] = field(default_factory=frozenset)
    optional: frozenset[str] = field(default_factory=frozenset)


#: Marks a class whose plain JSON form is used: times are seconds since the epoch.
PLAIN = object()


class About(TypedDict):
    """What the report is about: an incident, all incidents of a signature, a snapshot, or the
    current state.

    `run` is the incident, of a signature the newest one, and `signature` its id.  Of a snapshot it
    is the run of its process, and `snapshot` its name.
    """

    kind: Literal['incident', 'signature', 'snapshot', 'state']
    run: str | None
    signature: NotRequired[str]
    snapshot: NotRequired[str]


class Process(TypedDict):
    """Facts about a process; the first eight are those of the Zope Stability HOWTO.

    A value is empty or null if it is not known.  `thread_stack` is [size, guard] in bytes.
    """

    zope: str
    python: str
    platform: str
    software_home: str
    instance_home: str
    client_home: str
    pid: int
    uptime_seconds: float | None
    plone: str
    started: Moment
    run: str
    role: str
    debug_mode: bool
    server_software: str
    threads: int | None
    supervisor: str
    libc: str
    system: str
    safe_mode: bool | None
    recording: bool
    directory: str
    thread_stack: list[int] | None
    core_pattern: str


class Distribution(TypedDict):
    name: str
    version: str


class System(TypedDict, total=False):
    """The operating system, the C library and Python; `gil` is null if it is not known."""

    platform: str
    distribution: str
    level: str
    kernel: str
    container: str
    machine: str
    libc: str
    python_build: str
    compiler: str
    gil: bool | None


class Inventory(TypedDict):
    """What is installed."""

    distributions: list[Distribution]
    products: list[str]
    compiled_modules: list[str]
    databases: list[ConfiguredDatabase]
    system: System


class VersionChange(TypedDict):
    """A distribution whose version has changed; null: it was not, or is not, installed."""

    name: str
    then: str | None
    now: str | None


#: The versions of a run, compared with those of now.  `known`: whether the run recorded them.
#: `with`: who knows those of now.  `changed` is null if one of the two sides is not known.
Versions = TypedDict(
    'Versions',
    {
        'known': bool,
        'with': Literal['process', 'command', 'nobody'],
        'changed': list[VersionChange] | None,
    },
)


class MoreOfRun(TypedDict):
    """What a report says about a run besides its record."""

    inventory: Inventory
    versions: Versions
    seen_before: NotRequired[SeenBefore | None]


class Muted(TypedDict):
    """Why a finding is muted, until when (null: for good), and by whom."""

    reason: str
    until: Any
    who: str


class MoreOfFinding(TypedDict):
    """`hushed` is the name of `muted` before 1.0."""

    muted: NotRequired[Muted]
    hushed: NotRequired[Muted]


class Source(TypedDict):
    """Who reported a part of the report, and when it was true.

    `run` is the run of that process or of these files.  `running` and `error` are about the checks,
    `note` is about the Plone sites.
    """

    source: Literal['process', 'run', 'command', 'nobody', 'snapshot']
    run: str | None
    as_of: Moment | None
    running: NotRequired[bool | None]
    error: NotRequired[str]
    note: NotRequired[str]


class Support(TypedDict):
    """The options of the site that say who files the report, and where."""

    support_name: str
    support_contact: str
    tracker_url: str


class Reporter(TypedDict):
    """Who files the report, what they did, and what they expected."""

    name: str
    email: str
    did: str
    expected: str


class Redacted(TypedDict):
    """How many values of each class were taken out, and which classes were not looked for."""

    values: dict[str, int]
    off: list[str]


RunInReport = Annotated[RunRecord, Changed('RunInReport', more=MoreOfRun)]
RunSummary = Annotated[
    RunRecord,
    Changed(
        'RunSummary',
        without=frozenset(RunRecord('').to_json()) - frozenset(RunRecord('').summary_json()),
    ),
]
FindingInReport = Annotated[
    Finding,
    Changed('FindingInReport', more=MoreOfFinding, optional=frozenset(('check', 'issue'))),
]


class SignatureInReport(TypedDict):
    """All incidents of a signature, and the newest of them, newest first.

    `signature` has title and id.  `weak`: different faults may have this signature.  `first` and
    `last` are times.
    """

    signature: str
    id: str
    title: str
    weak: bool
    count: int
    first: Moment | None
    last: Moment | None
    incidents: list[RunSummary]


class Report(TypedDict):
    """A stability report of one Zope instance.

    `previous` is the last run of a server.  `incident` is the run that the report is about, and
    `snapshot` the snapshot, if it is about one.  `process` has the facts of the living process, and
    `last_process`, while none lives, those of the last one.  `history` are the past runs, newest
    first.  `threads`, `slow_requests` and `hangs` are known of a living process only; times in them
    are seconds since the epoch.  `crash_loop` are the runs of a crash loop, newest first.  `parts`
    are the parts that were chosen: what was not chosen is empty.
    """

    schema: Annotated[str, SCHEMA]
    generated: Moment
    about: About
    instance: Instance
    process: Process | None
    last_process: Process | None
    previous: RunInReport | None
    incident: NotRequired[RunInReport]
    signature: NotRequired[SignatureInReport]
    snapshot: NotRequired[SnapshotRecord]
    history: list[RunSummary]
    checks: list[FindingInReport]
    workarounds: list[Any]
    inventory: Inventory
    in_flight: list[Request]
    threads: list[Annotated[ThreadState, PLAIN]]
    slow_requests: list[Annotated[SlowRequest, PLAIN]]
    hangs: list[Annotated[Event, PLAIN]]
    crash_loop: list[str]
    clean_scripts: int
    support: Support
    sites: list[PloneSite]
    sources: dict[str, Source]
    logs: NotRequired[list[LogPortion]]
    configuration: NotRequired[list[ConfigurationFile]]
    not_told: NotRequired[list[Gap]]
    changed_since_stable: NotRequired[ChangedSince]
    reporter: NotRequired[Reporter]
    parts: NotRequired[list[str]]
    redacted: NotRequired[Redacted]
