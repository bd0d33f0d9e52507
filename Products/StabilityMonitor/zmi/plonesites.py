"""The add-ons of each Plone site: the only objects of a site that this product reads.

They are read while a manager opens a report, in the connection of that request, and never by the
product on its own.  A report is wanted most while a database does not answer.  So nothing is read
while the connection to ZEO is down, while the site hangs, or while a request waits for a database.
One request reads at a time, so at most one worker is caught by a database that stops answering just
then.  After two seconds, or twenty sites, the rest is left out.

Nothing of GenericSetup or Plone is imported: without them there are no such sites.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from Acquisition import aq_base

from ..model.interfaces import ILivingRun
from ..model.siteparts import AddOn
from ..model.siteparts import PloneSite
from ..model.siteparts import SitesRead
from ..system.eventlog import LOGGER
from .zopetypes import Container

#: So long may reading take, and other requests wait for the database, in seconds.
_SECONDS = 2
_MOST_SITES = 20
_MOST_FOLDERS = 20
_MOST_PROFILES = 500
_SITE = 'Plone Site'
#: Folders of the root are looked into, too.
_FOLDERS = ('Folder', 'Folder (Ordered)')
_reading = threading.Lock()


def read(root: Container, life: ILivingRun) -> SitesRead:
    """Return the Plone sites in the root and in its folders, see the module.  Never raises."""
    if not life.software.get('plone'):
        return SitesRead()
    if not _reading.acquire(blocking=False):
        return SitesRead(note='Not read: another request reads them just now.')
    try:
        reason = _reason_not_to(root, life)
        return SitesRead(note=f'Not read: {reason}.') if reason else _read(root)
    except Exception as error:
        LOGGER.warning('The add-ons of the Plone sites cannot be read.', exc_info=True)
        return SitesRead(note=f'They could not be read: {type(error).__name__}.')
    finally:
        _reading.release()


def _reason_not_to(root: Container, life: ILivingRun) -> str:
    """Return why the database must be left alone now; '' if it need not."""
    storage = root._p_jar.db().storage
    is_connected = getattr(storage, 'is_connected', None)  # of ZEO, without asking the server
    if is_connected is not None and not is_connected():
        return 'the database is not connected'
    stacks = life.stacks()
    if any(event.lasts for event in stacks.hangs):
        return 'the site hangs'
    for thread in stacks.threads:
        request = thread.request
        if thread.activity == 'database' and request and (request.seconds or 0) > _SECONDS:
            return 'a request waits for the database'
    return ''


def _read(root: Container, clock: Callable[[], float] = time.monotonic) -> SitesRead:
    deadline = clock() + _SECONDS
    found: list[PloneSite] = []
    note = ''
    for path, site in _sites(root):
        if len(found) == _MOST_SITES:
            note = f'Only the first {_MOST_SITES} sites were read.'
            break
        if clock() > deadline:
            note = f'Reading was ended after {_SECONDS} seconds; some sites are missing.'
            break
        found.append(PloneSite(path, tuple(_add_ons(site()))))
    return SitesRead(tuple(found), time.time(), note)


def _sites(root: Container) -> Iterator[tuple[str, Callable[[], Container]]]:
    """Yield (path, a function that loads it) of each site."""
    root = aq_base(root)
    yield from _sites_in(root, '')
    for name in root.objectIds(_FOLDERS)[:_MOST_FOLDERS]:
        yield from _sites_in(root._getOb(name), f'/{name}')


def _sites_in(folder: Container, path: str) -> Iterator[tuple[str, Callable[[], Container]]]:
    for name in folder.objectIds(_SITE):
        yield f'{path}/{name}', functools.partial(folder._getOb, name)


def _add_ons(site: Container) -> list[AddOn]:
    """Return the installed profiles of a site, sorted by name."""
    setup = aq_base(aq_base(site)._getOb('portal_setup', None))
    versions = getattr(setup, '_profile_upgrade_versions', {})
    found = []
    for profile, version in sorted(versions.items())[:_MOST_PROFILES]:
        words = version if isinstance(version, str) else '.'.join(map(str, version))
        found.append(AddOn(str(profile), words))
    return found
