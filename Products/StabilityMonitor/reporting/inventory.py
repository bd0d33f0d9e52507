"""What is installed here: distributions, products, compiled modules, and the system below them.

It is read when a report is made, not at import; distributions are read once in a process.
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
        'distributions': [dict(distribution) for distribution in _distributions()],
        'products': products(),
        'compiled_modules': list(compiled_modules),
        'system': system(),
    }


@functools.cache
def _distributions() -> tuple[dict[str, str], ...]:
    """{name, version} of each distribution; not to be changed, since they are kept."""
    found: dict[str, dict[str, str]] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']
        key = (name or '').lower()
        if key and key not in found:  # the first one on the path is imported
            version = distribution.version or ''
            found[key] = {'name': name, 'version': version}
    return tuple(found[key] for key in sorted(found))


def system() -> dict[str, Any]:
    """The operating system and its maintenance level, the C library, the Python build."""
    try:
        release = platform.freedesktop_os_release()
    except (OSError, AttributeError):
        release = {}
    here = platform.uname()  # fields by name: read as a tuple, it starts a child process
    return {
        'platform': f'{here.system} {here.release} {here.version}',
        'distribution': release.get('PRETTY_NAME', ''),
        'machine': platform.machine(),
        'libc': ' '.join(platform.libc_ver()).strip(),
        'python_build': ' '.join(platform.python_build()),
        'compiler': platform.python_compiler(),
        'gil': getattr(sys, '_is_gil_enabled', lambda: True)(),
    }
