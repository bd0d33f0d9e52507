"""Which distributions were installed in a run: one file for each set, shared by its runs.

    <base>/installed/<digest>.json    {"distributions": {name: version}, "builds": {name: build}}
    <run's directory>/installed.json  {"installed": <digest>}

A crash is judged by the versions of its own run, not by those installed now.  Runs of older
releases have their distributions in their own installed.json, or in the context of their record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .rundirectory import INSTALLED
from .rundirectory import Base
from .sharedsets import SharedSets

FOLDER = 'installed'
SETS = SharedSets(FOLDER, INSTALLED, 'installed')


def keep(
    base: Base,
    run: Path,
    distributions: dict[str, str],
    builds: dict[str, str],
) -> str:
    """Store this set if it is not there yet, and make the run in directory `run` refer to it.

    Returns the digest.  Raises OSError, or KeyError if the group of the data directory is unknown.
    """
    return SETS.keep(base, run, {'distributions': distributions, 'builds': builds})


def load(base: Path, digest: object) -> dict[str, Any]:
    """Return {distributions, builds, installed: the digest} of a set; {} if missing or damaged.

    `digest` comes from a file and may be anything.
    """
    document = SETS.load(base, digest)
    if not document:
        return {}
    found: dict[str, Any] = {}
    found.update(_words(document))
    found['installed'] = digest
    return found


def of_run(path: Path) -> dict[str, Any]:
    """Return the set of the run in that directory, in `runs` or `archive`; {} if not known."""
    known = SETS.referred(path)
    base = path.parent.parent
    found = load(base, known.get('installed'))
    if found:
        return found
    return _words(known)  # a run of an older release


def prune(base: Base, now: float | None = None) -> int:
    """Remove the sets to which no run refers any more; return how many were removed."""
    return SETS.prune(base, now)


def _words(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the distributions and builds in an untrusted document; only strings are taken."""
    found: dict[str, dict[str, str]] = {}
    for key in ('distributions', 'builds'):
        part = document.get(key)
        if not isinstance(part, dict):
            continue
        found[key] = {}
        for name, word in part.items():
            if isinstance(word, str):
                found[key][name] = word
    return found
