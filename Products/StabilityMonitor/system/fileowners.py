"""Which distribution brought a compiled file: by the lists of files that installers leave.

Looked at are RECORD of a wheel (it also lists the libraries below `X.libs/` that auditwheel copied
into it), installed-files.txt, the folders of eggs and of editable installs, and top_level.txt,
which is all that `setup.py develop` and Debian's packages leave.

Reading the lists of 147 distributions took 15 ms of CPU time and 50 ms in all, and may take much
longer on a slow disk.  So this is never done while a start or a request waits.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from importlib.metadata import Distribution

from .distributions import name_and_version
from .distributions import text_of

#: {file: (normalized name of its distribution, its version)}
Owners = dict[str, tuple[str, str]]


def owners(
    files: Iterable[str],
    distributions: Callable[[], Iterable[Distribution]] = importlib.metadata.distributions,
) -> Owners:
    """Return the distributions of these files, given by their real paths.

    A file whose distribution is not known is left out.
    """
    left = set(files)
    found: Owners = {}
    without_list: list[Distribution] = []
    read: list[Distribution] = []
    for distribution in distributions():
        if not left:
            return found
        listed = list(_listed(distribution))
        _assign(found, left, distribution, left.intersection(listed))
        read.append(distribution)
        if not listed:
            without_list.append(distribution)
    for distribution in read:
        if left:
            folder = _egg(distribution) or _editable(distribution)
            _assign(found, left, distribution, {file for file in left if _is_in(file, folder)})
    for top, distribution in _only_ones(without_list).items():
        _assign(found, left, distribution, {file for file in left if _is_of_top(file, top)})
    return found


def _assign(found: Owners, left: set[str], distribution: Distribution, files: set[str]) -> None:
    if not files:
        return
    name, version = name_and_version(distribution)
    if name:
        found.update(dict.fromkeys(files, (name, version)))
        left -= files


def _info(distribution: Distribution) -> str:
    """Return the path of the folder with the metadata; '' if it is in none."""
    return str(getattr(distribution, '_path', ''))


def _folder(distribution: Distribution) -> str:
    """Return the real path of the folder into which it is installed."""
    return os.path.realpath(os.path.dirname(_info(distribution)))


def _listed(distribution: Distribution) -> Iterator[str]:
    """Yield the paths of the compiled files that its list names."""
    record = text_of(distribution, 'RECORD')
    if '.so' in record:
        folder = _folder(distribution)
        for line in record.splitlines():
            if '.so' in line:
                name = line.rsplit(',', 2)[0].strip('"')
                yield os.path.normpath(os.path.join(folder, name))
    # From setuptools without wheels; the paths are relative to the folder with the metadata.
    names = text_of(distribution, 'installed-files.txt')
    if '.so' in names:
        info = os.path.join(_folder(distribution), os.path.basename(_info(distribution)))
        for line in names.splitlines():
            if '.so' in line:
                yield os.path.normpath(os.path.join(info, line))


def _egg(distribution: Distribution) -> str:
    """Return the folder of an egg, as buildout installs them: all in it belongs to it."""
    folder = _folder(distribution)
    return folder if folder.endswith('.egg') else ''


def _editable(distribution: Distribution) -> str:
    """Return the folder of an editable install (PEP 610), '' if it is none."""
    text = text_of(distribution, 'direct_url.json')
    if 'editable' not in text:
        return ''
    try:
        known = json.loads(text)
        is_editable = known['dir_info']['editable'] is True
        url = urllib.parse.urlsplit(known['url'])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ''
    if not is_editable or url.scheme != 'file':
        return ''
    return os.path.realpath(urllib.parse.unquote(url.path))


def _is_in(file: str, folder: str) -> bool:
    return bool(folder) and file.startswith(folder + os.sep)


def _only_ones(distributions: list[Distribution]) -> dict[str, Distribution]:
    """Return {path of a top-level package or module, without suffix: its distribution}.

    A namespace of several distributions is left out.
    """
    claims: dict[str, list[Distribution]] = {}
    for distribution in distributions:
        for top in text_of(distribution, 'top_level.txt').split():
            path = os.path.join(_folder(distribution), top)
            claims.setdefault(path, []).append(distribution)
    return {path: claiming[0] for path, claiming in claims.items() if len(claiming) == 1}


def _is_of_top(file: str, top: str) -> bool:
    return file.startswith((top + os.sep, top + '.'))
