"""Make foreign text safe for one line of a terminal or of a log file.

Characters that are not printable (`str.isprintable`) are escaped: control characters (a newline
would begin a forged line, ESC would control the terminal), line separators, and bidirectional
controls, which make a text look like another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable


def clean(value: object) -> str:
    """`value` as one line, with `\\x1b`, `\\n`, `\\u202e` ... in place of such characters."""
    return _printable(str(value), _escaped)


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON of `value` in which only such characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Only `indent` makes newlines: json escapes those in the values.
    lines = [_printable(line, _escaped_in_json) for line in text.split('\n')]
    return '\n'.join(lines)


def _printable(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else escape(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode('unicode_escape').decode()


def _escaped_in_json(char: str) -> str:
    if char == '\x7f':  # json does not escape DEL
        return '\\u007f'
    return json.dumps(char)[1:-1]
