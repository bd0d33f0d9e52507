"""Checks of the running Python: its stacks, its recursion limit, its support and its build."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC
from datetime import date
from datetime import datetime
from types import ModuleType

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import INFO
from ..model.severities import WARNING
from ..system import stacksizes
from .check import Check
from .limits import to_raise
from .livesite import Site

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

_DEFAULT_LIMIT = 1000
#: {version of Python: the last day with security fixes}, from the release schedule in its PEP.  If
#: the schedule names only a month, this is the last day of that month.
END_OF_LIFE = {
    (3, 6): date(2021, 12, 23),
    (3, 7): date(2023, 6, 27),
    (3, 8): date(2024, 10, 7),
    (3, 9): date(2025, 10, 31),
    (3, 10): date(2026, 10, 31),
    (3, 11): date(2027, 10, 31),
    (3, 12): date(2028, 10, 31),
    (3, 13): date(2029, 10, 31),
    (3, 14): date(2030, 10, 31),
    (3, 15): date(2031, 10, 31),
}
_WARN_DAYS = 180


class ThreadStacks(Check):
    """Threads on the HOWTO's FreeBSD had stacks of 64 KiB; with musl they have 128 KiB today."""

    id = 'thread-stacks'
    question = 'Are the stacks of threads large enough for a deep recursion?'
    source = 'pthread attributes'

    def look(self, site: Site) -> Finding:
        return replace(stacksizes.check(site.stack), check=self.id)


class RecursionLimit(Check):
    id = 'recursion-limit'
    question = 'Does Python stop a recursion before the stack is full?'
    source = 'sys.getrecursionlimit and RLIMIT_STACK'

    def look(self, site: Site) -> Finding:
        limit = sys.getrecursionlimit()
        needed = stacksizes.needed(limit)
        stack = _main_stack()
        size = f'{stack >> 10} KiB' if stack else 'any amount'
        fact = f'The recursion limit is {limit}; the main thread may use {size} of stack.'
        if 0 < stack < needed:
            return self.found(
                WARNING,
                'The stack of the main thread is too small for the recursion limit.',
                f'{fact} A recursion through C code to the limit needs about {needed >> 10} KiB.',
                to_raise('STACK', 's', max(8192, 2 * needed >> 10), 'K') + Action('.'),
            )
        if limit > _DEFAULT_LIMIT:
            return self.found(
                INFO,
                f'The recursion limit was raised to {limit}.',
                f'{fact} An endless recursion takes longer to stop, and needs more stack.',
                Action(
                    'Look for sys.setrecursionlimit in your own code, and remove it unless it is '
                    'needed.'
                ),
            )
        return self.ok('The recursion limit fits the stack of the main thread.', fact)


def _main_stack() -> int:
    """Return the most bytes that the main thread's stack may use; 0: no limit, or not known."""
    if resource is None:
        return 0
    soft: int = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


class EndOfLife(Check):
    id = 'python-end-of-life'
    question = 'Does this Python still get security fixes?'
    source = "the release schedules of Python's PEPs"

    def look(self, site: Site) -> Finding:
        end = END_OF_LIFE.get(site.python.version[:2])
        if site.python.level != 'final':
            return self.found(
                WARNING,
                f'This is a pre-release: {site.python.name}.',
                'Its C interface may change until the final release; compiled modules can crash.',
                self._action(site),
            )
        if end is None:
            return self.ok(f'{site.python.name} is newer than the versions that this check knows.')
        left = (end - datetime.fromtimestamp(site.now, UTC).date()).days
        if left < 0:
            return self.found(
                WARNING,
                f'{site.python.name} no longer gets security fixes.',
                f'Support ended on {end}; known crashes are no longer fixed.',
                self._action(site),
            )
        if left < _WARN_DAYS:
            return self.found(
                INFO,
                f'{site.python.name} gets security fixes for only {left} more days.',
                f'Support ends on {end}.',
                self._action(site),
            )
        return self.ok(f'{site.python.name} gets security fixes until {end}.')

    @staticmethod
    def _action(site: Site) -> Action:
        today = datetime.fromtimestamp(site.now, UTC).date()
        lasting = [v for v, end in END_OF_LIFE.items() if (end - today).days > 2 * 365]
        major, minor = lasting[0] if lasting else max(END_OF_LIFE)
        return Action(
            'Create a new environment and install the same packages there: "python{version} -m '
            'venv NEW", then "NEW/bin/pip install -r requirements.txt".',
            version=f'{major}.{minor}',
        )


class Build(Check):
    id = 'python-build'
    question = 'Is this an ordinary build of Python?'
    source = 'sys.abiflags'

    def look(self, site: Site) -> Finding:
        if site.python.free_threaded:
            state = 'on' if site.python.has_gil else 'off'
            return self.found(
                WARNING,
                'This is a free-threaded build of Python.',
                f'The GIL is {state}. Few C modules that Zope uses are safe without it: races in '
                'them crash the process.',
                Action(
                    'Run Zope with the ordinary build of the same version; until then set '
                    '`PYTHON_GIL=1` before it starts.'
                ),
            )
        if site.python.debug:
            return self.found(
                WARNING,
                'This is a debug build of Python.',
                'It is slow, and aborts the process where an ordinary build continues.',
                Action('Run Zope with the ordinary build of the same version.'),
            )
        return self.ok(f'This is an ordinary build of {site.python.name}.')
