"""Pictures: past runs and the last vital signs as inline SVG.

Values in, text out.  All foreign text is escaped, and there is no script.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; each incident has a
letter too.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from html import escape

from ..model import verdicts
from ..model.records import Sample
from ..model.records import duration
from ..model.runrecord import RunRecord
from . import axes
from .axes import Scale

# Sizes in units of the picture; the page scales it.
_WIDTH = 1000
_MARGIN = 16
_TOP = 34
_LANE = 28  # height of a lane; the bar in it is lower
_BAR = 22
_LEAST_BAR = 2.5  # width of a bar that would be too thin to see
_MARKER = 9  # radius
_MOST_LANES = 6


def colour(verdict: str) -> str:
    return verdicts.verdict(verdict).colour


# -- the timeline ----------------------------------------------------------------------------------

#: The address of a run's page, or '' for none.
_Link = Callable[[str], str]


@dataclass(frozen=True)
class _Bar:
    run: RunRecord
    begin: float
    end: float
    lane: int = 0


def timeline(runs: Iterable[RunRecord], now: float, link: _Link = lambda run: '') -> str:
    """Each run is a bar from its start to its end; now is at the right edge.

    Returns '' where no run has a known start.
    """
    bars = _lanes(runs, now)
    if not bars:
        return ''
    begin = min(bar.begin for bar in bars)
    end = max(bar.end for bar in bars)
    scale = Scale(begin, max(now, begin + 60, end), _MARGIN, _WIDTH - _MARGIN)
    lanes = max(bar.lane for bar in bars) + 1
    bottom = _TOP + _LANE * lanes
    parts = [_time_axis(scale, bottom)]
    parts += [_bar(bar, scale, link) for bar in bars]
    parts += [_marker(group, scale, link) for group in _groups(bars, scale)]
    incidents = sum(bar.run.is_incident for bar in bars)
    title = f'{len(bars)} runs, of them {incidents} incidents'
    return _svg(_WIDTH, bottom + 26, title, parts, 'timeline')


def legend(codes: Iterable[str]) -> list[dict[str, str]]:
    """{colour, letter, label} of each verdict that occurs, in the order of the table."""
    seen = set(codes)
    return [
        {'colour': row.colour, 'letter': row.letter, 'label': row.label}
        for row in verdicts.VERDICTS.values()
        if row.code in seen
    ]


def _lanes(runs: Iterable[RunRecord], now: float) -> list[_Bar]:
    """Bars, oldest first.  Runs that overlap, as those of several instances do, get lanes of
    their own; where there are too many of them, they share the last one.
    """
    spans = []
    for run in runs:
        if run.started is not None:
            spans.append((run.started, _end(run, run.started, now), run))
    taken_until: list[float] = []  # for each lane
    bars: list[_Bar] = []
    for begin, end, run in sorted(spans, key=lambda span: span[:2]):
        free = (lane for lane, until in enumerate(taken_until) if until <= begin)
        lane = min(next(free, len(taken_until)), _MOST_LANES - 1)
        taken_until[lane : lane + 1] = [end]
        bars.append(_Bar(run, begin, end, lane))
    return bars


def _end(run: RunRecord, begin: float, now: float) -> float:
    end = now if run.verdict == 'running' else run.ended
    return begin if end is None else max(begin, end)


def _bar(bar: _Bar, scale: Scale, link: _Link) -> str:
    x = scale(bar.begin)
    y = _TOP + bar.lane * _LANE
    width = max(scale(bar.end) - x, _LEAST_BAR)
    shape = (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
        f'fill="{colour(bar.run.verdict)}" stroke="#fff" stroke-width=".7">'
        f'<title>{_told(bar.run)}</title></rect>'
    )
    return _linked(shape, link(bar.run.run))


def _groups(bars: Iterable[_Bar], scale: Scale) -> list[list[_Bar]]:
    """The incidents of each lane; those whose markers would cover each other are one group."""
    groups: list[list[_Bar]] = []
    incidents = [bar for bar in bars if bar.run.is_incident]
    for bar in sorted(incidents, key=lambda bar: (bar.lane, bar.end)):
        if groups and _would_cover(groups[-1][0], bar, scale):
            groups[-1].append(bar)
        else:
            groups.append([bar])
    return groups


def _would_cover(earlier: _Bar, later: _Bar, scale: Scale) -> bool:
    distance = scale(later.end) - scale(earlier.end)
    return earlier.lane == later.lane and distance < 2 * _MARKER


def _marker(group: Sequence[_Bar], scale: Scale, link: _Link) -> str:
    """A dot above the end of an incident with its letter; with their number where it stands for
    several incidents.
    """
    last = group[-1]
    x = scale(group[0].end)
    y = _TOP + last.lane * _LANE
    if len(group) == 1:
        letter = verdicts.verdict(last.run.verdict).letter
    else:
        letter = str(len(group))
    told = '\n\n'.join(_told(bar.run) for bar in reversed(group[-8:]))
    shape = (
        f'<g class="incident"><title>{told}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{y + _BAR}" '
        'stroke="#222" stroke-width="1.2"/>'
        f'<circle cx="{x:.1f}" cy="{y - 13}" r="{_MARKER}" '
        f'fill="{colour(last.run.verdict)}" stroke="#fff"/>'
        f'<text x="{x:.1f}" y="{y - 9}" text-anchor="middle" '
        f'fill="#fff" font-size="11" font-weight="bold">{letter}</text></g>'
    )
    return _linked(shape, link(last.run.run))


def _told(run: RunRecord) -> str:
    label = verdicts.verdict(run.verdict).label
    up = 'uptime not known'
    if run.uptime_seconds is not None:
        up = f'up {duration(run.uptime_seconds)}'
    started = axes.moment(run.started)
    return escape(f'{label}, {up}\nstarted {started}\n{run.summary}'.strip())


def _linked(shape: str, address: str) -> str:
    return f'<a href="{escape(address)}">{shape}</a>' if address else shape


def _time_axis(scale: Scale, y: float) -> str:
    parts = [f'<line x1="{scale.start}" x2="{scale.stop}" y1="{y}" y2="{y}" stroke="#adb5bd"/>']
    for at, label in axes.time_ticks(scale.low, scale.high):
        x = scale(at)
        anchor = 'middle'
        if x < 40:
            anchor = 'start'
        elif x > scale.stop - 24:
            anchor = 'end'
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{y + 5}" stroke="#dee2e6"/>'
            f'<text x="{x:.1f}" y="{y + 18}" text-anchor="{anchor}" fill="#495057">{label}</text>'
        )
    return ''.join(parts)


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

#: A value and its words.
_Tick = tuple[float, str]


@dataclass(frozen=True)
class _Line:
    points: list[tuple[float, float]]  # (time, value)
    hue: str
    label: str


def memory_curve(samples: Sequence[Sample]) -> str:
    """The resident memory before the end, with that of the cgroup and its limit.

    The cgroup is left out where its limit is not known, or so large that the curves would be flat.
    """
    group = _points(samples, 'cgroup_current')
    limit = max((value for _, value in _points(samples, 'cgroup_limit')), default=None)
    lines = [_Line(_points(samples, 'rss'), _MEMORY, 'this process')]
    bound = None
    if limit is not None and group and max(value for _, value in group) > limit / 20:
        lines.append(_Line(group, _GROUP, 'its memory cgroup'))
        bound = (limit, 'limit of the cgroup')
    return _curve('Memory', lines, axes.size_ticks, bound)


def processor_curve(samples: Sequence[Sample]) -> str:
    """CPU time between samples, in percent of one core."""
    points = _points(samples, 'cpu')
    shares = []
    for (before, was), (at, now) in zip(points, points[1:], strict=False):
        if at > before and now >= was:
            shares.append((at, 100 * (now - was) / (at - before)))
    return _curve(
        'Processor, percent of one core',
        [_Line(shares, _CPU, 'this process')],
        axes.percent_ticks,
    )


def _points(samples: Iterable[Sample], name: str) -> list[tuple[float, float]]:
    """(time, value) of the samples that have the value."""
    found = []
    for sample in samples:
        value = getattr(sample, name)
        if value >= 0:
            found.append((sample.time, value))
    return sorted(found)


def _curve(
    title: str,
    lines: Sequence[_Line],
    ticks: Callable[[float], list[_Tick]],
    bound: _Tick | None = None,
) -> str:
    """`bound` is a limit that is drawn too, with its words.

    Returns '' where no line has two points.
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ''
    times = [at for line in lines for at, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    if bound:
        values.append(bound[0])
    top = max(values)
    marks = ticks(top)
    highest = max(top * 1.04, marks[-1][0])
    across = Scale(min(times), max(times), _LEFT, _CURVE_WIDTH - _RIGHT)
    up = Scale(0, highest, _CURVE_HEIGHT - _CURVE_BOTTOM, _CURVE_TOP)
    parts = [_levels(marks, up, across), _ends(across)]
    parts += [_drawn(line, across, up) for line in lines]
    parts.append(_keys(lines))
    if bound:
        parts.append(_bound(bound, across, up))
    return _svg(_CURVE_WIDTH, _CURVE_HEIGHT, f'{title} before the end', parts, 'curve')


def _levels(marks: Iterable[_Tick], up: Scale, across: Scale) -> str:
    parts = []
    for value, label in marks:
        y = up(value)
        parts.append(
            f'<line x1="{across.start}" x2="{across.stop}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="#e9ecef"/>'
            f'<text x="{across.start - 6}" y="{y + 4:.1f}" text-anchor="end" '
            f'fill="#495057">{label}</text>'
        )
    return ''.join(parts)


def _ends(across: Scale) -> str:
    y = _CURVE_HEIGHT - 10
    span = duration(across.high - across.low)
    return (
        f'<text x="{across.start}" y="{y}" fill="#495057">{escape(span)} before</text>'
        f'<text x="{across.stop}" y="{y}" text-anchor="end" fill="#495057">'
        f'{datetime.fromtimestamp(across.high, UTC):%H:%M:%S} UTC</text>'
    )


def _drawn(line: _Line, across: Scale, up: Scale) -> str:
    points = ' '.join(f'{across(at):.1f},{up(value):.1f}' for at, value in line.points)
    last_at, last = line.points[-1]
    return (
        f'<polyline points="{points}" fill="none" stroke="{line.hue}" stroke-width="2" '
        'stroke-linejoin="round">'
        f'<title>{escape(line.label)}</title></polyline>'
        f'<circle cx="{across(last_at):.1f}" cy="{up(last):.1f}" r="3.5" fill="{line.hue}"/>'
    )


def _keys(lines: Iterable[_Line]) -> str:
    """Which colour is which line."""
    parts = []
    for number, line in enumerate(lines):
        x = _LEFT + 130 * number
        parts.append(
            f'<circle cx="{x + 6}" cy="8" r="4" fill="{line.hue}"/>'
            f'<text x="{x + 14}" y="12" fill="#495057">{escape(line.label)}</text>'
        )
    return ''.join(parts)


def _bound(bound: _Tick, across: Scale, up: Scale) -> str:
    value, label = bound
    y = up(value)
    return (
        f'<line x1="{across.start}" x2="{across.stop}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LIMIT}" '
        f'stroke-width="1.5" stroke-dasharray="6 4"/>'
        f'<text x="{across.start + 6}" y="{y + 14:.1f}" fill="{_LIMIT}">{escape(label)}</text>'
    )


def _svg(width: float, height: float, title: str, parts: Iterable[str], kind: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="stability-{kind}" role="img" '
        f'viewBox="0 0 {width} {height}" font-family="inherit" font-size="12">'
        f'<title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
