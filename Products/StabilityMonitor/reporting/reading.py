"""A report as its sections read it: what it is about, and what was true when."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.jsonform import from_json
from ..model.records import clocktime
from ..model.records import from_isotime
from ..model.reportparts import ChangedSince
from ..model.runrecord import RunRecord
from ..model.seenbefore import SeenBefore
from ..model.verdicts import verdict
from .fromdisk import PROCESS
from .fromdisk import Document

#: The kinds of a report.
INCIDENT, SIGNATURE, STATE = 'incident', 'signature', 'state'


@dataclass(frozen=True)
class Reading:
    """`record` is the incident or, in a report about the current state, the last run; `run` is its
    entry of the report, {} if there is none.
    """

    report: Document
    kind: str
    record: RunRecord | None
    run: Document

    @property
    def is_state(self) -> bool:
        return self.kind == STATE

    @property
    def inventory(self) -> Document:
        """What is installed; in a report about an incident, what was installed then."""
        inventory: Document = self.report['inventory']
        if not self.is_state:
            inventory = self.run.get('inventory') or inventory
        return inventory

    @property
    def snapshot(self) -> Document:
        """The snapshot whose process the current state is; {} if it is about no snapshot."""
        return self.report.get('snapshot') or {}

    @property
    def shows_record(self) -> bool:
        """Whether the report is also about how the run of `record` ended."""
        if self.record is None or self.snapshot:
            return False
        return not self.is_state or self.record.is_incident

    @property
    def seen_before(self) -> SeenBefore | None:
        """What is known of the incident from others with its signature; None if it has none."""
        seen = self.run.get('seen_before')
        return from_json(SeenBefore, seen) if isinstance(seen, dict) else None

    @property
    def signature(self) -> Document:
        """The signature that the report is about, with its incidents; {} if it is about none."""
        known = self.report.get('signature')
        return known if self.kind == SIGNATURE and isinstance(known, dict) else {}

    @property
    def changed_since(self) -> ChangedSince:
        return from_json(ChangedSince, self.report.get('changed_since_stable') or {})

    @property
    def inventory_time(self) -> str:
        """When that was so, to follow a title: " at the time of the crash"; '' for now."""
        if not self.is_state and self.record:
            return f' {at_the_end(self.record.verdict)}'
        source = self.source('inventory')
        return '' if source['source'] == PROCESS else f' as of {local(source["as_of"])}'

    def source(self, part: str) -> Document:
        """Return the source of a part of the report, and the time when the part was true."""
        source: Document | None = self.report.get('sources', {}).get(part)
        return source or {'source': PROCESS, 'as_of': None}


def reading_of(report: Document, record: RunRecord | None, run: Document) -> Reading:
    """Read a report for its sections.  Older reports do not say of which kind they are."""
    about = report.get('about')
    kind = about.get('kind') if isinstance(about, dict) else ''
    if kind not in (INCIDENT, SIGNATURE, STATE):
        kind = INCIDENT if report.get('incident') else STATE
    return Reading(report, kind, record, run)


def local(time: str | None) -> str:
    """Return a time of the report as `model.records.clocktime` shows it."""
    return clocktime(from_isotime(time))


def whole_lines(document: Document) -> tuple[str, ...]:
    """Return the lines of the long text of a part; `from_json` would cut it."""
    text = document.get('text')
    return tuple(text.splitlines()) if isinstance(text, str) else ()


def at_the_end(code: str) -> str:
    """Words for the time when a run ended: "at the time of the crash"."""
    if verdict(code).is_crash:
        return 'at the time of the crash'
    return 'at the time of the end'
