"""A system as rules see it: what is installed, and what it runs on.

`here` describes this process, `of_run` a dead run.  What is not known of a dead run is taken from
this process, and each sentence that rests on it says "as installed now".
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

_AS_NOW = ' (as installed now)'


@dataclass(frozen=True)
class System:
    """`distributions` maps normalized names to versions; None, '' and {} stand for "not known".

    `platform` is as sys.platform, `libc` as "glibc 2.36" or "musl 1.2.5", `builds` says 'wheel' (as
    published, with its libraries inside) or 'source' of some distributions, `loaded` names compiled
    modules.  `bits` is 32 or 64, whatever the machine could do; `stack` the size of a thread's
    stack in bytes.  `as_now`: fields that were not recorded with a run.
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
    """This process.  What cannot change is looked up once."""
    return replace(_lasting(), loaded=frozenset(compiled_modules()))


@functools.cache
def _lasting() -> System:
    versions, builds = installed()
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
        # To ask for it may reset it for a moment: once is enough.
        stack=_size(stacksizes.default_stack()),
    )


def _libc() -> str:
    known = ' '.join(platform.libc_ver()).strip()
    return known or ('musl' if any(Path('/lib').glob('ld-musl-*')) else '')


# -- a dead run ------------------------------------------------------------------------------------


def of_run(context: dict[str, Any], compiled: Iterable[str], now: System) -> System:
    """The system of a run, from its context (with `distributions`, {name: version}) and the names
    of its compiled modules.
    """
    recorded = {}
    for name, read in _RECORDED.items():
        value = read(context)
        if value not in ('', None, {}):
            recorded[name] = value
    missing = frozenset(name for name in _RECORDED if name not in recorded)
    return replace(
        now,
        **recorded,
        loaded=frozenset(compiled) or None,
        builds=_builds(context, recorded.get('distributions'), now),
        as_now=missing,
    )


def _builds(
    context: dict[str, Any], distributions: Mapping[str, str] | None, now: System
) -> Mapping[str, str]:
    """How distributions were installed: as recorded; else as now, if all versions are the same."""
    recorded = context.get('builds')
    if recorded and isinstance(recorded, dict):
        return {name: build for name, build in recorded.items() if isinstance(build, str)}
    same = distributions is None or distributions == dict(now.distributions)
    return now.builds if same else {}


def _distributions(context: dict[str, Any]) -> dict[str, str] | None:
    known = context.get('distributions')
    if not isinstance(known, dict):
        return None
    found = {}
    for name, version in known.items():
        if isinstance(name, str) and isinstance(version, str):
            found[normalized(name)] = version
    return found


def _python(context: dict[str, Any]) -> str:
    return _word(context, 'python')


def _word(context: dict[str, Any], name: str, place: int = 0) -> str:
    words = str(context.get(name) or '').split()
    return words[place] if words else ''


def _platform(context: dict[str, Any]) -> str:
    return _word(context, 'platform').partition('-')[0].lower()


def _machine(context: dict[str, Any]) -> str:
    return _word(context, 'platform').rpartition('-')[2]


def _bits(context: dict[str, Any]) -> int | None:
    bits = context.get('bits')
    return bits if isinstance(bits, int) and bits in (32, 64) else None


def _size(stack: object) -> int | None:
    """The size out of (size, guard), as `stacksizes` or a context tells it; None if not known."""
    size = stack[0] if isinstance(stack, list | tuple) and stack else None
    return size if isinstance(size, int) and size > 0 else None


def _free_threaded(context: dict[str, Any]) -> bool | None:
    return 'free-threading' in str(context['python']) if _python(context) else None


_RECORDED: dict[str, Callable[[dict[str, Any]], Any]] = {
    'distributions': _distributions,
    'python': _python,
    'platform': _platform,
    'machine': _machine,
    'implementation': lambda context: _word(context, 'implementation'),
    'libc': lambda context: str(context.get('libc') or ''),
    'bits': _bits,
    'stack': lambda context: _size(context.get('thread_stack')),
    'free_threaded': _free_threaded,
    'debug': lambda context: None,
}
