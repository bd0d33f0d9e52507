"""Names of frames that stay the same over lines, addresses, folders, releases and compilers.

Frames in, names out: "lxml.etree!parse" for native code, "Products.Shop.views:render" for Python.
"""

from __future__ import annotations

import os
import re

from ..model.corefile import MergedFrame
from ..model.records import Frame
from ..threads import codeorigin
from . import frametable
from .compiledmodules import Loaded

#: The code of these is in another function from Python 3.12 on (PEP 709).
_INLINED = frozenset(('<listcomp>', '<dictcomp>', '<setcomp>'))
#: Parts of the name of a file that a program made at random or from a hash: template_5fd1a0c2.py.
_MADE = re.compile(r'(?:(?<=[-_.])|^)(?:[0-9a-f]{8,}|tmp[a-z0-9_]{8})(?=[-_.]|$)', re.ASCII)
#: How the C++ ABI names a namespace without a name.
_ANONYMOUS = '_GLOBAL__N_1'
#: What follows the name of a library: ".so.2", "-f4c8a2d1.so.16.0.3" of auditwheel.
_AFTER_LIBRARY = re.compile(r'(?:-[0-9a-f]{8,})?(?:[-.]\d[\d.]*)?\.(?:so|dylib|pyd)\b.*$')


def is_telling(frame: Frame) -> bool:
    """Whether a Python frame says where the program was: not if each stack of a request has it."""
    if frame.function in _INLINED:
        return False
    return 'plumbing' not in frametable.module_roles(module_name(frame.file))


def python_name(frame: Frame) -> str:
    """Return "module:function" of a Python frame."""
    return f'{module_name(frame.file)}:{frame.function}'


def module_name(file: str) -> str:
    """Return the dotted name of the module in a file.

    Of a file in no folder where packages are installed it is only the last part: what is above
    may be the name of a folder.
    """
    place = codeorigin.place(file)
    short = place.short.removesuffix('.py')
    if short.endswith('/__init__'):
        short = short.removesuffix('/__init__')
    if not place.package:
        short = short.rpartition('/')[2]
    return _MADE.sub('*', short.replace('/', '.'))


def native_name(frame: MergedFrame, loaded: Loaded) -> str:
    """Return "object!function" of a native frame.

    Without a function it is "object+offset@build id", or only the object: see `is_named`.
    """
    where = object_name(frame.library, loaded)
    function = function_name(frame.function)
    if function:
        return f'{where}!{function}'
    known = loaded.by_file.get(frame.library)
    build = known.build_id if known else ''
    if frame.offset and build:
        return f'{where}+{frame.offset:#x}@{build[:8]}'
    return where


def object_name(library: str, loaded: Loaded) -> str:
    """Return the module or the library of a shared object, without its version."""
    if not library:
        return '?'
    if frametable.object_role(library) == frametable.PLATFORM and frametable.is_python(library):
        return 'python'
    owner = loaded.of_file(library)
    if '.so' not in owner.module and '/' not in owner.module:
        return owner.module
    return _AFTER_LIBRARY.sub('', os.path.basename(library))


def function_name(function: str) -> str:
    """Return the name of a native function without what compilers, releases and types add to it."""
    name = frametable.plain_name(function).replace('(anonymous namespace)', _ANONYMOUS)
    if not name.startswith('operator'):
        name = name.partition('(')[0] or name
    return name.strip()
