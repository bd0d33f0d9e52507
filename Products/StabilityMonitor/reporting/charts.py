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

from ..model import verdicts
from ..model.counts import counted
from ..model.records import LifePoint
from ..model.records import Sample
from ..model.records import clocktime
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
        role='group',
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

    For several incidents the dot shows their number.  The dot leads where the bar below it leads:
    it is for the mouse only, so that the keyboard and a screen reader meet each run once.
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
    return _linked(shape, link(last.run.run), tabindex=-1, aria_hidden='true')


def _tooltip(run: RunRecord) -> str:
    label = verdicts.verdict(run.verdict).label
    up = 'uptime not known'
    if run.uptime_seconds is not None:
        up = f'uptime {duration(run.uptime_seconds)}'
    started = clocktime(run.started)
    return f'{label}, {up}\nstarted {started}\n{run.summary}'.strip()


def _linked(shape: str, address: str, **attributes: float | str) -> str:
    if not address:
        return shape
    return svg.element('a', shape, href=address, **attributes)


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

#: A limit is drawn if the highest value is above this share of it: else the curve would be flat.
_DRAWN_LIMIT = 0.05

_MEMORY = '#0072b2'
_GROUP = '#aa4499'
_PEAK = '#56b4e9'
_WAITING = '#b8860b'
_IN_KERNEL = '#aa4499'
_LIMIT = '#d55e00'
_CPU = '#009e73'

#: A value and its label.
_Tick = tuple[float, str]


@dataclass(frozen=True)
class _Line:
    points: list[tuple[float, float]]  # (time, value)
    hue: str
    label: str


#: When the samples of a dead run were taken, those of the living process, those of a snapshot.
BEFORE_THE_END = 'before the end'
UNTIL_NOW = 'until now'
UNTIL_THEN = 'until the snapshot'


@dataclass(frozen=True)
class Chart:
    """A chart with its caption.  `picture` is '' if too little is known; `missing` says why."""

    caption: str
    picture: str
    missing: str = ''


def vital_signs(
    samples: Sequence[Sample],
    curve: Sequence[LifePoint],
    stall: float = -1.0,
    when: str = BEFORE_THE_END,
) -> list[Chart]:
    """Return the charts of the last samples, and of the memory over the whole life.

    `stall` is the option, in seconds.  [] if there are too few samples for any chart.
    """
    charts = [
        Chart('Memory', memory_curve(samples, when), _NOT_TOLD),
        Chart('Memory over the whole life', life_curve(curve, samples, when), _NO_CURVE),
        Chart('CPU (percent of one CPU)', cpu_curve(samples, when), _NOT_TOLD),
        Chart('Visitors who wait', queue_curve(samples, when), _NO_SERVER),
        Chart('Age of the oldest in the queue', age_curve(samples, stall, when), _NO_SERVER),
        Chart('Connections', connections_curve(samples, when), _NO_SERVER),
        Chart('Open descriptors', descriptors_curve(samples, when), _NOT_TOLD),
        Chart('Failed accept()', errors_curve(samples, when), _NO_ERRORS),
        Chart(
            'Descriptors and threads over the whole life',
            counts_curve(curve, samples, when),
            _NO_CURVE,
        ),
    ]
    return charts if any(chart.picture for chart in charts) else []


_NOT_TOLD = 'Not known: this system does not tell it, or the run was too short.'
_NO_CURVE = 'Not known: an older release recorded this run, or it was too short.'
_NO_SERVER = (
    'Not known: the server was not waitress, an older release recorded this run, or it was too '
    'short.'
)
_NO_ERRORS = f'{_NO_SERVER[:-1]}; or the server did not log such errors.'


def memory_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
    """Return a chart of resident memory, with the cgroup and its limit.

    The cgroup is omitted if its limit is not known, or so large that the curves would be flat.
    """
    memory = _points(samples, 'rss')
    group = _points(samples, 'cgroup_current')
    lines = [_Line(memory, _MEMORY, 'this process')]
    bound = None
    limit = _limit(samples, 'cgroup_limit')
    if group and limit and max(value for _, value in group) > limit * _DRAWN_LIMIT:
        lines.append(_Line(group, _GROUP, 'its memory cgroup'))
        bound = (limit, 'limit of the cgroup')
    return _curve('Memory', lines, axes.size_ticks, axes.size, bound, when)


def life_curve(
    curve: Sequence[LifePoint],
    samples: Sequence[Sample] = (),
    when: str = BEFORE_THE_END,
) -> str:
    """Return a chart of resident memory over the whole life.

    Each point has the least memory of its time, and the most; the last sample is the end.
    """
    last = _points(samples[-1:], 'rss') if curve else []
    lines = [
        _Line(_points(curve, 'peak') + last, _PEAK, 'the most'),
        _Line(_points(curve, 'rss') + last, _MEMORY, 'the least'),
    ]
    limit = _limit(samples, 'cgroup_limit')
    bound = (limit, 'limit of the cgroup') if limit else None
    return _curve('Memory over the whole life', lines, axes.size_ticks, axes.size, bound, when)


def counts_curve(
    curve: Sequence[LifePoint],
    samples: Sequence[Sample] = (),
    when: str = BEFORE_THE_END,
) -> str:
    """Return a chart of the most descriptors and threads over the whole life, with their limit."""
    title = 'Descriptors and threads over the whole life'
    lines = [
        _Line(_points(curve, 'descriptors'), _CPU, 'descriptors'),
        _Line(_points(curve, 'threads'), _PEAK, 'threads'),
    ]
    limit = _limit(samples, 'descriptor_limit')
    bound = (limit, 'limit of descriptors') if limit else None
    return _curve(title, lines, axes.count_ticks, axes.count, bound, when)


def cpu_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
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
        lambda value: f'{value:.0f} %',
        when=when,
    )


def queue_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
    """Return a chart of the requests that wait for a worker, and the connections in the kernel."""
    lines = [
        _Line(_points(samples, 'queue'), _WAITING, 'for a worker'),
        _Line(_points(samples, 'accept_queue'), _IN_KERNEL, 'in the kernel'),
    ]
    return _curve('Visitors who wait', lines, axes.count_ticks, axes.count, when=when)


def age_curve(samples: Sequence[Sample], stall: float, when: str = BEFORE_THE_END) -> str:
    """Return a chart of how long the oldest request in the queue has waited, with `stall`."""
    lines = [_Line(_points(samples, 'waited'), _WAITING, 'the oldest')]
    bound = (stall, 'option stall') if stall > 0 else None
    return _curve(
        'Age of the oldest request in the queue',
        lines,
        axes.second_ticks,
        axes.seconds,
        bound,
        when,
    )


def connections_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
    """Return a chart of the connections as the server counts them, with its limit."""
    lines = [_Line(_points(samples, 'connections'), _MEMORY, 'connections')]
    limit = _limit(samples, 'connection_limit')
    bound = (limit, 'connection_limit') if limit else None
    return _curve('Connections', lines, axes.count_ticks, axes.count, bound, when)


def descriptors_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
    """Return a chart of the open descriptors, with their limit."""
    lines = [_Line(_points(samples, 'descriptors'), _CPU, 'descriptors')]
    limit = _limit(samples, 'descriptor_limit')
    bound = (limit, 'limit of descriptors') if limit else None
    return _curve('Open descriptors', lines, axes.count_ticks, axes.count, bound, when)


def errors_curve(samples: Sequence[Sample], when: str = BEFORE_THE_END) -> str:
    """Return a chart of the errors of accept() between samples."""
    errors = []
    for (_, was), (at, now) in itertools.pairwise(_points(samples, 'accept_errors')):
        errors.append((at, max(0.0, now - was)))
    lines = [_Line(errors, _LIMIT, 'in each sample')]
    return _curve('Failed accept()', lines, axes.count_ticks, axes.count, when=when)


def _limit(samples: Iterable[Sample], name: str) -> float:
    """Return the limit at the end; 0.0 if it is not known."""
    limits = [value for _, value in _points(samples, name) if value > 0]
    return limits[-1] if limits else 0.0


def _points(
    samples: Iterable[Sample] | Iterable[LifePoint],
    name: str,
) -> list[tuple[float, float]]:
    """(time, value) of the samples or points that have this value."""
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
    words: Callable[[float], str],
    bound: _Tick | None = None,
    when: str = BEFORE_THE_END,
) -> str:
    """Return a chart; `bound` is a limit with its label.

    `words` are those for a value.  The limit is named beside the other lines if it is so far above
    them that they would be flat if it were drawn.  Returns '' if no line has two points.
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ''
    label = f'{title} {when}: {_told(lines, bound, words)}'
    far = ''
    if bound and max(value for line in lines for _, value in line.points) < (
        bound[0] * _DRAWN_LIMIT
    ):
        far = f'({bound[1]}: {words(bound[0])})'
        bound = None
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
    if far:
        parts.append(svg.text(far, x=_LEFT + 130 * len(lines), y=12, fill=_INK))
    if bound:
        parts += _bound(bound, across, up)
    return _picture(
        'curve',
        _CURVE_WIDTH,
        _CURVE_HEIGHT,
        label,
        parts,
    )


def _told(lines: Iterable[_Line], bound: _Tick | None, words: Callable[[float], str]) -> str:
    """Return the chart in words, for those who do not see it."""
    told = []
    for line in lines:
        _, last = line.points[-1]
        most = max(value for _, value in line.points)
        told.append(f'{line.label} {words(last)} at last, {words(most)} at most')
    if bound:
        told.append(f'{bound[1]} {words(bound[0])}')
    return '; '.join(told)


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
    return [
        svg.text(before, x=across.start, y=y, fill=_INK),
        svg.text(
            clocktime(across.high),
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
        svg.text(label, x=across.stop, y=y - 6, text_anchor='end', fill=_INK),
    ]


def _picture(
    kind: str, width: int, height: int, label: str, parts: Iterable[str], role: str = 'img'
) -> str:
    return svg.picture(
        kind,
        width,
        height,
        label,
        parts,
        role,
        font_family='inherit',
        font_size=12,
    )
