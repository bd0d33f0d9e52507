"""The option `directory` in the zope.conf of an instance, for the command, which needs no Zope.

Only what this needs is read: definitions, and the lines of `<product-config stabilitymonitor>`.
What zope.conf includes is not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import Template

from ..store.regularfiles import read_start_outside

#: The part of a zope.conf that is read, in bytes.
_LONGEST = 1 << 18
_SECTION = re.compile(r'<\s*product-config\s+stabilitymonitor\s*>', re.IGNORECASE)
_END = re.compile(r'</\s*product-config\s*>', re.IGNORECASE)


@dataclass(frozen=True)
class NamedDirectory:
    """The data directory that a zope.conf names; `path` may contain a `$` that is not resolved."""

    path: str
    conf: str

    @property
    def is_resolved(self) -> bool:
        return '$' not in self.path


def named_directory(client_home: str) -> NamedDirectory | None:
    """Return the option of the instance with that CLIENT_HOME; None if it is not set or found."""
    for conf in _places(os.path.abspath(client_home)):
        try:
            text = read_start_outside(conf, _LONGEST, follow=True).decode('utf-8', 'replace')
        except (OSError, ValueError):  # ValueError: a path with NUL
            continue
        found = directory_in(text)
        return NamedDirectory(found, conf) if found else None
    return None


def _places(client_home: str) -> Iterator[str]:
    """Yield where zope.conf may be.

    mkwsgiinstance and cookiecutter-zope-instance: <instance>/var and <instance>/etc.  Buildout:
    <buildout>/var/<part> and <buildout>/parts/<part>/etc.
    """
    above, part = os.path.split(client_home)
    yield os.path.join(above, 'etc', 'zope.conf')
    yield os.path.join(os.path.dirname(above), 'parts', part, 'etc', 'zope.conf')


def directory_in(text: str) -> str:
    """Return the option `directory` in the text of a zope.conf, '' if it is not set."""
    definitions: dict[str, str] = {}
    found = ''
    is_ours = False
    for line in text.splitlines():
        line = line.strip()
        key, _, value = line.partition(' ')
        if line.lower().startswith('%define '):
            name, _, value = value.strip().partition(' ')
            definitions[name.lower()] = _resolved(value.strip(), definitions)
        elif _SECTION.fullmatch(line):
            is_ours = True
        elif _END.fullmatch(line):
            is_ours = False
        elif is_ours and key.lower() == 'directory':
            found = _resolved(value.strip(), definitions)
    return found


def _resolved(value: str, definitions: dict[str, str]) -> str:
    """Replace `$name` and `${name}`, whose case does not matter; unknown ones are left."""

    def lowered(match: re.Match[str]) -> str:
        return match[0].lower()

    value = re.sub(r'\$\w+|\$\{\w+\}', lowered, value)
    return Template(value).safe_substitute(definitions)
