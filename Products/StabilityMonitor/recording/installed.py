"""What is installed: names and versions, read quickly enough to be noted at every start."""
from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

_FOLDER = re.compile(r'(?P<name>.+?)-(?P<version>\d[^-]*)(?:-py\d[\d.]*(?:-.+)?)?\.(?:dist-info|egg-info|egg)')
#: Distributions of which is looked up how they were installed: rules speak of their wheels.
WHEELS = ('lxml', 'persistent', 'psycopg2', 'psycopg2-binary')


def normalized(name: str) -> str:
    """The name of a distribution as PEP 503 compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def installed(distributions=importlib.metadata.distributions) -> tuple[dict[str, str], dict[str, str]]:
    """({normalized name: version}, {name: 'wheel' or 'source'}); the first one on the path counts, as for import.

    Name and version are taken from the name of the folder where it has both: reading 300 METADATA files
    takes 100 ms, their names 2 ms.
    """
    versions, builds = {}, {}
    for distribution in distributions():
        name, version = _name_and_version(distribution)
        if name and version and name not in versions:
            versions[name] = version
            if name in WHEELS:
                builds[name] = _build(distribution)
    return versions, builds


def _name_and_version(distribution):
    path = Path(str(getattr(distribution, '_path', '')))
    folder = path.parent.name if path.name == 'EGG-INFO' else path.name
    found = _FOLDER.fullmatch(folder)
    if found:
        return normalized(found['name']), found['version'].replace('_', '-')
    try:
        metadata = distribution.metadata
        return normalized(metadata.get('Name') or ''), metadata.get('Version') or ''
    except Exception:                                   # a damaged folder in site-packages: it is not there
        return '', ''


def _build(distribution):
    """'wheel': as published, with its libraries inside; 'source': built here; '': that does not show."""
    try:
        text = distribution.read_text('WHEEL') or ''
    except (OSError, UnicodeError):
        return ''
    tags = re.findall(r'^Tag: *(\S+)', text, re.M)
    if any('manylinux' in tag or 'musllinux' in tag for tag in tags):
        return 'wheel'
    return 'source' if any('-linux_' in tag for tag in tags) else ''
