"""Products.StabilityMonitor: after any crash, hang, kill or restart, the next Zope says how the
last one ended.

When Zope imports this package, the package starts to record ("arms") and judges the dead runs that
it finds.  When Zope calls `initialize`, the package adds its tab.  When it is imported outside a
configured Zope, it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

__version__ = '1.0.dev0'


def initialize(context: object) -> None:
    """Add the tab.  Zope calls this when it installs the product, in servers and in scripts."""
    try:
        from .zmi import tab

        tab.hang()
    except Exception:
        _log_failure('The Control Panel has no tab "Stability": adding it failed.')


def _arm() -> None:
    from .recording import arming
    from .zmi import zopeconf

    life = arming.arm(**zopeconf.circumstances())
    # Dead runs are judged even where this run cannot record anything itself.
    if life.options.enabled and _has_past((life.base.runs, life.base.archive), life.name):
        from .postmortem import triage

        triage.at_start(life)
    life.armed()


def _has_past(folders: Iterable[os.PathLike[str]], own: str) -> bool:
    """Return whether `folders` contain anything of another run than `own`.

    Only then does the start of Zope wait for the import of `postmortem`, which judges dead runs
    and removes old ones.
    """
    found: set[str] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found.update(os.listdir(folder))
    return bool(found - {own})


def _log_failure(sentence: str) -> None:
    # Imported here, because `stabilitymonitor run` needs no `logging` for the life of Zope.
    from .system.eventlog import LOGGER

    LOGGER.exception(sentence)


def _inside_configured_zope() -> bool:
    config = getattr(sys.modules.get('App.config'), '_config', None)
    return config is not None and type(config).__name__ != 'DefaultConfiguration'


if _inside_configured_zope():
    try:
        _arm()
    except Exception:  # whatever fails here, the site must start
        _log_failure('The stability monitor records nothing: arming failed.')
