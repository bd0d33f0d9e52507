"""Where a frame belongs: to the site's own code, to what carries it (Zope, its server), or to
Python.

A stack of Zope is mostly Zope.  To find a fault, look first at the few frames of the site.
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

#: Packages that carry every request, whatever the site does.
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

    `short` is its name without the folder that it is installed in, `package` what it is part of.
    """

    kind: str
    short: str
    package: str


@functools.lru_cache(4096)
def place(file: str) -> Place:
    """Where the code of that file belongs, judged by its name alone."""
    file = file.replace('\\', '/')
    installed = _INSTALLED.fullmatch(file)
    if installed:
        short = installed['rest'].lstrip('/')
        package = _package(short)
        return Place(CARRIER if package in _CARRIERS else SITE, short, package)
    library = _LIBRARY.fullmatch(file) or _FROZEN.fullmatch(file)
    if library:
        return Place(PYTHON, library['rest'], 'Python')
    return Place(SITE, '/'.join(file.split('/')[-_KEPT:]), '')


def _package(short: str) -> str:
    first, _, rest = short.partition('/')
    name = f'{first}.{rest.partition("/")[0]}' if first == 'Products' else first
    return name.removesuffix('.py')


def shortened(text: str, files: Iterable[str]) -> str:
    """A sentence with those of the files that it mentions as `place` shortens them."""
    # The longest first: the name of one file may be the end of another one's.
    for file in sorted(set(files), key=len, reverse=True):
        text = text.replace(file, place(file).short) if file else text
    return text


def own(frames: Sequence[Frame]) -> Frame | None:
    """The innermost frame of the site's own; of a stack without one, the innermost of all."""
    for frame in frames:
        if place(frame.file).kind == SITE:
            return frame
    return frames[0] if frames else None


def groups(
    frames: Iterable[Any], most: int = 2, file: Callable[[Any], str] = lambda frame: frame.file
) -> list[tuple[bool, list[Any]]]:
    """(folded, frames) in their order: runs of more than `most` frames of others may be folded.

    The innermost frame is never in such a run, because it says what the thread does.
    """
    found: list[tuple[bool, list[Any]]] = []
    for index, frame in enumerate(frames):
        foreign = index > 0 and place(file(frame)).kind != SITE
        if not found or found[-1][0] != foreign:
            found.append((foreign, []))
        found[-1][1].append(frame)
    return [(foreign and len(run) > most, run) for foreign, run in found]


def named(files: Iterable[str]) -> str:
    """The packages of those files, each once, as `waitress, ZPublisher, Zope2`."""
    places = map(place, files)
    return ', '.join(dict.fromkeys(each.package or each.short for each in places))
