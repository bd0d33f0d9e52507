"""What is installed: names and versions, read fast enough to be noted at every start."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

_FOLDER = re.compile(
    r'(?P<name>.+?)-(?P<version>\d[^-]*)(?:-py\d[\d.]*(?:-.+)?)?\.(?:dist-info|egg-info|egg)'
)
#: For these it is also noted how they were built, because known issues speak of their wheels.
WHEELS = ('lxml', 'persistent', 'psycopg2', 'psycopg2-binary')


def normalized(name: str) -> str:
    """The name of a distribution as PEP 503 compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def installed(
    distributions: Callable[[], Iterable[Distribution]] = importlib.metadata.distributions,
) -> tuple[dict[str, str], dict[str, str]]:
    """({normalized name: version}, {name: 'wheel' or 'source'}).

    The first one on the path counts, as for import.  Name and version come from the name of the
    folder where it has both: to read 300 METADATA files takes 100 ms, to read their names 2 ms.
    """
    versions: dict[str, str] = {}
    builds: dict[str, str] = {}
    for distribution in distributions():
        name, version = _name_and_version(distribution)
        if name and version and name not in versions:
            versions[name] = version
            if name in WHEELS:
                builds[name] = _build(distribution)
    return versions, builds


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    path = Path(str(getattr(distribution, '_path', '')))
    if path.name == 'EGG-INFO':
        path = path.parent
    found = _FOLDER.fullmatch(path.name)
    if found:
        name = found['name']
        version = found['version'].replace('_', '-')
    else:
        text = _text(distribution, 'METADATA') or _text(distribution, 'PKG-INFO')
        name = _header('Name', text)
        version = _header('Version', text)
    return normalized(name), version


def _header(name: str, text: str) -> str:
    """A field in the head of a METADATA file.

    The module `email` is not used: it imports code that is evaluated in the background, and CPython
    then forgets that a KeyboardInterrupt ended the main thread (exit status 1 instead of SIGINT).
    """
    head, _, _ = text.partition('\n\n')
    found = re.search(rf'^{name}: *(\S.*?) *$', head, re.M)
    if not found:
        return ''
    return found[1]


def _text(distribution: Distribution, name: str) -> str:
    try:
        return distribution.read_text(name) or ''
    except (OSError, UnicodeError):  # a damaged folder in site-packages
        return ''


def _build(distribution: Distribution) -> str:
    """'wheel': published with its libraries inside; 'source': built here; '': it does not show."""
    tags = re.findall(r'^Tag: *(\S+)', _text(distribution, 'WHEEL'), re.M)
    all_tags = ' '.join(tags)
    if 'manylinux' in all_tags or 'musllinux' in all_tags:
        return 'wheel'
    if '-linux_' in all_tags:
        return 'source'
    return ''
