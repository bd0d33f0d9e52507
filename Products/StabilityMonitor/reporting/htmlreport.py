"""The report as one HTML file with its pictures.

It opens offline and asks for nothing: no script, no link to a file, and a policy that forbids
both.  All text is escaped here; the pictures come from `reporting.charts`, which escapes its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from zope.interface import provider

from ..model.interfaces import IRenderer
from ..model.plaintext import clean
from .blocks import Block
from .blocks import Facts
from .blocks import Item
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Picture
from .blocks import Section
from .blocks import Table
from .fromdisk import Document
from .sections import sections

#: Only the style of this file itself is allowed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: A frame of Python code in a stack, and a frame of native code.
_PYTHON = re.compile(r'File "(?P<file>.*)", line (?P<line>\d+|\?), in (?P<function>.*)')

_STYLE = """
:root { color-scheme: light; --ink: #212529; --soft: #5a6268; --line: #dee2e6; --ground: #f8f9fa }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 0 }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; overflow-wrap: anywhere }
p, ul, ol, dl, table, pre, svg { margin: .5rem 0 }
p, li, dd, td, th { overflow-wrap: anywhere }
.about, .detail, dt, th { color: var(--soft) }
nav { margin: 1rem 0; font-size: .9rem }
nav ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .15rem 1rem }
a { color: #0056b3 }
section, details { border-top: 1px solid var(--line); padding: 1rem 0 }
#what { border-top: 0; padding-top: 0 }
#what > p { font-size: 1.1rem }
summary { cursor: pointer }
summary h2 { display: inline }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem }
dt, dd { margin: 0 }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap }
td { min-width: 5rem }
td:first-child { min-width: 7rem }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 4px;
  padding: .5rem .75rem; font: .8rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere }
pre span { display: block; padding-left: 2rem; text-indent: -2rem; min-height: 1.45em }
pre b { font-weight: 700 }
.columns { columns: 18rem; column-gap: 1.5rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0 }
figcaption { font-weight: 600; font-size: .9rem }
svg { display: block; width: 100%; height: auto; font-family: inherit }
@media (max-width: 40rem) {
  td, td:first-child { min-width: 0 }
  th { white-space: normal }
  body { padding: 1rem }
  dl { display: block }
  dd { margin-bottom: .4rem }
  .pictures { grid-template-columns: 1fr }
}
@page { size: A4; margin: 15mm }
@media print {
  :root { font-size: 10pt }
  body { max-width: none; padding: 0; font-size: 1rem }
  nav { display: none }
  details::details-content { display: block; content-visibility: visible }
  summary { list-style: none }
  h2, h3, dt { break-after: avoid }
  tr, figure, li { break-inside: avoid }
  .pictures { grid-template-columns: 1fr 1fr }
}
"""


@provider(IRenderer)
def as_html(report: Document) -> bytes:
    """See IRenderer.  One file that needs no other."""
    made = sections(report)
    title = _text(made.title)
    contents = ''.join(
        f'<li><a href="#{each.id}">{_text(each.title)}</a></li>' for each in made.sections
    )
    body = '\n'.join(map(_section, made.sections))
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="about">{_text(made.about)}</p>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""
    return page.encode('utf-8', 'backslashreplace')


def _section(section: Section) -> str:
    title = f'<h2 id="{section.id}-title">{_text(section.title)}</h2>'
    body = ''.join(_blocks(section.blocks))
    if section.is_open:
        label = f'aria-labelledby="{section.id}-title"'
        return f'<section id="{section.id}" {label}>{title}{body}</section>'
    return f'<details id="{section.id}"><summary>{title}</summary>{body}</details>'


def _blocks(blocks: Iterable[Block]) -> Iterable[str]:
    """Yield the blocks; pictures that follow each other stand side by side."""
    pictures: list[str] = []
    for block in blocks:
        if isinstance(block, Picture):
            caption = f'<figcaption>{_text(block.title)}</figcaption>' if block.title else ''
            pictures.append(f'<figure>{caption}{block.svg}</figure>')
            continue
        yield _side_by_side(pictures)
        pictures = []
        yield _block(block)
    yield _side_by_side(pictures)


def _side_by_side(pictures: list[str]) -> str:
    return f'<div class="pictures">{"".join(pictures)}</div>' if pictures else ''


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f'<p>{_text(block.text)}</p>'
        case Facts():
            rows = (f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in block.rows)
            return f'{_title(block.title)}<dl>{"".join(rows)}</dl>' if block.rows else ''
        case Table():
            return _title(block.title) + _table(block)
        case Lines():
            lines = ''.join(map(_line, block.lines))
            return f'{_title(block.title)}<pre>{lines}</pre>'
        case Items():
            tag = 'ol' if block.is_numbered else 'ul'
            items = ''.join(map(_item, block.items))
            return f'{_title(block.title)}<{tag}>{items}</{tag}>'
    return ''


def _title(title: str) -> str:
    return f'<h3>{_text(title)}</h3>' if title else ''


def _table(table: Table) -> str:
    head = ''.join(f'<th scope="col">{_text(cell)}</th>' for cell in table.head)
    rows = []
    for row in table.rows:
        cells = ''.join(f'<td>{_text(cell)}</td>' for cell in row)
        rows.append(f'<tr>{cells}</tr>')
    return f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _item(item: Item) -> str:
    details = ''.join(f'<br><span class="detail">{_text(line)}</span>' for line in item.details)
    return f'<li>{_text(item.text)}{details}</li>'


def _line(line: str) -> str:
    """Return one line; the function of a Python frame stands out."""
    found = _PYTHON.search(line)
    if not found:
        return f'<span>{_text(line)}</span>'
    start = _text(line[: found.start('function')])
    return f'<span>{start}<b>{_text(found["function"])}</b></span>'


def _text(text: str) -> str:
    return escape(clean(text))
