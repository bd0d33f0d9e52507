"""What the wall clock of a run showed, and when it was set: from its samples.

Values in, values out.  Each sample holds the same moment by the wall clock and by the monotonic
clock, which nobody can set.  Between two settings the two differ by a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: The clock was set if the difference changes by more seconds than this between two samples.
_SET = 2.0
#: Many samples may be missing between the start and the first one that is kept.
_SET_SINCE_START = 5.0
#: A time service may slow the clock down or speed it up by this share, twice what Linux allows.
_SLEW = 0.001
#: Until this many seconds after the last sample, a moment was still shown by the last clock.
_AFTER = 10.0


@dataclass(frozen=True)
class _Piece:
    """A time in which the clock was not set: from and until when by the monotonic clock, and by
    how much the wall clock was ahead of it at both ends.
    """

    since: float
    until: float
    ahead_at_first: float
    ahead: float

    def monotonic(self, moment: float) -> float:
        return moment - self.ahead

    def distance(self, moment: float) -> float:
        """Return by how many seconds that moment lies outside; 0.0 if the clock showed it."""
        at = self.monotonic(moment)
        return max(self.since - at, at - self.until, 0.0)


@dataclass(frozen=True)
class Setting:
    """The clock was set by `seconds` (negative: back); then it showed `time`."""

    time: float
    seconds: float


class WallClock:
    """The clock of one run.  `moments` are (wall clock, monotonic clock) of its start, if both are
    known, and of its samples, the oldest first.
    """

    def __init__(self, moments: Iterable[tuple[float, float]], has_start: bool = True) -> None:
        self._pieces: list[_Piece] = []
        first: tuple[float, float] | None = None  # (monotonic, ahead) of the piece
        until = ahead = 0.0
        longest = _SET_SINCE_START if has_start else _SET
        for wall, monotonic in moments:
            now_ahead = wall - monotonic
            if first is None:
                first = (monotonic, now_ahead)
            else:
                if has_start:  # this is the first sample
                    longest += _SLEW * max(0.0, monotonic - until)
                if abs(now_ahead - ahead) > longest:
                    self._pieces.append(_Piece(first[0], until, first[1], ahead))
                    first = (monotonic, now_ahead)
                has_start = False
                longest = _SET
            until = monotonic
            ahead = now_ahead
        if first is not None:
            self._pieces.append(_Piece(first[0], until + _AFTER, first[1], ahead))

    @property
    def was_set(self) -> bool:
        return len(self._pieces) > 1

    def settings(self) -> list[Setting]:
        """Return how the clock was set, the oldest first."""
        found = []
        for before, after in zip(self._pieces, self._pieces[1:], strict=False):
            moment = after.since + after.ahead_at_first
            found.append(Setting(moment, after.ahead_at_first - before.ahead))
        return found

    def monotonic(self, moment: float) -> float:
        """Return when the wall clock showed that moment, by the monotonic clock.

        If it showed it twice because it was set back, the later time counts.  Without any moments
        the result is meaningless: ask `was_set` before.
        """
        nearest = min(reversed(self._pieces), key=lambda piece: piece.distance(moment))
        return nearest.monotonic(moment)

    def at(self, monotonic: float) -> float:
        """Return what the clock as it was at the end shows at a moment of the monotonic clock."""
        return monotonic + self._pieces[-1].ahead

    def by_last(self, moment: float) -> float:
        """Return a moment by the clock as it was at the end."""
        if not self.was_set:
            return moment
        return self.at(self.monotonic(moment))
