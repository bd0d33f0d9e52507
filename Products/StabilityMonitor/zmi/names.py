"""The names that Zope knows the tab by: its id, its label, its two permissions.

Only the role Manager has the permissions, until an administrator grants them to more roles.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

from AccessControl.Permission import addPermission

ID = 'StabilityMonitor'
LABEL = 'Stability'
VIEW = 'View stability monitor'
MANAGE = 'Manage stability monitor'

for _permission in (VIEW, MANAGE):
    addPermission(_permission, ('Manager',))
