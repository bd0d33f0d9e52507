"""When incidents of one signature occurred, as inline SVG: a bar for each stretch of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.counts import counted
from ..model.records import clocktime
from . import axes
from . import svg
from .axes import Scale

# Sizes in units of the picture; the page scales the picture.
_SMALL = (160, 24)
_LARGE = (1000, 110)
_MARGIN = 16
_AXIS = 26  # height of the labels below the large one
_INK = '#495057'
_LINE = '#adb5bd'
#: The least of what a full bar stands for: a single incident makes no high bar.
_LEAST_TOP = 3
#: Seconds; a picture shows no less than this.
_SHORTEST = 60.0


@dataclass(frozen=True)
class _Frame:
    """Where the bars stand: in so many stretches of equal length."""

    scale: Scale
    top: float
    bottom: float
    stretches: int

    @property
    def step(self) -> float:
        return (self.scale.high - self.scale.low) / self.stretches

    def counts(self, times: Iterable[float]) -> dict[int, int]:
        """Return {number of a stretch: incidents in it}."""
        ordered = sorted(times)  # mostly they are: then this is fast
        found: dict[int, int] = {}
        done = 0
        while done < len(ordered):
            number = self._number(ordered[done])
            end = bisect_right(ordered, number, lo=done, key=self._number)
            found[number] = end - done
            done = end
        return found

    def _number(self, time: float) -> int:
        number = int((time - self.scale.low) / self.step)
        return min(max(number, 0), self.stretches - 1)


def small(times: Sequence[float], begin: float, now: float, colour: str) -> str:
    """Return a picture for a row of a table; '' without times.

    `times`, `begin` and `now` are in seconds since the epoch.
    """
    width, height = _SMALL
    frame = _Frame(_across(times, begin, now, 1, width - 1), 2, height - 2, 40)
    return _picture('occurrences', times, frame, colour, width, height, [])


def large(times: Sequence[float], begin: float, now: float, colour: str) -> str:
    """Return the same for a page, with a time axis."""
    width, height = _LARGE
    bottom = height - _AXIS
    frame = _Frame(_across(times, begin, now, _MARGIN, width - _MARGIN), 8, bottom, 121)
    return _picture('timeline', times, frame, colour, width, height, _axis(frame))


def _across(times: Sequence[float], begin: float, now: float, start: float, stop: float) -> Scale:
    low = min([begin, *times])
    high = max([now, low + _SHORTEST, *times])
    return Scale(low, high, start, stop)


def _picture(
    kind: str,
    times: Sequence[float],
    frame: _Frame,
    colour: str,
    width: int,
    height: int,
    axis: Sequence[str],
) -> str:
    if not times:
        return ''
    counts = frame.counts(times)
    most = max(_LEAST_TOP, *counts.values())
    baseline = svg.element(
        'line',
        x1=frame.scale.start,
        x2=frame.scale.stop,
        y1=frame.bottom,
        y2=frame.bottom,
        stroke=_LINE,
    )
    bars = [_bar(number, counts[number], most, frame, colour) for number in sorted(counts)]
    words = f'{counted(len(times), "incident")} between {clocktime(min(times))} and '
    words += clocktime(max(times))
    if len(times) == 1:
        words = f'1 incident, {clocktime(times[0])}'
    parts = [*axis, baseline, *bars]
    return svg.picture(kind, width, height, words, parts, font_family='inherit', font_size=12)


def _bar(number: int, count: int, most: int, frame: _Frame, colour: str) -> str:
    begin = frame.scale.low + number * frame.step
    x = frame.scale(begin)
    tall = (frame.bottom - frame.top) * count / most
    words = f'{counted(count, "incident")}\n{clocktime(begin)} to {clocktime(begin + frame.step)}'
    return svg.element(
        'rect',
        svg.title(words),
        x=x + 0.4,
        y=frame.bottom - tall,
        width=frame.scale(begin + frame.step) - x - 0.8,
        height=tall,
        fill=colour,
    )


def _axis(frame: _Frame) -> list[str]:
    parts = []
    for at, label in axes.time_ticks(frame.scale.low, frame.scale.high):
        x = frame.scale(at)
        anchor = 'middle'
        if x < 40:
            anchor = 'start'
        elif x > frame.scale.stop - 24:
            anchor = 'end'
        parts.append(
            svg.element('line', x1=x, x2=x, y1=frame.top, y2=frame.bottom + 5, stroke='#dee2e6')
        )
        parts.append(svg.text(label, x=x, y=frame.bottom + 18, text_anchor=anchor, fill=_INK))
    return parts
