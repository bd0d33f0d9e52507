"""Whether the conditions of a rule hold on a system, and in which words: a function for each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from .rules import Rule
from .systemfacts import System

if TYPE_CHECKING:  # Zope does not bring this library, see `rules.has_packaging`
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from .rules import Requirements


@dataclass(frozen=True)
class Answer:
    """Whether a condition holds, and what shows that, as "zope.interface 8.6 is < 8.7".

    `words` is '' where nothing needs to be said.
    """

    holds: bool
    words: str
    is_missing: bool = False  # the distribution that it asks for is not installed


def hold(rule: Rule, system: System) -> list[Answer]:
    """The answer to each condition that a rule has."""
    return [
        _CONDITIONS[name](getattr(rule, name), rule, system)
        for name in rule.CONDITIONS
        if getattr(rule, name)
    ]


def _one_installed(wanted: Requirements, rule: Rule, system: System) -> Answer:
    answers = [_requirement(wanted[key], key, system) for key in wanted]
    for answer in answers:
        if answer.holds:
            return answer
    installed = [answer for answer in answers if not answer.is_missing]
    return _joined(False, installed or answers)


def _all_installed(wanted: Requirements, rule: Rule, system: System) -> Answer:
    answers = [_requirement(wanted[key], key, system) for key in wanted]
    failed = [answer for answer in answers if not answer.holds]
    return _joined(not failed, failed or answers)


def _joined(holds: bool, answers: Iterable[Answer]) -> Answer:
    return Answer(holds, ', '.join(answer.words for answer in answers))


def _requirement(wanted: tuple[str, tuple[SpecifierSet, ...]], key: str, system: System) -> Answer:
    name, specifiers = wanted
    version = system.distributions.get(key)
    if version is None:
        return Answer(False, f'{name} is not installed', is_missing=True)
    return _compared(f'{name} {version}{system.note("distributions")}', version, specifiers)


def _compared(words: str, version: str, specifiers: tuple[SpecifierSet, ...]) -> Answer:
    parsed = _version(version)
    shown = ' or '.join(filter(None, map(_spaced, specifiers)))
    if not shown:
        return Answer(True, f'{words} is installed (which versions are affected is not known)')
    if parsed is None:
        return Answer(False, f'{words} cannot be compared with {shown}')
    holds = any(specifier.contains(parsed, prereleases=True) for specifier in specifiers)
    return Answer(holds, f'{words} is {"" if holds else "not "}{shown}')


def _spaced(specifier: SpecifierSet) -> str:
    """As a person writes it: `>= 1.0, < 1.4`."""
    parts = sorted(str(specifier).split(','), key=lambda part: part[:1] in '<!~')
    return ', '.join(re.sub(r'^([<>=!~]+)', r'\1 ', part) for part in parts)


@functools.lru_cache(4096)
def _version(text: str) -> Version | None:
    from packaging.version import InvalidVersion
    from packaging.version import Version

    try:
        return Version(text.rstrip('+')) if len(text) <= 100 else None
    except InvalidVersion:
        return None


def _python_is(wanted: tuple[SpecifierSet, ...], rule: Rule, system: System) -> Answer:
    return _compared(f'Python {system.python or "?"}{system.note("python")}', system.python, wanted)


def _word_is(name: str, title: str) -> Callable[[tuple[str, ...], Rule, System], Answer]:
    def condition(wanted: tuple[str, ...], rule: Rule, system: System) -> Answer:
        known: str = getattr(system, name)
        beginnings = tuple(word.lower() for word in wanted)
        holds = known != '' and known.lower().startswith(beginnings)
        shown = f'{title} {known or "(not known)"}{system.note(name)}'
        return Answer(holds, f'{shown} is {"" if holds else "not "}{" or ".join(wanted)}')

    return condition


def _has_bits(wanted: int, rule: Rule, system: System) -> Answer:
    known = f'{system.bits}-bit' if system.bits else 'of a size that is not known'
    return Answer(system.bits == wanted, f'this Python is {known}{system.note("bits")}')


def _stack_is_below(wanted: int, rule: Rule, system: System) -> Answer:
    if system.stack is None:
        return Answer(False, 'how large the stacks of threads are is not known')
    holds = system.stack < wanted << 10
    shown = f'the stack of a thread has {system.stack >> 10} KiB{system.note("stack")}'
    return Answer(holds, f'{shown}, {"less" if holds else "not less"} than {wanted}')


def _interpreter_is(wanted: tuple[str, ...], rule: Rule, system: System) -> Answer:
    if system.implementation in wanted:
        return Answer(True, '')
    names = ' or '.join(wanted)
    return Answer(False, f'the interpreter {system.implementation} is not {names}')


def _built(wanted: tuple[str, ...], rule: Rule, system: System) -> Answer:
    answers = [_BUILD[word](rule, system) for word in wanted]
    for answer in answers:
        if answer.holds:
            return answer
    return answers[0]


def _flag(name: str, words: str, expected: bool = True) -> Callable[[Rule, System], Answer]:
    def condition(rule: Rule, system: System) -> Answer:
        known: bool | None = getattr(system, name)
        if known is None:
            return Answer(False, f'whether this is {words} is not known')
        holds = known is expected
        return Answer(holds, f'this is {"" if holds else "not "}{words}{system.note(name)}')

    return condition


def _installed_as(word: str) -> Callable[[Rule, System], Answer]:
    def condition(rule: Rule, system: System) -> Answer:
        for key, (name, _) in rule.distributions.items():
            if key not in system.distributions:
                continue
            known = system.builds.get(key, '')
            if not known:
                return Answer(True, f'whether {name} is from a wheel is not known')
            return Answer(known == word, f'{name} is from a {known}')
        return Answer(False, f'nothing of it is from a {word}')

    return condition


_BUILD = {
    'free-threaded': _flag('free_threaded', 'a free-threaded Python'),
    'gil': _flag('free_threaded', 'a Python with the GIL', False),
    'debug': _flag('debug', 'a debug build of Python'),
    'wheel': _installed_as('wheel'),
    'source': _installed_as('source'),
}


def _are_loaded(wanted: tuple[str, ...], rule: Rule, system: System) -> Answer:
    names = ' and '.join(wanted)
    if system.loaded is None:
        return Answer(True, f'whether {names} are loaded is not known')
    missing = [name for name in wanted if not _is_loaded(name, system.loaded)]
    if missing:
        return Answer(False, f'{" and ".join(missing)} is not loaded')
    return Answer(True, f'{names} {"is" if len(wanted) == 1 else "are"} loaded')


def _is_loaded(name: str, loaded: frozenset[str]) -> bool:
    return name in loaded or any(module.startswith(f'{name}.') for module in loaded)


_CONDITIONS: dict[str, Callable[[Any, Rule, System], Answer]] = {
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
