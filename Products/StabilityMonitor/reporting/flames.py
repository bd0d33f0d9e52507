"""A chart of where the time of a slow request went: a flame graph, upside down.

The outermost call is at the top; below each call are the calls that it made, each as wide as its
share of the time.  The result is a complete SVG document without scripts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from ..model.counts import counted
from ..threads import codeorigin
from . import svg

# Sizes in units of the picture.
_WIDTH = 1000
_ROW = 20
_LETTER = 6.7  # the approximate width of a letter
_LEAST = 1.5  # narrower calls are omitted
_MOST_ROWS = 60
#: The code of the site has warm colours; framework code and Python are grey.
_WARM = ('#f4a261', '#f2b872', '#ee9b7a', '#f6c28b', '#e9b44c')
_COLD = {codeorigin.CARRIER: '#ced4da', codeorigin.PYTHON: '#e2e6ea'}
_FOLDED = '#e9ecef'

#: From `threads.stackprofile`: items `[[[file, function], ...], count]`, innermost frame first.
_Stacks = list[list[Any]]


class _Call:
    """A function, called by its parent in the tree."""

    def __init__(self, file: str, function: str):
        self.file = file
        self.function = function
        self.count = 0
        self.callees: dict[tuple[str, str], _Call] = {}


def flames(stacks: _Stacks, label: str = 'Where the time went') -> str:
    """Return SVG of the merged stacks; '' if there are none.

    `label` is the title of the window, when the picture is opened as a page.
    """
    root = _tree(stacks)
    if not root.count:
        return ''
    drawing = _Drawing(root.count)
    drawing.draw_callees(root, 0.0, 0)
    return svg.picture(
        'flames',
        _WIDTH,
        _ROW * drawing.rows,
        label,
        drawing.parts,
        font_family='sans-serif',
        font_size=12,
    )


def _tree(stacks: _Stacks) -> _Call:
    """All calls, below a root that represents the thread."""
    root = _Call('', '')
    for frames, count in stacks:
        call = root
        call.count += count
        for file, function in reversed(frames):
            call = call.callees.setdefault((file, function), _Call(file, function))
            call.count += count
    return root


class _Drawing:
    """The boxes of all calls, and the number of rows."""

    def __init__(self, total: int):
        self.total = total
        self.rows = 1
        self.parts: list[str] = []

    def draw_callees(self, caller: _Call, x: float, row: int) -> None:
        """Draw the callees side by side, widest first, and below each its own callees."""
        callees = sorted(caller.callees.values(), key=lambda call: -call.count)
        for call in callees:
            share = call.count / self.total
            width = _WIDTH * call.count / self.total
            if width >= _LEAST and row < _MOST_ROWS:
                chain = _chain(call)
                self.rows = max(self.rows, row + 1)
                self.parts.append(_box(chain, x, row, width, share))
                self.draw_callees(chain[-1], x, row + 1)
            x += width


def _chain(call: _Call) -> list[_Call]:
    """Return this call and the framework calls below it that are drawn in the same box.

    Each of them is the only callee of the call before.  The innermost call is never part of the
    box, because it shows where the time went.
    """
    chain = [call]
    while _carries(chain[-1]) and len(chain[-1].callees) == 1:
        (below,) = chain[-1].callees.values()
        is_innermost = not below.callees
        if is_innermost or below.count < call.count or not _carries(below):
            break
        chain.append(below)
    if len(chain) > 2:
        return chain
    return [call]


def _carries(call: _Call) -> bool:
    return codeorigin.place(call.file).kind != codeorigin.SITE


def _box(chain: Sequence[_Call], x: float, row: int, width: float, share: float) -> str:
    call = chain[0]
    place = codeorigin.place(call.file)
    if len(chain) > 1:
        packages = codeorigin.named(call.file for call in chain)
        label = f'{counted(len(chain), "call")} of {packages}'
        colour = _FOLDED
    else:
        label = call.function
        if width > 320:
            label = f'{call.function} · {place.short}'
        colour = _COLD.get(place.kind) or _warm(call)
    calls = [f'{call.function} ({call.file})' for call in chain]
    tooltip = '\n'.join(calls)
    y = row * _ROW
    content = svg.title(f'{share:.0%}  {tooltip}')
    content += svg.element(
        'rect',
        x=x,
        y=y,
        width=width,
        height=_ROW - 1,
        fill=colour,
        stroke='#fff',
        stroke_width='.6',
    )
    room = int((width - 8) / _LETTER)  # in letters
    if len(label) > room:
        label = f'{label[: room - 1]}…'
    if room >= 3:
        content += svg.text(label, x=x + 4, y=y + 14, fill='#212529')
    return svg.element('g', content)


def _warm(call: _Call) -> str:
    """The warm colour of a function, the same in every chart."""
    name = f'{call.file}\0{call.function}'.encode('utf-8', 'replace')
    return _WARM[zlib.crc32(name) % len(_WARM)]
