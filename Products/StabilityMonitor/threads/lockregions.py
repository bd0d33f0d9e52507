"""Where in the source of a function locks are taken and held: `with X:` and `X.acquire()` ...
`X.release()`.

Nothing is run and no object is touched: source and bytecode positions in, regions out.  This runs
beside requests with the GIL held, so each function is read once, and only its own lines are parsed.
A source that cannot be read, or that is no longer that of the running code, has no regions.
"""

from __future__ import annotations

import ast
import dis
import itertools
import os
import tokenize
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType

#: Larger files are not read (bytes), and longer functions not parsed (characters; 4 KiB take 1 ms).
_MOST_BYTES = 1 << 18
_MOST_PARSED = 1 << 15
#: The cache is emptied when it holds so many functions.
_MOST_FUNCTIONS = 500
#: The instructions that enter a `with` up to Python 3.12.
_ENTER = (
    dis.opmap.get('BEFORE_WITH'),
    dis.opmap.get('BEFORE_ASYNC_WITH'),
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Region:
    """The lock `name` (dotted) is asked for from `ask` to `begin`, and held from there to `end`.

    `timed`: the call may give up.
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
_NOWHERE: _Span = (None, None, None, None)


@dataclass(frozen=True)
class _Known:
    """What is known of one function: its regions, and where the items of its `with` statements
    begin.
    """

    regions: tuple[Region, ...]
    items: Mapping[_Span, tuple[Point, ...]]


_NOTHING = _Known((), {})
_cache: dict[CodeType, _Known] = {}


def regions(code: CodeType) -> tuple[Region, ...]:
    return _read(code).regions


def position(code: CodeType, offset: int, line: int | None) -> Point:
    """(line, column) of an instruction.

    Up to Python 3.12 the instruction that enters a `with` has the place of the whole statement.
    For it the answer is the place of the item that it enters.
    """
    spans: list[_Span] = []
    if offset >= 0:  # -1: the frame has not begun
        spans = list(itertools.islice(code.co_positions(), offset // 2 + 1))
    here = spans[-1] if spans else _NOWHERE
    first_line, _, column, _ = here
    known = _read(code)
    if column is None:
        begins = [region.ask for region in known.regions if region.ask[0] == line]
        return min(begins, default=(line or 0, 0))
    items = known.items.get(here)
    if not items:
        return first_line or 0, column
    bytecode = code.co_code
    if bytecode[offset] not in _ENTER:
        return first_line or 0, column
    entered = 0
    for index, span in enumerate(spans):
        if span == here and bytecode[2 * index] in _ENTER:
            entered += 1
    # The compiler writes a `finally` twice, so a `with` in it can be entered more often.
    return items[(entered - 1) % len(items)]


def _read(code: CodeType) -> _Known:
    found = _cache.get(code)
    if found is None:
        if len(_cache) >= _MOST_FUNCTIONS:
            _cache.clear()
        found = _cache[code] = _parse(code)
    return found


def _parse(code: CodeType) -> _Known:
    file = code.co_filename
    try:
        if os.path.getsize(file) > _MOST_BYTES:
            return _NOTHING
        with tokenize.open(file) as source:
            lines = source.readlines()
        node = _definition(code, lines)
    except (OSError, SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        return _NOTHING
    if node is None or not _is_source(node, code):
        return _NOTHING
    own = list(_own(node))
    found: list[Region] = []
    items: dict[_Span, tuple[Point, ...]] = {}
    for inner in own:
        if isinstance(inner, ast.With | ast.AsyncWith):
            span = (inner.lineno, inner.end_lineno, inner.col_offset, inner.end_col_offset)
            locks = [item.context_expr for item in inner.items]
            items[span] = tuple(map(_start, locks))
            for lock in locks:
                name = _dotted(lock)
                if name:
                    region = Region(
                        name,
                        ask=_start(lock),
                        begin=_end(lock),
                        end=_end(inner),
                    )
                    found.append(region)
    found += _acquired(own)
    found.sort(key=lambda region: region.ask)
    return _Known(tuple(found), items)


def _definition(code: CodeType, lines: Sequence[str]) -> ast.AST | None:
    """The definition of this code, at its place; None when the file has changed there."""
    if code.co_name == '<module>':
        return _tree(''.join(lines))
    if code.co_name.startswith('<'):
        return None  # a lambda or a comprehension holds no statement
    lines_before = code.co_firstlineno - 1
    own_lines = ''.join(lines[lines_before : _last_line(code, lines)])
    is_indented = own_lines[:1].isspace()
    # Lines before it are left empty, so that it has the line numbers of the file.
    before = '\n' * lines_before
    if is_indented:
        before = '\n' * (lines_before - 1) + 'if 1:\n'
    (node,) = _tree(before + own_lines).body
    if is_indented and isinstance(node, ast.If):
        node = node.body[0]
    if getattr(node, 'name', '') != code.co_name:
        return None
    return node


def _tree(source: str) -> ast.Module:
    if len(source.lstrip()) > _MOST_PARSED:
        raise ValueError('too long to be parsed beside requests')
    return ast.parse(source)


def _last_line(code: CodeType, lines: Sequence[str]) -> int:
    """The last line of its block.

    The block has all lines with code, and those after them that are indented deeper than the head
    or begin with a closing bracket.
    """
    head = _depth(lines[code.co_firstlineno - 1])
    last = max(end or 0 for _, end, _, _ in code.co_positions())
    for line in lines[last:]:
        is_bracket = line.lstrip().startswith((')', ']', '}'))
        if _depth(line) <= head and not is_bracket:
            break
        last += 1
    return last


def _depth(line: str) -> int:
    """How deep a line is indented; deeper than any other if it is empty: it ends no block."""
    if not line.strip():
        return len(line) + 999
    return len(line) - len(line.lstrip())


def _is_source(node: ast.AST, code: CodeType) -> bool:
    """Whether each instruction of the code stands where something begins in the source.

    The instructions of the head have the start of its line.
    """
    begins: set[Point] = set()
    for inner in ast.walk(node):
        if hasattr(inner, 'lineno') and hasattr(inner, 'col_offset'):
            begins.add((inner.lineno, inner.col_offset))
        if isinstance(inner, ast.Attribute):  # where its own name begins
            line, column = _end(inner)
            begins.add((line, column - len(inner.attr.encode())))
    for first_line, _, first_column, _ in code.co_positions():
        if first_line is None or first_column is None:
            continue
        is_head = first_column == 0 and first_line <= code.co_firstlineno
        if is_head:
            continue
        if (first_line, first_column) not in begins:
            return False
    return True


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function except those of the functions and classes inside it."""
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
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        if before:
            return f'{before}.{node.attr}'
    return ''


def _calls(nodes: Iterable[ast.AST], method: str) -> Iterator[tuple[str, ast.Call]]:
    """(name, call) of each `name.method()`."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == method:
            name = _dotted(function.value)
            if name:
                yield name, node


def _acquired(own: Sequence[ast.AST]) -> Iterator[Region]:
    for name, call in _calls(own, 'acquire'):
        yield Region(
            name,
            ask=_start(call),
            begin=_end(call),
            end=_end(call),
            timed=_is_timed(call),
        )
        begin = _after_failure(call, own) or _end(call)
        end = _release(name, begin, own)
        if end:
            yield Region(
                name,
                ask=begin,
                begin=begin,
                end=end,
            )


def _after_failure(call: ast.Call, own: Iterable[ast.AST]) -> Point | None:
    """The end of `if not X.acquire(...): ...`, inside of which the lock is not held."""
    for node in own:
        if not isinstance(node, ast.If):
            continue
        test = node.test
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            if test.operand is call:
                return _end(node)
    return None


def _release(name: str, begin: Point, own: Sequence[ast.AST]) -> Point | None:
    """Where it is released: in the next `finally` that does so, else at the next call."""
    final: list[ast.AST] = []
    for block in own:
        if isinstance(block, ast.Try):
            for statement in block.finalbody:
                final.extend(ast.walk(statement))
    for nodes in (final, own):
        found = []
        for other, call in _calls(nodes, 'release'):
            if other == name and _start(call) >= begin:
                found.append(_start(call))
        if found:
            return min(found)
    return None


def _is_timed(call: ast.Call) -> bool:
    """Whether `acquire` has any argument other than True, which waits without a limit."""
    values = list(call.args)
    for keyword in call.keywords:
        values.append(keyword.value)
    for value in values:
        is_true = isinstance(value, ast.Constant) and value.value is True
        if not is_true:
            return True
    return False
