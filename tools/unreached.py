"""Compare a coverage report with the list of code that only subprocesses of tests reach.

    python tools/unreached.py REPORT        REPORT: the file that `coverage json` writes

The list is tests/only_in_subprocesses.toml.  The exit status is 1 if a function of the product is
neither reached nor listed.  A function that is both is only named: its entry can be removed, unless
the function is reached by chance, for example if a thread is late.
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
    """Functions of one module that a test reaches in a process that it starts."""

    module: str  # for example 'recording/arming.py'
    names: tuple[str, ...]  # functions, or classes with all their methods; empty: the whole module
    why: str
    test: str  # for example 'tests/recording/test_arming.py::test_a_signal'

    def covers(self, module: str, function: str) -> bool:
        """Return whether this function is in the entry; its name is qualified, for example
        'Class.method'.
        """
        if module != self.module:
            return False
        if not self.names:
            return True
        return any(function == name or function.startswith(f'{name}.') for name in self.names)


def entries(path: Path = LIST) -> list[Entry]:
    """Read the list; raises TypeError if an entry lacks a key or has an unknown one."""
    with path.open('rb') as file:
        read = tomllib.load(file)
    return [Entry(**{'names': (), **entry}) for entry in read['code']]


@dataclass(frozen=True)
class Differences:
    """Functions about which a report and the list differ, each as its module and its name."""

    unlisted: tuple[str, ...]  # neither reached nor listed
    reached: tuple[str, ...]  # listed, but reached


def differences(report: dict[str, Any], listed: list[Entry]) -> Differences:
    """Compare a report with the list."""
    unlisted = []
    both = []
    for path, file in sorted(report['files'].items()):
        module = path.removeprefix(PACKAGE)
        for function, found in file['functions'].items():
            summary = found['summary']
            if not function or not summary['num_statements']:
                continue  # code outside of functions, or a body of only "..."
            reached = summary['covered_lines'] > 0
            is_listed = any(entry.covers(module, function) for entry in listed)
            if not reached and not is_listed:
                unlisted.append(f'{module} {function}')
            if reached and is_listed:
                both.append(f'{module} {function}')
    return Differences(tuple(unlisted), tuple(both))


def main(words: list[str]) -> int:
    (path,) = words
    found = differences(json.loads(Path(path).read_text('utf-8')), entries())
    for function in found.reached:
        print(f'listed, but reached: {function}')
    for function in found.unlisted:
        print(f'ERROR neither reached nor listed: {function}')
    print(f'{len(found.unlisted)} functions are missing in {LIST.relative_to(CHECKOUT)}')
    return 1 if found.unlisted else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
