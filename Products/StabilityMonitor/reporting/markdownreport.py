"""The report as Markdown, as GitHub and most other trackers render it.

Foreign text stays text: it is escaped in sentences and tables, and in blocks of code the fence is
longer than any in the text.  A mention (@name) or a reference (#1) is broken by an empty comment,
because trackers look for them after rendering, and would notify people.

A tracker refuses a text of 65,536 characters.  A report that is too long loses lines from its last
sections first, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace

from zope.interface import provider

from ..model.counts import counted
from ..model.interfaces import IRenderer
from ..model.plaintext import clean
from .blocks import Block
from .blocks import Facts
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Picture
from .blocks import Section
from .blocks import Table
from .fromdisk import Document
from .sections import sections

#: A text must be shorter than this, in characters; GitHub's limit.
LIMIT = 65_536
#: A longer line, or a longer text in a sentence or cell, is cut.
_LINE = 1_000
#: How many lines, rows or items of a block are left, if the report is too long.
_LEFT = (300, 100, 30, 10, 0)
#: What has a meaning in Markdown, within a line or at its start, and is a character all the same.
_SPECIAL = re.compile(r'[\\`*\[\]<~|$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)')
_AT_START = re.compile(r'(?:[-+=#>]|\d+(?=[.)]))')
_REFERENCE = re.compile(r'(?P<mark>@|#|\bGH-)(?=\w)')
#: A backslash before these is not enough: a table would be divided, an entity shown as one.
_ENTITIES = {'|': '&#124;', '&': '&amp;'}
#: An address that is safe to be a link.
_ADDRESS = re.compile(r'(https?://[\w.~/?#&=%+:@!,;-]*[\w/])', re.ASCII)
_BACKTICKS = re.compile('`+')


@provider(IRenderer)
def as_markdown(report: Document) -> bytes:
    """See IRenderer.  For trackers; always shorter than LIMIT."""
    return text(report).encode('utf-8', 'backslashreplace')


def text(report: Document, limit: int = LIMIT) -> str:
    """Return the report in fewer than `limit` characters."""
    made = sections(report)
    head = f'# {_escaped(made.title)}\n\n{_escaped(made.about)}\n'
    parts = [_section(section) for section in made.sections]
    room = limit - len(head) - 1
    for left in _LEFT:
        for number in _worst_first(made.sections):
            if sum(map(len, parts)) <= room:
                break
            shorter = _section(_shortened(made.sections[number], left))
            if len(shorter) < len(parts[number]):  # the note that lines were cut has a length, too
                parts[number] = shorter
    while parts and sum(map(len, parts)) > room:  # only very long sentences are left
        parts.pop()
    return head + ''.join(parts)


def _worst_first(all_sections: Sequence[Section]) -> list[int]:
    """Return the numbers of the sections, the one that is missed least first."""
    numbers = range(len(all_sections))
    return sorted(numbers, key=lambda number: (all_sections[number].is_open, -number))


def _shortened(section: Section, left: int) -> Section:
    """Return the section with this many lines, rows or items of each block, and what was cut."""
    blocks: list[Block] = []
    for block in section.blocks:
        blocks += _cut(block, left)
    return replace(section, blocks=tuple(blocks))


def _cut(block: Block, left: int) -> tuple[Block, ...]:
    match block:
        case Lines() if len(block.lines) > left:
            kept = block.lines[-left:] if block.ends_best else block.lines[:left]
            shorter: Block = replace(block, lines=kept if left else ())
            cut = counted(len(block.lines) - left, 'line')
        case Table() if len(block.rows) > left:
            shorter = replace(block, rows=block.rows[:left])
            cut = counted(len(block.rows) - left, 'row')
        case Items() if len(block.items) > left:
            shorter = replace(block, items=block.items[:left])
            cut = counted(len(block.items) - left, 'item')
        case _:
            return (block,)
    note = Paragraph(f'{cut} cut, since the report would be too long: see its other formats.')
    return (shorter, note) if left else (note,)


# -- blocks ----------------------------------------------------------------------------------------


def _section(section: Section) -> str:
    blocks = '\n'.join(filter(None, map(_block, section.blocks)))
    title = _escaped(section.title)
    if section.is_open:
        return f'\n## {title}\n\n{blocks}'
    return f'\n<details><summary><b>{title}</b></summary>\n\n{blocks}\n</details>\n'


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f'{_sentence(block.text)}\n'
        case Facts():
            return _titled(block.title, map(_fact, block.rows))
        case Table():
            return _titled(block.title, _table(block.head, block.rows))
        case Lines():
            return _titled(block.title, _code(block.lines))
        case Items():
            return _titled(block.title, _items(block))
        case Picture():
            return f'- {_sentence(block.alt)}\n'


def _titled(title: str, body: Iterable[str]) -> str:
    lines = [f'{line}\n' for line in body]
    if not lines:
        return ''
    return f'**{_escaped(title)}**\n\n{"".join(lines)}' if title else ''.join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f'| {" | ".join(map(_escaped, head))} |'
    yield f'|{" --- |" * len(head)}'
    for row in rows:
        yield f'| {" | ".join(map(_escaped, row))} |'


def _fact(row: tuple[str, str]) -> str:
    name, value = row
    return f'- **{_escaped(name)}:** {_escaped(value)}'


def _code(lines: Sequence[str]) -> Iterator[str]:
    texts = [_cut_line(clean(line)) for line in lines]
    longest = max((len(found) for text in texts for found in _BACKTICKS.findall(text)), default=0)
    fence = '`' * max(3, longest + 1)
    yield f'{fence}text'
    yield from texts
    yield fence


def _items(items: Items) -> Iterator[str]:
    for number, item in enumerate(items.items, 1):
        mark = f'{number}. ' if items.is_numbered else '- '
        yield mark + _sentence(item.text)
        for line in item.details:
            yield f'{" " * len(mark)}- {_sentence(line)}'


# -- foreign text ----------------------------------------------------------------------------------


def _sentence(text: str) -> str:
    """Return a text that begins a line."""
    found = _AT_START.match(text)
    escaped = _escaped(text)
    if not found or not escaped.startswith(found[0]):
        return escaped
    if found[0].isdigit():
        return f'{found[0]}\\{escaped[len(found[0]) :]}'
    return f'\\{escaped}'


def _escaped(text: str) -> str:
    """Return a text that renders as itself, but for addresses, which are links."""
    parts = _ADDRESS.split(_cut_line(clean(text).strip()))
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = f'<{part}>'
            continue
        part = _SPECIAL.sub(lambda found: _ENTITIES.get(found[0]) or f'\\{found[0]}', part)
        parts[number] = _REFERENCE.sub(lambda found: f'{found["mark"]}<!-- -->', part)
    return ''.join(parts)


def _cut_line(text: str) -> str:
    return text if len(text) <= _LINE else f'{text[:_LINE]} ... ({len(text):,} characters)'
