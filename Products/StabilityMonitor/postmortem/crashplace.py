"""Names the place of a crash: the innermost frame that says something.  Frames in, words out.

The machinery that imports modules is never such a place: its frames are the same for each module.
The place is then the line that imports.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Sequence

from ..model.records import Frame

#: How the files of the import machinery begin or end.
_FROZEN = ('<frozen importlib', '<frozen zipimport')
_IMPORTLIB = (
    '/importlib/__init__.py',
    '/importlib/_bootstrap.py',
    '/importlib/_bootstrap_external.py',
)


def is_import_machinery(frame: Frame) -> bool:
    return frame.file.startswith(_FROZEN) or frame.file.endswith(_IMPORTLIB)


def without_machinery(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    return tuple(frame for frame in frames if not is_import_machinery(frame))


def importing_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the frame whose line imports a module, if the stack ends inside of that import."""
    if not frames or not is_import_machinery(frames[0]):
        return None
    for frame in frames:
        if not is_import_machinery(frame):
            return frame
    return None


def short_file(frame: Frame) -> str:
    """Return the file with its folder: "cryptography/exceptions.py"."""
    folder, name = os.path.split(frame.file)
    package = os.path.basename(folder)
    return f'{package}/{name}' if package else name


def place(frames: Sequence[Frame], imported: str = '') -> str:
    """Return the place in words: "in render", or "importing a._b from a/view.py, line 9".

    `imported` is the name of the module, '' if it is not known.  The result is '' if no frame says
    anything.
    """
    importing = importing_frame(frames)
    if importing:
        module = imported or 'a module'
        return f'importing {module} from {short_file(importing)}, line {importing.line}'
    telling = without_machinery(frames)
    if not telling:
        return ''
    innermost = telling[0]
    if innermost.function.startswith('<'):  # <module>, <lambda>, <genexpr>: each file has some
        return f'in {innermost.function} of {short_file(innermost)}, line {innermost.line}'
    return f'in {innermost.function}'
