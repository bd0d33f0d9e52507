"""Text of foreign origin, made safe for a terminal, a log file and a line: what cannot be seen is
shown escaped.

Escaped is what `str.isprintable` does not count as printable: control characters (a newline would
begin a forged line, ESC would command the terminal), line separators, and bidirectional controls,
which let text look like another one.
"""

from __future__ import annotations

import json


def clean(value: object) -> str:
    """`value` in one line, with `\\x1b`, `\\n`, `\\u202e` ... in the place of such characters."""
    text = str(value)
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON of `value` in which such characters are escaped; other characters stay readable."""
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split('\n')
    return '\n'.join(line if line.isprintable() else ''.join(map(_in_json, line)) for line in lines)


def _in_json(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1] if char != '\x7f' else '\\u007f'
