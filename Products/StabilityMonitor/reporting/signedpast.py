"""The past runs by signature: what page, command and report show of them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from ..knowledge import crashgroups
from ..knowledge.crashgroups import Group
from ..knowledge.earliertime import differences
from ..knowledge.signedruns import SignedRuns
from ..model.comparisons import Difference
from ..model.counts import counted
from ..model.errors import NoSuchRun
from ..model.interfaces import IArchive
from ..model.records import clocktime
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..model.seenbefore import SeenBefore
from ..model.signature import Signature
from ..store.archive import Archive
from ..store.damagedrecords import together
from . import signaturewords

#: A `SeenBefore` names at most this many runs.
_NAMED = 100
#: {archive: its summaries, and what was made of them}: they are the same objects while nothing
#: changes, and so are the signatures when all are known.
_LAST: dict[Path, tuple[tuple[RunRecord, ...], SignedPast]] = {}


@dataclass(frozen=True)
class SignedPast:
    """The incidents of an archive by signature, newest first.

    `signatures` is {name of a run: its signature}, as far as they were looked at; `unsigned` counts
    the others.  `drills` and `without` are those without a signature: a drill has none, and of
    others too little is known.  `began` is when the first of all known runs began.
    """

    incidents: tuple[RunRecord, ...]
    groups: tuple[Group, ...]
    signatures: Mapping[str, Signature | None] = field(default_factory=dict)
    drills: tuple[RunRecord, ...] = ()
    without: tuple[RunRecord, ...] = ()
    unsigned: int = 0
    began: float | None = None

    @property
    def signed(self) -> int:
        """How many incidents were looked at."""
        return sum(group.count for group in self.groups) + len(self.without)

    @property
    def progress(self) -> str:
        """How far the signing of old incidents is, for people; '' when it is done."""
        if not self.unsigned:
            return ''
        return f'Signing past incidents: {self.signed:,} of {self.signed + self.unsigned:,} done.'

    def group_of(self, run: str) -> Group | None:
        """Return the group of that run; None if it has no signature."""
        return crashgroups.group_of(self.groups, run)

    def seen_before(self, archive: IArchive, record: RunRecord) -> SeenBefore | None:
        """Return what is known of an incident from others; None if it has no signature.

        `record` is whole, and the one before it is read, so that they can be compared.
        """
        group = self.group_of(record.run)
        if group is None:
            return None
        names = [run.run for run in group.runs]
        since = names.index(record.run)
        before = group.runs[since + 1 :]
        return SeenBefore(
            signature=group.signature.label,
            id=group.id,
            weak=group.signature.is_weak,
            count=len(before),
            first=before[-1].ended if before else None,
            last=before[0].ended if before else None,
            since=since,
            runs=tuple(run.run for run in before[:_NAMED]),
            different=_different(archive, record, before[0]) if before else (),
            unsigned=self.unsigned,
        )


def signed_past(archive: Archive, summaries: Iterable[RunRecord] | None = None) -> SignedPast:
    """Return the incidents of an archive by signature; `summaries` are those of it, if known.

    Only a few signatures are made now, see `SignedRuns.known`.
    """
    runs = archive.summaries() if summaries is None else tuple(summaries)
    before, past = _LAST.get(archive.path, ((), None))
    is_same = past is not None and before is runs
    incidents = past.incidents if past and is_same else incidents_of(runs)
    signed = SignedRuns(archive)
    groups, signatures = signed.groups(incidents)
    if past and is_same and past.signatures is signatures:
        return past
    drills = []
    without = []
    for run in incidents:
        if run.drill:
            drills.append(run)
        elif run.run in signatures and signatures[run.run] is None:
            without.append(run)
    past = SignedPast(
        incidents,
        groups,
        signatures,
        tuple(drills),
        tuple(without),
        signed.unsigned(incidents),
        min((run.started for run in runs if run.started), default=None),
    )
    _LAST[archive.path] = runs, past
    return past


def incidents_of(summaries: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    return together(summaries, lambda runs: tuple(run for run in runs if run.is_incident))


def _different(archive: IArchive, record: RunRecord, earlier: RunRecord) -> tuple[Difference, ...]:
    try:
        return differences(record, archive.record(earlier.run, is_lean=True))
    except NoSuchRun:  # it was pruned meanwhile
        return ()


# -- the command "history --by signature" ----------------------------------------------------------


def past_json(past: SignedPast) -> dict[str, Any]:
    """Return the incidents by signature, for programs."""
    return {
        'signatures': list(map(_group_json, past.groups)),
        'drills': [run.run for run in past.drills],
        'without_signature': [run.run for run in past.without],
        'unsigned': past.unsigned,
    }


def _group_json(group: Group) -> dict[str, Any]:
    signature = group.signature
    return {
        'signature': signature.label,
        'id': signature.id,
        'weak': signature.is_weak,
        'title': signature.title,
        'verdict': signature.verdict,
        'suspect': signature.suspect,
        'family': signature.family,
        'count': group.count,
        'first': isotime(group.first),
        'last': isotime(group.last),
        'runs': [run.run for run in group.runs],
    }


def past_lines(past: SignedPast) -> Iterator[str]:
    """Yield a line for each signature, with column titles, and what has none."""
    if past.groups:
        yield f'{"count":>6}  {"first":29}  {"last":29}  {"id":11}  signature'
    for group in past.groups:
        first = clocktime(group.first)
        last = clocktime(group.last)
        signature = group.signature
        yield f'{group.count:6,}  {first:29}  {last:29}  {signature.id:11}  {signature.title}'
    if past.drills:
        yield f'and {counted(len(past.drills), "drill")}'
    if past.without:
        yield f'and {counted(len(past.without), "incident")} without a signature'
    if past.progress:
        yield past.progress
    if not (past.groups or past.drills or past.without or past.unsigned):
        yield 'No incidents yet.'
    if any(group.signature.is_weak for group in past.groups):
        yield signaturewords.WEAK
