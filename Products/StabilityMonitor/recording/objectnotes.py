"""Notes which shared objects a server has mapped: once it serves, and when it has imported another
compiled module.

After a crash they tell which file an address belongs to, and which distribution brought it.  This
module is imported when Zope begins to serve, in MainThread (see CONTRIBUTING.rst, "A trap").
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..store import objectsets
from ..store.rundirectory import Base
from ..store.rundirectory import RunDirectory
from ..system import procfiles
from ..system import sharedobjects

#: A Plone site has 3,000 mappings, of 100 bytes each.
_MOST_MAPS = 8 << 20


class ObjectNotes:
    """Writes the shared objects of this process into the directory of its run.

    With 60 files it takes 30 ms of CPU time, and 0.1 s with 250: so the thread "errands" does it.
    """

    def __init__(
        self,
        base: Base,
        directory: RunDirectory,
        in_background: Callable[[Callable[[], object]], None],
    ) -> None:
        self._base = base
        self._directory = directory
        self._in_background = in_background
        self._noted: frozenset[str] = frozenset()
        self._count = 0  # modules when they were last looked at

    def write(self) -> None:
        """Write what is mapped, if a compiled module was imported since the last time."""
        self._count = len(sys.modules)
        names = sharedobjects.compiled_names(sys.modules)
        maps = procfiles.read('/proc/self/maps', _MOST_MAPS).decode('utf-8', 'surrogateescape')
        if names <= self._noted or not maps:
            return
        path = self._directory.path
        known = objectsets.of_run(path) if self._noted else ()
        mapped = sharedobjects.mapped(maps, dict(sys.modules), known)
        objectsets.keep(self._base, path, sharedobjects.with_owners(mapped))
        self._noted = names

    def look_at_imports(self) -> None:
        """Write in the background if modules were imported.  This itself takes microseconds."""
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            self._in_background(self.write)
