"""One shared object or program that a process has mapped: who brought it.  No I/O."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SharedObject:
    """A file with machine code.

    `modules` are the names of the Python modules that were imported from it ("lxml.etree"); () for
    a shared library.  `soname` and `build_id` (hex digits) are as in the file.  `distribution` and
    `version` are those of the distribution whose RECORD lists it, also below `X.libs/`.  Each is ''
    if it has none or that is not known.
    """

    file: str
    modules: tuple[str, ...] = ()
    soname: str = ''
    build_id: str = ''
    distribution: str = ''
    version: str = ''
