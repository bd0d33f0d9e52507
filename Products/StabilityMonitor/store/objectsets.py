"""Which shared objects a run had mapped: one file for each set, shared by its runs.

    <base>/objects/<digest>.json    {"objects": [SharedObject, ...]}
    <run's directory>/objects.json  {"objects": <digest>}

A run that imports another compiled module later refers to another set then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    return SETS.keep(base, run, _document(objects))


def of_run(path: Path) -> tuple[SharedObject, ...]:
    """Return the set of the run in that directory, in `runs` or `archive`; () if not known."""
    return load(path.parent.parent, SETS.referred(path).get('objects'))


def digest_of(objects: Iterable[SharedObject]) -> str:
    """Return the digest of a set as it was kept, from what was read of it."""
    return SETS.digest(_document(objects))


def load(base: Path, digest: object) -> tuple[SharedObject, ...]:
    """Return a set; () if it is missing or damaged.  `digest` may be anything."""
    return jsonform.items_from_json(SharedObject, SETS.load(base, digest).get('objects'))


def prune(base: Base, now: float | None = None) -> int:
    """Remove the sets to which no run refers any more; return how many were removed."""
    return SETS.prune(base, now)


def _document(objects: Iterable[SharedObject]) -> dict[str, Any]:
    return {'objects': [jsonform.to_json(each, plain=True) for each in objects]}
