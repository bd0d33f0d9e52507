"""Charts of past runs and of the last samples, as inline SVG without scripts.

Most colours are those of Okabe and Ito, which colour-blind people can distinguish; each incident
also has a letter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime

from ..model import verdicts
from ..model.counts import counted
from ..model.records import Sample
from ..model.records import duration
from ..model.runrecord import RunRecord
from . import axes
from . import svg
from .axes import Scale

# Sizes in units of the picture; the page scales the picture.
_WIDTH = 1000
_MARGIN = 16
_TOP = 34
_LANE = 28  # height of a lane; its bar is less high
_BAR = 22
_LEAST_BAR = 2.5  # minimum width, so that a short run is visible
_MARKER = 9  # radius
_MOST_LANES = 6
_INK = '#495057'  # colour of text


def colour(verdict: str) -> str:
    return verdicts.verdict(verdict).colour


# -- the timeline ----------------------------------------------------------------------------------

#: Returns the address of the page of a run, or ''.
_Link = Callable[[str], str]


@dataclass(frozen=True)
class _Bar:
    run: RunRecord
    begin: float
    end: float
    lane: int = 0

    @property
    def top(self) -> int:
        return _TOP + self.lane * _LANE


def timeline(runs: Iterable[RunRecord], now: float, link: _Link = lambda run: '') -> str:
    """Return a chart in which each run is a bar from its start to its end.

    The right edge is `now`.  Returns '' if no run has a known start.
    """
    bars = _lanes(runs, now)
    if not bars:
        return ''
    begin = min(bar.begin for bar in bars)
    end = max(bar.end for bar in bars)
    scale = Scale(
        low=begin,
        high=max(now, begin + 60, end),
        start=_MARGIN,
        stop=_WIDTH - _MARGIN,
    )
    lanes = max(bar.lane for bar in bars) + 1
    bottom = _TOP + _LANE * lanes
    parts = _time_axis(scale, bottom)
    for bar in bars:
        parts.append(_bar(bar, scale, link))
    for group in _groups(bars, scale):
        parts.append(_marker(group, scale, link))
    incidents = sum(bar.run.is_incident for bar in bars)
    title = f'{counted(len(bars), "run")}, {counted(incidents, "incident")} among them'
    return _picture(
        'timeline',
        _WIDTH,
        bottom + 26,
        title,
        parts,
    )


def legend(codes: Iterable[str]) -> list[dict[str, str]]:
    """Return {code, letter, label} of each verdict that occurs, in the order of the table."""
    seen = set(codes)
    entries = []
    for row in verdicts.VERDICTS.values():
        if row.code in seen:
            entries.append({'code': row.code, 'letter': row.letter, 'label': row.label})
    return entries


def _lanes(runs: Iterable[RunRecord], now: float) -> list[_Bar]:
    """Return the bars, oldest first.

    Runs that overlap, for example runs of several instances, get different lanes; if there are too
    many, they share the last lane.
    """
    spans = []
    for run in runs:
        begin = run.started
        end = run.ended
        if run.verdict == 'running':
            end = now
        if begin is None:
            continue
        if end is None or end < begin:
            end = begin
        spans.append((begin, end, run))
    spans.sort(key=lambda span: span[:2])

    taken_until: list[float] = []  # for each lane
    bars: list[_Bar] = []
    for begin, end, run in spans:
        free = (lane for lane, until in enumerate(taken_until) if until <= begin)
        lane = min(next(free, len(taken_until)), _MOST_LANES - 1)
        taken_until[lane : lane + 1] = [end]
        bars.append(_Bar(run, begin, end, lane))
    return bars


def _bar(bar: _Bar, scale: Scale, link: _Link) -> str:
    x = scale(bar.begin)
    shape = svg.element(
        'rect',
        svg.title(_tooltip(bar.run)),
        x=x,
        y=bar.top,
        width=max(scale(bar.end) - x, _LEAST_BAR),
        height=_BAR,
        rx=2,
        fill=colour(bar.run.verdict),
        stroke='#fff',
        stroke_width='.7',
    )
    return _linked(shape, link(bar.run.run))


def _groups(bars: Iterable[_Bar], scale: Scale) -> list[list[_Bar]]:
    """The incidents by lane; incidents whose markers would overlap form one group."""
    groups: list[list[_Bar]] = []
    incidents = [bar for bar in bars if bar.run.is_incident]
    incidents.sort(key=lambda bar: (bar.lane, bar.end))
    for bar in incidents:
        if groups:
            first = groups[-1][0]
            distance = scale(bar.end) - scale(first.end)
            if first.lane == bar.lane and distance < 2 * _MARKER:
                groups[-1].append(bar)
                continue
        groups.append([bar])
    return groups


def _marker(group: Sequence[_Bar], scale: Scale, link: _Link) -> str:
    """Return a dot above the end of an incident, with its letter.

    For several incidents the dot shows their number.
    """
    last = group[-1]
    x = scale(group[0].end)
    y = last.top
    if len(group) == 1:
        letter = verdicts.verdict(last.run.verdict).letter
    else:
        letter = str(len(group))
    newest_first = reversed(group[-8:])
    tooltip = '\n\n'.join(_tooltip(bar.run) for bar in newest_first)
    stem = svg.element(
        'line',
        x1=x,
        x2=x,
        y1=y - 8,
        y2=y + _BAR,
        stroke='#222',
        stroke_width='1.2',
    )
    dot = svg.element(
        'circle',
        cx=x,
        cy=y - 13,
        r=_MARKER,
        fill=colour(last.run.verdict),
        stroke='#fff',
    )
    label = svg.text(
        letter,
        x=x,
        y=y - 9,
        text_anchor='middle',
        fill='#fff',
        font_size=11,
        font_weight='bold',
    )
    content = f'{svg.title(tooltip)}{stem}{dot}{label}'
    shape = svg.element('g', content, **{'class': 'incident'})
    return _linked(shape, link(last.run.run))


def _tooltip(run: RunRecord) -> str:
    label = verdicts.verdict(run.verdict).label
    up = 'uptime not known'
    if run.uptime_seconds is not None:
        up = f'uptime {duration(run.uptime_seconds)}'
    started = axes.moment(run.started)
    return f'{label}, {up}\nstarted {started}\n{run.summary}'.strip()


def _linked(shape: str, address: str) -> str:
    if not address:
        return shape
    return svg.element('a', shape, href=address)


def _level(across: Scale, y: float, **attributes: float | str) -> str:
    """A horizontal line across the picture."""
    return svg.element('line', None, x1=across.start, x2=across.stop, y1=y, y2=y, **attributes)


def _time_axis(scale: Scale, y: float) -> list[str]:
    parts = [
        _level(scale, y, stroke='#adb5bd'),
    ]
    for at, label in axes.time_ticks(scale.low, scale.high):
        x = scale(at)
        anchor = 'middle'
        if x < 40:
            anchor = 'start'
        elif x > scale.stop - 24:
            anchor = 'end'
        parts += [
            svg.element(
                'line',
                x1=x,
                x2=x,
                y1=_TOP - 4,
                y2=y + 5,
                stroke='#dee2e6',
            ),
            svg.text(
                label,
                x=x,
                y=y + 18,
                text_anchor=anchor,
                fill=_INK,
            ),
        ]
    return parts


# -- curves ----------------------------------------------------------------------------------------

_CURVE_WIDTH = 560
_CURVE_HEIGHT = 220
# The margins around the curves.
_LEFT = 62
_RIGHT = 12
_CURVE_TOP = 26
_CURVE_BOTTOM = 30

_MEMORY = '#0072b2'
_GROUP = '#aa4499'
_LIMIT = '#d55e00'
_CPU = '#009e73'

#: A value and its label.
_Tick = tuple[float, str]


@dataclass(frozen=True)
class _Line:
    points: list[tuple[float, float]]  # (time, value)
    hue: str
    label: str


def memory_curve(samples: Sequence[Sample]) -> str:
    """Return a chart of resident memory before the end, with the cgroup and its limit.

    The cgroup is omitted if its limit is not known, or so large that the curves would be flat.
    """
    memory = _points(samples, 'rss')
    group = _points(samples, 'cgroup_current')
    limits = _points(samples, 'cgroup_limit')
    lines = [_Line(memory, _MEMORY, 'this process')]
    bound = None
    if group and limits:
        highest = max(value for _, value in group)
        limit = max(value for _, value in limits)
        if highest > limit / 20:
            lines.append(_Line(group, _GROUP, 'its memory cgroup'))
            bound = (limit, 'limit of the cgroup')
    return _curve('Memory', lines, axes.size_ticks, bound)


def cpu_curve(samples: Sequence[Sample]) -> str:
    """Return a chart of the CPU time between samples, in percent of one CPU."""
    points = _points(samples, 'cpu')
    shares = []
    for (before, was), (at, now) in itertools.pairwise(points):
        if at > before and now >= was:
            shares.append((at, 100 * (now - was) / (at - before)))
    return _curve(
        'CPU, percent of one CPU',
        [_Line(shares, _CPU, 'this process')],
        axes.percent_ticks,
    )


def _points(samples: Iterable[Sample], name: str) -> list[tuple[float, float]]:
    """(time, value) of the samples that have this value."""
    found = []
    for sample in samples:
        value = getattr(sample, name)
        if value >= 0:
            found.append((sample.time, value))
    return sorted(found)


def _curve(
    title: str,
    lines: Iterable[_Line],
    ticks: Callable[[float], list[_Tick]],
    bound: _Tick | None = None,
) -> str:
    """Return a chart; `bound` is a limit that is also drawn, with its label.

    Returns '' if no line has two points.
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ''
    times = []
    values = []
    for line in lines:
        for at, value in line.points:
            times.append(at)
            values.append(value)
    if bound:
        values.append(bound[0])
    top = max(values)
    marks = ticks(top)
    across = Scale(
        low=min(times),
        high=max(times),
        start=_LEFT,
        stop=_CURVE_WIDTH - _RIGHT,
    )
    up = Scale(
        low=0,
        high=max(top * 1.04, marks[-1][0]),
        start=_CURVE_HEIGHT - _CURVE_BOTTOM,
        stop=_CURVE_TOP,
    )
    parts = [*_level_lines(marks, across, up), *_end_labels(across)]
    for line in lines:
        parts += _curve_line(line, across, up)
    for number, line in enumerate(lines):
        x = _LEFT + 130 * number
        parts += [
            svg.element(
                'circle',
                cx=x + 6,
                cy=8,
                r=4,
                fill=line.hue,
            ),
            svg.text(line.label, x=x + 14, y=12, fill=_INK),
        ]
    if bound:
        parts += _bound(bound, across, up)
    return _picture(
        'curve',
        _CURVE_WIDTH,
        _CURVE_HEIGHT,
        f'{title} before the end',
        parts,
    )


def _level_lines(marks: Iterable[_Tick], across: Scale, up: Scale) -> list[str]:
    """A thin horizontal line at each mark, with its label."""
    parts = []
    for value, label in marks:
        y = up(value)
        parts += [
            _level(across, y, stroke='#e9ecef'),
            svg.text(
                label,
                x=across.start - 6,
                y=y + 4,
                text_anchor='end',
                fill=_INK,
            ),
        ]
    return parts


def _end_labels(across: Scale) -> list[str]:
    """The labels below the curves: how long before the end they begin, and when they end."""
    y = _CURVE_HEIGHT - 10
    before = f'{duration(across.high - across.low)} before'
    end = f'{datetime.fromtimestamp(across.high, UTC):%H:%M:%S} UTC'
    return [
        svg.text(before, x=across.start, y=y, fill=_INK),
        svg.text(
            end,
            x=across.stop,
            y=y,
            text_anchor='end',
            fill=_INK,
        ),
    ]


def _curve_line(line: _Line, across: Scale, up: Scale) -> list[str]:
    """A curve with a dot at its end."""
    places = []
    for at, value in line.points:
        places.append(f'{across(at):.1f},{up(value):.1f}')
    last_at, last = line.points[-1]
    return [
        svg.element(
            'polyline',
            svg.title(line.label),
            points=' '.join(places),
            fill='none',
            stroke=line.hue,
            stroke_width=2,
            stroke_linejoin='round',
        ),
        svg.element(
            'circle',
            cx=across(last_at),
            cy=up(last),
            r=3.5,
            fill=line.hue,
        ),
    ]


def _bound(bound: _Tick, across: Scale, up: Scale) -> list[str]:
    value, label = bound
    y = up(value)
    return [
        _level(across, y, stroke=_LIMIT, stroke_width='1.5', stroke_dasharray='6 4'),
        svg.text(label, x=across.start + 6, y=y + 14, fill=_LIMIT),
    ]


def _picture(kind: str, width: int, height: int, label: str, parts: Iterable[str]) -> str:
    return svg.picture(
        kind,
        width,
        height,
        label,
        parts,
        font_family='inherit',
        font_size=12,
    )
