"""Names for Zope's objects in annotations.

Zope has no type annotations, so each name is Any: it informs the reader, and mypy checks nothing.
"""

from typing import Any
from typing import TypeAlias

#: A ZPublisher HTTPRequest.
Request: TypeAlias = Any
#: Its HTTPResponse.
Response: TypeAlias = Any
#: A page template.
Template: TypeAlias = Any
#: An event of ZPublisher or of the process, with the attributes of its interface.
Event: TypeAlias = Any
#: The configuration made from zope.conf.
Configuration: TypeAlias = Any
#: An open ZODB database, and its storage.
OpenDatabase: TypeAlias = Any
Storage: TypeAlias = Any
#: A section of zope.conf, whose keys are attributes.
Section: TypeAlias = Any
#: A persistent folder: the root of the database, or a Plone site.
Container: TypeAlias = Any
