"""Whether the memory of a run grows: by the slope of its curve, against the noise of the curve.

A threshold on the size does not tell a leak from a large site, and a leak may take minutes or
weeks.  So the curve over the whole life, followed by the last samples, is looked at from several
moments on until its end: the whole, the last half, the last quarter and so on.  What is looked at
is cut into pieces of equal length, and the least memory of each piece counts: garbage that waits
for the collector, and a request that needs much and gives it back, are above it.

The memory grows if all of this is true:

* The slope is well above its noise.  The slope is that of Theil and Sen, the median of the slopes
  between all pairs of pieces, which single pieces do not bend.  Its lower confidence bound by
  Kendall's variance (Sen 1968, Journal of the American Statistical Association 63, 1379) must be at
  least half of it.
* It grows by at least a fifth, and by at least 64 MiB.
* It grows all the time, not in one or two steps: in at least four of five changes between six parts
  of the time, of which none is more than three fifths of all.  A cache that was filled once, or a
  large object that was kept, is a step.
* It still grows in the last third, nearly as fast as before.  A site that has started, and a cache
  with a limit, grow more slowly from part to part.
* Most of it lies above all that was used before.  A tooth of a saw does not.

The first minute of a life does not count, nor the first tenth of it: a site grows while it starts.
Less than three minutes are not judged.  Where it is not known when the life began, the samples may
be all that there is, and a minute of them is enough.
"""

import math
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.records import LifePoint
from ..model.records import Sample
from ..model.records import duration

#: Seconds after the start of a run that do not count.
_SETTLING = 60.0
#: Seconds: what is shorter is not judged; and if the start of the run is not known.
_SHORTEST = 180.0
_SHORTEST_ALONE = 45.0
#: From at most this many moments on the series is looked at.
_MOST_LOOKS = 20
#: How many pieces the time is cut into, and how many of them must have a value.
_PIECES = 36
_FEWEST = 12
#: In how many parts it must grow.
_PARTS = 6
_LEAST_RISING = 4
#: A part in which it grows by less than this share of all does not grow.
_RISING = 0.05
#: One part may have at most this share of all growth.
_MOST_IN_ONE = 0.6
#: The least growth: in bytes, and as a share of the memory before.
_LEAST_BYTES = 64 << 20
_LEAST_SHARE = 0.2
#: The lower bound of the slope is at least this share of the slope.
_ABOVE_NOISE = 0.5
#: The slope of the last third, at its upper bound, is at least this share of the whole slope.
_STILL = 0.7
#: At least this share of the growth lies above what was used before.
_ABOVE_ALL = 0.5
#: Standard deviations: 99 % of all values of a normal distribution are within the first number, and
#: 90 % within the second.
_WIDE = 2.576
_NARROW = 1.645
_MIB = 1 << 20
_HOUR = 3600.0
#: Rates are told for an hour if it was watched for that long, otherwise for a minute.
_RATES = ((_HOUR, 'h'), (60.0, 'min'))

#: (monotonic seconds, bytes)
_Point = tuple[float, float]


@dataclass(frozen=True)
class Growth:
    """By how much the memory of a process grew until its end, or until now.

    It grew for `seconds`, from `before` to `after` (bytes), by `rate` bytes a second.
    """

    seconds: float
    before: int
    after: int
    rate: float

    @property
    def summary(self) -> str:
        """For example "grew by 40 MiB/h over 12 hours, from 812 to 1,301 MiB"."""
        before = f'{self.before / _MIB:,.0f}'
        after = f'{self.after / _MIB:,.0f} MiB'
        return f'grew by {self._rate} over {duration(self.seconds)}, from {before} to {after}'

    @property
    def _rate(self) -> str:
        seconds, unit = next(row for row in _RATES if self.seconds >= row[0] or row is _RATES[-1])
        mebibytes = self.rate * seconds / _MIB
        digits = 0 if mebibytes >= 10 else 1
        return f'{mebibytes:,.{digits}f} MiB/{unit}'

    def seconds_until(self, used: float, limit: float) -> float | None:
        """Return after how many seconds the limit is reached at this rate; None without a limit."""
        if limit <= 0 or used < 0:
            return None
        return max(0.0, limit - used) / self.rate


def began(context: Mapping[str, Any]) -> float | None:
    """Return the start of a run on the monotonic clock from its context; None if not known."""
    moment = context.get('monotonic')
    if isinstance(moment, int | float) and 0 < moment < math.inf:
        return moment
    return None


def memory_growth(
    curve: Sequence[LifePoint],
    samples: Sequence[Sample],
    started: float | None = None,
) -> Growth | None:
    """Return the growth of the memory of a run, over the longest time in which it grew; None if it
    did not grow.

    `started` is the start of the run on the monotonic clock, if it is known.
    """
    points = _series(curve, samples)
    if not points:
        return None
    first, last = points[0][0], points[-1][0]
    settled = first + (last - first) / 10
    shortest = _SHORTEST_ALONE
    if started is not None:
        settled = max(settled, started + _SETTLING)
        shortest = _SHORTEST
    for since in _beginnings(settled, last, shortest, samples):
        growth = _judged(points, since, settled)
        if growth:
            return growth
    return None


def _series(curve: Iterable[LifePoint], samples: Iterable[Sample]) -> list[_Point]:
    """Return the curve, and from the first sample on the samples, oldest first."""
    recent = [(sample.monotonic, float(sample.rss)) for sample in samples if sample.rss > 0]
    recent.sort()
    until = recent[0][0] if recent else math.inf
    before = [
        (point.monotonic, float(point.rss))
        for point in curve
        if point.rss > 0 and point.monotonic < until
    ]
    before.sort()
    return before + recent


def _beginnings(
    settled: float,
    last: float,
    shortest: float,
    samples: Sequence[Sample],
) -> Iterator[float]:
    """Yield the moments from which on the series is looked at, the earliest first."""
    wanted = [samples[0].monotonic] if samples else []
    length = last - settled
    for _ in range(_MOST_LOOKS):
        wanted.append(last - length)
        length /= 2
    for since in sorted(wanted):
        if since >= settled and last - since >= shortest:
            yield since


def _judged(points: Sequence[_Point], since: float, settled: float) -> Growth | None:
    """Return the growth from `since` until the end of the series, or None."""
    pieces = _pieces([point for point in points if point[0] >= since])
    if len(pieces) < _FEWEST:
        return None
    lower, slope, _ = _slopes(pieces, _WIDE)
    if slope <= 0 or lower < _ABOVE_NOISE * slope:
        return None
    (first, _), (last, after) = pieces[0], pieces[-1]
    rise = slope * (last - first)
    before = max(0.0, after - rise)
    is_large = rise >= max(_LEAST_BYTES, _LEAST_SHARE * before)
    earlier = [size for at, size in points if settled <= at < since]
    is_new = after - max(earlier, default=0.0) >= _ABOVE_ALL * rise
    if is_large and is_new and _is_steady(pieces) and _goes_on(pieces, slope, rise):
        return Growth(last - first, int(pieces[0][1]), int(after), slope)
    return None


def _pieces(points: Sequence[_Point]) -> list[_Point]:
    """Return the least point of each piece; without pieces that have none."""
    if not points:
        return []
    first = points[0][0]
    length = (points[-1][0] - first) / _PIECES
    least: dict[int, _Point] = {}
    for point in points:
        number = min(int((point[0] - first) / length), _PIECES - 1) if length > 0 else 0
        known = least.get(number)
        if known is None or point[1] < known[1]:
            least[number] = point
    return [least[number] for number in sorted(least)]


def _slopes(pieces: Sequence[_Point], deviations: float) -> tuple[float, float, float]:
    """Return the slope of Theil and Sen with its lower and upper bound: (lower, slope, upper).

    It is in bytes a second.  There must be two pieces or more.
    """
    slopes = []
    for number, (at, size) in enumerate(pieces):
        for later, larger in pieces[number + 1 :]:
            if later > at:
                slopes.append((larger - size) / (later - at))
    slopes.sort()
    count = len(slopes)
    if not count:
        return 0.0, 0.0, 0.0
    pieces_count = len(pieces)
    variance = pieces_count * (pieces_count - 1) * (2 * pieces_count + 5) / 18
    width = deviations * math.sqrt(variance)
    low = max(0, int((count - width) / 2))
    high = min(count - 1, int((count + width) / 2))
    return slopes[low], slopes[count // 2], slopes[high]


def _is_steady(pieces: Sequence[_Point]) -> bool:
    """Whether it grew in most parts of the time, and in none of them by most of the growth."""
    levels = []
    for number in range(_PARTS):
        begin, end = number * len(pieces) // _PARTS, (number + 1) * len(pieces) // _PARTS
        sizes = sorted(size for _, size in pieces[begin:end])
        levels.append(sizes[len(sizes) // 2])
    whole = levels[-1] - levels[0]
    changes = [after - before for before, after in zip(levels, levels[1:], strict=False)]
    rising = [change for change in changes if change >= _RISING * whole]
    return whole > 0 and len(rising) >= _LEAST_RISING and max(changes) <= _MOST_IN_ONE * whole


def _goes_on(pieces: Sequence[_Point], slope: float, rise: float) -> bool:
    """Whether it still grew at the end, nearly as fast as before, and was not given back."""
    third = pieces[-(len(pieces) // 3) :]
    _, _, upper = _slopes(third, _NARROW)
    highest = max(size for _, size in pieces)
    return upper >= _STILL * slope and pieces[-1][1] >= highest - rise / 3
