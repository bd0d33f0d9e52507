"""What the text of a traceback says, in one line.  Text in, text out."""

from __future__ import annotations

import re

_HEADING = re.compile(r'([^\W\d][\w.]*)(?:: |:?$)')
_MOST = 300


def exception_name(text: str) -> str:
    """The class of the exception at the end of a traceback, as it is written there; "" if there is
    none.
    """
    found = _HEADING.match(exception_line(text))
    return found[1] if found else ''


def exception_line(text: str) -> str:
    """The exception at the end of a traceback: `Class: message`, with the lines that follow it
    (notes).
    """
    lines = text.strip('\n').splitlines()
    start = next(
        (number for number in reversed(range(len(lines))) if _is_heading(lines, number)),
        len(lines) - 1,
    )
    found = ' '.join(' '.join(lines[max(start, 0) :]).split())
    return found if len(found) <= _MOST else f'{found[:_MOST]} ...'


def _is_heading(lines: list[str], number: int) -> bool:
    """A heading stands at the margin, and what is before it, the last frame, does not."""
    return bool(_HEADING.match(lines[number])) and (
        number == 0 or lines[number - 1].startswith('  ')
    )
