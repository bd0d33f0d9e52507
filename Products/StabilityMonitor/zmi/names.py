"""The id, the label and the two permissions of the tab.

Only the role Manager has the permissions, until an administrator grants them to other roles.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from AccessControl.Permission import addPermission

ID = 'StabilityMonitor'
LABEL = 'Stability'
VIEW = 'View stability monitor'
MANAGE = 'Manage stability monitor'

for _permission in (VIEW, MANAGE):
    addPermission(_permission, ('Manager',))
