"""Bars: a share of a whole as a small picture.

SVG, because a content security policy may refuse the style attribute that a `div` would need.
"""

from __future__ import annotations

from html import escape

GOOD = '#009e73'
BUSY = '#e69f00'
BAD = '#d55e00'
PLAIN = '#0072b2'
PALE = '#9ecae1'


def bar(share: float, colour: str, label: str, second: float = 0.0) -> str:
    """SVG of a bar that is full at 1; `second`, a share too, is drawn paler behind it."""
    width = _percent(share)
    behind = _percent(second)
    paler = ''
    if behind > width:
        paler = f'<rect width="{behind:.1f}" height="8" fill="{PALE}"/>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="stability-bar" role="img" '
        'viewBox="0 0 100 8" preserveAspectRatio="none">'
        f'<title>{escape(label)}</title>'
        '<rect width="100" height="8" fill="#e9ecef"/>'
        f'{paler}'
        f'<rect width="{width:.1f}" height="8" fill="{colour}"/>'
        '</svg>'
    )


def _percent(share: float) -> float:
    return 100 * min(1.0, max(0.0, share))
