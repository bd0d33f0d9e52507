"""Where in the source of a function locks are taken and held: `with X:` and `X.acquire()` ...
`X.release()`.

Nothing is run and no object is touched: source and bytecode positions in, regions out.  A function
is read once, and nothing of its file is parsed but its own lines: that is done beside requests,
with the interpreter lock held.  What cannot be read, or is no longer the source of the code that
runs, has no regions.
"""

from __future__ import annotations

import ast
import dis
import itertools
import os
import tokenize
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType

#: Of a file, which is read; of its characters, which are parsed: 1 ms for 4 KiB; of the functions
#: that are kept.
_MOST_BYTES, _MOST_PARSED, _MOST_FUNCTIONS = 1 << 18, 1 << 15, 500
_ENTER = tuple(
    dis.opmap[name] for name in ('BEFORE_WITH', 'BEFORE_ASYNC_WITH') if name in dis.opmap
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Region:
    """The lock `name` (dotted) is asked for from `ask` to `begin`, and held from there to `end`:
    (line, column).  `timed`: the call may give up.
    """

    name: str
    ask: Point
    begin: Point
    end: Point
    timed: bool = False


#: (line, column)
Point = tuple[int, int]
#: As `co_positions` has it: line, last line, column, last column.
_Span = tuple[int | None, int | None, int | None, int | None]
#: Of one function: its regions, and where the items of its `with` statements begin.
_Known = tuple[tuple[Region, ...], dict[_Span, tuple[Point, ...]]]
_cache: dict[CodeType, _Known] = {}


def regions(code: CodeType) -> tuple[Region, ...]:
    return _read(code)[0]


def position(code: CodeType, offset: int, line: int | None) -> Point:
    """(line, column) of an instruction.  Up to 3.12 the one that enters a `with` has the place of
    the whole statement; then it is that of the item that is entered.
    """
    spans = list(itertools.islice(code.co_positions(), offset // 2 + 1)) if offset >= 0 else []
    here: _Span = spans[-1] if spans else (None, None, None, None)
    found, _, column, _ = here
    if column is None:
        first = [region.ask[1] for region in regions(code) if region.ask[0] == line]
        return line or 0, min(first, default=0)
    items = _read(code)[1].get(here)
    if items and code.co_code[offset] in _ENTER:
        entered = sum(
            span == here and code.co_code[2 * i] in _ENTER for i, span in enumerate(spans)
        )
        return items[(entered - 1) % len(items)]
    return found or 0, column


def _read(code: CodeType) -> _Known:
    found = _cache.get(code)
    if found is None:
        if len(_cache) >= _MOST_FUNCTIONS:
            _cache.clear()
        found = _cache[code] = _parse(code)
    return found


def _parse(code: CodeType) -> _Known:
    try:
        node = _definition(code, _lines(code.co_filename))
    except (OSError, SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        node = None
    if node is None or not _is_source(node, code):
        return (), {}
    own = list(_own(node))
    return tuple(sorted([*_withs(own), *_acquires(own)], key=lambda region: region.ask)), _items(
        own
    )


def _lines(file: str) -> list[str]:
    if os.path.getsize(file) > _MOST_BYTES:
        raise ValueError('too long to be read beside requests')
    with tokenize.open(file) as source:
        return source.readlines()


def _definition(code: CodeType, lines: Sequence[str]) -> ast.AST | None:
    """The definition of this code, at its place; None where the file has another one there by
    now.
    """
    if code.co_name == '<module>':
        return _tree(''.join(lines))
    if code.co_name.startswith('<'):
        return None  # no statement is in there
    first, last = code.co_firstlineno, _last_line(code, lines)
    is_inner = lines[first - 1][:1].isspace()
    before = '\n' * (first - 1 - is_inner) + 'if 1:\n' * is_inner
    (node,) = _tree(before + ''.join(lines[first - 1 : last])).body
    if is_inner and isinstance(node, ast.If):
        node = node.body[0]
    return node if getattr(node, 'name', '') == code.co_name else None


def _tree(source: str) -> ast.Module:
    if len(source.lstrip()) > _MOST_PARSED:
        raise ValueError('too long to be parsed beside requests')
    return ast.parse(source)


def _last_line(code: CodeType, lines: Sequence[str]) -> int:
    """That of its block: whatever code there is, and what is deeper than its head or only closes a
    bracket.
    """
    head = _depth(lines[code.co_firstlineno - 1])
    last = max(end or 0 for _, end, _, _ in code.co_positions())
    while last < len(lines) and (_depth(lines[last]) > head or lines[last].lstrip()[:1] in ')]}'):
        last += 1
    return last


def _depth(line: str) -> int:
    """A line without anything belongs to any block."""
    return len(line) - len(line.lstrip()) if line.strip() else len(line) + 999


def _is_source(node: ast.AST, code: CodeType) -> bool:
    """Does each instruction stand where something begins there?  Those of the head have the start
    of its line.
    """
    begins = {place for inner in ast.walk(node) for place in _places(inner)}
    return all(
        (line, column) in begins or column == 0 and line <= code.co_firstlineno
        for line, _, column, _ in code.co_positions()
        if line is not None and column is not None
    )


def _places(node: ast.AST) -> Iterator[Point]:
    """Where a node begins; a method that is called also has its own name's place."""
    if hasattr(node, 'lineno') and hasattr(node, 'col_offset'):
        yield node.lineno, node.col_offset
    if isinstance(node, ast.Attribute):
        line, column = _end(node)
        yield line, column - len(node.attr.encode())


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function but those of the functions and classes in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _DEFINITIONS):
            yield child
            yield from _own(child)


def _start(node: ast.expr | ast.stmt) -> Point:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> Point:
    return node.end_lineno or 0, node.end_col_offset or 0


def _dotted(node: ast.AST) -> str:
    """`a.b.c`; '' for any other expression."""
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f'{before}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else ''


def _statements(own: Iterable[ast.AST]) -> list[ast.With | ast.AsyncWith]:
    return [node for node in own if isinstance(node, ast.With | ast.AsyncWith)]


def _items(own: Iterable[ast.AST]) -> dict[_Span, tuple[Point, ...]]:
    """{the span of a `with`, as `co_positions` has it: where its items begin}"""
    return {
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset): tuple(
            _start(item.context_expr) for item in node.items
        )
        for node in _statements(own)
    }


def _withs(own: Iterable[ast.AST]) -> Iterator[Region]:
    for node in _statements(own):
        for item in node.items:
            if name := _dotted(item.context_expr):
                yield Region(name, _start(item.context_expr), _end(item.context_expr), _end(node))


def _calls(nodes: Iterable[ast.AST], method: str) -> Iterator[tuple[str, ast.Call]]:
    """(name, call) of each `name.method()`."""
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == method
        ):
            if name := _dotted(node.func.value):
                yield name, node


def _acquires(own: Sequence[ast.AST]) -> Iterator[Region]:
    for name, call in _calls(own, 'acquire'):
        begin = _after_failure(call, own) or _end(call)
        yield Region(name, _start(call), _end(call), _end(call), _is_timed(call))
        if end := _release(name, begin, own):
            yield Region(name, begin, begin, end)


def _after_failure(call: ast.Call, own: Iterable[ast.AST]) -> Point | None:
    """`if not X.acquire(...):` - what follows there does not hold it."""
    return next(
        (
            _end(node)
            for node in own
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.UnaryOp)
            and isinstance(node.test.op, ast.Not)
            and node.test.operand is call
        ),
        None,
    )


def _release(name: str, begin: Point, own: Sequence[ast.AST]) -> Point | None:
    """Where it is given back: in the next `finally` that does so, else at the next call."""
    final = [
        node
        for block in own
        if isinstance(block, ast.Try)
        for statement in block.finalbody
        for node in ast.walk(statement)
    ]
    for nodes in (final, own):
        found = [
            _start(call)
            for other, call in _calls(nodes, 'release')
            if other == name and _start(call) >= begin
        ]
        if found:
            return min(found)
    return None


def _is_timed(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(not (isinstance(value, ast.Constant) and value.value is True) for value in values)
