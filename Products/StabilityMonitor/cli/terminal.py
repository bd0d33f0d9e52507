"""Print lines for a terminal, without the control characters that foreign text may contain."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..model.plaintext import clean


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(clean(line))


def notice(text: str) -> None:
    """Print a message that is not part of the output to standard error."""
    print(clean(f'stabilitymonitor: {text}'), file=sys.stderr)
