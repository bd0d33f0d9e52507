"""The archive: it holds each dead run once, with its evidence beside its `incident.json`.

What is written there never changes, but witnesses may add files of their own (`witnessfiles`), and
what is read here includes them.  Summaries are kept in memory by name.  Clean runs of scripts
are only counted: each appends one byte to `clean-scripts`, so that no
count is lost if several processes archive at the same time.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import stat
import time
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ..model.errors import NoSuchRun
from ..model.interfaces import IArchive
from ..model.records import Instance
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..model.witnesses import amended
from . import corerecords
from . import damagedrecords
from . import distributionsets
from . import objectsets
from . import runnumbers
from . import snapshotfiles
from . import witnessfiles
from .blackboxreader import LARGEST
from .regularfiles import Folder
from .regularfiles import NotARegularFile
from .regularfiles import TooLarge
from .regularfiles import is_folder
from .regularfiles import names_in
from .regularfiles import open_regular
from .regularfiles import opened
from .regularfiles import read_tail
from .regularfiles import rename
from .regularfiles import status_of
from .rundirectory import BLACKBOX
from .rundirectory import CONTEXT
from .rundirectory import INCIDENT
from .rundirectory import INCIDENT_MOST
from .rundirectory import RUN_NAME
from .rundirectory import SUMMARY
from .rundirectory import SUMMARY_MOST
from .rundirectory import Base
from .rundirectory import name_facts
from .rundirectory import read_json
from .runmailbox import BELL
from .runmailbox import FOLDER as MAILBOX

_CLEAN_SCRIPTS = 'clean-scripts'
_MARK_TAIL = 1 << 20  # bytes; no mark file is preallocated larger than this
_DAY = 86400  # seconds
_INCIDENTS_KEPT = 10  # this many of the newest incidents are never too old
_GONE = '.gone-'  # so begins the name of a folder that is being removed
#: Cache of the summaries that were read: {archive: {run: record}}.
_KNOWN: dict[Path, dict[str, RunRecord]] = {}
#: What each archive was amended with, as far as it is in that cache.
_AMENDED: dict[Path, witnessfiles.Amended] = {}


@dataclass(frozen=True)
class _Listed:
    """The summaries of an archive in order, when its folder had these names.

    `known` is the cache from which they were: when runs are amended, another dict takes its place.
    The names were read at `read`, in seconds since the epoch, when the folder was last `changed`,
    in the same; 0: not known.
    """

    names: list[str]
    known: dict[str, RunRecord]
    summaries: tuple[RunRecord, ...]
    changed: float
    read: float

    def has_all(self, changed: float, now: float) -> bool:
        """Whether the folder, which was last `changed` then, still has these names.

        The times of a folder may be coarse.
        """
        is_settled = 0 < changed == self.changed < self.read - _COARSE
        return is_settled and 0 <= now - self.read < _LISTED_FOR


#: The times of a folder may be this coarse, in seconds, as on FAT.
_COARSE = 2.0
#: The folder is listed again after this many seconds even if it seems unchanged.
_LISTED_FOR = 20.0
#: To put 10,000 summaries in order takes ten times as long as to list the folder.
_LISTED: dict[Path, _Listed] = {}


@implementer(IArchive)
class Archive:
    """See IArchive.  It holds the archived runs below `base`.

    `only_reads`: who uses it writes no file of the archive, not even a cache.
    """

    only_reads = False

    def __init__(self, base: Base) -> None:
        self.base = base
        self.path = base.archive

    # -- reading -----------------------------------------------------------------------------------

    def summaries(self) -> tuple[RunRecord, ...]:
        """Return all archived runs without their large fields, newest first.

        It is the same object until a run is added, removed or amended.
        """
        last = _LISTED.get(self.path)
        now, changed = time.time(), self._changed()
        known = self._without_amended()
        if last and last.known is known and last.has_all(changed, now):
            return last.summaries
        listed = names_in(self.path)
        if last and last.known is known and last.names == listed:
            _LISTED[self.path] = replace(last, changed=changed, read=now)
            return last.summaries
        names = _runs(listed)
        removed = known.keys() - set(names)
        for name in removed:
            known.pop(name, None)
        found = newest_first(self._summary(name, known) for name in names)
        _LISTED[self.path] = _Listed(listed, known, found, changed, now)
        return found

    def _changed(self) -> float:
        """Return when a run was added or removed last; 0 if that is not known."""
        try:
            return status_of(self.path).st_mtime
        except OSError:
            return 0.0

    def _without_amended(self) -> dict[str, RunRecord]:
        """Return the cache without the runs of which a witness has told more since they were
        read.
        """
        known = _KNOWN.setdefault(self.path, {})
        names = _AMENDED.setdefault(self.path, witnessfiles.Amended()).names(self.base)
        if names is None:
            known = _KNOWN[self.path] = {}
        elif names & known.keys():
            kept = {name: each for name, each in known.copy().items() if name not in names}
            known = _KNOWN[self.path] = kept
        return known

    def _names(self) -> list[str]:
        return _runs(names_in(self.path))

    def _summary(self, name: str, known: dict[str, RunRecord]) -> RunRecord:
        found = known.get(name)
        if found is not None:
            return found
        path = self.path / name
        found = _from_file(path / SUMMARY, SUMMARY_MOST)
        if found is None:  # archived by an older release, or damaged
            whole = _from_file(path / INCIDENT)
            if whole:
                found = whole.without_heavy()
            else:
                found = _damaged(path)
        found = damagedrecords.alone(found, _usable)
        found = amended(found, witnessfiles.of_run(path))
        known[name] = found
        return found

    def last_server_run(self, instance: Instance) -> RunRecord | None:
        """Return the newest run of a server of that instance, or None.

        The names do not tell which one it is: the clock may have been wrong.  So all summaries are
        read.
        """
        for record in self.summaries():
            if record.role == 'server' and record.instance == instance:
                return record
        return None

    def record(self, run: str, is_lean: bool = False) -> RunRecord:
        """See IArchive."""
        path = self.path / run
        if not RUN_NAME.fullmatch(run) or not is_folder(path):
            raise NoSuchRun(f'There is no archived run {run!r}.')
        record = _from_file(path / INCIDENT)
        if record is None:
            record = _damaged(path)
        record = damagedrecords.alone(record, self._with_versions)
        record = amended(record, witnessfiles.of_run(path))
        if is_lean:
            return record
        return replace(
            record, core=corerecords.of_run(path), shared_objects=objectsets.of_run(path)
        )

    def _with_versions(self, record: RunRecord) -> RunRecord:
        _usable(record)
        if record.context.get('distributions'):  # archived by an older release
            return record
        path = self.path / record.run
        # The versions that were installed then are usually in a separate file.
        installed = distributionsets.of_run(path)
        if not installed:
            digest = record.context.get('installed')
            installed = distributionsets.load(self.base.path, digest)
        return replace(record, context=record.context | installed)

    @property
    def clean_scripts(self) -> int:
        try:
            status = status_of(self.path / _CLEAN_SCRIPTS)
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    # -- writing -----------------------------------------------------------------------------------

    def _on_disk(self, record: RunRecord) -> dict[str, Any]:
        """Return the JSON of a record, without the versions if a file of distributions has them."""
        document = record.to_json()
        context = document['context']
        kept = distributionsets.load(self.base.path, context.get('installed'))
        if not kept or kept.get('distributions') != context.get('distributions'):
            return document
        without_versions = dict(context)
        without_versions.pop('distributions', None)
        without_versions.pop('builds', None)
        document['context'] = without_versions
        return document

    def add(self, path: Path, record: RunRecord) -> None:
        """Archive a claimed run.

        One rename archives the run, so no run is archived twice.  The evidence is made smaller only
        after it: a process that dies before the rename leaves all evidence.
        """
        if is_clean_script(record):
            self._count_script(path)
            return
        mode = self.base.file_mode
        incident = json.dumps(self._on_disk(record))
        summary = json.dumps(record.summary_json())
        with opened(path) as folder:
            for name, text in ((INCIDENT, incident), (SUMMARY, summary)):
                _clear_the_way(folder, name)
                folder.write_whole(name, text.encode(), mode)
        rename(path, self.path / path.name)
        with contextlib.suppress(OSError):  # on a full disk the folder keeps its size
            _shrink(self.path / path.name)

    def _count_script(self, path: Path) -> None:
        descriptor = open_regular(
            self.path / _CLEAN_SCRIPTS,
            os.O_WRONLY | os.O_APPEND | os.O_CREAT,
            self.base.file_mode,
        )
        try:
            os.write(descriptor, b'.')
        finally:
            os.close(descriptor)
        with opened(path.parent) as runs:
            _remove(runs, path.name)

    def prune(
        self,
        keep_runs: int,
        keep_days: float,
        keep_bytes: int,
        now: float | None = None,
    ) -> int:
        """Remove the runs that are too old, too many or too large, and unused sets.  The same
        limits hold for snapshots, and what those take counts, too.

        Wanted stops are removed before incidents, older runs before newer ones.  `now` is in
        seconds since the epoch.  Returns how many runs were removed.

        The clock may be wrong.  So the age of a run counts from the end of the newest run, if that
        is before `now`: a clock that is ahead makes no run older.  And the newest incidents are
        never too old.
        """
        if now is None:
            now = time.time()
        records = sorted(self.summaries(), key=_end, reverse=True)
        oldest = now - keep_days * _DAY
        if records:
            oldest = min(now, _ended(records[0])) - keep_days * _DAY
        ends = _ends(records, now)
        kept: list[RunRecord] = []
        to_remove: list[RunRecord] = []
        incidents = 0
        for record in records:
            incidents += record.is_incident
            is_spared = record.is_incident and incidents <= _INCIDENTS_KEPT
            if ends[record.run] < oldest and not is_spared:
                to_remove.append(record)
            else:
                kept.append(record)
        kept.sort(key=lambda record: record.is_incident, reverse=True)
        to_remove += kept[keep_runs:]
        size = snapshotfiles.Snapshots(self.base).prune(keep_runs, oldest, keep_bytes)
        with contextlib.suppress(OSError), opened(self.path) as archive:
            for record in kept[:keep_runs]:
                size += archive.disk_size(record.run)
                if size > keep_bytes:
                    to_remove.append(record)
            for record in to_remove:
                _remove(archive, record.run)
            for name in archive.names():
                if name.startswith(_GONE):  # a signature was written meanwhile, or a process died
                    archive.remove(name)
        distributionsets.prune(self.base, now)
        objectsets.prune(self.base, now)
        return len(to_remove)


def _runs(names: Iterable[str]) -> list[str]:
    return [name for name in names if RUN_NAME.fullmatch(name)]


def _from_file(path: Path, most: int = INCIDENT_MOST) -> RunRecord | None:
    """Return the record in that file; None if there is none, or if it is of another run."""
    try:
        found = RunRecord.from_json(read_json(path, most))
    except ValueError:
        return None
    except Exception:  # an error of this product
        damagedrecords.log_once(path.parent.name)
        return None
    if found.run != path.parent.name:
        return None
    if found.signature or found.copied is not None:
        # Signatures are made by the rules of today, and a run of a copy is never archived.
        return replace(found, signature='', copied=None)
    return found


def _usable(record: RunRecord) -> RunRecord:
    """Return the record if it can be sorted, judged and written; raises if it cannot."""
    _order(record)
    _end(record)
    times = (record.started, record.ended, record.uptime_seconds, record.monotonic)
    for number in (*times, record.number):
        if not math.isfinite(number or 0):
            raise ValueError('a time that is no number')
    hash((record.is_incident, record.instance, record.role, record.boot_id))
    json.dumps(record.summary_json(), allow_nan=False)
    return record


def _damaged(path: Path) -> RunRecord:
    """Return a record for the run in that directory, whose own record is damaged.

    The context that the run wrote itself may still say to which instance it belonged.
    """
    context = read_json(path / CONTEXT)
    return replace(
        damagedrecords.damaged(path.name),
        instance=instance_of(context),
        role='script' if context.get('role') == 'script' else 'server',
        number=runnumbers.valid(context.get('number')),
    )


def is_clean_script(record: RunRecord) -> bool:
    """Whether this is a clean run of a script, which is only counted: never archived or shown."""
    return record.role == 'script' and record.verdict == 'stopped'


def newest_first(records: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    def by_start(records: tuple[RunRecord, ...]) -> tuple[RunRecord, ...]:
        return tuple(sorted(records, key=_order, reverse=True))

    return damagedrecords.together(records, by_start)


def _order(record: RunRecord) -> tuple[int, float, str]:
    """Return the sort key: the number of the run, and for runs of older releases the start.

    Names hold only whole seconds, and a server may die and start again within one second.
    """
    started = float(record.started or _named_start(record.run))
    return runnumbers.valid(record.number), started, record.run


def _end(record: RunRecord) -> tuple[int, float, str]:
    """Return the sort key for pruning: the number, and for runs of older releases the end.

    Such a run may begin before the clock is set.
    """
    return runnumbers.valid(record.number), _ended(record), record.run


def _ended(record: RunRecord) -> float:
    return float(record.ended or _named_start(record.run))


def _ends(records: Sequence[RunRecord], now: float) -> dict[str, float]:
    """Return {run: when it ended, at the earliest}.  The records are sorted, newest first.

    The clock may have been wrong at the end of a run.  A run did not end long before one that had
    begun earlier: then the end of that one counts.
    """
    ends: dict[str, float] = {}
    latest = 0.0
    for record in reversed(records):
        ended = _ended(record)
        if runnumbers.valid(record.number):
            ended = max(ended, latest)
            latest = min(ended, now)
        ends[record.run] = ended
    return ends


def _named_start(name: str) -> float:
    started, _ = name_facts(name)
    return started


def _clear_the_way(folder: Folder, name: str) -> None:
    """Rename a folder that has the name of a file, because a file cannot replace a folder."""
    if folder.is_folder(name):
        suffix = os.urandom(2).hex()
        folder.rename(name, f'{name}.{suffix}')


def _shrink(path: Path) -> None:
    """Make the evidence of a run smaller.

    Removes empty marks, cuts off preallocated tails and compresses the black box.
    """
    with opened(path) as folder:
        folder.remove(MAILBOX)
        folder.remove(BELL)
        for name in folder.names():
            if name.endswith('.mark'):
                _cut_off_tail(folder, name)
        _compress(folder, BLACKBOX)


def _cut_off_tail(folder: Folder, mark: str) -> None:
    """Cut off the NULs that were preallocated and never written; remove a file of only NULs."""
    try:
        descriptor = folder.open(mark, os.O_RDWR)
    except NotARegularFile:
        return
    try:
        tail = read_tail(descriptor, _MARK_TAIL)
        unwritten = len(tail) - len(tail.rstrip(b'\0'))
        status = os.fstat(descriptor)
        written = status.st_size - unwritten
        if written:
            os.ftruncate(descriptor, written)
        else:
            folder.unlink(mark)
    finally:
        os.close(descriptor)


def _compress(folder: Folder, box: str) -> None:
    try:
        content = folder.read_whole(box, LARGEST)
        mode = folder.stat(box).st_mode & 0o777
    except (FileNotFoundError, NotARegularFile, TooLarge):
        return
    folder.write_whole(f'{box}.gz', gzip.compress(content, 1), mode)
    folder.unlink(box)


def _remove(folder: Folder, run: str) -> None:
    folder.remove_at_once(run, f'{_GONE}{run}-{os.getpid()}')
