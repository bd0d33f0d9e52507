"""What only Zope can tell the checks: its databases, switches, places and worker threads.

Read when checks are run, never while arming.  Nothing here asks a storage for what it may have to
fetch from a server: that is handed over as a function, which a check calls under its time limit.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

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
    """What checks look at: this process and its Zope."""
    return Site.of(life, facts(life.software.get('threads')))


def facts(threads: int | None = None) -> ZopeFacts:
    """`threads` is what the configuration says; where more worker threads are seen, those count:
    some may yet begin.
    """
    config = getConfiguration()
    keys = {name: name.replace('-', '_') for name in SWITCHES}
    return ZopeFacts(
        threads=max(_workers(), threads or 0) or None,
        databases=databases(config),
        switches={name: getattr(config, key) for name, key in keys.items() if hasattr(config, key)},
        instance_home=config.instancehome or '',
        client_home=config.clienthome or '',
        pid_file=getattr(config, 'pid_filename', None) or '',
    )


def _workers() -> int:
    return sum(bool(_WORKER.fullmatch(thread.name)) for thread in threading.enumerate())


def databases(config: Configuration) -> tuple[Database, ...]:
    """The databases that are open; those of custom_zodb.py too."""
    dbtab = getattr(config, 'dbtab', None)
    if dbtab is None:
        return ()
    paths = dict(dbtab.mount_paths)
    return tuple(
        _database(name, database, tuple(sorted(path for path, its in paths.items() if its == name)))
        for name, database in sorted(dbtab.databases.items())
    )


def _database(name: str, database: OpenDatabase, mounted: tuple[str, ...]) -> Database:
    storage = database.storage
    kind = f'{type(storage).__module__}.{type(storage).__qualname__}'
    file = storage.getName() if kind.startswith('ZODB.FileStorage.') else ''
    return Database(
        name,
        kind,
        database.getPoolSize(),
        mounted,
        str(file),
        functools.partial(last_transaction, storage),
    )


def last_transaction(storage: Storage) -> float | None:
    """When the newest transaction of a storage was made, in seconds since the epoch; None: there is
    none.
    """
    tid = storage.lastTransaction()
    if not tid or tid == _NO_TRANSACTION:
        return None
    when: float = TimeStamp(tid).timeTime()
    return when
