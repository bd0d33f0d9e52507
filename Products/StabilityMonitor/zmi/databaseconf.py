"""What zope.conf says about the databases: their servers, drivers and cache sizes.

It is read while arming, from the sections of zope.conf: no database is opened or asked.  Only the
keys that are named here are read, and only a host and a port are taken out of a data source name:
what is recorded goes into reports, and a password must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..model.siteparts import ConfiguredDatabase
from ..system.eventlog import LOGGER
from .zopetypes import Configuration
from .zopetypes import Section

#: So deep are storages that wrap others followed, such as a DemoStorage over a ZEO client.
_DEEPEST = 8
#: A data source name of libpq: "host='db1' port=5432 password='secret'".
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s'\\]+))(?=\s|$)")
#: The same as a URL.  A password that is not quoted as it should be does not match.
_URL = re.compile(r'\w+://(?:[^/?#@]*@)?([\w.,:\[\]-]+)(?:/[^@]*)?')


def configured_databases(config: Configuration) -> tuple[ConfiguredDatabase, ...]:
    """Return the databases of zope.conf.  One that cannot be read has only its name."""
    found = []
    for factory in getattr(config, 'databases', None) or ():
        try:
            found.append(_database(factory.config))
        except Exception as error:  # other packages bring sections of their own
            # The message of the error may quote a value, and that may be a secret.
            LOGGER.warning('A database of zope.conf is not understood: %s.', type(error).__name__)
            found.append(ConfiguredDatabase(name=str(getattr(factory, 'name', ''))))
    return tuple(found)


def _database(section: Section) -> ConfiguredDatabase:
    # For each key the first section counts that has it: the outermost storage.
    storages = list(islice(_storages(section.storage), _DEEPEST))
    adapter = _first(storages, 'adapter')
    inner = [*storages, adapter.config] if adapter else storages
    return ConfiguredDatabase(
        name=section.getSectionName() or '',
        mounted=tuple(point.partition(':')[0] for point in section.mount_points),
        storage=' over '.join(storage.getSectionType() for storage in storages),
        servers=tuple(_servers(inner)),
        adapter=adapter.config.getSectionType() if adapter else '',
        driver=_first(inner, 'driver') or '',
        shared_cache=_shared_cache(storages),
        cache_objects=section.cache_size,
        cache_bytes=section.cache_size_bytes,
        connections=section.pool_size,
    )


def _storages(factory: Any) -> Iterator[Section]:
    """Yield the section of a storage, then those of the storages that it wraps."""
    section = factory.config
    yield section
    wrapped = getattr(section, 'factories', None) or [getattr(section, 'base', None)]
    for inner in wrapped:
        if hasattr(inner, 'config'):
            yield from _storages(inner)


def _first(sections: list[Section], key: str) -> Any:
    """Return the value of the first section that has one for this key; None if none has."""
    for section in sections:
        value = getattr(section, key, None)
        if value is not None:
            return value
    return None


def _shared_cache(storages: list[Section]) -> int:
    """Return the size in bytes; -1 if no storage has such a cache, or leaves it at its default."""
    megabytes = _first(storages, 'cache_local_mb')
    if megabytes is not None:
        return int(megabytes) << 20
    size = _first(storages, 'cache_size')
    return -1 if size is None else int(size)


def _servers(sections: list[Section]) -> Iterator[str]:
    for section in sections:
        for server in getattr(section, 'server', None) or ():
            address = server.address
            yield address if isinstance(address, str) else _address(*address[:2])
        host = getattr(section, 'host', None)
        if host:
            yield _address(host, getattr(section, 'port', None))
        socket = getattr(section, 'unix_socket', None)
        if socket:
            yield socket
        place = _place(getattr(section, 'dsn', None) or '')
        if place:
            yield place


def _address(host: str, port: object) -> str:
    return f'{host}:{port}' if port else host


def _place(name: str) -> str:
    """Return "host:port" of a data source name; '' if that is not understood as a whole."""
    url = _URL.fullmatch(name)
    if url:
        return url[1]
    pairs = {}
    end = 0
    while pair := _PAIR.match(name, end):
        key, quoted, plain = pair.groups()
        pairs[key] = quoted if quoted is not None else plain
        end = pair.end()
    host = pairs.get('host') or pairs.get('hostaddr')
    if name[end:].strip() or not host:
        return ''
    return _address(host, pairs.get('port'))
