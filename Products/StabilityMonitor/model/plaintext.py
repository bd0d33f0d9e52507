"""Text of foreign origin, made safe for a terminal, a log file and a line.

What `str.isprintable` does not call printable is escaped: control characters (a newline would begin
a forged line, ESC would command the terminal), line separators, and bidirectional controls, which
make a text look like another one.
"""

from __future__ import annotations

import json


def clean(value: object) -> str:
    """`value` in one line, with `\\x1b`, `\\n`, `\\u202e` ... instead of such characters."""
    text = str(value)
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode('unicode_escape').decode()


def json_text(value: object, indent: int | None = None) -> str:
    """JSON of `value` in which such characters are escaped; other characters stay readable."""
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split('\n')
    return '\n'.join(map(_json_line, lines))


def _json_line(line: str) -> str:
    if line.isprintable():
        return line
    return ''.join(char if char.isprintable() else _escaped_in_json(char) for char in line)


def _escaped_in_json(char: str) -> str:
    if char == '\x7f':  # json takes DEL for printable
        return '\\u007f'
    return json.dumps(char)[1:-1]
