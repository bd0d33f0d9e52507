"""What Zope's objects are called in annotations.

Zope has no types, so each of them is Any: the name says what is meant, and nothing is checked.
"""

from typing import Any
from typing import TypeAlias

#: A ZPublisher HTTPRequest.
Request: TypeAlias = Any
#: A page template.
Template: TypeAlias = Any
#: An event of ZPublisher or of the process, with what its interface promises.
Event: TypeAlias = Any
#: The configuration made from zope.conf.
Configuration: TypeAlias = Any
#: An open ZODB database, and the storage below it.
OpenDatabase: TypeAlias = Any
Storage: TypeAlias = Any
