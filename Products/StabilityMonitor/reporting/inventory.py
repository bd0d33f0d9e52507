"""What is installed here: distributions, products, compiled modules, and the system below.

Read when a report is asked for, not at import.  Distributions are read once for each process.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from typing import Any

from ..system.runcontext import products


def inventory(compiled_modules: Iterable[str] = ()) -> dict[str, Any]:
    """{distributions [{name, version}], products [..], compiled_modules [..], system {..}}"""
    return {
        'distributions': [dict(d) for d in _distributions()],
        'products': products(),
        'compiled_modules': list(compiled_modules),
        'system': system(),
    }


@functools.cache
def _distributions() -> tuple[tuple[tuple[str, str], ...], ...]:
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']
        if name:
            found.setdefault(
                name.lower(), (('name', name), ('version', distribution.version or ''))
            )
    return tuple(found[key] for key in sorted(found))


def system() -> dict[str, Any]:
    """The operating system and its maintenance level, the C library, the Python build."""
    try:
        release = platform.freedesktop_os_release()
    except (OSError, AttributeError):
        release = {}
    here = platform.uname()  # by name: as a tuple it would start a child process
    return {
        'platform': f'{here.system} {here.release} {here.version}',
        'distribution': release.get('PRETTY_NAME', ''),
        'machine': platform.machine(),
        'libc': ' '.join(platform.libc_ver()).strip(),
        'python_build': ' '.join(platform.python_build()),
        'compiler': platform.python_compiler(),
        'gil': getattr(sys, '_is_gil_enabled', lambda: True)(),
    }
