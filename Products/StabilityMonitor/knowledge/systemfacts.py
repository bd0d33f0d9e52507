"""The facts about a system that rules use: what is installed, and what it runs on.

`here` describes this process, `of_run` a dead run.  Facts that a dead run did not record are taken
from this process, and each sentence that uses such a fact says "as installed now".
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..system import stacksizes
from ..system.distributions import installed
from ..system.distributions import normalized
from ..system.runcontext import BITS
from ..system.runcontext import compiled_modules

#: The facts that a run recorded about its system.
Context = dict[str, Any]

_AS_NOW = ' (as installed now)'


@dataclass(frozen=True)
class System:
    """`distributions` maps normalized names to versions; None, '' and {} stand for "not known".

    `platform` is as sys.platform, `libc` for example "glibc 2.36" or "musl 1.2.5".  `builds` maps
    some distributions to 'wheel' (as published, with its libraries inside) or 'source'; `loaded`
    has the names of compiled modules.  `bits` is 32 or 64, for this Python, not for the machine;
    `stack` is the size of a thread's stack in bytes.  `as_now`: fields that the run did not record.
    """

    distributions: Mapping[str, str] = field(default_factory=dict)
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
    builds: Mapping[str, str] = field(default_factory=dict)
    as_now: frozenset[str] = frozenset()

    def note(self, name: str) -> str:
        return _AS_NOW if name in self.as_now else ''


# -- this process ----------------------------------------------------------------------------------


def here() -> System:
    """Return the System of this process.  Facts that cannot change are looked up once."""
    loaded = frozenset(compiled_modules())
    return replace(_lasting(), loaded=loaded)


@functools.cache
def _lasting() -> System:
    versions, builds = installed()
    # Reading the default stack size may reset it for a moment, so it is read only once.
    stack = stacksizes.default_stack()
    return System(
        distributions=versions,
        builds=builds,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=sys.platform,
        machine=platform.machine(),
        libc=_libc(),
        bits=BITS,
        debug=hasattr(sys, 'gettotalrefcount'),
        free_threaded='free-threading' in sys.version,
        stack=_size(stack),
    )


def _libc() -> str:
    name_and_version = platform.libc_ver()
    known = ' '.join(name_and_version).strip()
    if known:
        return known
    # platform.libc_ver() may not know musl; then the loader of musl shows it.
    loaders = Path('/lib').glob('ld-musl-*')
    return 'musl' if any(loaders) else ''


# -- a dead run ------------------------------------------------------------------------------------


def of_run(context: Context, compiled: Iterable[str], now: System) -> System:
    """Return the System of a run, from its context (with `distributions`, {name: version}) and the
    names of its compiled modules.
    """
    recorded: dict[str, Any] = {}
    missing = {'debug'}  # no run records it
    for name, read in _RECORDED.items():
        value = read(context)
        if value in ('', None, {}):
            missing.add(name)
        else:
            recorded[name] = value
    distributions = recorded.get('distributions')
    return replace(
        now,
        **recorded,
        loaded=frozenset(compiled) or None,
        builds=_builds(context, distributions, now),
        as_now=frozenset(missing),
    )


def _builds(
    context: Context,
    distributions: Mapping[str, str] | None,
    now: System,
) -> Mapping[str, str]:
    """Return how distributions were installed, as the run recorded it.

    If it recorded nothing, return how they are installed now, unless a version has changed since.
    """
    recorded = context.get('builds')
    if recorded and isinstance(recorded, dict):
        builds = {}
        for name, build in recorded.items():
            if isinstance(build, str):
                builds[name] = build
        return builds
    if distributions is None or distributions == dict(now.distributions):
        return now.builds
    return {}


# -- a dead run: the reader of each field ----------------------------------------------------------


def _distributions(context: Context) -> dict[str, str] | None:
    known = context.get('distributions')
    if not isinstance(known, dict):
        return None
    found = {}
    for name, version in known.items():
        if isinstance(name, str) and isinstance(version, str):
            found[normalized(name)] = version
    return found


def _python(context: Context) -> str:
    """Return the version from a text such as "3.12.1 (main, Dec  8 2023) [GCC 12.2.0]"."""
    return _first_word(context, 'python')


def _platform(context: Context) -> str:
    """Return the name as in sys.platform from a text such as "Linux-6.1.0-x86_64"."""
    recorded = _first_word(context, 'platform')
    name, _, _ = recorded.partition('-')
    return name.lower()


def _machine(context: Context) -> str:
    recorded = _first_word(context, 'platform')
    _, _, machine = recorded.rpartition('-')
    return machine


def _implementation(context: Context) -> str:
    return _first_word(context, 'implementation')


def _first_word(context: Context, name: str) -> str:
    text = str(context.get(name) or '')
    words = text.split()
    return words[0] if words else ''


def _recorded_libc(context: Context) -> str:
    return str(context.get('libc') or '')


def _bits(context: Context) -> int | None:
    bits = context.get('bits')
    if isinstance(bits, int) and bits in (32, 64):
        return bits
    return None


def _stack(context: Context) -> int | None:
    stack = context.get('thread_stack')
    return _size(stack)


def _size(stack: object) -> int | None:
    """Return the size from (size, guard), as in `stacksizes` or a context; None if not known."""
    if not isinstance(stack, list | tuple) or not stack:
        return None
    size = stack[0]
    if isinstance(size, int) and size > 0:
        return size
    return None


def _free_threaded(context: Context) -> bool | None:
    if not _python(context):
        return None
    return 'free-threading' in str(context['python'])


#: {field of System: its reader from a context}; '', None and {} mean that it was not recorded.
_RECORDED: Mapping[str, Callable[[Context], Any]] = {
    'distributions': _distributions,
    'python': _python,
    'platform': _platform,
    'machine': _machine,
    'implementation': _implementation,
    'libc': _recorded_libc,
    'bits': _bits,
    'stack': _stack,
    'free_threaded': _free_threaded,
}
