"""Is it still what it was: a file, what is installed, the machine, this very program?

Fingerprints answer, and no file is read for them.  The one of a file has its ctime, which nobody
can set: the image of a container may give all files one date.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

from .. import __version__

#: Of a file: when it was changed, when its entry was changed (ns), its size in bytes.
Stamp = tuple[int, int, int]

_PRODUCT = Path(__file__).parent.parent
#: How folders of metadata end, and the files in them that count.
_METADATA = ('.dist-info', 'egg-info')
_FILES = ('METADATA', 'PKG-INFO', 'requires.txt')


def digest(values: Iterable[object]) -> str:
    """The digest of plain values, one after the other."""
    found = hashlib.sha256()
    for value in values:
        found.update(f'{value!r}\n'.encode())
    return found.hexdigest()


def of_file(path: Path | str) -> Stamp | None:
    """The fingerprint of a file; None where there is none, or none that may be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def of_installed(path: tuple[str, ...]) -> str:
    """All distributions on a path, in its order: names with versions, and their metadata."""
    return digest((folder, digest(_metadata(folder or '.'))) for folder in path)


def _metadata(folder: str) -> Iterator[object]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(_METADATA))
    except OSError:  # an egg that is one file, or nothing at all
        yield of_file(folder)
        return
    for name in names:
        place = os.path.join(folder, name)
        files = [of_file(os.path.join(place, file)) for file in _FILES]
        yield place, of_file(place), *files


def of_machine() -> tuple[str, ...]:
    """What requirements can ask for (PEP 508): Python and the system, with their releases."""
    system = os.uname() if hasattr(os, 'uname') else platform.uname()
    return sys.version, sys.implementation.name, sys.platform, os.name, system[0], *system[2:5]


def of_program() -> tuple[str, str, str]:
    """The release of this product, and the digest of its files: at the first call, and now.

    The two differ when the product was replaced while this process runs.  What such a process finds
    is no answer for others.
    """
    return __version__, _at_first(), _files()


@functools.cache
def _at_first() -> str:
    return _files()


def _files() -> str:
    """The digest of this product, and of the library that compares versions."""
    folders = [str(_PRODUCT)]
    library = importlib.util.find_spec('packaging')
    if library:
        folders += map(str, library.submodule_search_locations or ())
    return digest((folder, digest(_sources(folder))) for folder in folders)


def _sources(folder: str) -> Iterator[tuple[str, Stamp | None]]:
    for place, folders, names in os.walk(folder):
        folders.sort()  # `walk` goes on in this order
        for name in sorted(names):
            if name.endswith(('.py', '.toml')):
                path = os.path.join(place, name)
                yield path, of_file(path)
