"""Which compiled modules a line of Python code may have called.

A stack of Python names the line that called C code, not the code.  So the source of that line is
read, and its names are followed through the imports and assignments of the file.  Nothing is
imported or run.  Sources come from a function that is handed in; what it returns is not trusted.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from itertools import islice

from ..model.records import Frame
from ..threads import codeorigin
from . import frametable
from .compiledmodules import Loaded
from .compiledmodules import package_of

#: Returns the text of a file of Python code as it was when the run started; None if not known.
Read = Callable[[str], str | None]

#: How sure it is that a module was called.
EXACT = 'exact'  # the line calls a name that comes from that module
PACKAGE = 'package'  # the line calls a name of a package that has this compiled module
NEARBY = 'nearby'  # the same function called it before: damage may surface later
WITHIN = 'within'  # the code is in a package that has this compiled module, or its file imports it
#: At most this many frames, modules of a package, steps from name to name, files of a package, and
#: calls of a function are followed.
_FRAMES = 3
_SIBLINGS = 3
_STEPS = 6
_FILES = 8
_CALLS = 20
#: At most this many nodes of a file are looked at.
_NODES = 200_000
#: Functions that load a shared library, as ctypes and cffi name them.
_LOADERS = ('CDLL', 'PyDLL', 'LoadLibrary', 'dlopen', 'WinDLL', 'load_library')


@dataclass(frozen=True)
class Callee:
    """A compiled module, or the file name of a shared library, that a frame may have called.

    `how` is EXACT, PACKAGE, NEARBY or WITHIN.  `depth` counts the frames that may have called C
    code, from the innermost, 0.
    """

    module: str
    how: str
    frame: Frame
    depth: int = 0
    is_library: bool = False

    @property
    def weight(self) -> int:
        """How much speaks for it, from 0 to 9."""
        return max(0, _WEIGHTS[self.how] - self.depth)


#: What each way to find a module weighs.  How it was found matters more than in which frame.
_WEIGHTS = {EXACT: 9, PACKAGE: 7, NEARBY: 5, WITHIN: 2}


def callees(
    frames: Sequence[Frame], loaded: Loaded, read: Read, most: int = _FRAMES
) -> tuple[Callee, ...]:
    """Return what the innermost frames, `most` of them, may have called, the likeliest first."""
    answers: list[Callee] = []
    for depth, frame in _telling(frames, loaded)[:most]:
        answers += _of_frame(frame, depth, loaded, read)
    answers.sort(key=lambda each: -each.weight)
    found: dict[str, Callee] = {}
    for callee in answers:
        found.setdefault(callee.module, callee)
    return tuple(found.values())


def imported(frames: Sequence[Frame], loaded: Loaded, read: Read) -> tuple[str, ...]:
    """Return the modules that the innermost import of this stack may have loaded, by its line."""
    for frame in frames:
        module = loaded.module_of(frame.file)
        if module.partition('.')[0] in ('importlib', 'zipimport'):
            continue
        source = _source(frame.file, module, read)
        if source is None:
            return ()
        return tuple(dict.fromkeys(source.imported_at(frame.line or 0)))
    return ()


def _telling(frames: Sequence[Frame], loaded: Loaded) -> list[tuple[int, Frame]]:
    """Return (depth, frame) of the innermost frames that may have called C code that is to blame.

    Plumbing is passed over.  A frame of the standard library may have called C code, too, but only
    of Python itself.
    """
    found = []
    depth = 0
    for frame in frames:
        if frametable.module_roles(loaded.module_of(frame.file)) & {'plumbing', 'glue'}:
            continue
        if codeorigin.place(frame.file).kind != codeorigin.PYTHON:
            found.append((depth, frame))
        depth += 1
        if len(found) == _FRAMES:
            break
    return found


def _of_frame(frame: Frame, depth: int, loaded: Loaded, read: Read) -> Iterator[Callee]:
    module_here = loaded.module_of(frame.file)
    source = _source(frame.file, module_here, read)
    within: list[str] = []
    if source:
        for name in source.called_at(frame.line or 0):
            if name.startswith('/'):
                for library in _libraries(name[1:], loaded):
                    yield Callee(library, EXACT, frame, depth, is_library=True)
            else:
                yield from _resolved(name, frame, depth, loaded, read)
        yield from _before(source, frame, depth, loaded, read)
        within = [_longest(name, loaded) for name in source.names.values()]
    within += loaded.below(package_of(module_here))[:_SIBLINGS]
    for module in list(dict.fromkeys(filter(None, within)))[:_SIBLINGS]:
        yield Callee(module, WITHIN, frame, depth)


def _before(
    source: _Source, frame: Frame, depth: int, loaded: Loaded, read: Read
) -> Iterator[Callee]:
    """Yield what the function of a frame called before, the last first."""
    modules: dict[str, bool] = {}
    for name in source.called_before(frame.line or 0):
        if name.startswith('/'):
            modules |= dict.fromkeys(_libraries(name[1:], loaded), True)
            continue
        for callee in _resolved(name, frame, depth, loaded, read):
            modules.setdefault(callee.module, False)
    for module, is_library in list(modules.items())[:_SIBLINGS]:
        yield Callee(module, NEARBY, frame, depth, is_library)


def _libraries(name: str, loaded: Loaded) -> list[str]:
    """Return the file names of the shared objects that are meant by the name of a library."""
    names = [os.path.basename(each.file) for each in loaded.libraries(name)]
    if not names and '.so' in name:
        names = [name]  # it was loaded after the objects were noted, or none were
    return [each for each in names if not frametable.object_role(each)]


def _resolved(name: str, frame: Frame, depth: int, loaded: Loaded, read: Read) -> Iterator[Callee]:
    """Yield the compiled modules to which a dotted name leads: "lxml.etree.fromstring"."""
    module = _longest(name, loaded)
    if module:
        yield Callee(module, EXACT, frame, depth)
        return
    passed_on = _passed_on(name, loaded, read)
    if passed_on:
        yield Callee(passed_on, EXACT, frame, depth)
        return
    below = loaded.below(package_of(name))
    for each in below[:_SIBLINGS]:
        yield Callee(each, PACKAGE if len(below) <= _SIBLINGS else WITHIN, frame, depth)


def _longest(name: str, loaded: Loaded) -> str:
    """Return the compiled module with which a dotted name begins; '' if there is none."""
    while name:
        if name in loaded.names:
            return name
        name = name.rpartition('.')[0]
    return ''


def _passed_on(name: str, loaded: Loaded, read: Read) -> str:
    """Return the compiled module from which a package takes a name that it passes on.

    The package is looked for beside the compiled modules whose files are known.
    """
    module, _, attribute = name.rpartition('.')
    for file in _files_of(module, loaded):
        source = _source(file, module, read)
        found = _longest(source.names.get(attribute, ''), loaded) if source else ''
        if found:
            return found
    return ''


def _files_of(module: str, loaded: Loaded) -> list[str]:
    """Return where the source of a module may be, beside the compiled modules of its package."""
    files: dict[str, None] = {}
    for each in loaded.objects:
        for known in each.modules:
            package = known.rpartition('.')[0]
            if not package or not f'{module}.'.startswith(f'{package}.'):
                continue
            rest = module[len(package) :].replace('.', '/')
            stem = os.path.dirname(each.file) + rest
            files |= dict.fromkeys((f'{stem}.py', f'{stem}/__init__.py'))
    return list(files)[:_FILES]


@dataclass
class _Source:
    """One file of Python code: what its names stand for.

    `names` are {name: dotted name} of its imports.  `values` are {name: expressions that are
    assigned to it}; a name of an attribute begins with a dot.
    """

    module: str
    is_package: bool
    nodes: list[ast.AST]
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[ast.expr]] = field(default_factory=dict)

    def note_all(self) -> None:
        for node in self.nodes:
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    self.names[alias.asname] = alias.name
                else:
                    self.names[alias.name.partition('.')[0]] = alias.name.partition('.')[0]
        elif isinstance(node, ast.ImportFrom):
            base = self._base(node)
            for alias in node.names:
                self.names[alias.asname or alias.name] = f'{base}.{alias.name}'.strip('.')
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._assign(node.target, node.value)
        elif isinstance(node, ast.For):
            self._assign(node.target, node.iter)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._assign(node.optional_vars, node.context_expr)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.values.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Attribute):
            self.values.setdefault(f'.{target.attr}', []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            for each in target.elts:
                self._assign(each, value)

    def _base(self, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module from which a statement imports."""
        if not node.level:
            return node.module or ''
        parts = self.module.split('.')
        keep = len(parts) - node.level + self.is_package
        return '.'.join([*parts[: max(0, keep)], *filter(None, [node.module])])

    def imported_at(self, line: int) -> Iterator[str]:
        """Yield the names of the modules that the statement in a line may import."""
        for node in self.nodes:
            if not isinstance(node, ast.Import | ast.ImportFrom) or not _covers(node, line):
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            base = self._base(node)
            yield from (f'{base}.{alias.name}'.strip('.') for alias in node.names)
            yield base

    def called_at(self, line: int) -> list[str]:
        """Return the dotted names of what the expressions in a line may call.

        The calls come first, the outermost last; then what operators and attributes use.  A name
        that begins with "/" is that of a shared library.
        """
        calls: list[str] = []
        others: list[str] = []
        for node in self.nodes:
            if not isinstance(node, ast.expr) or not _covers(node, line):
                continue
            if isinstance(node, ast.Call):
                calls[:0] = self._meant(node.func, _STEPS)
            elif isinstance(node, ast.BinOp | ast.Compare | ast.Subscript | ast.Attribute):
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        others += self._meant(child, _STEPS)
        return list(dict.fromkeys([*calls, *others]))[:_STEPS]

    def called_before(self, line: int) -> list[str]:
        """Return the names of what the function around a line calls before it, last first."""
        around = [
            node
            for node in self.nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _covers(node, line)
        ]
        if not around:
            return []
        function = max(around, key=lambda node: node.lineno)
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        earlier = [node for node in calls if (node.end_lineno or node.lineno) < line]
        found: list[str] = []
        for node in sorted(earlier, key=lambda node: -node.lineno)[:_CALLS]:
            found += self._meant(node.func, _STEPS)
        return list(dict.fromkeys(found))

    def _meant(self, node: ast.expr, steps: int) -> list[str]:
        """Return the dotted names, or the libraries, from which an expression has its value."""
        if steps <= 0:
            return []
        library = _library(node)
        if library:
            return [f'/{library}']
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return [self.names[node.id]]
            return self._values(node.id, steps)
        if isinstance(node, ast.Attribute):
            found = [
                name if name.startswith('/') else f'{name}.{node.attr}'
                for name in self._meant(node.value, steps - 1)
            ]
            return found or self._values(f'.{node.attr}', steps)
        if isinstance(node, ast.Call):
            return self._meant(node.func, steps - 1)
        if isinstance(node, ast.Subscript | ast.Await | ast.Starred):
            return self._meant(node.value, steps - 1)
        return []

    def _values(self, name: str, steps: int) -> list[str]:
        found: list[str] = []
        for value in self.values.get(name, ())[-_SIBLINGS:]:
            found += self._meant(value, steps - 1)
        return found


def _source(file: str, module: str, read: Read) -> _Source | None:
    """Return what a file of Python code says; None if it cannot be read or parsed."""
    text = read(file)
    if not text:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = list(islice(ast.walk(tree), _NODES))
    source = _Source(module, file.endswith('/__init__.py'), nodes)
    source.note_all()
    return source


def _covers(node: ast.expr | ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _library(node: ast.expr) -> str:
    """Return the file name of the shared library that a call loads; '' for other expressions."""
    if not isinstance(node, ast.Call):
        return ''
    name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
    if name not in _LOADERS:
        return ''
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            return os.path.basename(part.value)
    return ''
