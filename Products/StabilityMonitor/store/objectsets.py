"""Which shared objects a run had mapped: one file for each set, shared by its runs.

    <base>/objects/<digest>.json    {"objects": [SharedObject, ...]}
    <run's directory>/objects.json  {"objects": <digest>}

A run that imports another compiled module later refers to another set then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..model import jsonform
from ..model.sharedobject import SharedObject
from .rundirectory import OBJECTS
from .rundirectory import Base
from .sharedsets import SharedSets

FOLDER = 'objects'
SETS = SharedSets(FOLDER, OBJECTS, 'objects')


def keep(base: Base, run: Path, objects: Iterable[SharedObject]) -> str:
    """Store this set if it is not there yet, and make the run in directory `run` refer to it.

    Returns the digest.  Raises OSError, or KeyError if the group of the data directory is unknown.
    """
    documents = [jsonform.to_json(each, plain=True) for each in objects]
    return SETS.keep(base, run, {'objects': documents})


def of_run(path: Path) -> tuple[SharedObject, ...]:
    """Return the set of the run in that directory, in `runs` or `archive`; () if not known."""
    return load(path.parent.parent, digest_of_run(path))


def digest_of_run(path: Path) -> str:
    """Return the digest of the set of the run in that directory; '' if not known."""
    digest = SETS.referred(path).get('objects')
    return digest if isinstance(digest, str) else ''


def load(base: Path, digest: object) -> tuple[SharedObject, ...]:
    """Return a set; () if it is missing or damaged.  `digest` may be anything."""
    return jsonform.items_from_json(SharedObject, SETS.load(base, digest).get('objects'))


def prune(base: Base, now: float | None = None) -> int:
    """Remove the sets to which no run refers any more; return how many were removed."""
    return SETS.prune(base, now)
