"""Databases: adapters that threads may not share, and the pool of ZODB connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeGuard

from ..model.records import Finding
from .check import Check
from .check import several
from .livesite import Site

_ZOPE_ADAPTER = re.compile(r'Products\.\w*DA')
_FLEETING = ('ZODB.MappingStorage.', 'ZODB.DemoStorage.', 'tempstorage.', 'ZODB.tests.')


class Adapters(Check):
    """PEP 249: threadsafety 0, threads may not share the module; 1, may not share connections; 2
    and 3, may.
    """

    id = 'dbapi'
    question = 'May threads share the database adapters that are loaded?'
    source = 'the attribute threadsafety of PEP 249'

    def look(self, site: Site) -> Finding | list[Finding]:
        adapters = _dbapi(site)
        zopes = several(sorted({name for name in site.modules if _ZOPE_ADAPTER.fullmatch(name)}))
        shared = _shared(
            site, {name.partition('.')[0] for name, level in adapters.items() if level < 2}
        )
        findings = [
            finding
            for name, level in adapters.items()
            for finding in (
                self._adapter(name, level, zopes, site.zope.threads),
                self._held(name, shared.get(name.partition('.')[0])),
            )
            if finding
        ]
        known = several(f'{name} has threadsafety {level}' for name, level in adapters.items())
        return findings or self.ok(
            'Threads may share the database adapters.'
            if adapters
            else 'No database adapter of PEP 249 is loaded.',
            known,
        )

    def _adapter(self, name: str, level: int, zopes: str, threads: int | None) -> Finding | None:
        if level < 1:
            severity = 'info' if threads == 1 else 'critical'
            return self.found(
                severity,
                f'Threads may not share the database adapter {name}.',
                'Its threadsafety is '
                f'{level}: two requests that use it at once can crash or mix up results.',
                'Write "threads = 1" into [server:main] of zope.ini and restart, until there is an '
                'adapter with threadsafety 1 or more.',
                name,
            )
        if level < 2 and zopes:
            return self.found(
                'info',
                f'Threads may not share a connection of {name} at the same time.',
                'Its '
                f'threadsafety is {level}, and these Zope adapters are loaded: {zopes}. Whether '
                'one of '
                'them hands a connection to two threads cannot be seen from here; one that keeps '
                'it in a '
                '_v_ attribute does not.',
                f'Look into {zopes} for connections in lists and dictionaries of all threads.',
                name,
            )
        return None

    def _held(self, name: str, places: list[str] | None) -> Finding | None:
        if not places:
            return None
        return self.found(
            'warning',
            f'A connection of {name} is shared by all threads.',
            f'It is held by {several(places)}: two requests that use it at once can crash or mix '
            'up results.',
            f'In the code of {places[0]}, keep a connection for each thread, in a '
            'threading.local().',
            f'{name}-shared',
        )


def _dbapi(site: Site) -> dict[str, int]:
    """{name: threadsafety} of the loaded modules that follow PEP 249, one for each package."""
    found: dict[str, tuple[str, int]] = {}
    for name, its in sorted(site.program_modules().items()):
        level = its.get('threadsafety')
        if (
            type(level) is int
            and isinstance(its.get('apilevel'), str)
            and isinstance(its.get('paramstyle'), str)
        ):
            found.setdefault(name.partition('.')[0], (name, level))
    return dict(found.values())


def _shared(site: Site, packages: set[str]) -> dict[str, list[str]]:
    """{package of an adapter: [module.attribute or module.Class.attribute that is a connection of
    it]}.
    """
    modules = site.program_modules()
    found: dict[str, list[str]] = {}
    kinds = {
        id(kind): package
        for name, its in modules.items()
        if (package := name.partition('.')[0]) in packages
        for kind in list(its.values())
        if _is_class(kind) and _makes_connections(kind)
    }
    for name, its in modules.items() if kinds else ():
        for attribute, value in _attributes(name, its):
            adapter = kinds.get(id(type(value)))  # not every class has a hash
            if adapter and adapter != name.partition('.')[0]:
                found.setdefault(adapter, []).append(f'{name}.{attribute}')
    return found


def _attributes(name: str, its: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Those of a module and of its classes, read without waking up any of them."""
    for attribute, value in list(its.items()):
        yield attribute, value
        if _is_class(value) and (own := _own(value)).get('__module__') == name:
            for inner, thing in list(own.items()):
                yield f'{attribute}.{inner}', thing


def _is_class(value: object) -> TypeGuard[type]:
    return issubclass(type(value), type)


def _own(kind: type) -> Mapping[str, Any]:
    """The attributes of a class itself; a metaclass might give others, and C code may leave a class
    unfinished.
    """
    own: Mapping[str, Any] | None = type.__dict__['__dict__'].__get__(kind)
    return own or {}


def _makes_connections(kind: type) -> bool:
    """Has the class what PEP 249 asks of connections?"""
    bases = type.__dict__['__mro__'].__get__(kind) or ()
    return all(any(name in _own(base) for base in bases) for name in ('cursor', 'commit'))


class ConnectionPools(Check):
    id = 'connection-pools'
    question = 'Has each worker thread a connection in the pools of the databases?'
    source = 'ZODB.DB.getPoolSize and the threads of the server'

    def look(self, site: Site) -> Finding | list[Finding]:
        threads, databases = site.zope.threads, site.zope.databases
        if not threads or not databases:
            return self.unknown('How many worker threads or databases there are is not known here.')
        small = [database for database in databases if database.pool_size < threads]
        facts = '; '.join(f'{d.name}: {d.pool_size}' for d in databases)
        return [
            self.found(
                'warning',
                f'The pool of the database {database.name} is smaller than the number of threads.',
                f'{database.pool_size} connections for {threads} threads: the others are made, '
                'logged about and thrown '
                'away, with their caches.',
                f'Write "pool-size {threads + 3}" into <zodb_db {database.name}> of zope.conf '
                'and restart.',
                database.name,
            )
            for database in small
        ] or self.ok(
            'Each thread has its connection in the pools.', f'{threads} threads; pools: {facts}'
        )


class DurableStorage(Check):
    id = 'storage'
    question = 'Is what is committed still there after a restart?'
    source = 'the class of the storage'

    def look(self, site: Site) -> Finding | list[Finding]:
        if not site.zope.databases:
            return self.unknown('The databases are not known here.')
        fleeting = [
            d for d in site.zope.databases if '/' in d.mounted and d.storage.startswith(_FLEETING)
        ]
        return [
            self.found(
                'warning',
                f'The database {database.name} forgets all at a restart.',
                f'Its storage is {database.storage}.',
                f'Write the lines "<filestorage>", "path $INSTANCE/var/{database.name}.fs" and '
                f'"</filestorage>" into <zodb_db {database.name}> of zope.conf in place of its '
                'storage, and '
                'restart.',
                database.name,
            )
            for database in fleeting
        ] or self.ok(
            'The databases are durable.',
            '; '.join(f'{d.name}: {d.storage}' for d in site.zope.databases),
        )
