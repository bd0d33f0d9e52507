"""Products.StabilityMonitor: after any crash, hang, kill or restart, the next Zope says how the
last one ended.

When Zope imports this package, it arms, and judges the dead runs that it finds.  When Zope calls
`initialize`, it adds its tab.  Imported outside a configured Zope, it does nothing at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

from .system.eventlog import LOGGER

__version__ = '1.0.dev0'


def initialize(context: object) -> None:
    """Zope calls this when the product is installed, in servers and in scripts."""
    try:
        from .zmi import tab

        tab.hang()
    except Exception:
        LOGGER.exception('The tab of the stability monitor is missing.')


def _arm() -> None:
    from .recording import arming
    from .zmi import zopeconf

    life = arming.arm(**zopeconf.circumstances())
    # Also where this run cannot record anything itself.
    if life.options.enabled and _has_past((life.base.runs, life.base.archive), life.name):
        from .postmortem import triage

        triage.at_start(life)
    life.armed()


def _has_past(folders: Iterable[os.PathLike[str]], own: str) -> bool:
    """Does any other run than `own` have anything in these folders?

    Only then is the room imported that judges dead runs and removes old ones.
    """
    found: set[str] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found.update(os.listdir(folder))
    return bool(found - {own})


def _inside_configured_zope() -> bool:
    config = getattr(sys.modules.get('App.config'), '_config', None)
    return config is not None and type(config).__name__ != 'DefaultConfiguration'


if _inside_configured_zope():
    try:
        _arm()
    except Exception:  # whatever fails here, the site must start
        LOGGER.exception('The stability monitor is off: arming failed.')
