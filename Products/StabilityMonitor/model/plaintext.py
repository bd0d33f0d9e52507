"""Text of foreign origin, made safe for a terminal, a log file and a line.

What `str.isprintable` does not call printable is escaped: control characters (a newline would begin
a forged line, ESC would command the terminal), line separators, and bidirectional controls, which
make a text look like another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable


def clean(value: object) -> str:
    """`value` in one line, with `\\x1b`, `\\n`, `\\u202e` ... instead of such characters."""
    return _printable(str(value), _escaped)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON of `value` in which such characters are escaped; other characters stay readable."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # The newlines are those that `indent` brings: json escapes all others.
    lines = [_printable(line, _escaped_in_json) for line in text.split('\n')]
    return '\n'.join(lines)


def _printable(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else escape(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode('unicode_escape').decode()


def _escaped_in_json(char: str) -> str:
    if char == '\x7f':  # json takes DEL for printable
        return '\\u007f'
    return json.dumps(char)[1:-1]
