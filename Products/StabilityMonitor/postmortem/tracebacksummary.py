"""What the text of a traceback says, in one line.  Text in, text out."""

from __future__ import annotations

import re

_HEADING = re.compile(r'([^\W\d][\w.]*)(?:: |:?$)')
#: Characters of an exception that are kept.
_MOST = 300


def exception_name(text: str) -> str:
    """The class of the exception at the end of a traceback, as written there; "" without one."""
    found = _HEADING.match(exception_line(text))
    if not found:
        return ''
    return found[1]


def exception_line(text: str) -> str:
    """The exception at the end of a traceback: `Class: message`, with the notes that follow."""
    lines = text.strip('\n').splitlines()
    exception = lines[-1:]
    before = '  '  # the first line may be a heading too
    for number, line in enumerate(lines):
        # A heading begins at the margin; the line before it, of the last frame, is indented.
        if before.startswith('  ') and _HEADING.match(line):
            exception = lines[number:]
        before = line
    words = ' '.join(exception).split()
    found = ' '.join(words)
    if len(found) > _MOST:
        return f'{found[:_MOST]} ...'
    return found
