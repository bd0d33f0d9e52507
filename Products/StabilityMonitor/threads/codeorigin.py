"""Where the code of a frame comes from: the site, its platform (Zope and its server), or Python.

Most frames of a stack in Zope belong to Zope.  To find a fault, look first at the few frames of the
site's own code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.records import Frame

SITE, CARRIER, PYTHON = 'site', 'carrier', 'python'

#: Packages of the platform, which are in the stack of every request.
_CARRIERS = frozenset(
    (
        'AccessControl',
        'Acquisition',
        'App',
        'BTrees',
        'ComputedAttribute',
        'DateTime',
        'DocumentTemplate',
        'ExtensionClass',
        'MultiMapping',
        'OFS',
        'Persistence',
        'Products.Five',
        'Products.PageTemplates',
        'Products.PythonScripts',
        'Products.StabilityMonitor',
        'RestrictedPython',
        'Shared',
        'ZConfig',
        'ZEO',
        'ZODB',
        'ZPublisher',
        'ZServer',
        'ZTUtils',
        'Zope2',
        'chameleon',
        'gunicorn',
        'paste',
        'persistent',
        'plone',
        'relstorage',
        'transaction',
        'uvicorn',
        'waitress',
        'webob',
        'z3c',
        'zExceptions',
        'zc',
        'zmi',
        'zodburi',
        'zope',
    )
)
_INSTALLED = re.compile(r'.*(?:/(?:site|dist)-packages/|\.egg/|/src/|(?=/Products/))(?P<rest>.+)')
_LIBRARY = re.compile(r'.*/(?:lib|lib64|pypy)/(?:python|pypy)[\d.]+t?/(?P<rest>.+)')
_FROZEN = re.compile(r'<frozen (?P<rest>.+)>')
_KEPT = 3


@dataclass(frozen=True)
class Place:
    """Where a file belongs.

    `kind` is SITE, CARRIER or PYTHON.  `short` is the name of the file without the folder that it
    is installed in.  `package` is the package that it is part of, '' if not known.
    """

    kind: str
    short: str
    package: str


@functools.lru_cache(4096)
def place(file: str) -> Place:
    """Return where the code of a file belongs, judged only by the name of the file."""
    file = file.replace('\\', '/')
    installed = _INSTALLED.fullmatch(file)
    if installed:
        short = installed['rest'].lstrip('/')
        package = _package(short)
        kind = CARRIER if package in _CARRIERS else SITE
        return Place(kind, short, package)
    library = _LIBRARY.fullmatch(file) or _FROZEN.fullmatch(file)
    if library:
        return Place(PYTHON, library['rest'], 'Python')
    end = file.split('/')[-_KEPT:]
    return Place(SITE, '/'.join(end), package='')


def _package(short: str) -> str:
    """Return the package of a file: for example `ZODB`, or `Products.Shop` for a Zope product."""
    name, _, rest = short.partition('/')
    if name == 'Products':
        product, _, _ = rest.partition('/')
        name = f'{name}.{product}'
    return name.removesuffix('.py')


def shortened(text: str, files: Iterable[str]) -> str:
    """Return a text in which the names of these files are shortened as in `place`."""
    # The longest first: the name of one file may be the end of the name of another.
    for file in sorted(set(files), key=len, reverse=True):
        text = text.replace(file, place(file).short) if file else text
    return text


def own(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of the site's own code, or else the innermost frame."""
    for frame in frames:
        if place(frame.file).kind == SITE:
            return frame
    return frames[0] if frames else None


def groups(
    frames: Iterable[Any],
    most: int = 2,
    file: Callable[[Any], str] = lambda frame: frame.file,
) -> list[tuple[bool, list[Any]]]:
    """Return [(may be folded, frames)] in the order of the stack, for display.

    A sequence of more than `most` frames that are not the site's own may be folded.  The innermost
    frame is never in such a sequence, because it shows what the thread does.
    """
    runs: list[list[Any]] = []
    are_foreign: list[bool] = []  # for each sequence in `runs`
    for index, frame in enumerate(frames):
        is_foreign = index > 0 and place(file(frame)).kind != SITE
        if not runs or is_foreign != are_foreign[-1]:
            runs.append([])
            are_foreign.append(is_foreign)
        runs[-1].append(frame)
    found = []
    for is_foreign, run in zip(are_foreign, runs, strict=True):
        may_fold = is_foreign and len(run) > most
        found.append((may_fold, run))
    return found


def named(files: Iterable[str]) -> str:
    """Return the packages of these files, each once, such as `waitress, ZPublisher, Zope2`."""
    names: dict[str, None] = {}  # a set that keeps the order
    for file in files:
        where = place(file)
        names[where.package or where.short] = None
    return ', '.join(names)
