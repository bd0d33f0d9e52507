"""Summarizes the text of a traceback in one line.  Text in, text out."""

from __future__ import annotations

import re

_HEADING = re.compile(r'([^\W\d][\w.]*)(?:: |:?$)')
#: At most this many characters of an exception are kept.
_MOST = 300


def exception_name(text: str) -> str:
    """Return the class of the exception at the end of a traceback, as written there, or ""."""
    found = _HEADING.match(exception_line(text))
    if not found:
        return ''
    return found[1]


def exception_line(text: str) -> str:
    """Return the exception at the end of a traceback: `Class: message` and the notes after it."""
    lines = text.strip('\n').splitlines()
    exception = lines[-1:]
    before = '  '  # so that the first line may be a heading too
    for number, line in enumerate(lines):
        # The heading of an exception is not indented.  It follows a line of the last frame, which
        # is indented.
        if before.startswith('  ') and _HEADING.match(line):
            exception = lines[number:]
        before = line
    words = ' '.join(exception).split()
    found = ' '.join(words)
    if len(found) > _MOST:
        return f'{found[:_MOST]} ...'
    return found
