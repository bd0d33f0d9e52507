"""What is installed here: distributions, products, compiled modules, databases, the system.

All of it is read when a report is made, not at import; distributions are read once per process.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from typing import Any

from ..model.jsonform import to_json
from ..model.siteparts import ConfiguredDatabase
from ..system.runcontext import container
from ..system.runcontext import os_release
from ..system.runcontext import products


def inventory(
    compiled_modules: Iterable[str] = (), databases: Iterable[ConfiguredDatabase] = ()
) -> dict[str, Any]:
    """Return {distributions [{name, version}], products [..], compiled_modules [..],
    databases [ConfiguredDatabase], system {}}.
    """
    return {
        'distributions': [dict(distribution) for distribution in _distributions()],
        'products': products(),
        'compiled_modules': list(compiled_modules),
        'databases': list(map(to_json, databases)),
        'system': system(),
    }


@functools.cache
def _distributions() -> tuple[dict[str, str], ...]:
    """{name, version} of each distribution; cached, so do not change them."""
    found: dict[str, dict[str, str]] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']
        key = (name or '').lower()
        if key and key not in found:  # Python imports the first one on the path
            version = distribution.version or ''
            found[key] = {'name': name, 'version': version}
    return tuple(found[key] for key in sorted(found))


def system() -> dict[str, Any]:
    """Return facts about the operating system and its release, the C library and the Python."""
    release = os_release()
    here = platform.uname()  # access by name only: as a tuple it starts a child process
    return {
        'platform': f'{here.system} {here.release} {here.version}',
        'distribution': release['name'],
        'level': release['level'],
        'kernel': here.release,
        'container': container(),
        'machine': platform.machine(),
        'libc': ' '.join(platform.libc_ver()).strip(),
        'python_build': ' '.join(platform.python_build()),
        'compiler': platform.python_compiler(),
        'gil': getattr(sys, '_is_gil_enabled', lambda: True)(),
    }
