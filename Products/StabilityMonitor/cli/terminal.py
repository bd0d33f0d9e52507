"""What the command prints: no text of foreign origin commands the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..model.plaintext import clean


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(clean(line))


def notice(text: str) -> None:
    """Print what is no part of the answer to standard error."""
    print(clean(f'stabilitymonitor: {text}'), file=sys.stderr)
