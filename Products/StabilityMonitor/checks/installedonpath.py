"""What is installed on a path, read quickly: the heads of the metadata files, and no more.

`importlib.metadata` parses each file as an e-mail; for hundreds of distributions that takes too
long here.
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
    """All distributions on a path in its order, also those that are hidden by an earlier one."""
    return tuple(filter(None, map(_read, metadata.distributions(path=list(path)))))


def first_of_each(found: tuple[Distribution, ...]) -> dict[str, Distribution]:
    """{normalized name: the distribution that is imported}"""
    return {normalized(d.name): d for d in reversed(found)}


def _read(distribution: metadata.Distribution) -> Distribution | None:
    words = distribution.read_text('METADATA')
    old = words is None  # an egg: what it requires is in a file of its own
    words = (distribution.read_text('PKG-INFO') if old else words) or ''
    fields = _HEADER.findall(words.replace('\r\n', '\n').partition('\n\n')[0])
    name, version = (
        next((value for key, value in fields if key == wanted), '')
        for wanted in ('Name', 'Version')
    )
    requires = (
        tuple(distribution.requires or ())
        if old
        else tuple(v for k, v in fields if k == 'Requires-Dist')
    )
    return (
        Distribution(name, version, requires, str(distribution.locate_file(''))) if name else None
    )
