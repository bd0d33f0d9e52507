"""What the text of a traceback says, in one line.  Text in, text out."""

from __future__ import annotations

import re

_HEADING = re.compile(r'([^\W\d][\w.]*)(?:: |:?$)')
#: Characters of an exception that are kept.
_MOST = 300


def exception_name(text: str) -> str:
    """The class of the exception at the end of a traceback, as written there; "" without one."""
    found = _HEADING.match(exception_line(text))
    return found[1] if found else ''


def exception_line(text: str) -> str:
    """The exception at the end of a traceback: `Class: message`, with the notes that follow."""
    lines = text.strip('\n').splitlines()
    headings = [number for number in range(len(lines)) if _is_heading(lines, number)]
    exception = lines[headings[-1] :] if headings else lines[-1:]
    found = ' '.join(' '.join(exception).split())
    return found if len(found) <= _MOST else f'{found[:_MOST]} ...'


def _is_heading(lines: list[str], number: int) -> bool:
    """A heading begins at the margin; the line before it, of the last frame, is indented."""
    if not _HEADING.match(lines[number]):
        return False
    return number == 0 or lines[number - 1].startswith('  ')
