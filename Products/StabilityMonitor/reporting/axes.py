"""Axes of a picture: the place of a value, and round values for ticks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..model.records import local_time

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
#: Distances between ticks of a time axis, in seconds.
_STEPS = (
    10,
    30,
    _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    30 * _MINUTE,
    _HOUR,
    3 * _HOUR,
    6 * _HOUR,
    12 * _HOUR,
    _DAY,
    2 * _DAY,
    7 * _DAY,
    14 * _DAY,
    28 * _DAY,
    91 * _DAY,
    364 * _DAY,
    3640 * _DAY,
)
_MOST_TICKS = 9


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to places from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = 0.5
        span = self.high - self.low
        if span > 0:
            share = (value - self.low) / span
        return self.start + share * (self.stop - self.start)


def size(count: float) -> str:
    """Return bytes as `17 MiB`."""
    unit = 'B'
    for larger in ('KiB', 'MiB', 'GiB'):
        if count < 1024:
            break
        count /= 1024
        unit = larger
    digits = 0 if count >= 10 or unit == 'B' else 1
    return f'{count:.{digits}f} {unit}'


def time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return (seconds since the epoch, label) of round local times; the first has its date."""
    span = high - low
    wide_enough = (step for step in _STEPS if span / step <= _MOST_TICKS)
    step = next(wide_enough, _STEPS[-1])
    begin = local_time(low)
    ahead = begin.utcoffset() if begin else None
    offset = ahead.total_seconds() if ahead else 0.0
    first = math.ceil((low + offset) / step) * step - offset
    ticks = []
    before = None
    for at in _range(first, high, step):
        moment = local_time(at)
        if moment:
            ticks.append((at, _tick_label(moment, before, step)))
            before = moment
    return ticks


def _tick_label(moment: datetime, before: datetime | None, step: int) -> str:
    """The time of a tick, with the date if that of the tick before is another one."""
    if step > 28 * _DAY:
        return f'{moment:%-d %b %Y}'
    if step >= _DAY:
        return f'{moment:%-d %b}'
    time = f'{moment:%H:%M}' if step >= _MINUTE else f'{moment:%H:%M:%S}'
    if before and before.date() == moment.date():
        return time
    return f'{moment:%-d %b} {time}'


def size_ticks(top: float) -> list[tuple[float, str]]:
    top = max(top, 4)
    unit = 1
    while unit * 1024 <= top:
        unit *= 1024
    return [(value, size(value)) for value in _levels(top, unit)]


def count(number: float) -> str:
    """Return a number of things as `1,024`."""
    return f'{number:,.0f}'


def count_ticks(top: float) -> list[tuple[float, str]]:
    top = max(top, 4)
    return [(value, count(value)) for value in _levels(top, 1) if value == int(value)]


def seconds(number: float) -> str:
    """Return seconds as `2.5 s`."""
    return f'{number:.1f} s' if number < 10 else f'{number:,.0f} s'


def second_ticks(top: float) -> list[tuple[float, str]]:
    top = max(top, 4)
    return [(value, f'{value:,g} s') for value in _levels(top, 1)]


def percent_ticks(top: float) -> list[tuple[float, str]]:
    top = max(top, 10)
    return [(value, f'{value:g} %') for value in _levels(top, 1)]


def _levels(top: float, unit: int) -> list[float]:
    """Three to six round values, from 0 to `top` or a little more."""
    rough = max(top / unit, 1) / 4
    power = 10 ** math.floor(math.log10(rough))
    least = rough * 0.999  # allows for rounding errors
    rounded = 0.0
    for factor in (1, 2, 2.5, 5, 10):
        rounded = factor * power
        if rounded >= least:
            break
    step = rounded * unit
    return list(_range(0, top + step * 0.5, step))


def _range(first: float, last: float, step: float) -> Iterator[float]:
    value = first
    while value <= last:
        yield value
        value += step
