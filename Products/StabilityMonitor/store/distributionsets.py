"""Which distributions were installed in a run: one file for each set, shared by its runs.

    <base>/installed/<digest>.json    {"distributions": {name: version}, "builds": {name: build}}
    <run's directory>/installed.json  {"installed": <digest>}

A crash is judged by the versions of its own run, not by those installed now.  The digest is made
from the file's content, so a damaged or forged file is recognized.  Runs of older releases have
their distributions in their own installed.json, or in the context of their record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model import foreignjson
from .regularfiles import names_in
from .regularfiles import opened
from .regularfiles import read_whole
from .regularfiles import status_of
from .regularfiles import unlink
from .rundirectory import CONTEXT_MOST
from .rundirectory import INSTALLED
from .rundirectory import RUN_NAME
from .rundirectory import Base
from .rundirectory import read_json
from .rundirectory import write_whole

FOLDER = 'installed'
#: The first 128 bits of a SHA-256.
_DIGEST = re.compile(r'[0-9a-f]{32}', re.ASCII)
#: A set younger than this many seconds is kept, because a run may be about to refer to it.
_YOUNG = 3600.0


def keep(
    base: Base,
    run: Path,
    distributions: dict[str, str],
    builds: dict[str, str],
) -> str:
    """Store this set if it is not there yet, and make the run in directory `run` refer to it.

    Returns the digest.  Raises OSError, or KeyError if the group of the data directory is unknown.
    """
    installed = {'distributions': distributions, 'builds': builds}
    text = json.dumps(installed, sort_keys=True)
    digest = _digest(text.encode())
    reference = json.dumps({'installed': digest})
    base.make(base.path / FOLDER)
    _ensure(base, digest, text)
    write_whole(run / INSTALLED, reference, base.file_mode)
    _ensure(base, digest, text)  # again: an old set may have been pruned meanwhile
    return digest


def _ensure(base: Base, digest: str, text: str) -> None:
    path = _path(base.path, digest)
    if not load(base.path, digest):
        write_whole(path, text, base.file_mode)
    with contextlib.suppress(
        OSError
    ):  # the set belongs to another user, whose own run refers to it
        with opened(path.parent) as folder:
            folder.touch(path.name)


def load(base: Path, digest: object) -> dict[str, Any]:
    """Return {distributions, builds, installed: the digest} of a set; {} if missing or damaged.

    `digest` comes from a file and may be anything.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return {}
    try:
        content = read_whole(_path(base, digest), CONTEXT_MOST)
        if _digest(content) != digest:
            return {}
        document = foreignjson.parse(content)
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict):
        return {}
    found: dict[str, Any] = {}
    found.update(_words(document))
    found['installed'] = digest
    return found


def of_run(path: Path) -> dict[str, Any]:
    """Return the set of the run in that directory, in `runs` or `archive`; {} if not known."""
    known = read_json(path / INSTALLED)
    base = path.parent.parent
    found = load(base, known.get('installed'))
    if found:
        return found
    return _words(known)  # a run of an older release


def prune(base: Base, now: float | None = None) -> int:
    """Remove the sets to which no run refers any more; return how many were removed."""
    if now is None:
        now = time.time()
    unused: dict[str, Path] = {}
    for path in _sets(base):
        if _is_old(path, now):
            unused[path.stem] = path
    for run in _runs(base):
        if not unused:
            break
        known = read_json(run / INSTALLED)
        digest = known.get('installed')
        if isinstance(digest, str):
            unused.pop(digest, None)
    removed = 0
    for path in unused.values():
        with contextlib.suppress(OSError):
            if _is_old(path, now):  # a run with this set may have begun meanwhile
                unlink(path)
                removed += 1
    return removed


def _sets(base: Base) -> list[Path]:
    folder = base.path / FOLDER
    found = []
    for name in names_in(folder):
        path = folder / name
        if path.suffix == '.json' and _DIGEST.fullmatch(path.stem):
            found.append(path)
    return found


def _runs(base: Base) -> Iterator[Path]:
    """Yield the directories of all runs, newest first: a newer one usually has the set."""
    for folder in (base.runs, base.archive):
        for name in sorted(names_in(folder), reverse=True):
            if RUN_NAME.fullmatch(name):
                yield folder / name


def _is_old(path: Path, now: float) -> bool:
    try:
        status = status_of(path)
    except OSError:
        return False
    age = now - status.st_mtime
    return age > _YOUNG


def _path(base: Path, digest: str) -> Path:
    return base / FOLDER / f'{digest}.json'


def _digest(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return digest[:32]


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
