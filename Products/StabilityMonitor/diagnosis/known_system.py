"""A system as rules see it: what is installed, on what it runs; and whether a rule's conditions hold on it.

`here` looks at this process, `of_run` reads what a dead run had.  What is not known of a dead run is taken
from here, and each sentence that rests on it says "as installed now".
"""
from __future__ import annotations

import functools
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..recording import threadstacks
from ..recording.installed import installed
from ..recording.installed import normalized
from ..recording.runcontext import BITS
from ..recording.runcontext import compiled_modules
from ..values import Value
from ..values import fresh

_AS_NOW = ' (as installed now)'


class System(Value):
    """`distributions` maps normalized names to versions; None, '' and {} stand for "not known".

    `platform` is as sys.platform, `libc` as "glibc 2.36" or "musl 1.2.5", `builds` says 'wheel' (as published,
    with its libraries inside) or 'source' of some distributions, `loaded` names compiled modules.
    `bits` is 32 or 64, whatever the machine could do; `stack` the size of a thread's stack in bytes.
    `as_now`: fields that were not recorded with a run.
    """

    distributions: Mapping[str, str] = fresh(factory=dict)
    python: str = ''
    implementation: str = 'CPython'
    platform: str = ''
    machine: str = ''
    libc: str = ''
    bits: int | None = None
    stack: int | None = None
    free_threaded: bool | None = None
    debug: bool | None = None
    loaded: frozenset[str] | None = None
    builds: Mapping[str, str] = fresh(factory=dict)
    as_now: frozenset[str] = frozenset()

    def note(self, name: str) -> str:
        return _AS_NOW if name in self.as_now else ''


# -- this process --------------------------------------------------------------------------------------

def here() -> System:
    """This process.  What cannot change is looked up once."""
    return System(**_lasting(), loaded=frozenset(compiled_modules()))


@functools.cache
def _lasting():
    versions, builds = installed()
    return {'distributions': versions, 'builds': builds, 'python': platform.python_version(),
            'implementation': platform.python_implementation(), 'platform': sys.platform,
            'machine': platform.machine(), 'libc': _libc(), 'bits': BITS, 'debug': hasattr(sys, 'gettotalrefcount'),
            'free_threaded': 'free-threading' in sys.version,
            'stack': _size(threadstacks.default_stack())}     # to ask may reset it for a moment: once is enough


def _libc():
    known = ' '.join(platform.libc_ver()).strip()
    return known or ('musl' if any(Path('/lib').glob('ld-musl-*')) else '')


# -- a dead run ------------------------------------------------------------------------------------------

def of_run(context: dict, compiled, now: System) -> System:
    """The system as a run had it: its context (with `distributions`, {name: version}) and compiled modules."""
    recorded = {name: value for name, read in _RECORDED.items() if (value := read(context)) not in ('', None, {})}
    missing = frozenset(name for name in _RECORDED if name not in recorded)
    same = recorded.get('distributions') == dict(now.distributions)
    known = {name: getattr(now, name) for name in missing} | recorded
    return System(**known, loaded=frozenset(compiled) or None,
                  builds=now.builds if same or 'distributions' in missing else {}, as_now=missing)


def _distributions(context):
    known = context.get('distributions')
    if not isinstance(known, dict):
        return None
    return {normalized(name): version for name, version in known.items()
            if isinstance(name, str) and isinstance(version, str)}


def _python(context):
    return _word(context, 'python')


def _word(context, name, place=0):
    words = str(context.get(name) or '').split()
    return words[place] if words else ''


def _platform(context):
    return _word(context, 'platform').partition('-')[0].lower()


def _machine(context):
    return _word(context, 'platform').rpartition('-')[2]


def _bits(context):
    return context.get('bits') if context.get('bits') in (32, 64) else None


def _size(stack):
    """Of what `threadstacks` or a context tells of a stack: (size, guard); None where it is not known."""
    size = stack[0] if isinstance(stack, list | tuple) and stack else None
    return size if isinstance(size, int) and size > 0 else None


def _free_threaded(context):
    return 'free-threading' in str(context['python']) if _python(context) else None


_RECORDED = {
    'distributions': _distributions, 'python': _python, 'platform': _platform, 'machine': _machine,
    'implementation': lambda context: _word(context, 'implementation'),
    'libc': lambda context: str(context.get('libc') or ''), 'bits': _bits,
    'stack': lambda context: _size(context.get('thread_stack')), 'free_threaded': _free_threaded,
    'debug': lambda context: None}


# -- conditions --------------------------------------------------------------------------------------------

class Answer(NamedTuple):
    """Does a condition hold, and what shows that: "zope.interface 8.6 is < 8.7"; '' where it goes without saying."""

    holds: bool
    words: str


def hold(rule, system: System) -> list[Answer]:
    """The answer to each condition that a rule has."""
    return [_CONDITIONS[name](getattr(rule, name), rule, system)
            for name in rule.CONDITIONS if getattr(rule, name)]


def _one_installed(wanted, rule, system):
    answers = [_requirement(wanted[key], key, system) for key in wanted]
    held = [answer for answer in answers if answer.holds]
    return held[0] if held else _joined(False, [a for a in answers if not a.words.endswith('installed')] or answers)


def _all_installed(wanted, rule, system):
    answers = [_requirement(wanted[key], key, system) for key in wanted]
    failed = [answer for answer in answers if not answer.holds]
    return _joined(not failed, failed or answers)


def _joined(holds, answers):
    return Answer(holds, ', '.join(answer.words for answer in answers))


def _requirement(wanted, key, system):
    name, specifiers = wanted
    version = system.distributions.get(key)
    if version is None:
        return Answer(False, f'{name} is not installed')
    return _compared(f'{name} {version}{system.note("distributions")}', version, specifiers)


def _compared(words, version, specifiers):
    parsed, shown = _version(version), ' or '.join(filter(None, map(_spaced, specifiers)))
    if not shown:
        return Answer(True, f'{words} is installed (which versions are affected is not known)')
    if parsed is None:
        return Answer(False, f'{words} cannot be compared with {shown}')
    holds = any(specifier.contains(parsed, prereleases=True) for specifier in specifiers)
    return Answer(holds, f'{words} is {"" if holds else "not "}{shown}')


def _spaced(specifier):
    parts = sorted(str(specifier).split(','), key=lambda part: part[:1] in '<!~')
    return ', '.join(re.sub(r'^([<>=!~]+)', r'\1 ', part) for part in parts)


@functools.lru_cache(4096)
def _version(text):
    from packaging.version import InvalidVersion
    from packaging.version import Version
    try:
        return Version(text.rstrip('+')) if len(text) <= 100 else None
    except InvalidVersion:
        return None


def _python_is(wanted, rule, system):
    return _compared(f'Python {system.python or "?"}{system.note("python")}', system.python, wanted)


def _word_is(name, title):
    def condition(wanted, rule, system):
        known = getattr(system, name)
        holds = any(known.lower().startswith(word.lower()) for word in wanted) if known else False
        return Answer(holds, f'{title} {known or "(not known)"}{system.note(name)} is '
                             f'{"" if holds else "not "}{" or ".join(wanted)}')
    return condition


def _has_bits(wanted, rule, system):
    known = f'{system.bits}-bit' if system.bits else 'of a size that is not known'
    return Answer(system.bits == wanted, f'this Python is {known}{system.note("bits")}')


def _stack_is_below(wanted, rule, system):
    if system.stack is None:
        return Answer(False, 'how large the stacks of threads are is not known')
    holds = system.stack < wanted << 10
    return Answer(holds, f'the stack of a thread has {system.stack >> 10} KiB{system.note("stack")}, '
                         f'{"less" if holds else "not less"} than {wanted}')


def _interpreter_is(wanted, rule, system):
    holds = system.implementation in wanted
    return Answer(holds, '' if holds else f'the interpreter {system.implementation} is not {" or ".join(wanted)}')


def _built(wanted, rule, system):
    answers = [_BUILD[word](rule, system) for word in wanted]
    return next((answer for answer in answers if answer.holds), answers[0])


def _flag(name, words, expected=True):
    def condition(rule, system):
        known = getattr(system, name)
        if known is None:
            return Answer(False, f'whether this is {words} is not known')
        holds = known is expected
        return Answer(holds, f'this is {"" if holds else "not "}{words}{system.note(name)}')
    return condition


def _installed_as(word):
    def condition(rule, system):
        for key, (name, _) in rule.distributions.items():
            if key in system.distributions:
                known = system.builds.get(key, '')
                words = f'{name} is from a {known}' if known else f'whether {name} is from a wheel is not known'
                return Answer(known in ('', word), words)
        return Answer(False, f'nothing of it is from a {word}')
    return condition


_BUILD = {'free-threaded': _flag('free_threaded', 'a free-threaded Python'),
          'gil': _flag('free_threaded', 'a Python with the GIL', False),
          'debug': _flag('debug', 'a debug build of Python'),
          'wheel': _installed_as('wheel'), 'source': _installed_as('source')}


def _are_loaded(wanted, rule, system):
    if system.loaded is None:
        return Answer(True, f'whether {" and ".join(wanted)} are loaded is not known')
    missing = [name for name in wanted if not _is_loaded(name, system.loaded)]
    return Answer(not missing, f'{" and ".join(missing)} is not loaded' if missing else
                  f'{" and ".join(wanted)} {"is" if len(wanted) == 1 else "are"} loaded')


def _is_loaded(name, loaded):
    return name in loaded or any(module.startswith(f'{name}.') for module in loaded)


_CONDITIONS = {
    'distributions': _one_installed, 'together': _all_installed, 'python': _python_is,
    'implementation': _interpreter_is, 'platform': _word_is('platform', 'the system'),
    'machine': _word_is('machine', 'the machine'), 'libc': _word_is('libc', 'the C library'), 'build': _built,
    'bits': _has_bits, 'stack_below': _stack_is_below, 'loaded': _are_loaded}
