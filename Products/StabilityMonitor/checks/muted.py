"""The findings that a person has muted, each with a reason and an end date: `muted.json` of the
data directory.

A finding is muted for one instance or for all, up to and including its last day (UTC), and only as
long as its severity is not worse than when it was muted.  A file that cannot be read mutes nothing,
and is itself a finding.
"""

import time
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta
from pathlib import Path

from ..model.action import Action
from ..model.errors import StabilityError
from ..model.finding import Finding
from ..model.jsonform import from_json
from ..model.records import isotime
from ..model.severities import CRITICAL
from ..model.severities import OK
from ..model.severities import WARNING
from ..model.severities import Severity
from ..model.severities import severity_of
from ..store.editedlist import MOST_TEXT
from ..store.editedlist import EditedList

FILE = 'muted.json'
#: The file of releases before 1.0, and the key of its rows.  It is read until there is a `FILE`.
_OLD_FILE, _OLD_ROWS = 'hushed.json', 'hushed'
#: {id of a finding in releases before 1.0: its id now}
_RENAMED = {'dead-man': 'watchdog', 'dead-man-threads': 'watchdog-threads', 'hushed': 'muted'}
_LONGEST = timedelta(days=366)


class MuteRefused(StabilityError):
    """A finding was not muted; nothing was changed."""

    next_step = 'Give a reason, and an end date within a year.'


@dataclass(frozen=True)
class Mute:
    """One muted finding, by its id.

    `until` is the last day (ISO, UTC) on which it is muted; `severity` is the code of the severity
    that the finding had when it was muted; an empty `instance` means all instances.
    """

    id: str
    reason: str
    until: str
    who: str
    since: str = ''
    severity: str = ''
    instance: str = ''

    @property
    def worst(self) -> Severity:
        """The worst severity with which the finding stays muted."""
        return severity_of(self.severity) if self.severity else CRITICAL

    def counts(self, finding: Finding, instance: str, today: date) -> bool:
        return (
            self.id == finding.id
            and self.instance in ('', instance)
            and today <= date.fromisoformat(self.until)
            and finding.severity.rank <= self.worst.rank
        )


class MuteList:
    """The muted findings in a data directory, as the instance with this label sees them."""

    def __init__(
        self,
        directory: Path,
        instance: str = '',
        file_mode: int = 0o600,
        clock: Callable[[], float] = time.time,
    ):
        self.path = Path(directory) / FILE
        self.instance = instance
        self._clock = clock
        older = (_OLD_FILE, _OLD_ROWS)
        self._list = EditedList(self.path, 'muted', _mute, self._is_kept, file_mode, older)

    def mute(self, id: str, reason: str, until: str | date, who: str, severity: str = '') -> Mute:
        """Mute a finding up to and including the day `until`.

        Raises MuteRefused, ListIsBusy, and OSError when the file cannot be written.
        """
        if isinstance(until, date):
            until = until.isoformat()[:10]  # of a datetime, the day
        try:
            last = date.fromisoformat(str(until).strip())
        except ValueError:
            raise MuteRefused(f'{until!r} is not a date such as 2027-01-31.') from None
        today = self._today()
        if not id or not str(reason).strip():
            raise MuteRefused('The reason is missing.')
        if not today <= last <= today + _LONGEST:
            raise MuteRefused(f'The end date {last} is not between today and {today + _LONGEST}.')
        new = Mute(
            id,
            str(reason).strip()[:MOST_TEXT],
            last.isoformat(),
            str(who)[:MOST_TEXT],
            isotime(self._clock()) or '',
            severity,
            self.instance,
        )

        def replaced(kept: list[Mute]) -> list[Mute]:
            others = [h for h in kept if h.id != id or h.instance != self.instance]
            return [*others, new]

        self._list.change(replaced)
        return new

    def unmute(self, id: str) -> bool:
        """Show a finding again; False if it was not muted."""

        def without(kept: list[Mute]) -> list[Mute]:
            return [h for h in kept if h.id != id or h.instance not in ('', self.instance)]

        return self._list.change(without)

    def partition(
        self, findings: Iterable[Finding]
    ) -> tuple[list[Finding], list[tuple[Finding, Mute]]]:
        """Return (findings to show, muted findings with their Mute).  `ok` is always shown."""
        kept, problem = self.rows()
        shown = [problem] if problem else []
        muted: list[tuple[Finding, Mute]] = []
        today = self._today()
        for finding in findings:
            counting = [h for h in kept if h.counts(finding, self.instance, today)]
            if counting and finding.severity != OK:
                muted.append((finding, counting[0]))
            else:
                shown.append(finding)
        return shown, muted

    def rows(self) -> tuple[list[Mute], Finding | None]:
        """Return (entries, problem): all entries of the file, also expired ones and those of other
        instances; and a finding if something is wrong with the file, else None.

        ([], None) if this process cannot open it, because no descriptor is left.
        """
        try:
            entries, problem = self._list.read()
        except OSError:
            return [], None
        return entries, self._damaged(problem) if problem else None

    def _damaged(self, detail: str) -> Finding:
        return Finding(
            'muted',
            WARNING,
            'The list of muted findings is damaged; findings whose entry is unreadable are shown.',
            f'{self.path}: {detail}',
            Action('Delete the file {path}, and mute the findings again.', path=self.path),
            FILE,
        )

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    def _is_kept(self, mute: Mute) -> bool:
        return date.fromisoformat(mute.until) >= self._today() - _LONGEST


def _mute(row: object) -> Mute | None:
    """Return a row of the file as a Mute; None if it is not valid."""
    try:
        mute = from_json(Mute, row, strict=True)
        date.fromisoformat(mute.until)
    except ValueError:
        return None
    if not mute.id:
        return None
    return replace(mute, id=_RENAMED.get(mute.id, mute.id))
