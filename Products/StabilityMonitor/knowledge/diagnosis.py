"""Why a run died: fills the class of its death and the suspects of a record, by today's rules.

`diagnosed` is a function of its arguments; `source_reader` and `earlier_records` read the disk for
it, within bounds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ..model import stackends
from ..model.errors import NoSuchRun
from ..model.interfaces import IArchive
from ..model.runrecord import RunRecord
from ..store.regularfiles import open_outside
from ..system.eventlog import LOGGER
from . import deathclass
from .callees import Read
from .deathfacts import facts_of
from .suspectrules import suspects

#: At most this many earlier records are read whole.
EARLIER = 20
#: At most this many bytes of a file of Python code are read; a longer one is not.
_SOURCE = 1 << 20


def _nothing(path: str) -> str | None:
    return None


def diagnosed(
    record: RunRecord, earlier: Sequence[RunRecord] = (), read: Read = _nothing
) -> RunRecord:
    """Return the record with the class of its death and the suspects.

    A record that did not crash, and that of a drill, is returned as it is.  `earlier` are records
    of the same instance, newest first (`earlier_records`), and `read` returns the text of a file of
    Python code (`source_reader`).  Never raises.
    """
    if not is_diagnosed(record):
        return record
    try:
        record = stackends.judged(record)
        facts = facts_of(record)
        death = deathclass.class_of(facts)
        return replace(record, death=death, suspects=suspects(facts, death, earlier, read))
    except Exception:  # the record is from a file, so nothing in it is trusted
        LOGGER.warning('Why the run %s died could not be looked up.', record.run, exc_info=True)
        return record


def of_archive(archive: IArchive, record: RunRecord) -> RunRecord:
    """Return an archived record with the class of its death and the suspects, see `diagnosed`."""
    return diagnosed(record, earlier_records(archive, record), source_reader(record))


def is_diagnosed(record: RunRecord) -> bool:
    """Whether the death of this run has a class."""
    return record.verdict in deathclass.VERDICTS and not record.drill


def earlier_records(archive: IArchive, record: RunRecord) -> tuple[RunRecord, ...]:
    """Return the last runs of the same instance before this one, newest first; () if not needed.

    Each is read from its own file, so there are at most EARLIER.
    """
    if not is_diagnosed(record):
        return ()
    found: list[RunRecord] = []
    is_earlier = False
    for summary in archive.summaries():
        if summary.run == record.run:
            is_earlier = True
        elif is_earlier and (summary.instance, summary.role) == (record.instance, record.role):
            try:
                found.append(archive.record(summary.run, is_lean=True))
            except NoSuchRun:  # it was pruned meanwhile
                continue
        if len(found) == EARLIER:
            break
    return tuple(found)


def source_reader(record: RunRecord) -> Read:
    """Return a function that reads Python code as it was when a run started.

    A file that was changed since may have other code in a line: it returns None then, as it does
    for what is no regular file, cannot be read, or is too long.
    """
    started = record.started or 0.0

    def read(path: str) -> str | None:
        if not path.endswith('.py') or not os.path.isabs(path):
            return None
        try:
            with open(open_outside(path), 'rb') as file:
                status = os.fstat(file.fileno())
                if status.st_mtime >= started or status.st_size > _SOURCE:
                    return None
                return file.read(_SOURCE).decode('utf-8', 'replace')
        except (OSError, ValueError):
            return None

    return read
