"""The two permissions of the tab.  Only a Manager has them until somebody grants them to more
roles.
"""

from AccessControl.Permission import addPermission

VIEW = 'View stability monitor'
MANAGE = 'Manage stability monitor'

for _permission in (VIEW, MANAGE):
    addPermission(_permission, ('Manager',))
