"""The facts for the checks that only Zope knows: databases, switches, directories, worker threads.

They are read when the checks run, never while arming.  Nothing here reads data that a storage may
have to fetch from a server: a check gets a function for that, and calls it under its time limit.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import functools
import re
import threading

from App.config import getConfiguration
from persistent.timestamp import TimeStamp

from ..checks.livesite import Database
from ..checks.livesite import Site
from ..checks.livesite import ZopeFacts
from ..model.interfaces import ILivingRun
from .zopetypes import Configuration
from .zopetypes import OpenDatabase
from .zopetypes import Storage

SWITCHES = (
    'debug-mode',
    'debug-exceptions',
    'verbose-security',
    'skip-authentication-checking',
    'skip-ownership-checking',
    'security-policy-implementation',
)
_WORKER = re.compile(r'waitress-\d+')
_NO_TRANSACTION = bytes(8)


def site(life: ILivingRun) -> Site:
    """Return what the checks examine: this process and its Zope."""
    return Site.of(life, facts(life.software.get('threads')))


def facts(threads: int | None = None) -> ZopeFacts:
    """Return the facts about this Zope.

    `threads` is the number of worker threads in the configuration.  Soon after the start, fewer
    threads may be running.  If more are running, their number is returned.
    """
    config = getConfiguration()
    running = 0
    for thread in threading.enumerate():
        if _WORKER.fullmatch(thread.name):
            running += 1
    switches = {}
    for name in SWITCHES:
        key = name.replace('-', '_')
        if hasattr(config, key):
            switches[name] = getattr(config, key)
    return ZopeFacts(
        threads=max(running, threads or 0) or None,
        databases=databases(config),
        switches=switches,
        instance_home=config.instancehome or '',
        client_home=config.clienthome or '',
        pid_file=getattr(config, 'pid_filename', None) or '',
    )


def databases(config: Configuration) -> tuple[Database, ...]:
    """Return the open databases, including one that custom_zodb.py has opened."""
    dbtab = getattr(config, 'dbtab', None)
    if dbtab is None:
        return ()
    name_at = dict(dbtab.mount_paths)
    found = []
    for name, database in sorted(dbtab.databases.items()):
        paths = sorted(path for path in name_at if name_at[path] == name)
        found.append(_database(name, database, tuple(paths)))
    return tuple(found)


def _database(name: str, database: OpenDatabase, mounted: tuple[str, ...]) -> Database:
    storage = database.storage
    kind = f'{type(storage).__module__}.{type(storage).__qualname__}'
    file = storage.getName() if kind.startswith('ZODB.FileStorage.') else ''
    return Database(
        name=name,
        storage=kind,
        pool_size=database.getPoolSize(),
        mounted=mounted,
        file=str(file),
        last_transaction=functools.partial(last_transaction, storage),
    )


def last_transaction(storage: Storage) -> float | None:
    """Return the time of the newest transaction of a storage, in seconds since the epoch.

    None if the storage has no transaction.
    """
    tid = storage.lastTransaction()
    if not tid or tid == _NO_TRANSACTION:
        return None
    when: float = TimeStamp(tid).timeTime()
    return when
