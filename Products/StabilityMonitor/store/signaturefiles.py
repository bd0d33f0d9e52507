"""The file `signature.json` beside the record of an archived run: the signature of its incident.

It is a cache.  `signatures.RULES` says by which rules it was made, and `of` from which files; if
either is another one, the signature is made again.  Nothing depends on the file: where it cannot be
written, as in a copy that can only be read, it is left out.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ..model import foreignjson
from ..model.feature import Feature
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.signature import Signature
from .regularfiles import Folder
from .regularfiles import opened
from .rundirectory import INCIDENT
from .rundirectory import Base

SIGNATURE = 'signature.json'
#: At most this many bytes of the file are read, and written.
MOST = 64 << 10
_FORMAT = 1
#: The files that tell how a run ended.  Each is written once, whole, so its size is enough to
#: recognise it: unlike its time, that is the same in a copy on another machine.
_SOURCES = re.compile(r'incident\.json|core\.json|witness-[a-z]{1,20}\.json', re.ASCII)

#: {name of a file that tells how the run ended: its size in bytes}
Sources = dict[str, int]


@dataclass(frozen=True)
class Signed:
    """What is kept of a run; `signature` is None if it has none.

    `features` are what incidents are compared by, see `knowledge.runfeatures`.
    """

    signature: Signature | None
    features: tuple[Feature, ...] = ()


def sources(base: Base, run: str) -> Sources | None:
    """Return from which files an archived run is signed; None if it is not archived."""
    try:
        with opened(base.archive) as archive, archive.folder(run) as folder:
            return _sources(folder)
    except OSError:
        return None


def read(base: Base, run: str, rules: int) -> Signed | None:
    """Return what is kept of an archived run; None if nothing is, or if it is no longer right."""
    with contextlib.suppress(OSError, ValueError):
        with opened(base.archive) as archive, archive.folder(run) as folder:
            document = foreignjson.parse(folder.read_whole(SIGNATURE, MOST))
            if isinstance(document, dict) and _is_current(document, rules, _sources(folder)):
                return _signed(document)
    return None


def write(base: Base, run: str, rules: int, made_from: Sources, signed: Signed) -> bool:
    """Keep the signature of an archived run; return whether that was possible.

    `made_from` are the sources from before the record was read: if one came meanwhile, the file is
    out of date from the start.
    """
    document = {
        'format': _FORMAT,
        'rules': rules,
        'of': made_from,
        'signature': to_json(signed.signature) if signed.signature else None,
        'features': list(map(to_json, signed.features)),
    }
    content = json.dumps(document).encode()
    if len(content) > MOST:
        return False
    try:
        with opened(base.archive) as archive, archive.folder(run) as folder:
            # Who may read the record may read this, too.
            mode = folder.stat(INCIDENT).st_mode & 0o777
            folder.write_whole(SIGNATURE, content, mode)
    except OSError:
        return False
    return True


def _sources(folder: Folder) -> Sources:
    return {name: status.st_size for name, status in folder.statuses() if _SOURCES.fullmatch(name)}


def _is_current(document: dict[str, Any], rules: int, now: Sources) -> bool:
    expected = (_FORMAT, rules, now)
    return (document.get('format'), document.get('rules'), document.get('of')) == expected


def _signed(document: dict[str, Any]) -> Signed:
    """Raises ValueError if the document does not fit."""
    found = document['signature'] if 'signature' in document else ''
    features = document.get('features')
    if not isinstance(features, list):
        raise ValueError('no list of features')
    signature = None if found is None else from_json(Signature, found, strict=True)
    return Signed(signature, tuple(from_json(Feature, each, strict=True) for each in features))
