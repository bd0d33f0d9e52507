"""Pictures: past runs and last vital signs as inline SVG.  Values in, text out; nothing unescaped,
no script.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; each incident has a
letter too.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from html import escape
from typing import Any

from ..model.records import duration
from ..model.records import from_isotime
from ..model.runrecord import RunRecord
from . import axes
from .axes import Scale

#: verdict: colour, letter in an incident's marker, words of the legend.
VERDICTS = {
    'running': ('#56b4e9', '', 'running'),
    'stopped': ('#009e73', '', 'stopped as asked'),
    'host-restarted': ('#8fb8a8', '', 'machine restarted'),
    'crashed': ('#d55e00', 'C', 'crashed'),
    'stack-overflow': ('#d55e00', 'S', 'stack overflow'),
    'aborted': ('#d55e00', 'A', 'aborted'),
    'out-of-memory': ('#aa4499', 'M', 'out of memory'),
    'hung': ('#b8860b', 'H', 'hung'),
    'startup-failed': ('#7a3b00', 'F', 'startup failed'),
    'unhandled-exception': ('#7a3b00', 'E', 'unhandled exception'),
    'signalled': ('#0072b2', 'G', 'ended by a signal'),
    'killed': ('#0072b2', 'K', 'killed'),
    'exited': ('#0072b2', 'X', 'exited from C'),
    'vanished': ('#4d4d4d', '?', 'vanished'),
    'unreadable': ('#999999', '!', 'record unreadable'),
}
UNKNOWN = ('#999999', '!', 'unknown')

_WIDTH, _MARGIN, _BAR, _LANE, _TOP = 1000, 16, 22, 28, 34
_LEAST_BAR, _MARKER, _MOST_LANES = 2.5, 9, 6


def colour(verdict: str) -> str:
    return VERDICTS.get(verdict, UNKNOWN)[0]


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
    """Each run a bar from its start to its end, now at the right edge; '' where no run has a known
    start.

    `link` gives the address of a run's page, or '' for none.
    """
    bars = _lanes(runs, now)
    if not bars:
        return ''
    begin = min(bar.begin for bar in bars)
    scale = Scale(
        begin, max(now, begin + 60, *(bar.end for bar in bars)), _MARGIN, _WIDTH - _MARGIN
    )
    bottom = _TOP + _LANE * (max(bar.lane for bar in bars) + 1)
    incidents = sum(bar.run.is_incident for bar in bars)
    parts = [
        _time_axis(scale, bottom),
        *(_bar(bar, scale, link) for bar in bars),
        *(_marker(group, scale, link) for group in _groups(bars, scale)),
    ]
    return _svg(
        _WIDTH, bottom + 26, f'{len(bars)} runs, of them {incidents} incidents', parts, 'timeline'
    )


def legend(verdicts: Iterable[str]) -> list[dict[str, str]]:
    """{colour, letter, label} of each verdict that occurs, in the order of the table."""
    seen = set(verdicts)
    return [
        {'colour': hue, 'letter': letter, 'label': label}
        for verdict, (hue, letter, label) in VERDICTS.items()
        if verdict in seen
    ]


def _lanes(runs: Iterable[RunRecord], now: float) -> list[_Bar]:
    """Bars, oldest first; runs that overlap, as those of several instances, get lanes of their
    own.
    """
    spans = []
    for run in runs:
        begin = from_isotime(run.started)
        if begin is not None:
            spans.append((begin, _end(run, begin, now), run))
    free: list[float] = []
    bars: list[_Bar] = []
    for begin, end, run in sorted(spans, key=lambda span: span[:2]):
        lane = next((n for n, until in enumerate(free) if until <= begin), len(free))
        lane = min(lane, _MOST_LANES - 1)
        free[lane : lane + 1] = [end]
        bars.append(_Bar(run, begin, end, lane))
    return bars


def _end(run: RunRecord, begin: float, now: float) -> float:
    end = now if run.verdict == 'running' else from_isotime(run.ended)
    return begin if end is None else max(begin, end)


def _bar(bar: _Bar, scale: Scale, link: _Link) -> str:
    x, width = scale(bar.begin), max(scale(bar.end) - scale(bar.begin), _LEAST_BAR)
    shape = (
        f'<rect x="{x:.1f}" y="{_TOP + bar.lane * _LANE}" width="{width:.1f}" height="{_BAR}" '
        'rx="2" '
        f'fill="{colour(bar.run.verdict)}" stroke="#fff" '
        f'stroke-width=".7"><title>{_told(bar.run)}</title></rect>'
    )
    return _linked(shape, link(bar.run.run))


def _groups(bars: Iterable[_Bar], scale: Scale) -> list[list[_Bar]]:
    """Incidents by lane, those whose markers would cover each other together."""
    groups: list[list[_Bar]] = []
    for bar in sorted((b for b in bars if b.run.is_incident), key=lambda b: (b.lane, b.end)):
        if (
            groups
            and groups[-1][0].lane == bar.lane
            and scale(bar.end) - scale(groups[-1][0].end) < 2 * _MARKER
        ):
            groups[-1].append(bar)
        else:
            groups.append([bar])
    return groups


def _marker(group: Sequence[_Bar], scale: Scale, link: _Link) -> str:
    """A dot above the end of an incident with its letter, or with a number where there are
    several.
    """
    last = group[-1]
    x, y = scale(group[0].end), _TOP + last.lane * _LANE
    letter = VERDICTS.get(last.run.verdict, UNKNOWN)[1] if len(group) == 1 else str(len(group))
    told = '\n\n'.join(_told(bar.run) for bar in reversed(group[-8:]))
    shape = (
        f'<g class="incident"><title>{told}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{y + _BAR}" stroke="#222" '
        'stroke-width="1.2"/>'
        f'<circle cx="{x:.1f}" cy="{y - 13}" r="{_MARKER}" fill="{colour(last.run.verdict)}" '
        'stroke="#fff"/>'
        f'<text x="{x:.1f}" y="{y - 9}" text-anchor="middle" fill="#fff" font-size="11" '
        'font-weight="bold">'
        f'{letter}</text></g>'
    )
    return _linked(shape, link(last.run.run))


def _told(run: RunRecord) -> str:
    up = (
        f'up {duration(run.uptime_seconds)}'
        if run.uptime_seconds is not None
        else 'uptime not known'
    )
    label = VERDICTS.get(run.verdict, UNKNOWN)[2]
    return escape(
        f'{label}, {up}\nstarted {axes.moment(from_isotime(run.started))}\n{run.summary}'.strip()
    )


def _linked(shape: str, address: str) -> str:
    return f'<a href="{escape(address)}">{shape}</a>' if address else shape


def _time_axis(scale: Scale, y: float) -> str:
    parts = [f'<line x1="{scale.start}" x2="{scale.stop}" y1="{y}" y2="{y}" stroke="#adb5bd"/>']
    for at, label in axes.time_ticks(scale.low, scale.high):
        x = scale(at)
        anchor = 'start' if x < 40 else 'end' if x > scale.stop - 24 else 'middle'
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{y + 5}" stroke="#dee2e6"/>'
            f'<text x="{x:.1f}" y="{y + 18}" text-anchor="{anchor}" fill="#495057">{label}</text>'
        )
    return ''.join(parts)


# -- curves ----------------------------------------------------------------------------------------

_CURVE_WIDTH, _CURVE_HEIGHT, _LEFT, _RIGHT, _CURVE_TOP, _CURVE_BOTTOM = 560, 220, 62, 12, 26, 30
_MEMORY, _GROUP, _LIMIT, _PROCESSOR = '#0072b2', '#aa4499', '#d55e00', '#009e73'

#: A value and its words.
_Tick = tuple[float, str]


@dataclass(frozen=True)
class _Line:
    points: list[tuple[float, float]]  # (time, value)
    hue: str
    label: str


def memory_curve(samples: Sequence[Mapping[str, Any]]) -> str:
    """Resident memory, and that of the cgroup with its limit where they are known, before the
    end.
    """
    group = _points(samples, 'cgroup_current')
    limit = max((value for _, value in _points(samples, 'cgroup_limit')), default=None)
    lines = [_Line(_points(samples, 'rss'), _MEMORY, 'this process')]
    bound = None
    if limit is not None and group and max(value for _, value in group) > limit / 20:
        lines.append(_Line(group, _GROUP, 'its memory cgroup'))
        bound = (limit, 'limit of the cgroup')
    return _curve('Memory', lines, axes.size_ticks, bound)


def processor_curve(samples: Sequence[Mapping[str, Any]]) -> str:
    """Processor time between samples, in percent of one core."""
    points = _points(samples, 'cpu')
    shares = []
    for (before, was), (at, now) in zip(points, points[1:], strict=False):
        if at > before and now >= was:
            shares.append((at, 100 * (now - was) / (at - before)))
    return _curve(
        'Processor, percent of one core',
        [_Line(shares, _PROCESSOR, 'this process')],
        axes.percent_ticks,
    )


def _points(samples: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(time, value) of the samples that know the value."""
    found = []
    for sample in samples:
        at = from_isotime(sample.get('time'))
        value = sample.get(key)
        if at is not None and isinstance(value, int | float) and value >= 0:
            found.append((at, value))
    return sorted(found)


def _curve(
    title: str,
    lines: Sequence[_Line],
    ticks: Callable[[float], list[_Tick]],
    bound: _Tick | None = None,
) -> str:
    """`bound`: a limit that is drawn too, and its words."""
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ''
    times = [at for line in lines for at, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    if bound:
        values.append(bound[0])
    top = max(values)
    across = Scale(min(times), max(times), _LEFT, _CURVE_WIDTH - _RIGHT)
    marks = ticks(top)
    up = Scale(0, max(top * 1.04, marks[-1][0]), _CURVE_HEIGHT - _CURVE_BOTTOM, _CURVE_TOP)
    parts = [
        _levels(marks, up, across),
        _ends(across),
        *(_drawn(line, across, up) for line in lines),
        _keys(lines),
    ]
    if bound:
        parts.append(_bound(bound, across, up))
    return _svg(_CURVE_WIDTH, _CURVE_HEIGHT, f'{title} before the end', parts, 'curve')


def _levels(marks: Iterable[_Tick], up: Scale, across: Scale) -> str:
    return ''.join(
        f'<line x1="{across.start}" x2="{across.stop}" y1="{up(v):.1f}" y2="{up(v):.1f}" '
        'stroke="#e9ecef"/>'
        f'<text x="{across.start - 6}" y="{up(v) + 4:.1f}" text-anchor="end" '
        f'fill="#495057">{label}</text>'
        for v, label in marks
    )


def _ends(across: Scale) -> str:
    y, span = _CURVE_HEIGHT - 10, across.high - across.low
    return (
        f'<text x="{across.start}" y="{y}" fill="#495057">{escape(duration(span))} before</text>'
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
    return ''.join(
        f'<circle cx="{_LEFT + 6 + 130 * n}" cy="8" r="4" fill="{line.hue}"/>'
        f'<text x="{_LEFT + 14 + 130 * n}" y="12" fill="#495057">{escape(line.label)}</text>'
        for n, line in enumerate(lines)
    )


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
