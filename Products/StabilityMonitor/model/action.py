"""What to do about a finding: sentences in which the code is marked.

Code is a command, a setting or a section of a file.  A page shows it as code, and a program can
find it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: The marks around code, see `Action`.
_MARKED = re.compile(r'("[^"]+"|`[^`]+`)')


@dataclass(frozen=True)
class Piece:
    """Words, or code.  `quoted`: the text form shows this code in quotation marks."""

    text: str
    is_code: bool = False
    quoted: bool = False

    def __str__(self) -> str:
        return f'"{self.text}"' if self.quoted else self.text


@dataclass(frozen=True, init=False)
class Action:
    """One or more sentences with code in them; empty if nothing needs to be done.

        Action('Write "threads = {count}" into `[server:main]` of zope.ini.', count=4)

    Quotation marks and backticks mark code.  The text form, `str`, keeps the quotation marks and
    omits the backticks.  Values are filled in after the marks were read, so marks in a value have
    no effect.  Without values, a brace is only a brace.
    """

    pieces: tuple[Piece, ...]

    def __init__(self, marked: str = '', /, **values: object) -> None:
        pieces = []
        for number, part in enumerate(_MARKED.split(marked)):
            is_code = number % 2 == 1  # `split` returns words and code in turn
            text = part[1:-1] if is_code else part
            if values:
                text = text.format(**values)
            if text:
                pieces.append(Piece(text, is_code, quoted=is_code and part[0] == '"'))
        object.__setattr__(self, 'pieces', tuple(pieces))

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Action:
        made = cls()
        object.__setattr__(made, 'pieces', tuple(pieces))
        return made

    @classmethod
    def plain(cls, text: str) -> Action:
        """An action from the text of a foreign document: all of it counts as words."""
        return cls.of([Piece(text)] if text else [])

    def join(self, actions: Iterable[Action]) -> Action:
        """Like `str.join`: the actions, with this one between them."""
        pieces: list[Piece] = []
        for number, action in enumerate(actions):
            if number:
                pieces += self.pieces
            pieces += action.pieces
        return Action.of(pieces)

    def __add__(self, more: Action) -> Action:
        return Action.of(self.pieces + more.pieces)

    def __bool__(self) -> bool:
        return bool(self.pieces)

    def __str__(self) -> str:
        return ''.join(map(str, self.pieces))


#: Nothing needs to be done.
NOTHING = Action()
