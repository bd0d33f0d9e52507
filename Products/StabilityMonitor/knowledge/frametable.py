"""Prepares native stacks for people and for the search of suspects, by the table in `frames.toml`.

The table says which functions tell nothing about who caused a crash, and which shared objects and
Python modules belong to the platform.  It is read once, when it is first needed.  No other I/O.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import tomllib
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..model.corefile import MergedFrame
from ..model.records import NativeFrame
from ..store.regularfiles import read_start_outside
from .manglednames import unmangled

SHIPPED = Path(__file__).with_name('frames.toml')
#: The most bytes of the table.
_LIMIT = 256 << 10
#: At most this many frames of a stack are looked at; an endless recursion has more.
MOST = 400

#: The effects of rows of frames, the roles of objects and those of modules.
EFFECTS = ('drop-above', 'drop', 'prefix', 'token', 'merge', 'cut-below')
OBJECT_ROLES = ('platform', 'glue', 'passes-on')
MODULE_ROLES = ('plumbing', 'glue', 'zope')
PLATFORM, GLUE, PASSES_ON = OBJECT_ROLES
#: The categories that rules ask for.
GC, DEALLOC, TRAVERSE, EVALUATION = 'gc', 'dealloc', 'traverse', 'evaluation'
#: What the kernel returns to from a handler: the next frame is that of the crash.
_TRAMPOLINES = ('<signal handler called>', '__restore_rt', '__kernel_rt_sigreturn', '_sigtramp')
#: Extension modules of the standard library are in a folder of this name.
_STANDARD = '/lib-dynload/'


@dataclass(frozen=True)
class FrameRow:
    """Functions of one category, see the head of `frames.toml`; `pattern` matches their names."""

    id: str
    category: str
    effect: str
    members: tuple[str, ...]
    where: tuple[str, ...]
    source: str
    pattern: re.Pattern[str]

    def fits(self, function: str, library: str) -> bool:
        if not self.pattern.fullmatch(function):
            return False
        name = os.path.basename(library)
        return not self.where or any(fnmatch.fnmatchcase(name, each) for each in self.where)


@dataclass(frozen=True)
class NameRow:
    """Shared objects, or Python modules, of one role."""

    id: str
    role: str
    names: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class SuffixRow:
    """A part that is taken off the name of a function."""

    id: str
    pattern: re.Pattern[str]
    source: str


@dataclass(frozen=True)
class FrameTable:
    frames: tuple[FrameRow, ...]
    suffixes: tuple[SuffixRow, ...]
    objects: tuple[NameRow, ...]
    modules: tuple[NameRow, ...]


@dataclass(frozen=True)
class PreparedFrame:
    """A frame that is left after the table, with the plain name of its function.

    `category` is that of its row, '' if it is in none.  `count` frames in a row are shown as this
    one.
    """

    frame: MergedFrame
    category: str = ''
    count: int = 1

    @property
    def is_python(self) -> bool:
        """Whether Python code runs here: what called it is not who is looked for."""
        return not self.frame.native or self.category == EVALUATION


# -- reading the table -----------------------------------------------------------------------------


@functools.cache
def shipped() -> FrameTable:
    """Return the table that comes with the product.  Raises ValueError if it is damaged."""
    return load(read_start_outside(SHIPPED, _LIMIT, follow=True).decode())


def load(text: str) -> FrameTable:
    """Return the table in a text.  Raises ValueError with a sentence if a row is not complete."""
    document = tomllib.loads(text)
    unknown = document.keys() - {'frames', 'suffixes', 'objects', 'modules'}
    if unknown:
        raise ValueError(f'Unknown kind of row: {", ".join(sorted(unknown))}.')
    table = FrameTable(
        frames=tuple(map(_frame_row, document.get('frames', ()))),
        suffixes=tuple(map(_suffix_row, document.get('suffixes', ()))),
        objects=tuple(_name_row(row, OBJECT_ROLES) for row in document.get('objects', ())),
        modules=tuple(_name_row(row, MODULE_ROLES) for row in document.get('modules', ())),
    )
    ids = [row.id for row in table.frames] + [row.id for row in table.suffixes]
    ids += [row.id for row in (*table.objects, *table.modules)]
    twice = {id for id in ids if ids.count(id) > 1}
    if twice:
        raise ValueError(f'Two rows have the id {", ".join(sorted(twice))}.')
    return table


def _frame_row(row: dict[str, Any]) -> FrameRow:
    members = _texts(row, 'members')
    effect = _text(row, 'effect')
    if effect not in EFFECTS:
        raise ValueError(f'{row["id"]}: {effect!r} is no effect.')
    where = tuple(_text(row, 'where').split('|')) if 'where' in row else ()
    return FrameRow(
        id=_text(row, 'id'),
        category=_text(row, 'category'),
        effect=effect,
        members=members,
        where=where,
        source=_text(row, 'source'),
        pattern=re.compile('|'.join(map(fnmatch.translate, members))),
    )


def _suffix_row(row: dict[str, Any]) -> SuffixRow:
    try:
        pattern = re.compile(_text(row, 'pattern'))
    except re.error as error:
        raise ValueError(f'{row.get("id")}: {error}.') from None
    return SuffixRow(_text(row, 'id'), pattern, _text(row, 'source'))


def _name_row(row: dict[str, Any], roles: Sequence[str]) -> NameRow:
    role = _text(row, 'role')
    if role not in roles:
        raise ValueError(f'{row.get("id")}: {role!r} is no role.')
    return NameRow(_text(row, 'id'), role, _texts(row, 'names'), _text(row, 'source'))


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f'{row.get("id")}: {key!r} is not a text.')
    return value


def _texts(row: dict[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ValueError(f'{row.get("id")}: {key!r} is not a list of texts.')
    return tuple(value)


# -- names -----------------------------------------------------------------------------------------


@functools.lru_cache(4096)
def plain_name(function: str) -> str:
    """Return the name of a function without what compilers and libraries add to it."""
    function = unmangled(function)
    for row in shipped().suffixes:
        shorter = row.pattern.sub('', function)
        function = shorter or function
    return function


@functools.lru_cache(4096)
def row_of(function: str, library: str = '') -> FrameRow | None:
    """Return the row of a function, by its name as it is or by its plain name; None: no row."""
    if not function:
        return None
    names = dict.fromkeys((function, plain_name(function)))
    for row in shipped().frames:
        if any(row.fits(name, library) for name in names):
            return row
    return None


@functools.lru_cache(4096)
def object_role(file: str, executable: str = '') -> str:
    """Return the role of a shared object; '' if it is one like any other, and may be a suspect.

    `executable` is the program of the process.  A file that is not known is part of the platform.
    """
    if not file or file == executable or _STANDARD in file:
        name = os.path.basename(file)
        is_glue = any(_fits(name, row) for row in shipped().objects if row.role == GLUE)
        return GLUE if is_glue else PLATFORM
    name = os.path.basename(file)
    for row in shipped().objects:
        if _fits(name, row):
            return row.role
    return ''


def _fits(name: str, row: NameRow) -> bool:
    return any(fnmatch.fnmatchcase(name, each) for each in row.names)


@functools.lru_cache(4096)
def module_roles(module: str) -> frozenset[str]:
    """Return the roles of a Python module, by its dotted name; most have none."""
    found = set()
    for row in shipped().modules:
        for name in row.names:
            if module == name or module.startswith(f'{name}.'):
                found.add(row.role)
    return frozenset(found)


def is_foreign(frame: MergedFrame, executable: str = '') -> bool:
    """Whether a frame is native code of neither the system nor Python nor its standard library."""
    if not frame.native:
        return False
    return object_role(frame.library, executable) in ('', PASSES_ON)


# -- stacks ----------------------------------------------------------------------------------------


def merged(frames: Iterable[NativeFrame]) -> tuple[MergedFrame, ...]:
    """Return the C stack of a dump (Python 3.14 and later) in the form of a core file's."""
    found = []
    for frame in frames:
        found.append(
            MergedFrame(
                function=frame.symbol,
                library=frame.binary,
                address=frame.address or 0,
                # Without a symbol, the offset is that in the file.
                offset=0 if frame.symbol else frame.offset or 0,
            )
        )
    return tuple(found)


def before_python(frames: Sequence[MergedFrame], executable: str = '') -> tuple[MergedFrame, ...]:
    """Return the frames of a C stack of a dump that are surely within the innermost Python code.

    The functions that run Python code may have no name there.  So the first function of Python
    without a name, below those of the signal's handler, may be one of them.
    """
    rows = [_row(frame) for frame in frames]
    start = _after_handler(frames, rows, executable)
    for index in range(start, len(frames)):
        row = rows[index]
        is_evaluation = row is not None and row.category == EVALUATION
        if is_evaluation or not frames[index].function and is_python(frames[index].library):
            return tuple(frames[:index])
    return tuple(frames)


def is_python(file: str) -> bool:
    """Whether a shared object is the program or the library of Python, by its name."""
    return os.path.basename(file).lower().startswith(('python', 'libpython'))


def prepared(frames: Sequence[MergedFrame], executable: str = '') -> tuple[PreparedFrame, ...]:
    """Return the frames that the table leaves of a stack, innermost first."""
    frames = frames[:MOST]
    rows = [_row(frame) for frame in frames]
    start = _after_handler(frames, rows, executable)
    start = _after_throw(frames, rows, start)
    has_python = any(not frame.native for frame in frames)
    found: list[PreparedFrame] = []
    for frame, row in zip(frames[start:], rows[start:], strict=True):
        effect = row.effect if row else ''
        if effect == 'cut-below':
            break
        is_left_out = row is not None and row.category != EVALUATION
        if effect == 'merge' and (has_python or is_left_out):
            continue
        category = row.category if row else ''
        plain = replace(frame, function=plain_name(frame.function)) if frame.native else frame
        _add(found, PreparedFrame(plain, category), effect)
    return tuple(found)


def _row(frame: MergedFrame) -> FrameRow | None:
    return row_of(frame.function, frame.library) if frame.native else None


def _after_handler(
    frames: Sequence[MergedFrame], rows: Sequence[FrameRow | None], executable: str
) -> int:
    """Return where the stack of the crash begins, below the frames of the signal's handler.

    A crash inside of a handler of other code has frames of that code above it.
    """
    start = 0
    for index, (frame, row) in enumerate(zip(frames, rows, strict=True)):
        if row and row.effect == 'drop-above':
            start = index + 1
        elif not frame.native or is_foreign(frame, executable):
            break
    if 0 < start < len(frames) and frames[start - 1].function not in _TRAMPOLINES:
        # The dump of Python itself has no name for the trampoline.
        start += not frames[start].function and not is_foreign(frames[start], executable)
    return start


def _after_throw(
    frames: Sequence[MergedFrame],
    rows: Sequence[FrameRow | None],
    start: int,
) -> int:
    """Return where the stack begins, below the functions that only end the process.

    Between them may be functions without a name: of the platform, or of the library that ends the
    process, as Rust's are in each module.
    """
    for index in range(start, len(frames)):
        row = rows[index]
        if row and row.effect == 'drop':
            start = index + 1
        elif row or frames[index].function or not frames[index].native:
            break
    return start


def _add(found: list[PreparedFrame], new: PreparedFrame, effect: str) -> None:
    """Add a frame to the stack; several of one category and object in a row become one."""
    last = found[-1] if found else None
    is_like_last = (
        last is not None
        and bool(new.category)
        and last.category == new.category
        and last.frame.library == new.frame.library
    )
    if last is None or not is_like_last or effect not in ('token', 'prefix', 'merge'):
        found.append(new)
    elif effect == 'prefix':  # the outermost says what was called
        found[-1] = replace(new, count=last.count + 1)
    else:
        found[-1] = replace(last, count=last.count + 1)


def only_passes_on(each: PreparedFrame) -> bool:
    """Whether a frame says nothing but what its caller gave it: memcpy, free, or a function of the
    system without a name.
    """
    if each.category in ('allocator', 'memory', 'glue', 'throw'):
        return True
    name = os.path.basename(each.frame.library)
    return not each.frame.function and not fnmatch.fnmatchcase(name, '*python*')


def first_foreign(
    frames: Sequence[PreparedFrame], executable: str = ''
) -> tuple[int, PreparedFrame] | None:
    """Return (index, frame) of the first frame that may be to blame; None if there is none.

    The search ends at the innermost Python code: what is below that only called Python.
    """
    for index, each in enumerate(frames):
        if each.is_python:
            return None
        if is_foreign(each.frame, executable):
            return index, each
    return None


def start_routine(frames: Sequence[MergedFrame], executable: str = '') -> MergedFrame | None:
    """Return the outermost function of a thread that C code has started; None for other threads.

    A thread with a Python frame, or that Python has started, is no such thread.
    """
    if any(not frame.native for frame in frames):
        return None
    last: MergedFrame | None = None
    for frame in frames:
        row = _row(frame)
        if row and row.effect == 'cut-below':
            break
        if row and row.category == EVALUATION:
            return None
        last = frame
    else:
        return None  # the stack is cut, or it is the main thread
    if last is None or not is_foreign(last, executable):
        return None
    return last
