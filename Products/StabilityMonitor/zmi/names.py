"""The names that Zope knows the tab by: its id, its label, its two permissions.

Only a Manager has the permissions until somebody grants them to more roles.
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
