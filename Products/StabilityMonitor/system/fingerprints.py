"""Is it still what it was: a file, what is installed, the machine, this very program?  Told by
stamps; no file is read.

A stamp has the time of the last change, which nobody can set: an image of a container may give all
files one date.
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
#: How folders of metadata end, and the files in them that are read.
_METADATA, _FILES = ('.dist-info', 'egg-info'), ('METADATA', 'PKG-INFO', 'requires.txt')


def digest(values: Iterable[object]) -> str:
    """Of plain values, one after the other: other values, another digest."""
    found = hashlib.sha256()
    for value in values:
        found.update(f'{value!r}\n'.encode())
    return found.hexdigest()


def of_file(path: Path | str) -> Stamp | None:
    """None where nothing is, or nothing can be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def of_installed(path: tuple[str, ...]) -> str:
    """All distributions on a path, in its order: their names with versions, and the stamps of their
    metadata.
    """
    return digest((folder, digest(_metadata(folder or '.'))) for folder in path)


def _metadata(folder: str) -> Iterator[object]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(_METADATA))
    except OSError:  # an egg that is one file, or nothing at all
        yield of_file(folder)
        return
    for place in (os.path.join(folder, name) for name in names):
        yield place, of_file(place), *(of_file(os.path.join(place, name)) for name in _FILES)


def of_machine() -> tuple[str, ...]:
    """What requirements can ask of it (PEP 508): Python and the operating system with their
    releases.
    """
    system = os.uname() if hasattr(os, 'uname') else platform.uname()
    return sys.version, sys.implementation.name, sys.platform, os.name, system[0], *system[2:5]


def of_program() -> tuple[str, str, str]:
    """The release, and what it is made of: when this was asked first, and now.

    They differ where it was replaced under the process that runs: what such a one finds is no
    answer for others.
    """
    return __version__, _at_first(), _files()


@functools.cache
def _at_first() -> str:
    return _files()


def _files() -> str:
    """Of this product, and of the library that compares versions."""
    library = importlib.util.find_spec('packaging')
    folders = [_PRODUCT, *(library.submodule_search_locations or () if library else ())]
    return digest((folder, digest(_sources(folder))) for folder in map(str, folders))


def _sources(folder: str) -> Iterator[tuple[str, Stamp | None]]:
    for place, folders, names in os.walk(folder):
        folders.sort()  # in this order they are walked through
        for path in (
            os.path.join(place, name) for name in sorted(names) if name.endswith(('.py', '.toml'))
        ):
            yield path, of_file(path)
