"""Sets of facts that several runs share: one file for each set, named by its digest.

    <base>/<folder>/<digest>.json          the set
    <run's directory>/<reference>          {<key>: <digest>}

The digest is made from the file's content, so a damaged or forged file is recognized.
`distributionsets` and `objectsets` say what the sets are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model import foreignjson
from .regularfiles import names_in
from .regularfiles import opened
from .regularfiles import read_whole
from .regularfiles import status_of
from .regularfiles import unlink
from .rundirectory import CONTEXT_MOST
from .rundirectory import RUN_NAME
from .rundirectory import Base
from .rundirectory import read_json
from .rundirectory import write_whole

#: The first 128 bits of a SHA-256.
_DIGEST = re.compile(r'[0-9a-f]{32}', re.ASCII)
#: A set younger than this many seconds is kept, because a run may be about to refer to it.
_YOUNG = 3600.0


@dataclass(frozen=True)
class SharedSets:
    """All sets of one kind.

    `folder` is the name of their folder in the data directory.  `reference` is the name of the file
    in the directory of a run that refers to a set, and `key` the key of the digest in it.
    """

    folder: str
    reference: str
    key: str

    def keep(self, base: Base, run: Path, document: dict[str, Any]) -> str:
        """Store this set if it is not there yet, and make the run in directory `run` refer to it.

        Returns the digest.  Raises OSError, or KeyError if the group of the data directory is
        unknown.
        """
        text = _text(document)
        digest = _digest(text.encode())
        base.make(base.path / self.folder)
        self._ensure(base, digest, text)
        write_whole(run / self.reference, json.dumps({self.key: digest}), base.file_mode)
        self._ensure(base, digest, text)  # again: an old set may have been pruned meanwhile
        return digest

    def _ensure(self, base: Base, digest: str, text: str) -> None:
        path = self._path(base.path, digest)
        if not self.load(base.path, digest):
            write_whole(path, text, base.file_mode)
        with contextlib.suppress(
            OSError
        ):  # the set belongs to another user, whose own run refers to it
            with opened(path.parent) as folder:
                folder.touch(path.name)

    def digest(self, document: dict[str, Any]) -> str:
        """Return the digest with which this set is stored."""
        return _digest(_text(document).encode())

    def load(self, base: Path, digest: object) -> dict[str, Any]:
        """Return the document of a set; {} if it is missing or damaged.

        `digest` comes from a file and may be anything.
        """
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return {}
        try:
            content = read_whole(self._path(base, digest), CONTEXT_MOST)
            if _digest(content) != digest:
                return {}
            document = foreignjson.parse(content)
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def referred(self, path: Path) -> dict[str, Any]:
        """Return what is in the reference of the run in that directory; not to be trusted."""
        return read_json(path / self.reference)

    def prune(self, base: Base, now: float | None = None) -> int:
        """Remove the sets to which no run refers any more; return how many were removed."""
        if now is None:
            now = time.time()
        unused: dict[str, Path] = {}
        for path in self._sets(base):
            if _is_old(path, now):
                unused[path.stem] = path
        for run in _runs(base):
            if not unused:
                break
            digest = self.referred(run).get(self.key)
            if isinstance(digest, str):
                unused.pop(digest, None)
        removed = 0
        for path in unused.values():
            with contextlib.suppress(OSError):
                if _is_old(path, now):  # a run with this set may have begun meanwhile
                    unlink(path)
                    removed += 1
        return removed

    def _sets(self, base: Base) -> list[Path]:
        folder = base.path / self.folder
        found = []
        for name in names_in(folder):
            path = folder / name
            if path.suffix == '.json' and _DIGEST.fullmatch(path.stem):
                found.append(path)
        return found

    def _path(self, base: Path, digest: str) -> Path:
        return base / self.folder / f'{digest}.json'


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


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)


def _digest(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return digest[:32]
