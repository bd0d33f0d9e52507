"""Bars: a share of a whole as a small picture, without a style attribute that a content policy
would refuse.
"""

from __future__ import annotations

from html import escape

GOOD, BUSY, BAD, PLAIN, PALE = '#009e73', '#e69f00', '#d55e00', '#0072b2', '#9ecae1'


def bar(share: float, colour: str, label: str, second: float = 0.0) -> str:
    """SVG of a bar that is full at 1; `second`, a share too, is drawn paler behind it."""
    first, behind = (100 * min(1.0, max(0.0, part)) for part in (share, second))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="stability-bar" role="img" viewBox="0 0 '
        '100 8" '
        f'preserveAspectRatio="none"><title>{escape(label)}</title><rect width="100" height="8" '
        'fill="#e9ecef"/>'
        + (f'<rect width="{behind:.1f}" height="8" fill="{PALE}"/>' if behind > first else '')
        + f'<rect width="{first:.1f}" height="8" fill="{colour}"/></svg>'
    )
