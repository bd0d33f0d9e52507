"""Write SVG as text, one element at a time.  Words and attributes are escaped here.

Why SVG: a content security policy may refuse the style attributes that HTML elements need.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from html import unescape


def element(name: str, content: str | None = None, **attributes: float | str) -> str:
    """Return an element around `content`, which is SVG; an empty element for None.

    The name `text_anchor` becomes the attribute `text-anchor`.  Floats are written with one
    decimal.
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
    """Return the tooltip of the element that contains it."""
    return element('title', escape(content))


def picture(
    kind: str,
    width: float,
    height: float,
    label: str,
    parts: Iterable[str],
    role: str = 'img',
    **attributes: float | str,
) -> str:
    """Return a whole picture.

    `width` and `height` are in the units of its coordinates; the page scales the picture.  `kind`
    is the last part of its CSS class.  A screen reader shows nothing inside the role `img`, so a
    picture with links has the role `group`.
    """
    content = title(label) + ''.join(parts)
    return element(
        'svg',
        content,
        xmlns='http://www.w3.org/2000/svg',
        **{'class': f'stability-{kind}'},
        role=role,
        viewBox=f'0 0 {width} {height}',
        **attributes,
    )


def label_of(picture: str) -> str:
    """Return the label of a whole picture: the same in words."""
    _, _, rest = picture.partition('<title>')
    label, _, _ = rest.partition('</title>')
    return unescape(label)
