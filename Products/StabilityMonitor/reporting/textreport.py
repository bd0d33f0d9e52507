"""The report as plain text, for people: to read in a terminal, or in a mail."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from collections.abc import Iterator

from zope.interface import provider

from ..model.interfaces import IRenderer
from ..model.plaintext import clean
from .blocks import Block
from .blocks import Facts
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Picture
from .blocks import Table
from .fromdisk import Document
from .sections import sections

_WIDTH = 100
_RULE = '=' * 78
#: A cell that is longer than this does not move the columns behind it.
_CELL = 60


@provider(IRenderer)
def as_text(report: Document) -> bytes:
    """See IRenderer.  For people."""
    text = '\n'.join(lines(report))
    return f'{text}\n'.encode('utf-8', 'backslashreplace')


def lines(report: Document) -> Iterator[str]:
    """Yield the lines of the report; control characters in foreign text are escaped."""
    made = sections(report)
    yield clean(made.title)
    yield clean(made.about)
    for section in made.sections:
        yield from ('', _RULE, clean(section.title), _RULE)
        before: Block | None = None
        for block in section.blocks:
            if before and not (isinstance(before, Picture) and isinstance(block, Picture)):
                yield ''
            yield from _block(block)
            before = block


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from _wrapped(block.text)
        case Facts():
            yield from _titled(block.title, _facts(block))
        case Table():
            yield from _titled(block.title, _table(block))
        case Lines():
            yield from _titled(block.title, (f'  {clean(line)}' for line in block.lines))
        case Items():
            yield from _titled(block.title, _items(block))
        case Picture():
            yield from _wrapped(block.alt, '- ', '  ')


def _titled(title: str, lines: Iterable[str]) -> Iterator[str]:
    if title:
        yield f'{clean(title)}:'
    yield from lines


def _wrapped(text: str, first: str = '', indent: str = '') -> list[str]:
    """Return a text in lines; long words, such as paths, stay whole."""
    return textwrap.wrap(
        clean(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(facts: Facts) -> Iterator[str]:
    width = max((len(name) for name, _ in facts.rows), default=0)
    for name, value in facts.rows:
        yield f'{clean(name):{width}}  {clean(value)}'


def _table(table: Table) -> Iterator[str]:
    rows = [tuple(map(clean, row)) for row in (table.head, *table.rows)]
    widths = [
        max(min(len(row[column]), _CELL) for row in rows) for column in range(len(table.head))
    ]
    for row in rows:
        cells = (f'{cell:{width}}' for cell, width in zip(row, widths, strict=True))
        yield '  '.join(cells).rstrip()


def _items(items: Items) -> Iterator[str]:
    for number, item in enumerate(items.items, 1):
        mark = f'{number}. ' if items.is_numbered else '- '
        indent = ' ' * len(mark)
        yield from _wrapped(item.text, mark, indent)
        for line in item.details:
            yield from _wrapped(line, indent, indent)
