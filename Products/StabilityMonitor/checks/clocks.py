"""Checks of clocks: did the clock of this machine jump, and is a database ahead of it?"""

from __future__ import annotations

from itertools import pairwise

from ..model.action import Action
from ..model.finding import Finding
from ..model.records import clocktime
from ..model.records import duration
from ..model.severities import INFO
from ..model.severities import WARNING
from .check import Check
from .livesite import Site

#: A difference of more seconds than this between two samples is a jump.
_JUMP = 2.0
#: The clocks of two machines may differ by this many seconds.
_AHEAD = 60.0
#: A time service may slow the clock down or speed it up by this share, twice what Linux allows.
_SLEW = 0.001


class Jumps(Check):
    id = 'clock-jumps'
    question = 'Has the clock run without jumps since this run began?'
    source = 'the samples of this run: wall clock against monotonic clock'

    def look(self, site: Site) -> Finding:
        jumps = []
        for before, after in pairwise(site.samples):
            drift = (after.time - before.time) - (after.monotonic - before.monotonic)
            if abs(drift) > _JUMP:
                jumps.append((after.time, drift))
        if jumps:
            when, drift = max(jumps, key=lambda jump: abs(jump[1]))
            return self._jumped(when, drift, len(jumps))
        if site.started is None or site.started_monotonic is None:
            return self.unknown('Whether the clock jumped is not known here.')
        passed = site.monotonic - site.started_monotonic
        drift = (site.now - site.started) - passed
        if abs(drift) > _JUMP + _SLEW * passed:
            return self._jumped(None, drift, 1)
        return self.ok(
            'No clock jumps.', f'The difference is {abs(drift):.3f} s in {duration(passed)}.'
        )

    def _jumped(self, when: float | None, drift: float, count: int) -> Finding:
        back = drift < 0
        at = f'at {clocktime(when)}' if when is not None else 'since the start of this run'
        if back:
            detail = (
                'Times in logs overlap, sessions and caches live longer, and ZODB continues with '
                'its own, later time.'
            )
        else:
            detail = 'The clock was set, or the machine was suspended.'
        if count > 1:
            detail = f'{count} jumps were recorded; this is the largest. {detail}'
        return self.found(
            WARNING if back else INFO,
            f'The clock jumped {"back" if back else "forward"} by {abs(drift):.0f} s {at}.',
            detail,
            Action(
                'Let a time service set the clock: "systemctl enable --now systemd-timesyncd", or '
                'chrony.'
            ),
        )


class DatabaseAhead(Check):
    id = 'database-clock'
    question = 'Is the newest transaction of each database in the past?'
    source = 'ZODB: the time in the id of the last transaction'

    def look(self, site: Site) -> Finding | list[Finding]:
        known: list[tuple[str, float]] = []
        findings: list[Finding] = []
        for database in site.zope.databases:
            try:
                at = database.last_transaction()
            except Exception as error:  # each storage raises its own, as ClientDisconnected of ZEO
                findings.append(self._unreadable(database.name, f'{type(error).__name__}: {error}'))
                continue
            if at is not None:
                known.append((database.name, at))
        for name, at in known:
            if at > site.now + _AHEAD:
                findings.append(self._ahead(name, at, at - site.now))
        if not known and not findings:
            return self.unknown('The times of the newest transactions are not known.')
        return findings or self.ok(
            'The databases are not ahead of the clock.',
            '; '.join(f'{name}: {clocktime(at)}' for name, at in known),
        )

    def _unreadable(self, name: str, error: str) -> Finding:
        return self.found(
            WARNING,
            f'The newest transaction of the database {name} cannot be read.',
            f'{error}.',
            Action(
                'Check that the server in `<zodb_db {name}>` of zope.conf runs and can be reached.',
                name=name,
            ),
            name,
        )

    def _ahead(self, name: str, at: float, seconds: float) -> Finding:
        return self.found(
            WARNING,
            f'The database {name} is {duration(seconds)} ahead of the clock.',
            f'The time of its newest transaction is {clocktime(at)}: the clock is wrong now, or '
            'was wrong then. New transactions get times in the future too, and packing and undo by '
            'time give wrong results.',
            Action(
                'Compare "date -u" with the true time and set the clock right before anything else '
                'is written.'
            ),
            name,
        )
