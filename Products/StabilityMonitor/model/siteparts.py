"""What a report says about an instance: its databases, and the add-ons of its Plone sites.

`model.jsonform` makes the JSON of a value from its annotations, so this module does not postpone
them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfiguredDatabase:
    """A database as zope.conf configures it.  No field may hold a password.

    An empty text, an empty tuple or -1 means "not known, or not there".  `storage` and `adapter`
    are the names of the sections in zope.conf: `clientstorage`, `relstorage`, `postgresql`.
    """

    name: str = ''
    mounted: tuple[str, ...] = ()
    storage: str = ''
    #: "host:port", or the path of a socket: of ZEO, or of the SQL database behind RelStorage.
    servers: tuple[str, ...] = ()
    adapter: str = ''
    driver: str = ''
    #: The cache that all connections share, in bytes: that of the ZEO client or of RelStorage.
    shared_cache: int = -1
    #: The cache of each connection, in objects and in bytes; 0 bytes: there is no such limit.
    cache_objects: int = -1
    cache_bytes: int = -1
    connections: int = -1


@dataclass(frozen=True)
class AddOn:
    """A profile of GenericSetup that is installed in a site.  `version` is "unknown" at times."""

    profile: str
    version: str = ''


@dataclass(frozen=True)
class PloneSite:
    """A Plone site: its path in the database, and its profiles, sorted by name."""

    path: str
    add_ons: tuple[AddOn, ...] = ()


@dataclass(frozen=True)
class SitesRead:
    """The Plone sites as they were read, and when, in seconds since the epoch.

    `when` is None if they were not read at all.  `note` says why some are missing.
    """

    sites: tuple[PloneSite, ...] = ()
    when: float | None = None
    note: str = ''
