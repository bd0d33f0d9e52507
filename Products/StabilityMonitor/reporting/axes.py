"""Axes: where a value lies in a picture, and at which round values a tick helps to read it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime

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
        if self.high > self.low:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as `2026-11-23 07:45:01 UTC`; "at an unknown time" for None."""
    if seconds is None:
        return 'at an unknown time'
    return f'{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC'


def size(count: float) -> str:
    """Bytes as `17 MiB`."""
    unit = 'B'
    for larger in ('KiB', 'MiB', 'GiB'):
        if count < 1024:
            break
        count /= 1024
        unit = larger
    digits = 0 if count >= 10 or unit == 'B' else 1
    return f'{count:.{digits}f} {unit}'


def time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    span = high - low
    step = next((step for step in _STEPS if span / step <= _MOST_TICKS), _STEPS[-1])
    form = _time_format(step, span)
    first = math.ceil(low / step) * step
    return [(at, f'{datetime.fromtimestamp(at, UTC):{form}}') for at in _range(first, high, step)]


def _time_format(step: int, span: float) -> str:
    """No more of date and time than tells one tick from the others."""
    if step > 28 * _DAY:
        return '%-d %b %Y'
    if step >= _DAY:
        return '%-d %b'
    if span > _DAY:
        return '%-d %b %H:%M'
    if step >= _MINUTE:
        return '%H:%M'
    return '%H:%M:%S'


def size_ticks(top: float) -> list[tuple[float, str]]:
    top = max(top, 4)
    # The largest of 1, 1024, 1024 ** 2 ... that is not above `top`.
    unit = 1 << (int(top).bit_length() - 1) // 10 * 10
    return [(value, size(value)) for value in _levels(top, unit)]


def percent_ticks(top: float) -> list[tuple[float, str]]:
    return [(value, f'{value:g} %') for value in _levels(max(top, 10), 1)]


def _levels(top: float, unit: int) -> list[float]:
    """Three to six round values from 0 to `top` or a little above."""
    rough = max(top / unit, 1) / 4
    power = 10 ** math.floor(math.log10(rough))
    # 0.999 forgives rounding errors.
    rounded = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    step = rounded * unit
    return list(_range(0, top + step * 0.5, step))


def _range(first: float, last: float, step: float) -> Iterator[float]:
    value = first
    while value <= last:
        yield value
        value += step
