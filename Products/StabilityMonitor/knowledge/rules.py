"""A rule about a known issue: its fields, and the values that are allowed in each.

This module does no I/O; `knowledgebase` reads the files.  Nothing from a file is trusted: each
mistake becomes a sentence.  Patterns are regular expressions that cannot take very long, see
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

from ..model.action import Action
from ..model.runrecord import RunRecord
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.severities import Severity
from ..system.distributions import normalized
from .symptoms import SIGNS
from .symptoms import growth

#: Alternatives: one match is enough.
Words = tuple[str, ...]
Patterns = tuple[re.Pattern[str], ...]

if TYPE_CHECKING:  # Zope does not require this library, see `has_packaging`
    from packaging.specifiers import SpecifierSet

    #: Alternatives: one match is enough.
    Specifiers = tuple[SpecifierSet, ...]
    #: {normalized name: (name as written, specifiers)}
    Requirements = dict[str, tuple[str, Specifiers]]

#: The most characters of a pattern.
_PATTERN = 200
#: The most ways in which a pattern may match at one position.
_CHOICES = 64

_ID = re.compile(r'[a-z0-9][a-z0-9._-]{2,79}')
_NAME = re.compile(r'[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?')

#: What an issue does, and the verdicts of the runs that it can end; () if it does not end a run.
EFFECTS: Mapping[str, Words] = MappingProxyType(
    {
        'crash': ('crashed', 'aborted', 'vanished'),
        'overflow': ('stack-overflow', 'crashed', 'aborted', 'vanished'),
        'hang': ('hung', 'killed'),
        'leak': ('out-of-memory', 'killed', 'vanished'),
        'start': ('startup-failed', 'crashed', 'aborted', 'unhandled-exception'),
        # Not 'unhandled-exception': such a run only began to end when the exception had come.
        'exit': ('crashed', 'aborted', 'hung'),
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
    """One known issue.  An empty condition always holds.

    `distributions`: one of them is installed in such a version.  `together`: all of them are.  Both
    map a normalized name to alternative specifiers.  `python`: alternative specifiers.  `bits`: the
    size of an address in this Python.  `stack_below`: the stack of a thread is smaller than this,
    in KiB.  `loaded`: all these modules are loaded.  `frames`, `native`, `messages`, `signals`: the
    traces that show the issue; one match of a kind is enough.  Frames count only if all `signs`
    hold.  `incident_only`: the versions are so common that they alone do not show the issue.
    """

    id: str
    title: str
    happens: str
    effect: str
    severity: Severity
    action: Action
    source: str
    fixed: str
    distributions: Requirements = field(default_factory=dict)
    together: Requirements = field(default_factory=dict)
    python: Specifiers = ()
    implementation: Words = ()
    platform: Words = ()
    machine: Words = ()
    bits: int = 0
    stack_below: int = 0
    libc: Words = ()
    build: Words = ()
    loaded: Words = ()
    frames: Patterns = ()
    native: Patterns = ()
    messages: Patterns = ()
    signals: Words = ()
    signs: Words = ()
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
        """Whether a run that ended as in this RunRecord can have met the issue."""
        if self.effect == 'exit' and record.phase != 'finished':
            return False
        has_started = record.phase in _STARTED and record.verdict != 'startup-failed'
        if self.effect == 'start' and has_started:
            return False
        if self.effect == 'leak':
            lacked_memory = record.verdict == 'out-of-memory' or growth(record)
            if not lacked_memory:
                return False
        if self.effect == 'hang' and record.hung_at_the_end:
            return True
        verdicts = EFFECTS[self.effect]
        return not verdicts or record.verdict in verdicts


@dataclass(frozen=True)
class MutedIssue:
    """An issue that the site mutes, up to and including the day `until` (None: without an end)."""

    id: str
    reason: str
    until: date | None = None
    line: int = 0


def has_packaging() -> bool:
    """Whether the library that compares versions is installed: Zope does not require it.

    `zmi.zopechecks` calls this while Zope starts, so that MainThread imports all that a check
    needs.
    """
    try:
        import packaging.requirements
        import packaging.specifiers
        import packaging.version  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a field of a table; the key '' stands for the table itself."""

    key: str
    sentence: str


@dataclass(frozen=True)
class Checked:
    """The values of a table, ready for its class; complete if there are no mistakes."""

    values: dict[str, Any]
    mistakes: list[Mistake]


class _Wrong(Exception):
    """A value that its field does not allow; the text ends the sentence "The field x must be"."""


def checked(table: dict[str, object], kind: str) -> Checked:
    """Return the values of a table of one of KINDS, and what is wrong with it."""
    fields = KINDS[kind].fields
    values: dict[str, Any] = {}
    mistakes = []
    missing = [key for key in KINDS[kind].needed if key not in table]
    if missing:
        names = ', '.join(missing)
        mistakes.append(Mistake('', f'These fields are missing: {names}.'))
    for key, value in table.items():
        if key not in fields:
            names = ', '.join(fields)
            sentence = f'{key!r} is not a field; the fields are {names}.'
            mistakes.append(Mistake(key, sentence))
            continue
        read = fields[key]
        try:
            values[key] = read(value)
        except _Wrong as wrong:
            sentence = f'The field {key!r} must be {wrong}.'
            mistakes.append(Mistake(key, sentence))
    deciding = {*Rule.CONDITIONS, *Rule.EVIDENCE}
    always_matches = kind == 'issue' and deciding.isdisjoint(values)
    if always_matches and not mistakes:
        sentence = (
            'It has no condition, and no frames, native, messages or signals, so it would always '
            'match.'
        )
        mistakes.append(Mistake('', sentence))
    return Checked(values, mistakes)


# -- the fields ------------------------------------------------------------------------------------

#: Makes the value of a field from its value in the file.  Raises _Wrong.
Reader = Callable[[object], object]


def _text(value: object) -> str:
    wanted = 'a text of 1 to 2000 printable characters'
    if not isinstance(value, str):
        raise _Wrong(wanted)
    words = value.split()
    if not words or len(value) > 2000:
        raise _Wrong(wanted)
    for char in value:
        if not char.isprintable() and char not in '\n\t':
            raise _Wrong(wanted)
    return ' '.join(words)


def _action(value: object) -> Action:
    return Action(_text(value))


def _severity(value: object) -> Severity:
    rows = {row.code: row for row in (INFO, WARNING, CRITICAL)}
    one_of = _one_of(*rows)
    code = one_of(value)
    return rows[code]


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
    if isinstance(value, str):
        return [value]
    wanted = 'a text or a list of 1 to 40 texts'
    if not isinstance(value, list):
        raise _Wrong(wanted)
    if not 1 <= len(value) <= 40:
        raise _Wrong(wanted)
    if not all(isinstance(each, str) for each in value):
        raise _Wrong(wanted)
    return value


def _texts(value: object) -> Words:
    return tuple(map(_text, _list(value)))


def _one_of(*words: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise _Wrong(f'one of {", ".join(words)}')
        return value

    return convert


def _some_of(*words: str) -> Callable[[object], Words]:
    one_of = _one_of(*words)

    def convert(value: object) -> Words:
        return tuple(map(one_of, _list(value)))

    return convert


def _versions(value: object) -> Specifiers:
    try:
        return tuple(map(_specifier, _list(value)))
    except ValueError:  # InvalidSpecifier of packaging is a ValueError
        wanted = 'a version specifier such as ">=1.0,<1.4", or a list of alternatives'
        raise _Wrong(wanted) from None


@functools.lru_cache(1024)
def _specifier(text: str) -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    if len(text) > 100:
        raise ValueError(text)
    return SpecifierSet(text, prereleases=True)


def _requirements(value: object) -> Requirements:
    wanted = 'a table of distributions and version specifiers, such as {waitress = "<3.0.1"}'
    if not isinstance(value, dict):
        raise _Wrong(wanted)
    if not 1 <= len(value) <= 40:
        raise _Wrong(wanted)
    if not all(_NAME.fullmatch(name) for name in value):
        raise _Wrong(wanted)
    requirements = {}
    for name, versions in value.items():
        requirements[normalized(name)] = (name, _versions(versions))
    return requirements


def _patterns(value: object) -> Patterns:
    return tuple(map(_pattern, _list(value)))


def _pattern(text: str) -> re.Pattern[str]:
    shown = repr(text[:60])
    if 0 < len(text) <= _PATTERN:
        risk = _risk(text)
    else:
        risk = 'is empty or too long'
    if risk:
        raise _Wrong(f'a safe regular expression; {shown} {risk}')
    try:
        found = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise _Wrong(f'a regular expression; {shown} is not: {error}') from None
    if found.search(''):
        raise _Wrong(f'a regular expression that does not match everything, as {shown} does')
    return found


_TOKENS = re.compile(r'\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\)[*+?]|\(\?.|[*+?][*+?]|.', re.S)
_RISKS = (
    (re.compile(r'\)[*+]|[*+?][*+?]'), 'repeats a group or a repetition'),
    (re.compile(r'\(\?[^:]'), 'uses an extension of groups'),
    (re.compile(r'\\[0-9]'), 'refers back to a group'),
    (re.compile(r'\{'), 'counts repetitions (write \\{ for the character)'),
)


def _risk(pattern: str) -> str:
    """Return why a pattern might take very long on some text, or ''.

    Allowed are characters, classes, groups that are not repeated, few alternatives, and one * or +.
    Then the number of steps grows with the square of the length of the text, which is limited too.
    """
    tokens = _TOKENS.findall(pattern)
    for token in tokens:
        for risky, why in _RISKS:
            if risky.fullmatch(token):
                return why
    repetitions = tokens.count('*') + tokens.count('+')
    if repetitions > 1:
        return 'has more than one * or +'
    if _choices(tokens) > _CHOICES:
        return 'has too many alternatives'
    return ''


def _choices(tokens: list[str]) -> int:
    """Return an upper bound for the number of ways to match at one position.

    The numbers of parts in a row are multiplied, those of alternatives are added.
    """
    outer = []  # (total, row) of the groups around the current group
    total = 0  # ways to match the alternatives before the current one
    row = 1  # ways to match the current alternative
    for token in tokens:
        if token.startswith('('):
            outer.append((total, row))
            total = 0
            row = 1
        elif token == '|':
            total += row
            row = 1
        elif token.startswith(')') and outer:
            inner = total + row
            if token == ')?':
                inner += 1
            total, row = outer.pop()
            row *= inner
        elif token == '?':
            row *= 2
    return total + row


_ISSUE: dict[str, Reader] = {
    'id': _identifier,
    'title': _text,
    'happens': _text,
    'effect': _one_of(*EFFECTS),
    'severity': _severity,
    'action': _action,
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


@dataclass(frozen=True)
class Kind:
    """A kind of table: the fields that it needs, and the reader of each field that it may have."""

    needed: tuple[str, ...]
    fields: Mapping[str, Reader]


#: The kinds of tables in a file.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        'issue': Kind(
            needed=(
                'id',
                'title',
                'happens',
                'effect',
                'severity',
                'action',
                'source',
                'fixed',
            ),
            fields=_ISSUE,
        ),
        'mute': Kind(
            needed=('id', 'reason'),
            fields={
                'id': _identifier,
                'reason': _text,
                'until': _day,
            },
        ),
    }
)
