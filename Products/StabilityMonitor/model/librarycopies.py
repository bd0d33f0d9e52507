"""Finds libraries of which a process has mapped more than one copy.  No I/O.

Two copies do not share their state, and what one has allocated the other cannot use: a document of
one copy of libxml2 that the other one frees, or two copies of OpenSSL that both set up the locks of
their threads.  Wheels bring copies of their own, and rename them ("libssl-bc1ac41d.so.1.1" below
`X.libs/`), so that the dynamic linker takes each for another library.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .sharedobject import SharedObject

#: auditwheel puts the first digits of a SHA-256 of the file into the name.
_HASH = re.compile(r'-[0-9a-f]{8}(?=\.)', re.ASCII)
_LIBRARY = re.compile(r'(?P<library>lib[^/]*?)\.so(?:\.[0-9.]+)?', re.ASCII)
#: Libraries of which crashes with two copies are known: their objects pass from one to the other,
#: or they keep state for the whole process.  For libxml2 and libxslt see lxml with xmlsec
#: (python3-saml#389), for OpenSSL psycopg2#543, #603, #723 and #899.
_KNOWN_TO_CRASH = ('libxml2', 'libxslt', 'libexslt', 'libxmlsec1', 'libssl', 'libcrypto')
_PYTHON = 'libpython'


@dataclass(frozen=True)
class Copies:
    """A library ("libssl") and its copies, at least two files."""

    library: str
    objects: tuple[SharedObject, ...]

    @property
    def is_known_to_crash(self) -> bool:
        """Whether crashes are known with two copies of this library in a process."""
        return self.library in _KNOWN_TO_CRASH or self.library.startswith(_PYTHON)


def library_copies(objects: Iterable[SharedObject]) -> tuple[Copies, ...]:
    """Return the libraries of which there is more than one copy, by name.

    The version behind ".so" does not count: OpenSSL 1.1 and 3 are two copies, too.  Two files with
    the same content are two copies, because each has its own state in memory; so are two files that
    were at the same path one after the other.  Python modules are no libraries.  A library that is
    linked statically into a module is not seen.
    """
    files: dict[str, dict[tuple[str, str], SharedObject]] = {}
    for each in objects:
        name = library_of(each)
        if name:
            files.setdefault(name, {})[each.file, each.build_id] = each
    found = []
    for name, copies in sorted(files.items()):
        if len(copies) > 1:
            found.append(Copies(name, tuple(copies[key] for key in sorted(copies))))
    return tuple(found)


def library_of(one: SharedObject) -> str:
    """Return the name of a library without hash and version ("libxml2"); '' if it is none."""
    if one.modules:
        return ''
    name = _HASH.sub('', one.soname or os.path.basename(one.file))
    found = _LIBRARY.fullmatch(name)
    return found['library'] if found else ''
