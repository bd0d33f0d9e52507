"""Clocks: did the clock of this machine jump, and does the database live in the future?"""

from __future__ import annotations

from itertools import pairwise

from ..model.records import Finding
from ..model.records import Sample
from ..model.records import duration
from ..model.records import isotime
from .check import Check
from .livesite import Site

#: Seconds: what a sample may be off for, and what clocks may differ by.
_JUMP, _AHEAD = 2.0, 60.0
#: How fast a clock that is set right slowly may go wrong: twice what the kernel allows.
_SLEW = 0.001


class Jumps(Check):
    id = 'clock-jumps'
    question = 'Has the clock gone on evenly since this run began?'
    source = 'the samples of this run: wall clock against monotonic clock'

    def look(self, site: Site) -> Finding:
        jumps = [
            (after.time, _drift(before, after))
            for before, after in pairwise(site.samples)
            if abs(_drift(before, after)) > _JUMP
        ]
        if jumps:
            return self._jumped(*max(jumps, key=lambda jump: abs(jump[1])), len(jumps))
        if site.started is None or site.started_monotonic is None:
            return self.unknown('Whether the clock jumped is not known here.')
        passed = site.monotonic - site.started_monotonic
        drift = (site.now - site.started) - passed
        if abs(drift) > _JUMP + _SLEW * passed:
            return self._jumped(None, drift, 1)
        return self.ok(
            'The clock goes on evenly.', f'{abs(drift):.3f} s off in {duration(passed)}.'
        )

    def _jumped(self, when: float | None, drift: float, count: int) -> Finding:
        back = drift < 0
        at = f'at {isotime(when)}' if when is not None else 'since the start of this run'
        return self.found(
            'warning' if back else 'info',
            f'The clock went {"back" if back else "forward"} by {abs(drift):.0f} s {at}.',
            (f'{count} jumps are seen; this is the largest. ' if count > 1 else '')
            + (
                'Times in logs overlap, sessions and caches live longer, and ZODB keeps to its '
                'own later time.'
                if back
                else 'It was set, or the machine was suspended.'
            ),
            'Let a time service keep the clock: "systemctl enable --now systemd-timesyncd", or '
            'chrony.',
        )


def _drift(before: Sample, after: Sample) -> float:
    return (after.time - before.time) - (after.monotonic - before.monotonic)


class DatabaseAhead(Check):
    id = 'database-clock'
    question = 'Is the newest transaction of each database in the past?'
    source = 'ZODB: the time in the id of the last transaction'

    def look(self, site: Site) -> Finding | list[Finding]:
        known: list[tuple[str, float]] = []
        findings: list[Finding] = []
        for database in site.zope.databases:
            try:
                if (at := database.last_transaction()) is not None:
                    known.append((database.name, at))
            except (
                Exception
            ) as error:  # each storage has its own, such as ClientDisconnected of ZEO
                findings.append(self._silent(database.name, f'{type(error).__name__}: {error}'))
        findings += [
            self._ahead(name, at, at - site.now) for name, at in known if at > site.now + _AHEAD
        ]
        if not known and not findings:
            return self.unknown('The times of the databases are not known here.')
        return findings or self.ok(
            'The databases are not ahead of the clock.',
            '; '.join(f'{name}: {isotime(at)}' for name, at in known),
        )

    def _silent(self, name: str, error: str) -> Finding:
        return self.found(
            'warning',
            f'The database {name} does not tell its newest transaction.',
            f'{error}.',
            f'Look whether the server in <zodb_db {name}> of zope.conf runs and can be reached.',
            name,
        )

    def _ahead(self, name: str, at: float, seconds: float) -> Finding:
        return self.found(
            'warning',
            f'The database {name} is {duration(seconds)} ahead of the clock.',
            f'Its newest transaction is of {isotime(at)}: the clock is wrong now, or was then. '
            'New transactions get '
            'times of that future, and packing and undo by time do not do what they say.',
            'Compare "date -u" with the true time and set the clock right before anything else '
            'is written.',
            name,
        )
