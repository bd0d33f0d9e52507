"""The conditions of a rule: one function for each says whether it holds on a system, and why."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from .rules import Rule
from .rules import Words
from .systemfacts import System

if TYPE_CHECKING:  # Zope does not require this library, see `rules.has_packaging`
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from .rules import Requirements
    from .rules import Specifiers


@dataclass(frozen=True)
class Answer:
    """Whether a condition holds, and in `words` why, for example "zope.interface 8.6 is < 8.7".

    `words` is '' if there is nothing to say.  `is_missing`: the distribution that it asks for is
    not installed.  `is_fixed`: the version is known, and it is not older than the release with the
    fix.
    """

    holds: bool
    words: str
    is_missing: bool = False
    is_fixed: bool = False


#: Returns whether a system meets a field of the rule; the first argument is the value of the field.
Condition = Callable[[Any, Rule, System], Answer]
#: Returns whether a system meets one word of the field `build` of the rule.
BuildCondition = Callable[[Rule, System], Answer]


def hold(rule: Rule, system: System) -> list[Answer]:
    """Return the answer to each condition of a rule."""
    answers = []
    for name in rule.CONDITIONS:
        wanted = getattr(rule, name)
        if wanted:
            condition = _CONDITIONS[name]
            answer = condition(wanted, rule, system)
            answers.append(answer)
    return answers


def _verb(holds: bool) -> str:
    return 'is' if holds else 'is not'


# -- versions --------------------------------------------------------------------------------------


def _one_installed(wanted: Requirements, rule: Rule, system: System) -> Answer:
    answers = _each_installed(wanted, system)
    for answer in answers:
        if answer.holds:
            return answer
    # Name the installed distributions: their versions explain the answer better than a missing one.
    installed = [answer for answer in answers if not answer.is_missing]
    fixed = [answer for answer in installed if answer.is_fixed]
    is_fixed = bool(installed) and len(fixed) == len(installed)
    return Answer(False, _joined(installed or answers), is_fixed=is_fixed)


def _all_installed(wanted: Requirements, rule: Rule, system: System) -> Answer:
    answers = _each_installed(wanted, system)
    failed = [answer for answer in answers if not answer.holds]
    if failed:
        is_fixed = any(answer.is_fixed for answer in failed)
        return Answer(False, _joined(failed), is_fixed=is_fixed)
    return Answer(True, _joined(answers))


def _joined(answers: list[Answer]) -> str:
    return ', '.join(answer.words for answer in answers)


def _each_installed(wanted: Requirements, system: System) -> list[Answer]:
    answers = []
    note = system.note('distributions')
    for key, (name, specifiers) in wanted.items():
        version = system.distributions.get(key)
        if version is None:
            answer = Answer(False, f'{name} is not installed', is_missing=True)
        else:
            answer = _compared(name, version, note, specifiers)
        answers.append(answer)
    return answers


def _python_is(wanted: Specifiers, rule: Rule, system: System) -> Answer:
    note = system.note('python')
    return _compared('Python', system.python, note, wanted)


def _compared(name: str, version: str, note: str, specifiers: Specifiers) -> Answer:
    """Return whether a version of a software is in one of the ranges.

    `note` is '' if it is the version that was in use, see `System.note`.
    """
    words = f'{name} {version or "?"}{note}'
    ranges = [_spaced(specifier) for specifier in specifiers]
    shown = ' or '.join(filter(None, ranges))  # '' is any version
    if not shown:
        return Answer(True, f'{words} is installed (which versions are affected is not known)')
    parsed = _version(version)
    if parsed is None:
        return Answer(False, f'{words} cannot be compared with {shown}')
    holds = any(specifier.contains(parsed, prereleases=True) for specifier in specifiers)
    verb = _verb(holds)
    was_in_use = not note
    is_fixed = was_in_use and not holds and _is_past_an_end(parsed, specifiers)
    return Answer(holds, f'{words} {verb} {shown}', is_fixed=is_fixed)


def _is_past_an_end(version: Version, specifiers: Specifiers) -> bool:
    """Return whether a version that is in no range comes after one that ends with a fix.

    A range ends with a fix if it ends with `<`, see the head of known_issues.toml.
    """
    from packaging.version import Version

    for specifier in specifiers:
        for part in specifier:
            if part.operator == '<' and version >= Version(part.version):
                return True
    return False


def _spaced(specifier: SpecifierSet) -> str:
    """Return a specifier as a person writes it: `>= 1.0, < 1.4`."""
    lower = []
    upper = []
    for part in str(specifier).split(','):
        spaced = re.sub(r'^([<>=!~]+)', r'\1 ', part)
        if part.startswith(('<', '!', '~')):
            upper.append(spaced)
        else:
            lower.append(spaced)
    return ', '.join(lower + upper)


@functools.lru_cache(4096)
def _version(text: str) -> Version | None:
    from packaging.version import InvalidVersion
    from packaging.version import Version

    if len(text) > 100:
        return None
    # A Python that was built from a checkout calls itself "3.13.6+".
    released = text.rstrip('+')
    try:
        return Version(released)
    except InvalidVersion:
        return None


# -- the interpreter and the machine ---------------------------------------------------------------


def _word_is(name: str, title: str) -> Condition:
    """Return a condition: the field `name` of the system begins with one of the rule's words."""

    def condition(wanted: Words, rule: Rule, system: System) -> Answer:
        known: str = getattr(system, name)
        beginnings = tuple(word.lower() for word in wanted)
        holds = known != '' and known.lower().startswith(beginnings)
        shown = known or '(not known)'
        note = system.note(name)
        verb = _verb(holds)
        asked = ' or '.join(wanted)
        words = f'{title} {shown}{note} {verb} {asked}'
        return Answer(holds, words)

    return condition


def _has_bits(wanted: int, rule: Rule, system: System) -> Answer:
    size = 'of an unknown address size'
    if system.bits:
        size = f'{system.bits}-bit'
    holds = system.bits == wanted
    note = system.note('bits')
    return Answer(holds, f'this Python is {size}{note}')


def _stack_is_below(wanted: int, rule: Rule, system: System) -> Answer:
    if system.stack is None:
        return Answer(False, 'the stack size of threads is not known')
    holds = system.stack < wanted << 10
    size = system.stack >> 10
    note = system.note('stack')
    words = f'the stack of a thread has {size} KiB{note}'
    if holds:
        return Answer(True, f'{words}, less than {wanted} KiB')
    return Answer(False, f'{words}, not less than {wanted} KiB')


def _interpreter_is(wanted: Words, rule: Rule, system: System) -> Answer:
    known = system.implementation
    if known in wanted:
        return Answer(True, '')
    names = ' or '.join(wanted)
    return Answer(False, f'the interpreter {known} is not {names}')


# -- builds ----------------------------------------------------------------------------------------


def _built(wanted: Words, rule: Rule, system: System) -> Answer:
    answers = []
    for word in wanted:
        condition = _BUILD[word]
        answer = condition(rule, system)
        if answer.holds:
            return answer
        answers.append(answer)
    return answers[0]


def _flag(name: str, words: str, expected: bool = True) -> BuildCondition:
    """Return a condition: the field `name` of the system is `expected`; `words` describe that."""

    def condition(rule: Rule, system: System) -> Answer:
        known: bool | None = getattr(system, name)
        if known is None:
            return Answer(False, f'whether this is {words} is not known')
        holds = known is expected
        note = system.note(name)
        verb = _verb(holds)
        return Answer(holds, f'this {verb} {words}{note}')

    return condition


def _installed_as(word: str) -> BuildCondition:
    """Return a condition: the rule's first installed distribution is from a wheel or source."""

    def condition(rule: Rule, system: System) -> Answer:
        for key, (name, _) in rule.distributions.items():
            if key not in system.distributions:
                continue
            known = system.builds.get(key, '')
            if not known:
                return Answer(True, f'whether {name} is from a wheel is not known')
            holds = known == word
            return Answer(holds, f'{name} is from a {known}')
        return Answer(False, f'no affected distribution is from a {word}')

    return condition


_BUILD = {
    'free-threaded': _flag('free_threaded', 'a free-threaded Python'),
    'gil': _flag('free_threaded', 'a Python with the GIL', expected=False),
    'debug': _flag('debug', 'a debug build of Python'),
    'wheel': _installed_as('wheel'),
    'source': _installed_as('source'),
}


def _are_loaded(wanted: Words, rule: Rule, system: System) -> Answer:
    names = ' and '.join(wanted)
    if system.loaded is None:
        return Answer(True, f'whether {names} are loaded is not known')
    missing = [name for name in wanted if not _is_loaded(name, system.loaded)]
    if missing:
        absent = ' and '.join(missing)
        return Answer(False, f'{absent} is not loaded')
    verb = 'is' if len(wanted) == 1 else 'are'
    return Answer(True, f'{names} {verb} loaded')


def _is_loaded(name: str, loaded: frozenset[str]) -> bool:
    if name in loaded:
        return True
    inside = f'{name}.'  # a package counts as loaded if one of its modules is
    return any(module.startswith(inside) for module in loaded)


#: The conditions by the fields of a rule.
_CONDITIONS: dict[str, Condition] = {
    'distributions': _one_installed,
    'together': _all_installed,
    'python': _python_is,
    'implementation': _interpreter_is,
    'platform': _word_is('platform', 'the system'),
    'machine': _word_is('machine', 'the machine'),
    'libc': _word_is('libc', 'the C library'),
    'build': _built,
    'bits': _has_bits,
    'stack_below': _stack_is_below,
    'loaded': _are_loaded,
}
