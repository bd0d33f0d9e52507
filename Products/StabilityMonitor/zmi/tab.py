"""Adds the tab "Stability" to the Control Panel, and removes it.

The Control Panel has no plug-in point: its panels are class attributes of `ApplicationManager`, and
each panel class has its own `manage_options`.  So this panel is a class attribute too.  Nothing is
stored in the database.

The panel and its pages are about two dozen modules.  They are imported when the first page is
opened.  None of them is needed while the site hangs: then requests come through the mailbox.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from App.ApplicationManager import AltDatabaseManager
from App.ApplicationManager import ApplicationManager
from App.ApplicationManager import ConfigurationViewer
from App.ApplicationManager import DatabaseChooser
from App.ApplicationManager import DebugManager
from App.DavLockManager import DavLockManager
from App.ZODBConnectionDebugger import ZODBConnectionDebugger
from ComputedAttribute import ComputedAttribute

from .names import ID  # this import also declares the permissions to Zope
from .names import LABEL

if TYPE_CHECKING:  # imported when the first page is opened
    from .controlpanel import StabilityMonitor

#: The classes of the Control Panel that show tabs, each with the relative URL of the Control Panel.
PANELS = (
    (ApplicationManager, ''),
    (DatabaseChooser, '../'),
    (ConfigurationViewer, '../'),
    (DavLockManager, '../'),
    (DebugManager, '../'),
    (ZODBConnectionDebugger, '../'),
    (AltDatabaseManager, '../../'),
)
#: Zope traverses this path to find out whether the user may see the tab.  It is absolute because
#: Zope cannot traverse upwards from the page of a database.
_PATH = f'/Control_Panel/{ID}/manage_main'


def hang() -> None:
    """Add the tab; a second call changes nothing."""
    if ID not in vars(ApplicationManager):
        setattr(ApplicationManager, ID, ComputedAttribute(lambda panel: _tab().__of__(panel), 1))
    for panel, up in PANELS:
        if not any(map(_is_ours, panel.manage_options)):
            ours = {'label': LABEL, 'action': f'{up}{ID}/manage_main', 'path': _PATH}
            panel.manage_options += (ours,)


@functools.cache
def _tab() -> StabilityMonitor:
    from .controlpanel import StabilityMonitor

    return StabilityMonitor()


def take_down() -> None:
    """Remove the tab; only tests need this."""
    if ID in vars(ApplicationManager):
        delattr(ApplicationManager, ID)
    for panel, _ in PANELS:
        panel.manage_options = tuple(
            option for option in panel.manage_options if not _is_ours(option)
        )


def _is_ours(option: dict[str, str]) -> bool:
    return option['label'] == LABEL
