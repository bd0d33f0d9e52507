"""Hangs the tab "Stability" into the Control Panel, and takes it down again.

The Control Panel has no plug-in point: its panels are class attributes of `ApplicationManager`, and
each of their classes has its own `manage_options`.  So our panel is a class attribute too.  Nothing
is stored: without the product, the database holds no trace of it.

The panel and its pages are two dozen modules, which are imported when a person opens the first
page.  None of them is needed when the site hangs: requests then come through the mailbox.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

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

from .names import ID  # with it, Zope knows the permissions before a page is opened
from .names import LABEL

if TYPE_CHECKING:  # imported when a person opens the first page
    from .controlpanel import StabilityMonitor

#: Each class of the Control Panel that shows tabs, and the relative URL of the Control Panel.
PANELS = (
    (ApplicationManager, ''),
    (DatabaseChooser, '../'),
    (ConfigurationViewer, '../'),
    (DavLockManager, '../'),
    (DebugManager, '../'),
    (ZODBConnectionDebugger, '../'),
    (AltDatabaseManager, '../../'),
)
#: Zope traverses to this to find out whether the user may see the tab.  The path is absolute: from
#: the page of a database, Zope cannot walk up.
_PATH = f'/Control_Panel/{ID}/manage_main'


def hang() -> None:
    """Hang the tab in; a second call changes nothing."""
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
    """Undo `hang`, for tests."""
    if ID in vars(ApplicationManager):
        delattr(ApplicationManager, ID)
    for panel, _ in PANELS:
        panel.manage_options = tuple(
            option for option in panel.manage_options if not _is_ours(option)
        )


def _is_ours(option: dict[str, str]) -> bool:
    return option['label'] == LABEL
