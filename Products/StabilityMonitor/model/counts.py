"""A number with its noun, right for one and for many: "1 worker", "4 workers"."""

from __future__ import annotations


def plural(number: int, one: str, many: str = '') -> str:
    """Return the noun for a number; `many` is needed where it is not `one` with an "s"."""
    if number == 1:
        return one
    return many or f'{one}s'


def counted(number: int, one: str, many: str = '') -> str:
    """Return the number and the noun, for example "1 run" or "12,000 runs"."""
    return f'{number:,} {plural(number, one, many)}'
