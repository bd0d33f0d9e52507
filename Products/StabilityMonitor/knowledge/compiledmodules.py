"""The compiled modules and shared libraries that a run had loaded: who brought which.

A record in, values out.  Runs of older releases have the names of the modules only.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..model.runrecord import RunRecord
from ..model.sharedobject import SharedObject
from ..threads import codeorigin

_INSTALLED = re.compile(r'.*/(?:site|dist)-packages/(?P<rest>.+)')
#: The folder in which a wheel brings the libraries of a distribution.
_LIBS = re.compile(r'(?P<name>[^/]+)\.libs/')
#: What follows the name of a module in the name of its file: ".cpython-311-x86_64-linux-gnu.so".
_SUFFIX = re.compile(r'(?:\.(?:cpython|pypy|abi\d|cp\d|pp\d)[^/]*|)\.(?:so|pyd|dylib)$')

#: Packages that many distributions share.
_SHARED = frozenset(('Products', 'collective', 'five', 'google', 'plone', 'z3c', 'zc', 'zope'))


@dataclass(frozen=True)
class Owner:
    """Who brought a shared object: the name for it that people know.

    `module` is the name of a Python module or, without one, of the library.
    """

    module: str
    distribution: str = ''
    version: str = ''
    file: str = ''


@dataclass(frozen=True)
class Loaded:
    """What a run had loaded.  `names` are the compiled modules, `objects` the shared objects."""

    objects: tuple[SharedObject, ...]
    names: frozenset[str]
    versions: dict[str, str]

    @functools.cached_property
    def by_module(self) -> dict[str, SharedObject]:
        return {name: each for each in self.objects for name in each.modules}

    @functools.cached_property
    def by_file(self) -> dict[str, SharedObject]:
        return {each.file: each for each in self.objects}

    @functools.cached_property
    def roots(self) -> tuple[str, ...]:
        """The folders on the path of Python, as far as the files of modules show, longest first."""
        found = set()
        for name, each in self.by_module.items():
            folder = os.path.dirname(each.file)
            for package in reversed(name.split('.')[:-1]):
                if os.path.basename(folder) != package:
                    break
                folder = os.path.dirname(folder)
            else:
                found.add(folder)
        return tuple(sorted(found, key=len, reverse=True))

    def module_of(self, file: str) -> str:
        """Return the dotted name of the Python module in a file, as far as its path tells."""
        short = codeorigin.place(file).short
        for root in self.roots:
            if file.startswith(f'{root}/'):
                short = file[len(root) + 1 :]
                break
        return short.removesuffix('.py').removesuffix('/__init__').replace('/', '.')

    def of_module(self, name: str) -> Owner:
        """Return the owner of a compiled module that may be loaded."""
        known = self.by_module.get(name)
        if known:
            return Owner(name, known.distribution, known.version, known.file)
        distribution = self._distribution(name.partition('.')[0])
        return Owner(name, distribution, self.versions.get(distribution, ''))

    def of_file(self, file: str) -> Owner:
        """Return the owner of a shared object, by its path or by its name alone."""
        known = self.by_file.get(file)
        if known is None:
            named = [each for each in self.objects if os.path.basename(each.file) == file]
            known = named[0] if len(named) == 1 else None
        if known:
            module = known.modules[0] if known.modules else os.path.basename(known.file)
            return Owner(module, known.distribution, known.version, known.file)
        return self._by_path(file)

    def below(self, package: str) -> list[str]:
        """Return the sorted names of the compiled modules in a package, or of that name."""
        within = f'{package}.'
        return sorted(name for name in self.names if name == package or name.startswith(within))

    def libraries(self, name: str) -> list[SharedObject]:
        """Return the shared objects of that file name, also with a version behind it."""
        found = []
        for each in self.objects:
            file = os.path.basename(each.file)
            if file == name or file.startswith((f'{name}.', f'lib{name}.so')):
                found.append(each)
        return found

    def _by_path(self, file: str) -> Owner:
        """Return the owner of a file that the record does not list, as far as its path tells."""
        installed = _INSTALLED.fullmatch(file)
        rest = installed['rest'] if installed else os.path.basename(file)
        libs = _LIBS.match(rest)
        if libs:
            distribution = self._distribution(libs['name'])
            version = self.versions.get(distribution, '')
            return Owner(os.path.basename(file), distribution, version, file)
        stem = _SUFFIX.sub('', rest)
        if stem == rest or stem.startswith('lib') and not installed:
            return Owner(os.path.basename(file), file=file if '/' in file else '')
        module = self._complete(stem.replace('/', '.'))
        owner = self.of_module(module)
        return Owner(module, owner.distribution, owner.version, file if '/' in file else '')

    def _complete(self, module: str) -> str:
        """Return the whole name of a module of which only the end is known, if it is one."""
        if module in self.names:
            return module
        matching = [name for name in self.names if name.endswith(f'.{module}')]
        return matching[0] if len(matching) == 1 else module

    def _distribution(self, top: str) -> str:
        wanted = _normal(top)
        for name in self.versions:
            if _normal(name) == wanted:
                return name
        return ''


def package_of(module: str) -> str:
    """Return the package to which a module belongs: "lxml", or "zope.interface"."""
    top, _, rest = module.partition('.')
    if top in _SHARED and rest:
        return f'{top}.{rest.partition(".")[0]}'
    return top


def loaded(record: RunRecord) -> Loaded:
    names = set(record.compiled_modules)
    for each in record.shared_objects:
        names.update(each.modules)
    versions = record.context.get('distributions')
    return Loaded(
        objects=record.shared_objects,
        names=frozenset(names),
        versions=_texts(versions.items()) if isinstance(versions, dict) else {},
    )


def _texts(pairs: Iterable[tuple[object, object]]) -> dict[str, str]:
    return {str(name): value for name, value in pairs if isinstance(value, str)}


def _normal(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()
