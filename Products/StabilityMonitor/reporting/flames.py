"""Where the time of a slow request went, as a picture: a flame graph upside down.

The outermost call is at the top; below each call are the calls that it made, each as wide as its
share of the time.  Values in, SVG out: a document of its own, without scripts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from html import escape
from typing import Any

from ..threads import codeorigin

# Sizes in units of the picture.
_WIDTH = 1000
_ROW = 20
_LETTER = 6.7  # the width of a letter, about
_LEAST = 1.5  # calls that would be narrower are left out
_MOST_ROWS = 60
#: The site's own code has warm colours; what carries it is grey.
_WARM = ('#f4a261', '#f2b872', '#ee9b7a', '#f6c28b', '#e9b44c')
_COLD = {codeorigin.CARRIER: '#ced4da', codeorigin.PYTHON: '#e2e6ea'}
_FOLDED = '#e9ecef'

#: What `threads.stackprofile` tells: `[[[file, function], ...] innermost first, count]` items.
_Stacks = list[list[Any]]


class _Call:
    """A function, called from where its parent stands."""

    def __init__(self, file: str, function: str):
        self.file = file
        self.function = function
        self.count = 0
        self.callees: dict[tuple[str, str], _Call] = {}


def flames(stacks: _Stacks) -> str:
    """SVG of what the stacks have in common; '' where there is nothing to show."""
    root = _tree(stacks)
    if not root.count:
        return ''
    parts: list[str] = []
    rows: list[int] = []
    _draw(root, 0.0, 0, root.count, parts, rows)
    height = _ROW * (max(rows, default=0) + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="stability-flames" role="img" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<title>Where the time went</title>{"".join(parts)}</svg>'
    )


def _tree(stacks: _Stacks) -> _Call:
    """All calls, below a root that stands for the thread."""
    root = _Call('', '')
    for frames, count in stacks:
        call = root
        call.count += count
        for file, function in reversed(frames):
            call = call.callees.setdefault((file, function), _Call(file, function))
            call.count += count
    return root


def _draw(caller: _Call, x: float, row: int, total: int, parts: list[str], rows: list[int]) -> None:
    """Draw what a call has called, side by side and widest first, and their calls below them."""
    for call in sorted(caller.callees.values(), key=lambda call: -call.count):
        width = _WIDTH * call.count / total
        if width >= _LEAST and row < _MOST_ROWS:
            chain = _chain(call)
            rows.append(row)
            parts.append(_box(chain, x, row, width, call.count / total))
            _draw(chain[-1], x, row + 1, total, parts, rows)
        x += width


def _chain(call: _Call) -> list[_Call]:
    """This call with those below it that only carry on, which are drawn as one box.

    The innermost call is never in it: it says where the time went.
    """
    chain = [call]
    while _carries(chain[-1]) and len(chain[-1].callees) == 1:
        (below,) = chain[-1].callees.values()
        if below.count < call.count or not _carries(below) or not below.callees:
            break
        chain.append(below)
    return chain if len(chain) > 2 else [call]


def _carries(call: _Call) -> bool:
    return codeorigin.place(call.file).kind != codeorigin.SITE


def _box(chain: Sequence[_Call], x: float, row: int, width: float, share: float) -> str:
    call = chain[0]
    place = codeorigin.place(call.file)
    if len(chain) > 1:
        label = f'{len(chain)} calls of {codeorigin.named(call.file for call in chain)}'
        colour = _FOLDED
    else:
        label = f'{call.function} · {place.short}' if width > 320 else call.function
        colour = _COLD.get(place.kind) or _warm(call)
    told = '\n'.join(f'{call.function} ({call.file})' for call in chain)
    y = row * _ROW
    return (
        f'<g><title>{escape(f"{share:.0%}  {told}")}</title>'
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}" '
        f'fill="{colour}" stroke="#fff" stroke-width=".6"/>'
        f'{_text(label, x, y, width)}</g>'
    )


def _warm(call: _Call) -> str:
    """The same warm colour for a function in every picture."""
    name = f'{call.file}\0{call.function}'.encode('utf-8', 'replace')
    return _WARM[zlib.crc32(name) % len(_WARM)]


def _text(label: str, x: float, y: float, width: float) -> str:
    """The label, cut to what fits into the box; '' where hardly anything does."""
    room = int((width - 8) / _LETTER)
    if room < 3:
        return ''
    if len(label) > room:
        label = f'{label[: room - 1]}…'
    return f'<text x="{x + 4:.1f}" y="{y + 14}" fill="#212529">{escape(label)}</text>'
