"""A second look at a frame of another thread: its globals, and the values of its variables.

A stack is read quickly and keeps no frame.  For a few places that is not enough: code in no module,
such as an External Method, has its globals only in the frame; in `with lock` the value of `lock`,
and in `LOCKS[name]` that of `name`, says which lock it is.  Then the thread is looked at again, and
the answer counts only if it is still at the same instruction.  Nothing of the site is called: keys
are compared only if they are plain, and items are taken only from exact containers.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from typing import NamedTuple

from ..system.currentframes import current_frames
from .codeplaces import CodePlace

#: Keys of exactly these types are compared without code of the site.
_SCALARS = (str, bytes, int, bool, float, type(None))
#: A dict with more items is not searched.
_MOST_ITEMS = 4096


class Spot(NamedTuple):
    """A place in the stack of a thread; `level` is its position there, 0 for the innermost."""

    ident: int
    level: int
    place: CodePlace


class Found(NamedTuple):
    """A value that was found."""

    value: Any


def _variable_reader() -> Callable[[FrameType, bytes], Any] | None:
    """Return the function of Python that reads a variable of a frame; None if there is none.

    `PyFrame_GetVarString` exists from Python 3.12 on.  The attribute `f_locals` is no substitute
    before: it stores a copy of all variables in the frame, which keeps objects alive and changes
    what `locals()` has returned there.  Without the GIL the thread could go on meanwhile.
    """
    has_gil = getattr(sys, '_is_gil_enabled', lambda: True)()
    if sys.implementation.name != 'cpython' or not has_gil:
        return None
    try:
        read = ctypes.pythonapi.PyFrame_GetVarString
    except AttributeError:
        return None
    read.argtypes = [ctypes.py_object, ctypes.c_char_p]
    read.restype = ctypes.py_object
    return read


_read_variable = _variable_reader()


def scope(spot: Spot) -> dict[str, Any]:
    """Return the globals of a frame; {} if it has gone on."""
    frame = _frame(spot)
    found: Any = {} if frame is None else frame.f_globals
    return found if type(found) is dict else {}


def variable(spot: Spot, name: str) -> Found | None:
    """Return the value of a variable of a function or of its enclosing ones; None if it is not
    known.
    """
    if _read_variable is None:
        return None
    frame = _frame(spot)
    if frame is None:
        return None
    try:
        return Found(_read_variable(frame, name.encode()))
    except (NameError, UnicodeError):  # the variable has no value
        return None


def key_in(spot: Spot, name: str) -> Found | None:
    """Return the value of a variable; None if it is not known or is not a plain key."""
    found = variable(spot, name)
    return found if found and is_plain(found.value) else None


def _frame(spot: Spot) -> FrameType | None:
    frames = current_frames()
    frame = frames.get(spot.ident)
    frames.clear()  # break the cycle: it refers to our own frame, which refers to it
    for _ in range(spot.level):
        if frame is None:
            return None
        frame = frame.f_back
    if frame is None or frame.f_code is not spot.place.code:
        return None
    return frame if frame.f_lasti == spot.place.offset else None


# -- exact containers ------------------------------------------------------------------------------


def is_plain(key: object) -> bool:
    """Return whether a key is compared and hashed without code of the site."""
    if type(key) is tuple:
        return all(type(part) in _SCALARS for part in key)
    return type(key) in _SCALARS


def item(container: object, key: object) -> Found | None:
    """Return an item of an exact dict, list or tuple; None if it is not known.

    A dict is searched and not asked: asked for a key, it may compare it with a key of the site that
    has the same hash, and that runs code of the site.
    """
    if type(container) in (list, tuple):
        return _element(container, key)
    if type(container) is not dict or not is_plain(key) or len(container) > _MOST_ITEMS:
        return None
    try:
        for known, value in container.items():
            if _is_same(known, key):
                return Found(value)
    except RuntimeError:  # another thread has changed it
        return None
    return None


def _element(container: Any, index: object) -> Found | None:
    if type(index) is not int:
        return None
    try:
        return Found(container[index])
    except IndexError:
        return None


def _is_same(known: object, key: object) -> bool:
    if type(known) is not type(key):
        return False
    if type(known) is tuple and type(key) is tuple:
        if len(known) != len(key):
            return False
        return all(map(_is_same, known, key))
    return type(known) in _SCALARS and known == key


def contains(container: object, idents: set[int]) -> bool:
    """Return whether a small exact dict, list or tuple has one of the objects with these ids."""
    if type(container) not in (dict, list, tuple):
        return False
    exact: Any = container
    if len(exact) > _MOST_ITEMS:
        return False
    values = exact.values() if type(exact) is dict else exact
    try:
        return any(id(value) in idents for value in values)
    except RuntimeError:  # another thread has changed it
        return False
