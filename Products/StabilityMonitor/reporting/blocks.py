"""What a report consists of, before it gets a form: sections, and the blocks in them.

Values without any markup.  The texts may be foreign: each renderer escapes them for its own form.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Facts:
    """Rows of (name, value)."""

    rows: tuple[tuple[str, str], ...]
    title: str = ''


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as `head` has."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ''


@dataclass(frozen=True)
class Lines:
    """Lines that keep their form: a stack, an excerpt of a log, a file.

    `ends_best`: if they have to be cut, the first ones go, as in a log.
    """

    lines: tuple[str, ...]
    title: str = ''
    ends_best: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture as SVG, and the same in words."""

    svg: str
    alt: str
    title: str = ''


@dataclass(frozen=True)
class Item:
    """One item of a list, and the sentences that belong to it."""

    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Items:
    items: tuple[Item, ...]
    title: str = ''
    is_numbered: bool = False


Block = Paragraph | Facts | Table | Lines | Picture | Items


@dataclass(frozen=True)
class Section:
    """`id` is unique in a report.  Sections that are not `is_open` are for those who search."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    is_open: bool = True


@dataclass(frozen=True)
class Sections:
    """A whole report: its title in one line, what it is about, and its sections, best first."""

    title: str
    about: str
    sections: tuple[Section, ...]
