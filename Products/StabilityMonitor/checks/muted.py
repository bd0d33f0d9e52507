"""Findings that somebody has hushed: with a reason, until a day, in `hushed.json` of the data
directory.

A hush is for one instance (or for all), counts through its last day (UTC), and no longer when the
finding has become worse than it was.  A file that cannot be read hushes nothing, and is itself a
finding.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model.errors import StabilityError
from ..model.records import Finding
from ..model.records import isotime
from ..model.records import shallow
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_whole
from ..store.rundirectory import write_whole

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

FILE = 'hushed.json'
_LONGEST = timedelta(days=366)
_MOST_TEXT, _MOST_BYTES = 500, 1 << 20
_PATIENCE = 1.0
_WRITING = threading.Lock()


class HushRefused(StabilityError):
    """A hush was not written; nothing was changed."""

    next_step = 'Give a reason, and an end date within a year.'


class ListIsBusy(HushRefused):
    next_step = 'Try again.'


@dataclass(frozen=True)
class Hush:
    """`until` is the last day (ISO, UTC) that it counts; `severity` that of the finding when it was
    hushed.
    """

    id: str
    reason: str
    until: str
    who: str
    since: str = ''
    severity: str = ''
    instance: str = ''

    def counts(self, finding: Finding, instance: str, today: date) -> bool:
        return (
            self.id == finding.id
            and self.instance in ('', instance)
            and today <= date.fromisoformat(self.until)
            and _rank(finding.severity) <= _rank(self.severity or 'critical')
        )


class Hushed:
    """The hushes in a data directory, as `instance` (its label) sees them."""

    def __init__(
        self,
        directory: Path,
        instance: str = '',
        file_mode: int = 0o600,
        clock: Callable[[], float] = time.time,
    ):
        self.path, self.instance = Path(directory) / FILE, instance
        self._file_mode, self._clock = file_mode, clock

    def hush(self, id: str, reason: str, until: str | date, who: str, severity: str = '') -> Hush:
        """Hush a finding through the day `until`.  Raises HushRefused, or OSError when it cannot be
        written.
        """
        last, today = self._day(until), self._today()
        if not id or not str(reason).strip():
            raise HushRefused('There is no reason.')
        if not today <= last <= today + _LONGEST:
            raise HushRefused(f'The end date {last} is not between today and {today + _LONGEST}.')
        new = Hush(
            id,
            str(reason).strip()[:_MOST_TEXT],
            last.isoformat(),
            str(who)[:_MOST_TEXT],
            isotime(self._clock()) or '',
            severity,
            self.instance,
        )
        self._change(lambda kept: [*(h for h in kept if not self._same(h, id)), new])
        return new

    def unhush(self, id: str) -> bool:
        """Show a finding again; whether it was hushed."""
        return self._change(
            lambda kept: [h for h in kept if not (h.id == id and h.instance in ('', self.instance))]
        )

    def partition(
        self, findings: Iterable[Finding]
    ) -> tuple[list[Finding], list[tuple[Finding, Hush]]]:
        """What is shown, and what is hushed with its Hush.  Findings that are `ok` are always
        shown.
        """
        kept, problem = self.rows()
        shown = [problem] if problem else []
        hushed: list[tuple[Finding, Hush]] = []
        for finding in findings:
            hush = next((h for h in kept if h.counts(finding, self.instance, self._today())), None)
            if hush is None or finding.severity == 'ok':
                shown.append(finding)
            else:
                hushed.append((finding, hush))
        return shown, hushed

    def rows(self) -> tuple[list[Hush], Finding | None]:
        """All hushes in the file, of others and expired ones too, and what is wrong with the
        file.
        """
        try:
            rows = json.loads(read_whole(self.path, _MOST_BYTES))['hushed']
        except FileNotFoundError:
            return [], None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            return [], self._damaged(f'{type(error).__name__}: {error}')
        kept = list(filter(None, map(_hush, rows if isinstance(rows, list) else [None])))
        bad = len(rows) - len(kept) if isinstance(rows, list) else 1
        return kept, self._damaged(f'{bad} of its entries are none.') if bad else None

    def _damaged(self, detail: str) -> Finding:
        return Finding(
            'hushed',
            'warning',
            'The list of hushed findings is damaged; what cannot be read is shown.',
            f'{self.path}: {detail}',
            f'Delete the file {self.path}, and hush again what should be.',
            FILE,
        )

    def _same(self, hush: Hush, id: str) -> bool:
        return hush.id == id and hush.instance == self.instance

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    def _day(self, until: str | date) -> date:
        try:
            return date.fromisoformat(
                until.isoformat()[:10] if isinstance(until, date) else str(until).strip()
            )
        except ValueError:
            raise HushRefused(f'{until!r} is no date like 2027-01-31.') from None

    def _change(self, change: Callable[[list[Hush]], list[Hush]]) -> bool:
        """Read, change and write, alone among all threads and processes; whether anything has
        changed.
        """
        with _WRITING, self._alone():
            before, problem = self.rows()
            after = change(before)
            if after == before and not problem:
                return False
            if problem:
                with contextlib.suppress(OSError):  # for whoever wants to mend it
                    self.path.replace(self.path.with_name(f'{FILE}.damaged'))
            alive = [h for h in after if date.fromisoformat(h.until) >= self._today() - _LONGEST]
            write_whole(
                self.path,
                json.dumps({'hushed': [shallow(h) for h in alive]}, indent=1),
                self._file_mode,
            )
            return after != before

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        descriptor = open_regular(
            self.path.with_name(f'{FILE}.lock'), os.O_CREAT | os.O_RDWR, self._file_mode
        )
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Wait a moment for another process; a volume without locks has to do without."""
    assert fcntl is not None  # its caller has looked
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ListIsBusy(
                    'Another process is writing the list of hushed findings.'
                ) from None
            time.sleep(0.01)
        except OSError:
            return


def _rank(severity: str) -> int:
    return Finding.SEVERITIES.index(severity) if severity in Finding.SEVERITIES else 0


def _hush(row: Any) -> Hush | None:
    """A row of the file as a Hush; None if it is none."""
    try:
        hush = Hush(**{each.name: row[each.name] for each in fields(Hush) if each.name in row})
        date.fromisoformat(hush.until)
    except (TypeError, ValueError, KeyError):
        return None
    return (
        hush if all(isinstance(value, str) for value in vars(hush).values()) and hush.id else None
    )
