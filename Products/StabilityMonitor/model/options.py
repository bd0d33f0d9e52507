"""The one table of options: name, converter, default, why.

The product reads zope.conf and the environment by this table; a test compares README.txt with it.
A wrong or unknown option becomes a finding and never makes a start fail.  Imports only the standard
library.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeGuard

from .secretclasses import classes_of

#: The types of an option.
Value = bool | int | float | str

PREFIX = 'STABILITYMONITOR_'
#: A variable that is no option: "stabilitymonitor run" sets it, see `system.runpipe`.
RUN_PIPE = PREFIX + 'RUN_PIPE'

_SIZES = {'kb': 1 << 10, 'mb': 1 << 20, 'gb': 1 << 30, 'b': 1}
_TIMES = {'ms': 0.001, 's': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}
_SWITCH = {
    'on': True,
    'yes': True,
    'true': True,
    '1': True,
    'off': False,
    'no': False,
    'false': False,
    '0': False,
}
_LEVELS = {'debug': 10, 'info': 20, 'warning': 30, 'error': 40, 'critical': 50}


def switch(text: str) -> bool:
    """on or off"""
    return _SWITCH[text.lower()]


def level(text: str) -> int:
    """debug, info, warning, error or critical"""
    return _LEVELS[text.lower()]


def count(text: str) -> int:
    """a whole number"""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """a duration such as 500ms, 30s, 5m or 1h (seconds without a unit)"""
    return _measured(text, _TIMES)


def bytecount(text: str) -> int:
    """a size such as 512KB, 200MB or 1GB (bytes without a unit)"""
    return int(_measured(text, _SIZES))


def secret_classes(text: str) -> str:
    """all, none, or names of classes such as "all -users" (see README)"""
    classes_of(text)
    return text


def pattern(text: str) -> str:
    """a regular expression of Python"""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(text) from error
    return text


def _measured(text: str, units: Mapping[str, float]) -> float:
    text = text.strip().lower()
    factor = 1.0
    for unit in units:
        if text.endswith(unit):
            text = text.removesuffix(unit)
            factor = units[unit]
            break
    number = float(text) * factor
    if not 0 <= number < 1e15:  # also true for NaN
        raise ValueError(text)
    return number


@dataclass(frozen=True)
class OptionProblem:
    """What is wrong with an option or a variable of this name."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Option:
    """One option.  `default` is a text, as in zope.conf; `least` is the smallest number allowed.

    The docstring of `convert` says what the text must be.  `convert` raises KeyError, ValueError or
    OverflowError for a wrong text.
    """

    name: str
    convert: Callable[[str], Value]
    default: str
    why: str
    least: float = 0

    @property
    def key(self) -> str:
        """The name of its attribute in the object that `load` returns."""
        return self.name.replace('-', '_')

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return PREFIX + self.key.upper()


OPTIONS = (
    Option('enabled', switch, 'on', 'Off: the product records nothing and only shows its tab.'),
    Option(
        'directory',
        str,
        '',
        'The data directory, with breadcrumbs and archive; empty: CLIENT_HOME/stability.',
    ),
    Option(
        'slow-request',
        seconds,
        '10s',
        'A request that takes longer than this is slow: its stack is recorded.',
        0.1,
    ),
    Option(
        'stall',
        seconds,
        '30s',
        'The site hangs when for longer than this a visitor waits, all workers are busy without '
        "progress, the server's loop is blocked, or the heartbeat is missing.",
        0.5,
    ),
    Option(
        'sample-interval',
        seconds,
        '1s',
        'Time between two samples of memory, CPU, threads and other vital signs.',
        0.05,
    ),
    Option('keep-runs', count, '200', 'How many archived runs are kept.', 1),
    Option('keep-days', count, '90', 'How many days an archived run is kept.', 1),
    Option('keep-bytes', bytecount, '200MB', 'How much disk space the archive may take.', 1 << 20),
    Option('group', str, '', 'The system group that may read the data directory, for monitoring.'),
    Option(
        'thread-stack-size',
        bytecount,
        '0',
        'Stack size of threads that start later; 0 does not change it.',
    ),
    Option(
        'core-files',
        switch,
        'off',
        'Allow core files of this process (RLIMIT_CORE up to its hard limit).',
    ),
    Option(
        'keep-cores',
        count,
        '3',
        'How many core files of runs of this directory are kept; 0: none is ever removed.',
    ),
    Option(
        'capture-log',
        level,
        'warning',
        'Log records of this level or above are kept with the breadcrumbs.',
    ),
    Option(
        'record-query', switch, 'off', 'Keep the query string with the path; it may hold secrets.'
    ),
    Option('record-user', switch, 'off', 'Keep the name of the user with each request.'),
    Option(
        'drills', switch, 'off', 'Show the page Drills, whose buttons end the process on purpose.'
    ),
    Option(
        'trace-log',
        str,
        '',
        'A file with a line when a request begins and when it ends (the "big M log"); empty: none.',
    ),
    Option(
        'trace-log-size',
        bytecount,
        '10MB',
        'The size at which a new trace log is begun.',
        4096,
    ),
    Option('trace-log-keep', count, '5', 'How many older trace logs are kept.'),
    Option(
        'redact',
        secret_classes,
        'all',
        'What is taken out of reports and downloads: all, none, names of classes, or "all -users".',
    ),
    Option(
        'redact-pattern',
        pattern,
        '',
        'A regular expression; what it matches is taken out, too; empty: none.',
    ),
    Option(
        'supervisor-log',
        str,
        '',
        'The log of zdaemon, supervisord or gunicorn, which knows the exit status; empty: found '
        'through the parent process.',
    ),
    Option('tracker-url', str, '', 'The address where you file reports.'),
    Option('support-name', str, '', 'Your name in reports.'),
    Option('support-contact', str, '', 'Your e-mail address in reports.'),
    Option('paid-support-name', str, '', 'Who is paid to help you, for the page "Report".'),
    Option(
        'paid-support-contact', str, '', 'How to reach them: an address of e-mail or of the web.'
    ),
)


def load(
    configured: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[SimpleNamespace, list[OptionProblem]]:
    """Return the options in force, and a problem for each option that is wrong.

    `configured` is the product-config section of zope.conf; `environ` wins over it.
    """
    values: dict[str, Value] = {}
    problems: list[OptionProblem] = []
    for option in OPTIONS:
        values[option.key] = _value(option, configured, environ, problems)
    problems += _unknown(configured, environ)
    return SimpleNamespace(**values), problems


def _value(
    option: Option,
    configured: Mapping[str, str],
    environ: Mapping[str, str],
    problems: list[OptionProblem],
) -> Value:
    """Return the value in force; if the value that is set is wrong, add a problem to the list."""
    where = f'The variable {option.variable}'
    text = environ.get(option.variable)
    if text is None:
        where = f'The option {option.name}'
        text = configured.get(option.name, configured.get(option.key))
    if text is None:
        return option.convert(option.default)
    try:
        value = option.convert(text)
        if option.least and isinstance(value, int | float) and value < option.least:
            raise ValueError(text)
        return value
    except (KeyError, ValueError, OverflowError):
        wanted = 'text' if option.convert is str else option.convert.__doc__
        least = f', at least {option.least:g}' if option.least else ''
        sentence = (
            f'{where} is {text!r}, but must be {wanted}{least}; '
            f'the default {option.default or "(empty)"!r} is used.'
        )
        problems.append(OptionProblem(option.name, sentence))
        return option.convert(option.default)


def _unknown(configured: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[OptionProblem]:
    """Yield a problem for each option and each variable that does not exist."""
    names = set()
    variables = set()
    for option in OPTIONS:
        names |= {option.name, option.key}
        variables.add(option.variable)
    for name in configured:
        if name not in names:
            hint = _hint(name, '', [option.name for option in OPTIONS])
            yield OptionProblem(name, f'There is no option {name!r}; it was ignored.{hint}')
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in variables and name != RUN_PIPE:
            hint = _hint(name, PREFIX, sorted(variables))
            yield OptionProblem(name, f'There is no variable {name}; it was ignored.{hint}')


def _hint(name: str, prefix: str, known: list[str]) -> str:
    """Return a question that names the known word most like this one; '' if none is like it.

    All of them begin with the prefix, which therefore does not count.
    """
    import difflib  # only where an option is wrong

    words = [word.removeprefix(prefix) for word in known]
    similar = difflib.get_close_matches(name.removeprefix(prefix), words, n=1)
    return f' Do you mean {prefix}{similar[0]}?' if similar else ''


# -- what a run leaves for the command -------------------------------------------------------------

#: The heartbeat restarts its timer about this many times within the timer's timeout.
_REARMED = 12
#: The options that the command needs: for "triage", to judge a living run, and for what leaves.
RECORDED = (
    'group',
    'keep-runs',
    'keep-days',
    'keep-bytes',
    'stall',
    'sample-interval',
    'redact',
    'redact-pattern',
    'supervisor-log',
)


def watchdog_times(stall: float, interval: float) -> tuple[float, int]:
    """Return (seconds, beats): the watchdog fires so long after its timer was restarted, and is
    restarted once in so many beats.

    The next process uses this too: it recognises a timer that fired too late.
    """
    timeout = max(stall, 3 * interval)
    beats = max(1, int(timeout / _REARMED / interval))
    return timeout + (beats - 1) * interval, beats


def for_record(options: SimpleNamespace) -> dict[str, str | int | float]:
    """Return the options that a run writes into its context, by name."""
    return {
        option.name: getattr(options, option.key) for option in OPTIONS if option.name in RECORDED
    }


def from_record(document: object) -> dict[str, str | int | float]:
    """The reverse of `for_record`.  The document is not trusted: only valid values are returned."""
    known = document if isinstance(document, dict) else {}
    found: dict[str, str | int | float] = {}
    for option in OPTIONS:
        value = known.get(option.name)
        if option.name in RECORDED and _may_be(value, option):
            found[option.name] = value
    return found


def _may_be(value: object, option: Option) -> TypeGuard[str | int | float]:
    if isinstance(option.convert(option.default), str):
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):  # a bool is an int in Python
        return False
    if isinstance(value, float) and option.convert is not seconds:
        return False
    return option.least <= value < 1e15  # False for NaN
