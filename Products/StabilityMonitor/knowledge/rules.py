"""What a rule about a known issue is: its fields, what may stand in each, and what is refused.

Values in, values out; `known_issues` reads the files.  Nothing from a file is trusted, nor does it
raise anything but a sentence.  Patterns are regular expressions without what can run away: see
`_risk`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING
from typing import Any

from ..model.runrecord import RunRecord
from ..system.distributions import normalized
from .symptoms import SIGNS
from .symptoms import growth

if TYPE_CHECKING:  # Zope does not bring this library, see `has_packaging`
    from packaging.specifiers import SpecifierSet

    #: {normalized name: (name as written, alternative specifiers)}
    Requirements = dict[str, tuple[str, tuple[SpecifierSet, ...]]]

#: Characters of a pattern, and ways in which it may match at one place, at most.
_PATTERN, _CHOICES = 200, 64

_ID = re.compile(r'[a-z0-9][a-z0-9._-]{2,79}')
_NAME = re.compile(r'[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?')

#: What an issue does: the verdicts by which a run that met it can have ended.  None at all: it does
#: not end a run.
EFFECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        'crash': ('crashed', 'aborted', 'vanished'),
        'overflow': ('stack-overflow', 'crashed', 'aborted', 'vanished'),
        'hang': ('hung', 'killed'),
        'leak': ('out-of-memory', 'killed', 'vanished'),
        'start': ('startup-failed', 'crashed', 'aborted', 'unhandled-exception'),
        'exit': ('crashed', 'aborted', 'hung', 'unhandled-exception'),
        'end': ('unhandled-exception', 'exited', 'vanished'),
        'signal': ('signalled',),
        'corruption': (),
        'wrong': (),
        'security': (),
    }
)
_STARTED = ('serving', 'finished')
BUILDS = ('free-threaded', 'gil', 'debug', 'wheel', 'source')


@dataclass(frozen=True)
class Rule:
    """One known issue.  A condition that is empty always holds.

    `distributions`: one of them is installed in such a version.  `together`: all of them are.  Both
    map a normalized name to alternative specifiers.  `python`: alternative specifiers.  `bits`: of
    its addresses.  `stack_below`: stacks of threads are smaller than so many KiB.  `loaded`: all
    these modules are.  `frames`, `native`, `messages`, `signals`: what shows it, one of each kind
    is enough; `signs` must hold for frames to count.  `incident_only`: so common that the versions
    alone say nothing.
    """

    id: str
    title: str
    happens: str
    effect: str
    severity: str
    action: str
    source: str
    fixed: str
    distributions: Requirements = field(default_factory=dict)
    together: Requirements = field(default_factory=dict)
    python: tuple[SpecifierSet, ...] = ()
    implementation: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    bits: int = 0
    stack_below: int = 0
    libc: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    frames: tuple[re.Pattern[str], ...] = ()
    native: tuple[re.Pattern[str], ...] = ()
    messages: tuple[re.Pattern[str], ...] = ()
    signals: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    incident_only: bool = False
    line: int = 0

    CONDITIONS = (
        'distributions',
        'together',
        'python',
        'implementation',
        'platform',
        'machine',
        'bits',
        'libc',
        'build',
        'loaded',
        'stack_below',
    )
    EVIDENCE = ('frames', 'native', 'messages', 'signals')

    def fits(self, record: RunRecord) -> bool:
        """Can a run that has ended as this RunRecord says have met it?"""
        if self.effect == 'exit' and record.phase != 'finished':
            return False
        if (
            self.effect == 'start'
            and record.phase in _STARTED
            and record.verdict != 'startup-failed'
        ):
            return False  # it had started
        if self.effect == 'leak' and record.verdict != 'out-of-memory' and not growth(record):
            return False  # killed, and there was no want of memory
        verdicts = EFFECTS[self.effect]
        return (
            not verdicts
            or record.verdict in verdicts
            or self.effect == 'hang'
            and record.hung_at_the_end
        )


@dataclass(frozen=True)
class Silence:
    """The site does not want to hear of an issue, up to and including the day `until` (None: for
    good).
    """

    id: str
    reason: str
    until: date | None = None
    line: int = 0


def has_packaging() -> bool:
    """Is there the library that compares versions?  Only asked when rules are read: a start does
    without it.
    """
    try:
        import packaging.specifiers
        import packaging.version  # noqa: F401
    except ImportError:
        return False
    return True


class _Wrong(Exception):
    """A value is not what its field wants; the text ends the sentence "The field x must be"."""


def checked(table: dict[str, object], kind: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """(values, [(field, sentence)]) of a table of one of KINDS; the values are whole where there is
    no sentence.
    """
    _, wanted, fields = KINDS[kind]
    values: dict[str, Any] = {}
    missing = ', '.join(key for key in wanted if key not in table)
    problems = [('', f'These fields are missing: {missing}.')] if missing else []
    for key, value in table.items():
        if key not in fields:
            problems.append((key, f'There is no field {key!r}; there are {", ".join(fields)}.'))
            continue
        try:
            values[key] = fields[key](value)
        except _Wrong as wrong:
            problems.append((key, f'The field {key!r} must be {wrong}.'))
    if kind == 'issue' and not problems and not set(values) & {*Rule.CONDITIONS, *Rule.EVIDENCE}:
        problems.append(
            ('', 'It has neither a condition nor anything that shows it, so it would always match.')
        )
    return values, problems


# -- the fields ------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > 2000
        or not _is_printable(value)
    ):
        raise _Wrong('a text of 1 to 2000 characters that can be shown')
    return ' '.join(value.split())


def _is_printable(text: str) -> bool:
    return all(char.isprintable() or char in '\n\t' for char in text)


def _identifier(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _Wrong('3 to 80 lower case letters, digits, dots and dashes')
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong('true or false')
    return value


def _number(allowed: Container[int], words: str) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if type(value) is not int or value not in allowed:
            raise _Wrong(f'a number, {words}')
        return value

    return convert


def _day(value: object) -> date:
    if type(value) is not date:
        raise _Wrong('a day such as 2027-03-31, without quotes')
    return value


def _list(value: object) -> list[str]:
    """One text or a list of 1 to 40 texts."""
    values = [value] if isinstance(value, str) else value
    if (
        not isinstance(values, list)
        or not 1 <= len(values) <= 40
        or not all(isinstance(v, str) for v in values)
    ):
        raise _Wrong('a text or a list of 1 to 40 texts')
    return values


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _one_of(*words: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise _Wrong(f'one of {", ".join(words)}')
        return value

    return convert


def _some_of(*words: str) -> Callable[[object], tuple[str, ...]]:
    def convert(value: object) -> tuple[str, ...]:
        return tuple(map(_one_of(*words), _list(value)))

    return convert


def _versions(value: object) -> tuple[SpecifierSet, ...]:
    try:
        return tuple(map(_specifier, _list(value)))
    except ValueError:  # packaging's InvalidSpecifier is one
        raise _Wrong(
            'a version specifier such as ">=1.0,<1.4", or a list of alternatives'
        ) from None


@functools.lru_cache(1024)
def _specifier(text: str) -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    if len(text) > 100:
        raise ValueError(text)
    return SpecifierSet(text, prereleases=True)


def _requirements(value: object) -> Requirements:
    if (
        not isinstance(value, dict)
        or not 1 <= len(value) <= 40
        or not all(map(_NAME.fullmatch, value))
    ):
        raise _Wrong(
            'a table of distributions and version specifiers, such as {waitress = "<3.0.1"}'
        )
    return {normalized(name): (name, _versions(versions)) for name, versions in value.items()}


def _patterns(value: object) -> tuple[re.Pattern[str], ...]:
    return tuple(map(_pattern, _list(value)))


def _pattern(text: str) -> re.Pattern[str]:
    risk = 'is empty or too long' if not 0 < len(text) <= _PATTERN else _risk(text)
    if risk:
        raise _Wrong(f'a safe regular expression; {text[:60]!r} {risk}')
    try:
        found = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise _Wrong(f'a regular expression; {text[:60]!r} is none: {error}') from None
    if found.search(''):
        raise _Wrong(f'a regular expression that does not match everything, as {text[:60]!r} does')
    return found


_TOKENS = re.compile(r'\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\)[*+?]|\(\?.|[*+?][*+?]|.', re.S)
_RISKS = (
    (re.compile(r'\)[*+]|[*+?][*+?]'), 'repeats a group or a repetition'),
    (re.compile(r'\(\?[^:]'), 'uses an extension of groups'),
    (re.compile(r'\\[0-9]'), 'refers back to a group'),
    (re.compile(r'\{'), 'counts repetitions (write \\{ for the character)'),
)


def _risk(pattern: str) -> str:
    """Why a pattern might take very long on some text, or ''.

    Allowed are characters, classes, groups that are not repeated, few alternatives, and one * or +:
    then the steps grow with the square of the text's length, which is bounded too.
    """
    tokens = _TOKENS.findall(pattern)
    risk = next((why for token in tokens for risky, why in _RISKS if risky.fullmatch(token)), '')
    if not risk and sum(token in ('*', '+') for token in tokens) > 1:
        return 'has more than one * or +'
    return risk or ('has too many alternatives' if _choices(tokens) > _CHOICES else '')


def _choices(tokens: list[str]) -> int:
    """An upper bound of the ways to match at one place: those of parts in a row multiply,
    alternatives add up.
    """
    stack, total, row = [], 0, 1
    for token in tokens:
        if token.startswith('('):
            stack.append((total, row))
            total, row = 0, 1
        elif token == '|':
            total, row = total + row, 1
        elif token.startswith(')') and stack:
            inner = total + row + (token == ')?')
            total, row = stack.pop()
            row *= inner
        elif token == '?':
            row *= 2
    return total + row


_ISSUE: dict[str, Callable[[object], object]] = {
    'id': _identifier,
    'title': _text,
    'happens': _text,
    'effect': _one_of(*EFFECTS),
    'severity': _one_of('info', 'warning', 'critical'),
    'action': _text,
    'source': _text,
    'fixed': _text,
    'distributions': _requirements,
    'together': _requirements,
    'python': _versions,
    'implementation': _texts,
    'platform': _texts,
    'machine': _texts,
    'bits': _number((32, 64), '32 or 64'),
    'stack_below': _number(range(1, 1 << 20), 'from 1 to 1048575'),
    'libc': _some_of('glibc', 'musl'),
    'build': _some_of(*BUILDS),
    'loaded': _texts,
    'frames': _patterns,
    'native': _patterns,
    'messages': _patterns,
    'signals': _texts,
    'signs': _some_of(*SIGNS),
    'incident_only': _switch,
}
#: The tables of a file: what is made of each, the fields that it needs, and all fields with what
#: reads them.
KINDS: Mapping[
    str, tuple[type[Rule | Silence], tuple[str, ...], dict[str, Callable[[object], object]]]
] = MappingProxyType(
    {
        'issue': (
            Rule,
            ('id', 'title', 'happens', 'effect', 'severity', 'action', 'source', 'fixed'),
            _ISSUE,
        ),
        'silence': (Silence, ('id', 'reason'), {'id': _identifier, 'reason': _text, 'until': _day}),
    }
)
