"""Where in the source of a function locks are taken and held: `with X:` and `X.acquire()` ... `X.release()`.

Nothing is run and no object is touched: source and bytecode positions in, regions out.  A function is read
once; what cannot be read, or is no longer the source of the code that runs, has no regions.
"""
from __future__ import annotations

import ast
import dis
import itertools
import os
from dataclasses import dataclass
from types import CodeType

_MOST_BYTES, _MOST_FUNCTIONS = 1 << 18, 500
_ENTER = tuple(dis.opmap[name] for name in ('BEFORE_WITH', 'BEFORE_ASYNC_WITH') if name in dis.opmap)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_cache = {}


@dataclass(frozen=True)
class Region:
    """The lock `name` (dotted) is asked for from `ask` to `begin`, and held from there to `end`: (line, column).
    `timed`: the call may give up."""

    name: str
    ask: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]
    timed: bool = False


def regions(code: CodeType) -> tuple[Region, ...]:
    return _read(code)[0]


def position(code: CodeType, offset: int, line: int | None) -> tuple[int, int]:
    """(line, column) of an instruction.  Up to 3.12 the one that enters a `with` has the place of the whole
    statement; then it is that of the item that is entered."""
    spans = list(itertools.islice(code.co_positions(), offset // 2 + 1)) if offset >= 0 else []
    if not spans or spans[-1][2] is None:
        first = [region.ask[1] for region in regions(code) if region.ask[0] == line]
        return line or 0, min(first, default=0)
    found, _, column, _ = spans[-1]
    items = _read(code)[1].get(spans[-1])
    if items and code.co_code[offset] in _ENTER:
        entered = sum(span == spans[-1] and code.co_code[2 * i] in _ENTER for i, span in enumerate(spans))
        return items[(entered - 1) % len(items)]
    return found or 0, column


def _read(code):
    found = _cache.get(code)
    if found is None:
        if len(_cache) >= _MOST_FUNCTIONS:
            _cache.clear()
        found = _cache[code] = _parse(code)
    return found


def _parse(code):
    try:
        node = _node_of(code, ast.parse(_source(code.co_filename)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if node is None:
        return (), {}
    own = list(_own(node))
    return tuple(sorted([*_withs(own), *_acquires(own)], key=lambda region: region.ask)), _items(own)


def _source(file):
    if os.path.getsize(file) > _MOST_BYTES:
        raise ValueError('too long to be read beside requests')
    with open(file, 'rb') as source:
        return source.read()


def _node_of(code, tree):
    """The definition of this code; None where the file has another one in its place by now."""
    if code.co_name == '<module>':
        return tree
    for node in ast.iter_child_nodes(tree):
        first = min([getattr(node, 'lineno', 0), *(d.lineno for d in getattr(node, 'decorator_list', ()))])
        if first == code.co_firstlineno and getattr(node, 'name', '') == code.co_name:
            return node
        if first <= code.co_firstlineno <= getattr(node, 'end_lineno', code.co_firstlineno):
            if found := _node_of(code, node):
                return found
    return None


def _own(node):
    """All nodes of a function but those of the functions and classes in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _DEFINITIONS):
            yield child
            yield from _own(child)


def _start(node):
    return node.lineno, node.col_offset


def _end(node):
    return node.end_lineno, node.end_col_offset


def _dotted(node):
    """`a.b.c`; '' for any other expression."""
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f'{before}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else ''


def _statements(own):
    return [node for node in own if isinstance(node, ast.With | ast.AsyncWith)]


def _items(own):
    """{the span of a `with`, as `co_positions` has it: where its items begin}"""
    return {(node.lineno, node.end_lineno, node.col_offset, node.end_col_offset):
            tuple(_start(item.context_expr) for item in node.items) for node in _statements(own)}


def _withs(own):
    for node in _statements(own):
        for item in node.items:
            if name := _dotted(item.context_expr):
                yield Region(name, _start(item.context_expr), _end(item.context_expr), _end(node))


def _calls(nodes, method):
    """(name, call) of each `name.method()`."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            if name := _dotted(node.func.value):
                yield name, node


def _acquires(own):
    for name, call in _calls(own, 'acquire'):
        begin = _after_failure(call, own) or _end(call)
        yield Region(name, _start(call), _end(call), _end(call), _is_timed(call))
        if end := _release(name, begin, own):
            yield Region(name, begin, begin, end)


def _after_failure(call, own):
    """`if not X.acquire(...):` - what follows there does not hold it."""
    return next((_end(node) for node in own if isinstance(node, ast.If) and isinstance(node.test, ast.UnaryOp)
                 and isinstance(node.test.op, ast.Not) and node.test.operand is call), None)


def _release(name, begin, own):
    """Where it is given back: in the next `finally` that does so, else at the next call."""
    final = [node for block in own if isinstance(block, ast.Try) for statement in block.finalbody
             for node in ast.walk(statement)]
    for nodes in (final, own):
        found = [_start(call) for other, call in _calls(nodes, 'release') if other == name and _start(call) >= begin]
        if found:
            return min(found)
    return None


def _is_timed(call):
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(not (isinstance(value, ast.Constant) and value.value is True) for value in values)
