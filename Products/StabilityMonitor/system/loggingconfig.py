"""Finds the files that a configuration of `logging` names, in an .ini file.  Text in, paths out.

It is read only for runs that did not note their logs.  See the section "Configuration file format"
of the documentation of `logging.config`.
"""

from __future__ import annotations

import ast
import configparser
import os

#: At most this many loggers are looked at.
_MOST_LOGGERS = 32


def files_in(text: str, path: str) -> list[tuple[str, str]]:
    """Return (logger, path of a file that it writes to) for each such logger, '' for the root.

    `path` is that of the .ini file.  What is wrong in the text is left out.
    """
    here = os.path.dirname(path)
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return []
    found = []
    for name in _words(parser, 'loggers', 'keys')[:_MOST_LOGGERS]:
        section = f'logger_{name}'
        qualified = parser.get(section, 'qualname', fallback=name)
        logger = '' if name == 'root' else qualified
        for handler in _words(parser, section, 'handlers'):
            arguments = parser.get(f'handler_{handler}', 'args', fallback='')
            kind = parser.get(f'handler_{handler}', 'class', fallback='')
            file = _first(arguments.replace('%(here)s', here))
            if 'File' in kind and file and '%(' not in file:
                found.append((logger, os.path.normpath(os.path.join(here, file))))
    return found


def _words(parser: configparser.RawConfigParser, section: str, option: str) -> list[str]:
    text = parser.get(section, option, fallback='')
    return [word.strip() for word in text.split(',') if word.strip()]


def _first(arguments: str) -> str:
    """Return the first of the arguments of a handler, if it is a text."""
    try:
        values = ast.literal_eval(arguments)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ''
    first = values[0] if isinstance(values, tuple) and values else values
    return first if isinstance(first, str) else ''
