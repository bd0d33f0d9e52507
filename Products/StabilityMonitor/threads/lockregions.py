"""Where the source of a function takes and holds locks: `with X:`, `X.acquire()` ... `X.release()`,
`stack.enter_context(X)` in `with ExitStack() as stack:`.

`X` is any expression, see Expression; which lock that is, says `lockobjects`.

It works on source and bytecode positions only: it runs no code and touches no object of the site.
It runs while requests are served, with the GIL held, so each function is read only once, and only
its own lines are parsed.  If the source cannot be read, or has changed since the code was loaded,
there are no regions.
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

#: Files of more bytes are not read, and functions of more characters are not parsed (4 KiB take
#: 1 ms).
_MOST_BYTES = 1 << 18
_MOST_PARSED = 1 << 15
#: The cache is emptied when it has this many functions.
_MOST_FUNCTIONS = 500
#: The instructions that enter a `with` block, up to Python 3.12.
_ENTER = (
    dis.opmap.get('BEFORE_WITH'),
    dis.opmap.get('BEFORE_ASYNC_WITH'),
)
#: From Python 3.14 on, a call right after this instruction enters a `with` block.
_SPECIAL = dis.opmap.get('LOAD_SPECIAL')
_CALL = dis.opmap.get('CALL')
_ENTERING = {*_ENTER, _SPECIAL} - {None}
_SKIPPED = (
    dis.opmap.get('CACHE'),
    dis.opmap.get('NOP'),
    dis.opmap.get('EXTENDED_ARG'),
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
#: At most this many characters of an expression are shown.
_MOST_SHOWN = 80

#: (line, column)
Point = tuple[int, int]
#: A constant in square brackets: a number, a text, None, or a tuple of such.
Constant = object


@dataclass(frozen=True)
class Attribute:
    """The step `.name` of an Expression."""

    name: str


@dataclass(frozen=True)
class Item:
    """The step `[constant]` of an Expression."""

    key: Constant


@dataclass(frozen=True)
class VariableItem:
    """The step `[variable]` of an Expression."""

    variable: str


Step = Attribute | Item | VariableItem


@dataclass(frozen=True)
class Expression:
    """What the source names as a lock: `a.b['x'][n]` has the head `a` and four steps.

    `is_called`: somewhere in it is a call, or something else than names, attributes and simple
    subscripts, so its value cannot be looked up.  Then head and steps are those of the function
    that is called, if it has a name, else empty.
    """

    text: str
    head: str = ''
    steps: tuple[Step, ...] = ()
    is_called: bool = False


@dataclass(frozen=True)
class Region:
    """A thread between `ask` and `begin` waits for the lock; between `begin` and `end` it holds it.

    `timed`: the call may give up waiting.  `is_argument`: the lock is the argument of a call, which
    ends at `begin`; else it stands after `with` or before `.acquire()`.  `by_call`: it is a call
    that takes the lock.
    """

    expression: Expression
    ask: Point
    begin: Point
    end: Point
    timed: bool = False
    by_call: bool = False
    is_argument: bool = False

    @property
    def name(self) -> str:
        return self.expression.text


@dataclass(frozen=True)
class Instruction:
    """Where an instruction begins and ends in the source.

    `end` is None if it is not known; `enters`: the instruction enters a `with` block.
    """

    start: Point
    end: Point | None = None
    enters: bool = False


#: An item of `co_positions`: line, last line, column, last column.
_Span = tuple[int | None, int | None, int | None, int | None]
_NOWHERE: _Span = (None, None, None, None)


@dataclass(frozen=True)
class _Known:
    """What is known about one function.

    `items` has, for the span of each `with` statement, where each of its items begins.
    """

    regions: tuple[Region, ...]
    items: Mapping[_Span, tuple[Point, ...]]


_NOTHING = _Known((), {})
_cache: dict[CodeType, _Known] = {}


def regions(code: CodeType) -> tuple[Region, ...]:
    """Return the regions of a function, from the cache if it was read before."""
    return _read(code).regions


def enters_blocks(code: CodeType) -> bool:
    """Return whether a function has a `with` statement; its source is not read."""
    return not _ENTERING.isdisjoint(code.co_code[::2])


def waits_in(region: Region, at: Instruction) -> bool:
    """Return whether a thread at this instruction waits for the lock of the region."""
    if not region.ask <= at.start < region.begin:
        return False
    if not region.expression.is_called and not region.is_argument:
        return True  # to read names, attributes and items does not block
    # The expression has calls of its own, in which the thread does not yet wait for the lock.
    if region.by_call:
        return at.end == region.begin
    return at.enters


def instruction(code: CodeType, offset: int, line: int | None) -> Instruction:
    """Return the place of an instruction in the source.

    Up to Python 3.12, the instruction that enters a `with` block has the position of the whole
    statement.  For it, return the position of the `with` item that it enters.
    """
    spans: list[_Span] = []
    if offset >= 0:  # -1: the frame has not begun
        spans = list(itertools.islice(code.co_positions(), offset // 2 + 1))
    span_of_instruction = spans[-1] if spans else _NOWHERE
    first_line, last_line, column, last_column = span_of_instruction
    known = _read(code)
    bytecode = code.co_code
    enters = _enters(bytecode, offset)
    if column is None:
        begins = [region.ask for region in known.regions if region.ask[0] == line]
        return Instruction(min(begins, default=(line or 0, 0)), enters=enters)
    start = first_line or 0, column
    end = last_line or 0, last_column or 0
    items = known.items.get(span_of_instruction)
    if not items or not 0 <= offset < len(bytecode) or bytecode[offset] not in _ENTER:
        return Instruction(start, end, enters)
    entered = 0
    for index, span in enumerate(spans):
        if span == span_of_instruction and bytecode[2 * index] in _ENTER:
            entered += 1
    # The compiler may copy a `finally` block, so there can be more such instructions than items.
    return Instruction(items[(entered - 1) % len(items)], end, enters)


def _enters(bytecode: bytes, offset: int) -> bool:
    """Return whether the instruction at `offset` enters a `with` block."""
    if not 0 <= offset < len(bytecode):
        return False
    if bytecode[offset] in _ENTER:
        return True
    if _SPECIAL is None or bytecode[offset] != _CALL:
        return False
    before = offset - 2
    while before >= 0 and bytecode[before] in _SKIPPED:
        before -= 2
    return before >= 0 and bytecode[before] == _SPECIAL


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
    own = list(_own_nodes(node))
    found: list[Region] = []
    items: dict[_Span, tuple[Point, ...]] = {}
    for inner in own:
        if isinstance(inner, ast.With | ast.AsyncWith):
            span = (inner.lineno, inner.end_lineno, inner.col_offset, inner.end_col_offset)
            locks = [item.context_expr for item in inner.items]
            items[span] = tuple(map(_start, locks))
            for lock in locks:
                region = Region(
                    _expression(lock),
                    ask=_start(lock),
                    begin=_end(lock),
                    end=_end(inner),
                )
                found.append(region)
    found += _acquired(own)
    found += _entered(own)
    found.sort(key=lambda region: region.ask)
    return _Known(tuple(found), items)


def _definition(code: CodeType, lines: Sequence[str]) -> ast.AST | None:
    """Return the definition of this code; None if the file has changed at its place."""
    if code.co_name == '<module>':
        return _tree(''.join(lines))
    if code.co_name.startswith('<'):
        return None  # a lambda or a comprehension has no statements
    lines_before = code.co_firstlineno - 1
    own_lines = ''.join(lines[lines_before : _last_line(code, lines)])
    is_indented = own_lines[:1].isspace()
    # Empty lines before it keep the line numbers of the file.
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
    """Return the number of the last line of the function's block.

    The block has all lines with code, and the lines after them that are indented deeper than the
    first line or begin with a closing bracket.
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
    """Return the indentation of a line.  An empty line counts as very deep: it ends no block."""
    if not line.strip():
        return len(line) + 999
    return len(line) - len(line.lstrip())


def _is_source(node: ast.AST, code: CodeType) -> bool:
    """Return whether the source belongs to the code.

    It does if each instruction has the position of the start of a node of the source.  The
    instructions of the function's head have the start of its line.
    """
    begins: set[Point] = set()
    for inner in ast.walk(node):
        if hasattr(inner, 'lineno') and hasattr(inner, 'col_offset'):
            begins.add((inner.lineno, inner.col_offset))
        if isinstance(inner, ast.Attribute):  # the start of the attribute name
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


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a function except those of functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _DEFINITIONS):
            yield child
            yield from _own_nodes(child)


def _start(node: ast.expr | ast.stmt) -> Point:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> Point:
    return node.end_lineno or 0, node.end_col_offset or 0


def _expression(node: ast.expr) -> Expression:
    text = ast.unparse(node)
    if len(text) > _MOST_SHOWN:
        text = f'{text[:_MOST_SHOWN]}...'
    steps: list[Step] = []
    inner = node.value if isinstance(node, ast.NamedExpr) else node
    while not isinstance(inner, ast.Name):
        step = _step(inner)
        if step is None:
            break
        steps.append(step)
        assert isinstance(inner, ast.Attribute | ast.Subscript)
        inner = inner.value
    if isinstance(inner, ast.Name):
        return Expression(text, inner.id, tuple(reversed(steps)))
    if isinstance(inner, ast.Call):
        called = _expression(inner.func)
        return Expression(text, called.head, called.steps, is_called=True)
    return Expression(text, is_called=True)


def _step(node: ast.expr) -> Step | None:
    """Return the last step of an expression; None if it is none of a simple kind."""
    if isinstance(node, ast.Attribute):
        return Attribute(node.attr)
    if isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Name):
            return VariableItem(node.slice.id)
        try:
            return Item(ast.literal_eval(node.slice))
        except (ValueError, TypeError, SyntaxError):
            return None
    return None


def _calls(nodes: Iterable[ast.AST], method: str) -> Iterator[tuple[ast.expr, ast.Call]]:
    """Yield (X, call) of each call `X.method(...)`."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == method:
            yield function.value, node


def _acquired(own: Sequence[ast.AST]) -> Iterator[Region]:
    """Yield the regions of calls of `acquire`: one while it waits, one while the lock is held."""
    for lock, call in _calls(own, 'acquire'):
        expression = _expression(lock)
        yield Region(
            expression,
            ask=_start(call),
            begin=_end(call),
            end=_end(call),
            timed=_is_timed(call),
            by_call=True,
        )
        begin = _after_failure(call, own) or _end(call)
        end = _release(expression.text, begin, own)
        if end:
            yield Region(
                expression,
                ask=begin,
                begin=begin,
                end=end,
            )


def _entered(own: Sequence[ast.AST]) -> Iterator[Region]:
    """Yield the regions of calls of `enter_context` of a stack that is the target of a `with`."""
    ends = {}
    for node in own:
        if not isinstance(node, ast.With | ast.AsyncWith):
            continue
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name):
                ends[item.optional_vars.id] = _end(node)
    for stack, call in _calls(own, 'enter_context'):
        end = ends.get(_expression(stack).text)
        if end and len(call.args) == 1:
            yield Region(
                _expression(call.args[0]),
                ask=_start(call),
                begin=_end(call),
                end=end,
                by_call=True,
                is_argument=True,
            )


def _after_failure(call: ast.Call, own: Iterable[ast.AST]) -> Point | None:
    """Return the end of `if not X.acquire(...): ...`; inside that block the lock is not held."""
    for node in own:
        if not isinstance(node, ast.If):
            continue
        test = node.test
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            if test.operand is call:
                return _end(node)
    return None


def _release(name: str, begin: Point, own: Sequence[ast.AST]) -> Point | None:
    """Return where the lock is released: in the next `finally` that does so, or the next call."""
    final: list[ast.AST] = []
    for block in own:
        if isinstance(block, ast.Try):
            for statement in block.finalbody:
                final.extend(ast.walk(statement))
    for nodes in (final, own):
        found = []
        for other, call in _calls(nodes, 'release'):
            if _expression(other).text == name and _start(call) >= begin:
                found.append(_start(call))
        if found:
            return min(found)
    return None


def _is_timed(call: ast.Call) -> bool:
    """Return whether a call of `acquire` has a time limit or does not block.

    That is so for any argument other than True.
    """
    values = list(call.args)
    for keyword in call.keywords:
        values.append(keyword.value)
    for value in values:
        is_true = isinstance(value, ast.Constant) and value.value is True
        if not is_true:
            return True
    return False
