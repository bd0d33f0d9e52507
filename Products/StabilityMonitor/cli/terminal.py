"""Print text and JSON, without the control characters that foreign text may contain.

On a terminal, lines are broken to fit its width.  A pipe or a file gets them whole, so that `grep`
finds a sentence in one line.  There are no colours.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from ..model.plaintext import clean
from ..model.plaintext import json_text

#: What follows in the next line is indented by this many columns more than its beginning.
_INDENT = 4
#: Goes to the beginning of the line of a terminal, and clears it.
_CLEAR = '\r\x1b[K'
#: Lines are not broken for a terminal that is narrower than this.
_NARROWEST = 40


def print_lines(lines: Iterable[str]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines:
        for part in fitted(clean(line), width):
            print(part)


def print_commands(lines: Iterable[str]) -> None:
    """Print lines that a person copies into a shell: they are never broken."""
    for line in lines:
        print(clean(line))


def print_json(document: dict[str, Any]) -> None:
    print(json_text(document, indent=1))


def print_text(content: bytes) -> None:
    """Print a text of many lines in UTF-8.  A pipe or a file gets these very bytes."""
    if sys.stdout.isatty():
        print_lines(content.decode('utf-8', 'backslashreplace').removesuffix('\n').split('\n'))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)


def notice(text: str) -> None:
    """Print a message that is not part of the output to standard error."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for part in fitted(clean(f'stabilitymonitor: {text}'), width):
        print(part, file=sys.stderr)


@contextlib.contextmanager
def progress(words: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done, if that is a terminal; nothing stays there.

    The function that is returned shows other words in their place.
    """
    is_shown = sys.stderr.isatty()

    def tell(words: str) -> None:
        if is_shown:
            width = shutil.get_terminal_size().columns - 1
            print(f'{_CLEAR}{clean(words)[:width]}', end='', file=sys.stderr, flush=True)

    tell(words)
    try:
        yield tell
    finally:
        tell('')


def fitted(line: str, width: int) -> Iterator[str]:
    """Yield a line broken at spaces into parts of at most `width` columns; 0: as it is.

    A word that is longer, such as a path, stays whole: it can be copied.
    """
    if len(line) <= width or width < _NARROWEST:
        yield line
        return
    indent = len(line) - len(line.lstrip()) + _INDENT
    yield from textwrap.wrap(
        line,
        width,
        subsequent_indent=' ' * min(indent, width // 2),
        break_long_words=False,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )
