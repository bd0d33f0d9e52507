"""SVG as text, one element at a time.  Words and attributes are escaped here.

SVG, because a content security policy may refuse the style attributes that other elements need.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def element(name: str, content: str | None = None, **attributes: float | str) -> str:
    """An element around `content`, which is SVG; an empty one for None.

    `text_anchor` is the attribute `text-anchor`.  Floats are written with one digit.
    """
    words = [name]
    for key, value in attributes.items():
        written = str(value)
        if isinstance(value, float):
            written = f'{value:.1f}'
        key = key.replace('_', '-')
        words.append(f'{key}="{escape(written)}"')
    start = ' '.join(words)
    if content is None:
        return f'<{start}/>'
    return f'<{start}>{content}</{name}>'


def text(content: str, x: float, y: float, **attributes: float | str) -> str:
    return element('text', escape(content), x=x, y=y, **attributes)


def title(content: str) -> str:
    """What a browser shows when the mouse is over the element that this one stands in."""
    return element('title', escape(content))


def picture(
    kind: str,
    width: float,
    height: float,
    label: str,
    parts: Iterable[str],
    **attributes: float | str,
) -> str:
    """A whole picture.

    `width` and `height` are those of its coordinates; the page scales it.  `kind` ends the name of
    its CSS class.
    """
    content = title(label) + ''.join(parts)
    return element(
        'svg',
        content,
        xmlns='http://www.w3.org/2000/svg',
        **{'class': f'stability-{kind}'},
        role='img',
        viewBox=f'0 0 {width} {height}',
        **attributes,
    )
