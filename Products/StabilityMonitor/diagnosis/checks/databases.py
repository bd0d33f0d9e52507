"""Databases: adapters that threads may not share, and the pool of ZODB connections."""
from __future__ import annotations

import re

from .check import Check
from .check import several

_ZOPE_ADAPTER = re.compile(r'Products\.\w*DA')
_FLEETING = ('ZODB.MappingStorage.', 'ZODB.DemoStorage.', 'tempstorage.', 'ZODB.tests.')


class Adapters(Check):
    """PEP 249: threadsafety 0, threads may not share the module; 1, may not share connections; 2 and 3, may."""

    id = 'dbapi'
    question = 'May threads share the database adapters that are loaded?'
    source = 'the attribute threadsafety of PEP 249'

    def look(self, site):
        adapters = _dbapi(site)
        zopes = several(sorted({name for name in site.modules if _ZOPE_ADAPTER.fullmatch(name)}))
        findings = [finding for name, level in adapters.items()
                    if (finding := self._adapter(name, level, zopes, site.zope.threads))]
        known = several(f'{name} has threadsafety {level}' for name, level in adapters.items())
        return findings or self.ok('Threads may share the database adapters.' if adapters else
                                   'No database adapter of PEP 249 is loaded.', known)

    def _adapter(self, name, level, zopes, threads):
        if level < 1:
            severity = 'info' if threads == 1 else 'critical'
            return self.found(severity, f'Threads may not share the database adapter {name}.', 'Its threadsafety is '
                              f'{level}: two requests that use it at once can crash or mix up results.',
                              'Write "threads = 1" into [server:main] of zope.ini and restart, until there is an '
                              'adapter with threadsafety 1 or more.', name)
        if level < 2 and zopes:
            return self.found('info', f'Threads may not share a connection of {name} at the same time.', 'Its '
                              f'threadsafety is {level}, and these Zope adapters are loaded: {zopes}. Whether one of '
                              'them hands a connection to two threads cannot be seen from here; one that keeps it in a '
                              '_v_ attribute does not.',
                              f'Look into {zopes} for connections in module globals or class attributes.', name)
        return None


def _dbapi(site):
    """{name: threadsafety} of the loaded modules that follow PEP 249, one for each package."""
    found = {}
    for name, its in sorted(site.program_modules().items()):
        level = its.get('threadsafety')
        if type(level) is int and isinstance(its.get('apilevel'), str) and isinstance(its.get('paramstyle'), str):
            found.setdefault(name.partition('.')[0], (name, level))
    return dict(found.values())


class ConnectionPools(Check):
    id = 'connection-pools'
    question = 'Has each worker thread a connection in the pools of the databases?'
    source = 'ZODB.DB.getPoolSize and the threads of the server'

    def look(self, site):
        threads, databases = site.zope.threads, site.zope.databases
        if not threads or not databases:
            return self.unknown('How many worker threads or databases there are is not known here.')
        small = [database for database in databases if database.pool_size < threads]
        facts = '; '.join(f'{d.name}: {d.pool_size}' for d in databases)
        return [self.found(
            'warning', f'The pool of the database {database.name} is smaller than the number of threads.',
            f'{database.pool_size} connections for {threads} threads: the others are made, logged about and thrown '
            'away, with their caches.', f'Write "pool-size {threads + 3}" into <zodb_db {database.name}> of zope.conf '
            'and restart.', database.name) for database in small] or self.ok(
                'Each thread has its connection in the pools.', f'{threads} threads; pools: {facts}')


class DurableStorage(Check):
    id = 'storage'
    question = 'Is what is committed still there after a restart?'
    source = 'the class of the storage'

    def look(self, site):
        if not site.zope.databases:
            return self.unknown('The databases are not known here.')
        fleeting = [d for d in site.zope.databases if '/' in d.mounted and d.storage.startswith(_FLEETING)]
        return [self.found('warning', f'The database {database.name} forgets all at a restart.',
                           f'Its storage is {database.storage}.', f'Write a <filestorage> with a path into <zodb_db '
                           f'{database.name}> of zope.conf and restart.', database.name) for database in fleeting
                ] or self.ok('The databases are durable.',
                             '; '.join(f'{d.name}: {d.storage}' for d in site.zope.databases))
