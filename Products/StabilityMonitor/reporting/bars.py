"""A bar: a small picture of a share of a whole."""

from __future__ import annotations

from . import svg

GOOD = '#009e73'
BUSY = '#e69f00'
BAD = '#d55e00'
PLAIN = '#0072b2'
PALE = '#9ecae1'


def bar(share: float, colour: str, label: str, second: float = 0.0) -> str:
    """Return SVG of a bar that is full at 1; `second`, also a share, is drawn paler behind it."""
    width = _percent(share)
    behind = _percent(second)
    parts = [svg.element('rect', width=100, height=8, fill='#e9ecef')]
    if behind > width:
        parts.append(svg.element('rect', width=behind, height=8, fill=PALE))
    parts.append(svg.element('rect', width=width, height=8, fill=colour))
    return svg.picture(
        'bar',
        100,
        8,
        label,
        parts,
        preserveAspectRatio='none',
    )


def _percent(share: float) -> float:
    return 100.0 * min(1.0, max(0.0, share))
