"""The one thing that the profiles for Plone need in Python; plone.zcml names it."""

# mypy: disable-error-code="import-not-found, import-untyped"
# Plone need not be installed.

from __future__ import annotations

from plone.base.interfaces import INonInstallable
from zope.interface import implementer


@implementer(INonInstallable)
class HiddenProfiles:
    """Keeps the uninstall profile out of the form that adds a Plone site."""

    def getNonInstallableProfiles(self) -> list[str]:
        return ['Products.StabilityMonitor:uninstall']
