"""Checks of databases: adapters that threads must not share, pools of connections, storages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeGuard

from ..model.action import Action
from ..model.counts import counted
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from .check import Check
from .check import several
from .livesite import Site
from .serverfiles import one_thread

_ZOPE_ADAPTER = re.compile(r'Products\.\w*DA')
_TEMPORARY = ('ZODB.MappingStorage.', 'ZODB.DemoStorage.', 'tempstorage.', 'ZODB.tests.')


class Adapters(Check):
    """The levels of threadsafety in PEP 249: at 0, threads must not share the module; at 1, they
    must not share connections; at 2 and 3, they may share connections.
    """

    id = 'dbapi'
    question = 'Can threads safely share the loaded database adapters?'
    source = 'the attribute threadsafety of PEP 249'

    def look(self, site: Site) -> Finding | list[Finding]:
        adapters = _dbapi(site)
        zopes = several(sorted({name for name in site.modules if _ZOPE_ADAPTER.fullmatch(name)}))
        not_shareable = {name.partition('.')[0] for name, level in adapters.items() if level < 2}
        shared = _shared_connections(site, not_shareable)
        findings = []
        for name, level in adapters.items():
            package = name.partition('.')[0]
            finding = self._adapter(site, name, level, zopes)
            if finding:
                findings.append(finding)
            if package in shared:
                findings.append(self._shared_connection(name, shared[package]))
        if findings:
            return findings
        if not adapters:
            return self.ok('No database adapter of PEP 249 is loaded.')
        known = several(f'{name} has threadsafety {level}' for name, level in adapters.items())
        return self.ok('Threads can safely share the database adapters.', known)

    def _adapter(self, site: Site, name: str, level: int, zopes: str) -> Finding | None:
        if level < 1:
            severity = INFO if site.zope.threads == 1 else CRITICAL
            return self.found(
                severity,
                f'Threads must not share the database adapter {name}.',
                f'Its threadsafety is {level}: two requests that use it at once can crash or mix '
                'up results.',
                one_thread(site)
                + Action('; keep it until you use an adapter with threadsafety 1 or more.'),
                name,
            )
        if level < 2 and zopes:
            return self.found(
                INFO,
                f'Threads must not use a connection of {name} at the same time.',
                f'Its threadsafety is {level}, and these Zope adapters are loaded: {zopes}. '
                'This check cannot see whether one of them gives a connection to two threads; an '
                'adapter that keeps it in a _v_ attribute does not.',
                Action(
                    'Look in the code of {adapters} for connections in lists or dictionaries that '
                    'all threads share.',
                    adapters=zopes,
                ),
                name,
            )
        return None

    def _shared_connection(self, name: str, places: list[str]) -> Finding:
        return self.found(
            WARNING,
            f'A connection of {name} is shared by all threads.',
            f'It is held by {several(places)}: two requests that use it at once can crash or mix '
            'up results.',
            Action(
                'In the code of {place}, keep one connection for each thread, in a '
                'threading.local().',
                place=places[0],
            ),
            f'{name}-shared',
        )


def _dbapi(site: Site) -> dict[str, int]:
    """Return {name: threadsafety} of the loaded PEP 249 modules, one for each package."""
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


def _shared_connections(site: Site, packages: set[str]) -> dict[str, list[str]]:
    """Return {package of an adapter: [places in other packages that hold a connection of it]}.

    A place is a module.attribute or a module.Class.attribute.
    """
    modules = site.program_modules()
    kinds: dict[int, str] = {}  # keyed by id(): not every class is hashable
    for name, its in modules.items():
        package = name.partition('.')[0]
        if package in packages:
            for kind in list(its.values()):
                if _is_class(kind) and _makes_connections(kind):
                    kinds[id(kind)] = package
    found: dict[str, list[str]] = {}
    if not kinds:
        return found
    for name, its in modules.items():
        for attribute, value in _attributes(name, its):
            adapter = kinds.get(id(type(value)))
            if adapter and adapter != name.partition('.')[0]:
                found.setdefault(adapter, []).append(f'{name}.{attribute}')
    return found


def _attributes(name: str, its: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of the attributes of a module and of its classes, without running any of
    their code.
    """
    for attribute, value in list(its.items()):
        yield attribute, value
        if not _is_class(value):
            continue
        own = _own(value)
        if own.get('__module__') == name:
            for inner, inner_value in list(own.items()):
                yield f'{attribute}.{inner}', inner_value


def _is_class(value: object) -> TypeGuard[type]:
    """Like `isinstance(value, type)`, but without asking a proxy for its `__class__`."""
    return issubclass(type(value), type)


def _own(kind: type) -> Mapping[str, Any]:
    """Return the attributes of the class itself, without those of its bases.

    A metaclass may return something else for `__dict__`, and a class made in C may have none.
    """
    own: Mapping[str, Any] | None = type.__dict__['__dict__'].__get__(kind)
    return own or {}


def _makes_connections(kind: type) -> bool:
    """Whether the class has the methods that PEP 249 requires of connections."""
    bases = type.__dict__['__mro__'].__get__(kind) or ()
    return all(any(name in _own(base) for base in bases) for name in ('cursor', 'commit'))


class ConnectionPools(Check):
    id = 'connection-pools'
    question = 'Is the connection pool of each database large enough for all workers?'
    source = 'ZODB.DB.getPoolSize and the threads of the server'

    def look(self, site: Site) -> Finding | list[Finding]:
        threads = site.zope.threads
        databases = site.zope.databases
        if not threads or not databases:
            return self.unknown('The number of workers or of databases is not known here.')
        small = [database for database in databases if database.pool_size < threads]
        if not small:
            facts = '; '.join(f'{d.name}: {d.pool_size}' for d in databases)
            return self.ok(
                'The connection pools are large enough for all workers.',
                f'{counted(threads, "worker")}; pools: {facts}',
            )
        return [
            self.found(
                WARNING,
                f'The pool of the database {database.name} is smaller than the number of workers.',
                f'{counted(database.pool_size, "connection")} for {threads} workers: each further '
                'connection is created, logged and thrown away, with its cache.',
                Action(
                    'Write "pool-size {size}" into `<zodb_db {name}>` of zope.conf and restart.',
                    size=threads + 3,
                    name=database.name,
                ),
                database.name,
            )
            for database in small
        ]


class DurableStorage(Check):
    id = 'storage'
    question = 'Do the databases keep committed data over a restart?'
    source = 'the class of the storage'

    def look(self, site: Site) -> Finding | list[Finding]:
        if not site.zope.databases:
            return self.unknown('The databases are not known here.')
        # A temporary storage is wrong for the root of the site only, not for /temp_folder.
        roots = [database for database in site.zope.databases if '/' in database.mounted]
        temporary = [database for database in roots if database.storage.startswith(_TEMPORARY)]
        if not temporary:
            facts = '; '.join(f'{d.name}: {d.storage}' for d in site.zope.databases)
            return self.ok('The databases are durable.', facts)
        return [
            self.found(
                WARNING,
                f'The database {database.name} loses all its data at a restart.',
                f'Its storage is {database.storage}.',
                Action(
                    'Write the lines "<filestorage>", "path $INSTANCE/var/{name}.fs" and '
                    '"</filestorage>" into `<zodb_db {name}>` of zope.conf instead of its '
                    'storage, and restart.',
                    name=database.name,
                ),
                database.name,
            )
            for database in temporary
        ]
