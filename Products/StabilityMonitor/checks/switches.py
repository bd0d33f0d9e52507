"""Switches for debugging that harm a site in production, and settings that come too late."""

from __future__ import annotations

import re
import sys
import threading
from _tracemalloc import is_tracing  # the module around it is large
from collections.abc import Iterator

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
        'Templates and ZCML are watched for changes, and caches are off: slower.',
    ),
    (
        'debug-exceptions',
        True,
        WARNING,
        'Exceptions leave the publisher: no error page, no error log.',
    ),
    (
        'verbose-security',
        True,
        WARNING,
        'Refusals tell visitors which roles would do (with the Python security policy).',
    ),
    (
        'skip-authentication-checking',
        True,
        WARNING,
        'Pages for everybody are served without looking at who asks.',
    ),
    (
        'skip-ownership-checking',
        True,
        CRITICAL,
        "Scripts run with the visitor's rights, whoever wrote them.",
    ),
    (
        'security-policy-implementation',
        'PYTHON',
        INFO,
        'It is slower than C; a workaround of the HOWTO.',
    ),
)
_DEBUGGERS = ('pydevd', 'debugpy')
#: Variables that are read only once: when a process starts, or imports a module.  PYTHONPATH and
#: the like are not among them: they are often set for child processes.
_AT_START = re.compile(
    r'LD_PRELOAD|LD_LIBRARY_PATH|GLIBC_TUNABLES|MALLOC_\w+|PURE_PYTHON|PYTHON_GIL|'
    r'PYTHON(MALLOC|DEVMODE|TRACEMALLOC|FAULTHANDLER|HASHSEED|OPTIMIZE|UNBUFFERED)'
)


class ZopeSwitches(Check):
    id = 'zope-switches'
    question = 'Are the switches of zope.conf as they should be in production?'
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
                    'Take "{name} {value}" out of zope.conf (or the switch from the command line) '
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
        found = [
            self.found(WARNING if costly else INFO, title, why, action, about)
            for about, is_on, costly, title, why, action in _switches(site)
            if is_on
        ]
        return found or self.ok('Python runs without switches for debugging.')


def _switches(site: Site) -> Iterator[tuple[str, bool, bool, str, str, Action]]:
    """(id, whether it is on, whether it costs much, title, reason, action) of each switch."""
    debuggers = [name for name in _DEBUGGERS if name in site.modules]
    yield (
        'dev-mode',
        sys.flags.dev_mode,
        True,
        "Python's development mode is on.",
        'A debugging allocator and many checks cost speed.',
        Action('Take "-X dev" or `PYTHONDEVMODE` away and restart.'),
    )
    yield (
        'verbose',
        bool(sys.flags.verbose),
        True,
        'Python tells of every import (-v).',
        'It writes to standard error all the time.',
        Action('Take "-v" or `PYTHONVERBOSE` away and restart.'),
    )
    yield (
        'optimize',
        bool(sys.flags.optimize),
        False,
        f'Python leaves out assertions (-{"O" * sys.flags.optimize}).',
        'What an assertion would have stopped goes on, perhaps into a crash.',
        Action('Take "-O" or `PYTHONOPTIMIZE` away and restart.'),
    )
    yield (
        'tracemalloc',
        is_tracing(),
        True,
        'tracemalloc is on.',
        'Each allocation is written down: it costs speed and much memory.',
        Action('Take `PYTHONTRACEMALLOC` or the call of tracemalloc.start away and restart.'),
    )
    yield (
        'tracing',
        threading.gettrace() is not None or threading.getprofile() is not None or bool(_tools()),
        True,
        'A trace or profile function is set for new threads.',
        'Each line or call goes through it: '
        + (', '.join(_tools()) or 'threading.settrace or threading.setprofile')
        + '.',
        Action('Take the profiler, debugger or coverage away and restart.'),
    )
    yield (
        'debugger',
        bool(debuggers),
        False,
        f'A debugger is loaded: {", ".join(debuggers)}.',
        'Who reaches its port can stop all threads.',
        Action('Start Zope without it.'),
    )


def _tools() -> list[str]:
    """The tools that use sys.monitoring (Python 3.12 and newer)."""
    monitoring = getattr(sys, 'monitoring', None)
    if monitoring is None:
        return []
    names = [monitoring.get_tool(number) for number in range(6)]
    return [name for name in names if name]


class LateVariables(Check):
    """When Zope reads <environment> of zope.conf, Python runs already."""

    id = 'late-variables'
    question = 'Do all variables that are set take effect?'
    source = '/proc/self/environ and os.environ'

    def look(self, site: Site) -> Finding:
        given = started_with(site)
        if not given:
            return self.unknown('What this process was started with is not known here.')
        late = sorted(
            name
            for name, value in site.environ.items()
            if _AT_START.fullmatch(name) and given.get(name) != value
        )
        if not late:
            return self.ok('All variables that are read at the start were set before it.')
        return self.found(
            WARNING,
            f'Set too late to take effect: {", ".join(late)}.',
            'They were set in the running process, as <environment> of zope.conf does; Python and '
            'the C library have read them before.',
            Action('Write ')
            + _lines('export {name}={value}', late, site)
            + Action(' before the line that starts Zope, or ')
            + _lines('Environment={name}={value}', late, site)
            + Action(' into `[Service]` of the unit.'),
        )


def _lines(line: str, names: list[str], site: Site) -> Action:
    """A line for each variable, as code."""
    lines = [Action(f'"{line}"', name=name, value=site.environ[name]) for name in names]
    return Action(' and ').join(lines)
