"""One thing that a run had and others may lack: a module, a version, a request in flight.  No I/O.

`model.jsonform` reads and writes it, so this module does not postpone annotations.
"""

from dataclasses import dataclass

#: The template of the path of a request in flight; the user of one; the hour of day of the end.
PATH = 'path'
USER = 'user'
HOUR = 'hour'
#: At least this share of the limit in percent; at least this many MiB; at least this many threads.
MEMORY_SHARE = 'memory-share'
MEMORY = 'memory'
THREADS = 'threads'
PYTHON = 'python'
ZOPE = 'zope'
DISTRIBUTION = 'distribution'
#: A compiled module of Python; a shared library.
MODULE = 'module'
LIBRARY = 'library'
#: The digests of sets, see `store.distributionsets` and `store.objectsets`.  Never shown.
INSTALLED = 'installed'
OBJECTS = 'objects'


@dataclass(frozen=True)
class Feature:
    """A feature of a run.  `kind` is one of those above.

    `name` is the path, the hour ("3"), the number of `MEMORY`, `THREADS` and the like, the module,
    or the distribution, whose `version` follows.  A user is in `who`, and nowhere else: by this key
    `reporting.redaction` knows that it is one.
    """

    kind: str
    name: str = ''
    version: str = ''
    who: str = ''
