"""The result of a benchmark: rows of a table, and the few statistics that it needs."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / 'programs'
#: For programs that use the helpers of the tests.
TESTS = CHECKOUT / 'tests'


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.  `fits` is whether the budget is kept; None without a budget or a
    measurement.
    """

    what: str
    budget: str
    measured: str
    fits: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: 'ok', False: 'OVER', None: ''}[self.fits]


def row(what: str, most: float, value: float, unit: str, digits: int = 1, more: str = '') -> Row:
    measured = f'{value:.{digits}f} {unit}' + (f' ({more})' if more else '')
    return Row(what, f'<= {most:g} {unit}', measured, value <= most)


def ratio(
    what: str, most: float, value: float, peer: str, its: float, unit: str, digits: int = 1
) -> Row:
    """Return a row: `value` may be at most `most` times `its`, the value of the peer in the same
    run.
    """
    measured = f'{value:.{digits}f} {unit}, {value / its:.2f} of {its:.{digits}f} {unit}'
    return Row(what, f'<= {most:g} of {peer}', measured, value <= most * its)


def median(values) -> float:
    return statistics.median(values)


def spread(values, unit: str, digits: int = 1) -> str:
    return f'{min(values):.{digits}f} to {max(values):.{digits}f} {unit}'


def table(rows) -> str:
    """Return the rows in columns, and a summary of the verdicts."""
    cells = [('what', 'budget', 'measured', 'verdict')] + [
        (r.what, r.budget, r.measured, r.verdict) for r in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, '  '.join('-' * width for width in widths))
    over = [r.what for r in rows if r.fits is False]
    lines += [
        '',
        f'{sum(r.fits is not None for r in rows)} budgets, {len(over)} over'
        + ''.join(f'\n    OVER: {what}' for what in over),
    ]
    return '\n'.join(lines)


def alone(measure) -> None:
    """Do what `python benchmarks/bench_X.py` does."""
    sys.path[:0] = [str(CHECKOUT), str(TESTS)]
    print(table(measure()))
