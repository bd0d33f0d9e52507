"""Finds the secrets in the text of a configuration file: zope.conf, an .ini file, a buildout.

There a name and its value stand side by side, often with nothing but a space between them, and a
value may be several words.  In other texts that would be a sentence: see `secretpatterns` for what
is a secret there.  Text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .secretvalues import PLACEHOLDER
from .secretvalues import smells

_SEPARATOR = r'(?:[ \t]*[=:]+[ \t]*|[ \t]+)(?:[|>][+-]?[ \t]+)?'
#: A directive, also one that is commented out; its value goes to the end of the line.
_LINE = re.compile(
    r'^(?P<begin>[ \t]*(?P<comment>[#;]+[ \t]*)?(?:%define[ \t]+)?(?P<name>[\w.-]+)'
    rf'{_SEPARATOR})(?P<value>[^\s=:].*?)(?=[ \t\r]*$)',
    re.MULTILINE,
)
_COMMENT = re.compile(r'[ \t]*[#;]')
#: A name anywhere in a line that is no comment, and the value that follows it: one word, or quoted.
_NAME = re.compile(r'[\w.-]+')
_VALUE = re.compile(
    rf'{_SEPARATOR}(?:"(?P<double>[^"\n]+)"|\'(?P<single>[^\'\n]+)\''
    r'|(?P<bare>[^\s=:<>()"\'][^\s<>"\']*))'
)
#: The first user of a buildout: `user = admin:password`.
_USER = re.compile(
    r'(?P<begin>(?<![\w.-])user(?:[ \t]*=[ \t]*|[ \t]+)(?P<quote>["\'])?[\w.@-]+:)'
    r'(?P<value>(?(quote)[^"\'\n]+|[^\s"\']+))'
)
#: How names with a secret end, also where that is no word of its own: "bindpw",
#: "session.validate_key".
_ENDS = ('pw', 'pwd', 'pass', 'psk', '-key', '_key')
#: A longer word, in characters, is no name.
_LONGEST_NAME = 200


def without_secrets(text: str, instead_of: Callable[[str], str]) -> str:
    """Return the text with `instead_of(secret)` in place of each secret."""

    def replaced(match: re.Match[str]) -> str:
        return f'{match["begin"]}{instead_of(match["value"])}'

    def of_line(match: re.Match[str]) -> str:
        is_sentence = match['comment'] and ' ' in match['value']
        is_secret = _has_smell(match['name']) and not PLACEHOLDER.fullmatch(match['value'])
        if is_sentence or not is_secret:
            return match[0]
        return replaced(match)

    lines = []
    for line in _LINE.sub(of_line, text).split('\n'):
        if not _COMMENT.match(line):
            line = _without_pairs(line, instead_of)
        lines.append(_USER.sub(replaced, line))
    return '\n'.join(lines)


def _without_pairs(line: str, instead_of: Callable[[str], str]) -> str:
    found: list[str] = []
    end = 0
    for name in _NAME.finditer(line):
        if name.start() < end or not _has_smell(name[0]):
            continue
        value = _VALUE.match(line, name.end())
        if value and value.lastgroup and not PLACEHOLDER.fullmatch(value[value.lastgroup]):
            found += line[end : value.start(value.lastgroup)], instead_of(value[value.lastgroup])
            end = value.end(value.lastgroup)
    return ''.join(found) + line[end:]


def _has_smell(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and (smells(name) or name.lower().endswith(_ENDS))
