"""The distributions installed on a path, read quickly: only the headers of the metadata files.

`importlib.metadata` parses each file as an e-mail, which takes too long for hundreds of
distributions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from ..system.distributions import normalized

_HEADER = re.compile(r'^(Name|Version|Requires-Dist):[ \t]*(.*?)[ \t\r]*$', re.M)


@dataclass(frozen=True)
class Distribution:
    name: str
    version: str
    requires: tuple[str, ...]
    folder: str  # where it was found


def installed(path: tuple[str, ...]) -> tuple[Distribution, ...]:
    """Return all distributions on a path, in its order, also those hidden by an earlier one."""
    found = map(_read, metadata.distributions(path=list(path)))
    return tuple(distribution for distribution in found if distribution is not None)


def first_of_each(found: tuple[Distribution, ...]) -> dict[str, Distribution]:
    """Return {normalized name: the distribution that is imported}."""
    return {normalized(d.name): d for d in reversed(found)}


def _read(distribution: metadata.Distribution) -> Distribution | None:
    text = distribution.read_text('METADATA')
    is_egg = text is None
    if is_egg:
        text = distribution.read_text('PKG-INFO')
    headers = (text or '').replace('\r\n', '\n').partition('\n\n')[0]
    fields: dict[str, list[str]] = {'Name': [], 'Version': [], 'Requires-Dist': []}
    for key, value in _HEADER.findall(headers):
        fields[key].append(value)
    name = fields['Name'][0] if fields['Name'] else ''
    version = fields['Version'][0] if fields['Version'] else ''
    if not name:
        return None
    requires = tuple(fields['Requires-Dist'])
    if is_egg:  # an egg has its requirements in a separate file
        requires = tuple(distribution.requires or ())
    return Distribution(name, version, requires, str(distribution.locate_file('')))
