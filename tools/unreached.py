"""Compares what a coverage report says with the list of what only subprocesses of tests reach.

    python tools/unreached.py REPORT        REPORT: the file that `coverage json` writes

The list is tests/only_in_subprocesses.toml.  The exit status is 1 where they differ: a function of
the product was not reached and is not listed, or is listed and was reached.
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
LIST = CHECKOUT / 'tests' / 'only_in_subprocesses.toml'
PACKAGE = 'Products/StabilityMonitor/'


@dataclass(frozen=True)
class Entry:
    """Functions of one module that one test reaches, in a process that it starts."""

    module: str  # such as 'recording/arming.py'
    names: tuple[str, ...]  # functions, or classes with all in them; none: the whole module
    why: str
    test: str  # such as 'tests/recording/test_arming.py::test_a_signal'

    def covers(self, module: str, function: str) -> bool:
        """`function` is its qualified name, such as 'Class.method'."""
        if module != self.module:
            return False
        if not self.names:
            return True
        return any(function == name or function.startswith(f'{name}.') for name in self.names)


def entries(path: Path = LIST) -> list[Entry]:
    """Raises TypeError if an entry lacks a key or has an unknown one."""
    with path.open('rb') as file:
        read = tomllib.load(file)
    return [Entry(**{'names': (), **entry}) for entry in read['code']]


def differences(report: dict[str, Any], listed: list[Entry]) -> list[str]:
    """A line for each function of which report and list do not say the same."""
    lines = []
    for path, file in sorted(report['files'].items()):
        module = path.removeprefix(PACKAGE)
        for function, found in file['functions'].items():
            summary = found['summary']
            if not function or not summary['num_statements']:
                continue  # what stands outside of functions, or a body of dots
            reached = summary['covered_lines'] > 0
            is_listed = any(entry.covers(module, function) for entry in listed)
            if not reached and not is_listed:
                lines.append(f'neither reached nor listed: {module} {function}')
            if reached and is_listed:
                lines.append(f'listed, yet reached: {module} {function}')
    return lines


def main(words: list[str]) -> int:
    (path,) = words
    lines = differences(json.loads(Path(path).read_text('utf-8')), entries())
    for line in lines:
        print(line)
    print(f'{len(lines)} differences to {LIST.relative_to(CHECKOUT)}')
    return 1 if lines else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
