"""Checks of debugging switches, which harm a site in production, and of settings made too late."""

from __future__ import annotations

import re
import sys
import threading
from _tracemalloc import is_tracing  # the module tracemalloc is large

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.severities import Severity
from .check import Check
from .livesite import Site
from .memory import started_with

#: (directive of zope.conf, the value that is wrong in production, severity, the reason)
_DIRECTIVES: tuple[tuple[str, bool | str, Severity, str], ...] = (
    (
        'debug-mode',
        True,
        WARNING,
        'Templates and ZCML are checked for changes, and caches are off: the site is slower.',
    ),
    (
        'debug-exceptions',
        True,
        WARNING,
        'The publisher does not catch exceptions: there is no error page and no error log.',
    ),
    (
        'verbose-security',
        True,
        WARNING,
        'A refused visitor sees which roles are needed (with the Python security policy).',
    ),
    (
        'skip-authentication-checking',
        True,
        WARNING,
        'Public pages are served without checking which user asks for them.',
    ),
    (
        'skip-ownership-checking',
        True,
        CRITICAL,
        "Scripts run with the visitor's rights, whatever the rights of their author.",
    ),
    (
        'security-policy-implementation',
        'PYTHON',
        INFO,
        'It is slower than the C implementation; the HOWTO used it as a workaround.',
    ),
)
_DEBUGGERS = ('pydevd', 'debugpy')
#: Variables that are read only once: when a process starts, or when it imports a module.
#: PYTHONPATH and similar ones are left out, because they are often set for child processes.
_AT_START = re.compile(
    r'LD_PRELOAD|LD_LIBRARY_PATH|GLIBC_TUNABLES|MALLOC_\w+|PURE_PYTHON|PYTHON_GIL|'
    r'PYTHON(MALLOC|DEVMODE|TRACEMALLOC|FAULTHANDLER|HASHSEED|OPTIMIZE|UNBUFFERED)'
)


class ZopeSwitches(Check):
    id = 'zope-switches'
    question = 'Are the switches of zope.conf right for production?'
    source = 'zope.conf and the command line'

    def look(self, site: Site) -> Finding | list[Finding]:
        if not site.zope.switches:
            return self.unknown('The switches of Zope are not known here.')
        findings = [
            self.found(
                severity,
                f'{name} is {_word(value)}.',
                why,
                Action(
                    'Remove "{name} {value}" from zope.conf (or the switch from the command line) '
                    'and restart.',
                    name=name,
                    value=_word(value),
                ),
                name,
            )
            for name, value, severity, why in _DIRECTIVES
            if site.zope.switches.get(name) == value
        ]
        return findings or self.ok('No switch for debugging is on in zope.conf.')


def _word(value: bool | str) -> str:
    if isinstance(value, str):
        return value
    return 'on' if value else 'off'


class PythonSwitches(Check):
    id = 'python-switches'
    question = 'Does Python run without switches for debugging?'
    source = 'sys.flags, tracemalloc and trace functions'

    def look(self, site: Site) -> Finding | list[Finding]:
        findings = []
        if sys.flags.dev_mode:
            finding = self.found(
                WARNING,
                "Python's development mode is on.",
                'A debugging allocator and many checks cost speed.',
                Action('Remove "-X dev" or `PYTHONDEVMODE` and restart.'),
                'dev-mode',
            )
            findings.append(finding)
        if sys.flags.verbose:
            finding = self.found(
                WARNING,
                'Python reports every import (-v).',
                'It writes to standard error all the time.',
                Action('Remove "-v" or `PYTHONVERBOSE` and restart.'),
                'verbose',
            )
            findings.append(finding)
        if sys.flags.optimize:
            option = 'O' * sys.flags.optimize
            finding = self.found(
                INFO,
                f'Python leaves out assertions (-{option}).',
                'Code that an assertion would have stopped continues, perhaps into a crash.',
                Action('Remove "-O" or `PYTHONOPTIMIZE` and restart.'),
                'optimize',
            )
            findings.append(finding)
        if is_tracing():
            finding = self.found(
                WARNING,
                'tracemalloc is on.',
                'Each allocation is recorded, which costs speed and much memory.',
                Action('Remove `PYTHONTRACEMALLOC` or the call of tracemalloc.start and restart.'),
                'tracemalloc',
            )
            findings.append(finding)
        tools = _tools()
        has_functions = threading.gettrace() is not None or threading.getprofile() is not None
        if has_functions or tools:
            users = ', '.join(tools) or 'threading.settrace or threading.setprofile'
            finding = self.found(
                WARNING,
                'A trace or profile function is set for new threads.',
                f'It runs at each line or call: {users}.',
                Action('Remove the profiler, debugger or coverage tool and restart.'),
                'tracing',
            )
            findings.append(finding)
        debuggers = [name for name in _DEBUGGERS if name in site.modules]
        if debuggers:
            names = ', '.join(debuggers)
            finding = self.found(
                INFO,
                f'A debugger is loaded: {names}.',
                'Anyone who can connect to its port can stop all threads.',
                Action('Start Zope without it.'),
                'debugger',
            )
            findings.append(finding)
        return findings or self.ok('Python runs without switches for debugging.')


def _tools() -> list[str]:
    """The tools that use sys.monitoring (Python 3.12 and newer)."""
    monitoring = getattr(sys, 'monitoring', None)
    if monitoring is None:
        return []
    names = [monitoring.get_tool(number) for number in range(6)]
    return [name for name in names if name]


class LateVariables(Check):
    """Python is already running when Zope reads <environment> of zope.conf."""

    id = 'late-variables'
    question = 'Do all environment variables take effect?'
    source = '/proc/self/environ and os.environ'

    def look(self, site: Site) -> Finding:
        given = started_with(site)
        if not given:
            return self.unknown('The environment that this process was started with is not known.')
        late = sorted(
            name
            for name, value in site.environ.items()
            if _AT_START.fullmatch(name) and given.get(name) != value
        )
        if not late:
            return self.ok('All variables that are read at the start were set before the start.')
        return self.found(
            WARNING,
            f'Environment variables were set too late to take effect: {", ".join(late)}.',
            'They were set in the running process, as <environment> of zope.conf does; Python and '
            'the C library had already read them.',
            Action('Write ')
            + _lines('export {name}={value}', late, site)
            + Action(' before the line that starts Zope, or ')
            + _lines('Environment={name}={value}', late, site)
            + Action(' into `[Service]` of the unit.'),
        )


def _lines(line: str, names: list[str], site: Site) -> Action:
    """Return `line`, filled in and marked as code, for each variable; joined by "and"."""
    lines = [Action(f'"{line}"', name=name, value=site.environ[name]) for name in names]
    return Action(' and ').join(lines)
