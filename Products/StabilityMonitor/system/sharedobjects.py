"""The shared objects that a process has mapped: what each is, and which modules came from it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import replace
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType

from ..model.sharedobject import SharedObject
from . import elffile
from .fileowners import owners
from .mappedfiles import executable_files

#: At most so many files are looked at; a Plone site has mapped about 250.
_MOST = 1500
_SOURCES = ('.py', '.pyc')


def mapped(
    maps: str, modules: Mapping[str, ModuleType], known: Iterable[SharedObject] = ()
) -> tuple[SharedObject, ...]:
    """Return the files with code in the text of /proc/self/maps, sorted, without their owners.

    `modules` is sys.modules.  Of the files in `known`, the file on disk is not read again.
    """
    names = _modules_of_files(modules)
    earlier = {each.file: each for each in known}
    found = set()
    for file in executable_files(maps)[:_MOST]:
        # What is now at the path of a deleted file is not what is mapped.
        told = SharedObject(_shown(file.path))
        if not file.is_deleted:
            told = earlier.get(told.file) or _read(file.path)
        found.add(replace(told, modules=tuple(names.get(file.path, ()))))
    return tuple(sorted(found, key=attrgetter('file', 'build_id')))


def with_owners(objects: Iterable[SharedObject]) -> tuple[SharedObject, ...]:
    """Return the objects with their distributions.  It reads a file of each distribution."""
    every = tuple(objects)
    known = owners(each.file for each in every if not each.distribution)
    found = []
    for each in every:
        if each.file in known:
            name, version = known[each.file]
            each = replace(each, distribution=name, version=version)
        found.append(each)
    return tuple(found)


def compiled_names(modules: Mapping[str, ModuleType]) -> frozenset[str]:
    """Return the names of the modules that were imported from files with machine code.

    It reads no file, so it is cheap enough to see whether another one was imported.
    """
    return frozenset(name for name, _ in _origins(modules))


def _read(path: str) -> SharedObject:
    elf = elffile.read(path)
    if elf is None:
        return SharedObject(_shown(path))
    return SharedObject(_shown(path), soname=elf.soname, build_id=elf.build_id)


def _shown(path: str) -> str:
    """Return the path as text that can be written as UTF-8."""
    return os.fsencode(path).decode('utf-8', 'replace')


def _modules_of_files(modules: Mapping[str, ModuleType]) -> dict[str, list[str]]:
    """Return {real path: sorted names of the modules that were imported from it}."""
    found: dict[str, list[str]] = {}
    for name, origin in _origins(modules):
        found.setdefault(os.path.realpath(origin), []).append(name)
    return {path: sorted(names) for path, names in found.items()}


def _origins(modules: Mapping[str, ModuleType]) -> list[tuple[str, str]]:
    """Return (name, file) of each module that is not from Python source.

    Only the dictionaries of modules and specs are read: attributes of placeholders for deprecated
    or deferred modules would run code of others.
    """
    found = []
    for name, module in list(modules.items()):
        if not issubclass(type(module), ModuleType) or type(name) is not str:
            continue
        facts = object.__getattribute__(module, '__dict__')
        spec = facts.get('__spec__')
        origin = spec.__dict__.get('origin') if type(spec) is ModuleSpec else facts.get('__file__')
        if type(origin) is str and os.sep in origin and not origin.endswith(_SOURCES):
            found.append((name, origin))
    return found
