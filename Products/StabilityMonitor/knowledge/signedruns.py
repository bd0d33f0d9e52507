"""The signatures of archived runs, by the rules of today: from memory, a cache, or made now.

To make one takes milliseconds, because the whole record is read.  A page makes a few at most, and
`sign_later` the others, in a thread that is idle most of the time.  Later only new incidents are
signed, and those about which a witness or a core file has told more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ..model.errors import NoSuchRun
from ..model.feature import Feature
from ..model.runrecord import RunRecord
from ..model.signature import Signature
from ..store import signaturefiles
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.signaturefiles import Signed
from ..system.backgroundjob import BackgroundJob
from ..system.backgroundjob import Turns
from . import crashgroups
from . import diagnosis
from . import runfeatures
from . import signatures
from .crashgroups import Group

#: At most this many signatures are made in one request, for at most this many seconds.
MOST_AT_ONCE = 50
SECONDS = 1.0
#: After each signature, `sign_later` is idle for this many times as long as that took.
_IDLE = 3.0
#: For so many lists of runs the result is kept: those of one and of all instances, and others.
_KEPT_LISTS = 4
#: In a process, one thread signs at a time.
_TURNS: Turns = {}
#: Runs that are gone are forgotten when so many are known, and then when there are twice as many.
_MANY = 1000

_NOTHING = Signed(None)

#: Is called with how many runs are signed, and how many there are.
Tell = Callable[[int, int], object]


def _to_nobody(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass
class _Looked:
    """What was found for a list of runs, when the memory had changed `changes` times."""

    runs: tuple[RunRecord, ...]
    changes: int
    known: dict[str, Signature | None]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return crashgroups.groups(self.runs, self.known)


@dataclass
class _Memory:
    """What this process knows of an archive.  `signed` is {name of a run: what is kept of it}."""

    signed: dict[str, Signed] = field(default_factory=dict)
    #: Equal ones are one object, because most of a large archive are equal.
    distinct: dict[Signature, Signature] = field(default_factory=dict)
    sets: dict[tuple[Feature, ...], tuple[Feature, ...]] = field(default_factory=dict)
    amended: witnessfiles.Amended = field(default_factory=witnessfiles.Amended)
    #: How often `signed` was changed.
    changes: int = 0
    clean_at: int = _MANY
    #: Only what is complete.
    looked: list[_Looked] = field(default_factory=list)

    def keep(self, run: str, found: Signed) -> Signed:
        if found.signature:
            same = self.distinct.setdefault(found.signature, found.signature)
            found = replace(found, signature=same)
        found = replace(found, features=self.sets.setdefault(found.features, found.features))
        self.signed[run] = found
        self.changes += 1
        return found

    def of_list(self, runs: tuple[RunRecord, ...]) -> _Looked | None:
        for each in self.looked:
            # Mostly these are the same objects: then this compares only their addresses.
            if each.changes == self.changes and each.runs == runs:
                return each
        return None

    def forget(self, runs: Iterable[str]) -> None:
        for run in runs:
            if self.signed.pop(run, None):
                self.changes += 1


#: {archive: what this process knows of it}
_MEMORY: dict[Path, _Memory] = {}


def of_archive(archive: Archive, record: RunRecord) -> RunRecord:
    """Return an archived record with what is never in its file: the class of its death, the
    suspects (see `diagnosis.of_archive`), and the label of its signature.
    """
    return SignedRuns(archive).labelled(diagnosis.of_archive(archive, record))


class SignedRuns:
    """The signatures of the runs of an archive, which may be an `AllRuns`.

    No method raises an error of the system: a run that cannot be read has no signature.
    """

    def __init__(self, archive: Archive, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock

    # -- one run

    def of(self, record: RunRecord) -> Signature | None:
        """Return the signature of a run, by its record or its summary; it is made if need be."""
        if not signatures.may_have(record):
            return None
        found = self._at_hand(record.run) or self._made(record.run)
        return found.signature if found else None

    def features(self, record: RunRecord) -> tuple[Feature, ...]:
        """Return what a run is compared by, see `runfeatures`; also that of a wanted stop."""
        found = self._at_hand(record.run) or self._made(record.run)
        return found.features if found else ()

    def labelled(self, record: RunRecord) -> RunRecord:
        """Return the record with the label of its signature, '' if it has none."""
        signature = self.of(record)
        return replace(record, signature=signature.label if signature else '')

    # -- many runs

    def known(self, summaries: Iterable[RunRecord]) -> dict[str, Signature | None]:
        """Return {name of a run: its signature}, as far as it is known; do not change it.

        Some are made now, see MOST_AT_ONCE; `unsigned` tells how many are missing.
        """
        return self._looked(tuple(summaries)).known

    def labels(self, summaries: Iterable[RunRecord]) -> dict[str, str]:
        """Return {name of a run: the label of its signature, '' if it has none}, like `known`."""
        known = self.known(summaries)
        return {run: found.label if found else '' for run, found in known.items()}

    def unsigned(self, summaries: Iterable[RunRecord]) -> int:
        """Return how many of these runs are still to be signed."""
        return len(self._unsigned(summaries))

    def sign_later(self, summaries: Iterable[RunRecord]) -> BackgroundJob[None, None] | None:
        """Sign those that are still to be signed in the background; None if there are none."""
        waiting = self._unsigned(summaries)
        if not waiting:
            return None

        def work() -> tuple[None, str]:
            for run in waiting:
                began = self._clock()
                self._sign(run)
                if job.stopping.wait(_IDLE * (self._clock() - began)):
                    break
            return None, ''

        job = BackgroundJob[None, None](
            'signatures',
            work,
            first=None,
            not_started='The past incidents were not signed: {}.',
            failed='The past incidents were not signed: {}.',
            turns=_TURNS,
        )
        job.start()  # not if another one is at work: then the next page asks again
        return job

    def sign_all(self, summaries: Iterable[RunRecord], tell: Tell = _to_nobody) -> None:
        """Sign those that are still to be signed, and keep that.  This may take minutes."""
        waiting = self._unsigned(summaries)
        for done, run in enumerate(waiting):
            tell(done, len(waiting))
            self._sign(run, is_kept=True)
        if waiting:
            tell(len(waiting), len(waiting))

    def groups(
        self, summaries: Iterable[RunRecord]
    ) -> tuple[tuple[Group, ...], dict[str, Signature | None]]:
        """Return the groups of these incidents, see `crashgroups`, and what is `known` of them.

        They are made only if a run or a signature has changed.
        """
        looked = self._looked(tuple(summaries))
        return looked.groups, looked.known

    # -- how

    def _memory(self) -> _Memory:
        """Return what is known of the archive, without what is no longer right."""
        memory = _MEMORY.setdefault(self._archive.path, _Memory())
        amended = memory.amended.names(self._archive.base)
        memory.forget(list(memory.signed) if amended is None else amended)
        if len(memory.signed) > memory.clean_at:
            there = {run.run for run in self._archive.summaries()}
            memory.forget(memory.signed.keys() - there)
            memory.clean_at = max(_MANY, 2 * len(memory.signed))
        return memory

    def _looked(self, runs: tuple[RunRecord, ...]) -> _Looked:
        memory = self._memory()
        looked = memory.of_list(runs)
        if looked:
            return looked
        looked = _Looked(runs, memory.changes, self._looked_up(runs))
        # What was signed meanwhile, also by another thread, may not be among them.
        if len(looked.known) == len(runs) and looked.changes == memory.changes:
            memory.looked = [looked, *memory.looked[: _KEPT_LISTS - 1]]
        return looked

    def _looked_up(self, runs: Iterable[RunRecord]) -> dict[str, Signature | None]:
        memory = self._memory()
        found: dict[str, Signature | None] = {}
        until = self._clock() + SECONDS
        made = 0
        for run in runs:
            signed = memory.signed.get(run.run)
            if signed is None and not signatures.may_have(run):
                signed = _NOTHING
            if signed is None and made < MOST_AT_ONCE and self._clock() < until:
                signed = self._kept(run.run)
                if signed is None:
                    made += 1
                    signed = self._made(run.run)
            if signed is not None:
                found[run.run] = signed.signature
        return found

    def _unsigned(self, summaries: Iterable[RunRecord]) -> list[str]:
        memory = self._memory()
        runs = tuple(summaries)
        if memory.of_list(runs):
            return []
        known = memory.signed
        return [run.run for run in runs if run.run not in known and signatures.may_have(run)]

    def _sign(self, run: str, is_kept: bool = False) -> None:
        if self._kept(run) is None:
            self._made(run, is_kept)

    def _at_hand(self, run: str) -> Signed | None:
        return self._memory().signed.get(run) or self._kept(run)

    def _kept(self, run: str) -> Signed | None:
        """Return what the cache beside the record says, and remember it."""
        found = signaturefiles.read(self._archive.base, run, signatures.RULES)
        return _MEMORY[self._archive.path].keep(run, found) if found else None

    def _made(self, run: str, is_kept: bool = False) -> Signed | None:
        """Sign a run, and keep that unless the archive only reads; None if the run is gone."""
        base = self._archive.base
        made_from = signaturefiles.sources(base, run)
        try:
            record = self._archive.record(run)
        except NoSuchRun:  # it was pruned meanwhile
            return None
        signature = signatures.signature_of(record, diagnosis.source_reader(record))
        found = Signed(signature, runfeatures.features_of(record))
        if made_from is not None and (is_kept or not self._archive.only_reads):
            signaturefiles.write(base, run, signatures.RULES, made_from, found)
        memory = _MEMORY[self._archive.path]
        found = memory.keep(run, found)
        # Another thread may have read the note of what came meanwhile before this was remembered.
        if signaturefiles.sources(base, run) != made_from:
            memory.forget([run])
        return found
