"""The position of a frame in its code, without a reference to the frame."""

from __future__ import annotations

from types import CodeType
from typing import NamedTuple

from .activity import place
from .activity import short


class CodePlace(NamedTuple):
    """Code, offset in its bytecode, line, and name of its module.

    It is a tuple because a tuple is made quickly: until it is made, this thread holds references to
    frames of other threads.
    """

    code: CodeType
    offset: int
    line: int | None
    module: str

    @property
    def text(self) -> str:
        """For example `shop/views.py:31 in checkout`."""
        return place(self.code.co_filename, self.line, self.code.co_name)

    @property
    def text_without_line(self) -> str:
        """For example `shop/views.py in checkout`."""
        return f'{short(self.code.co_filename)} in {self.code.co_name}'


#: The places of a thread, innermost first.
Stack = tuple[CodePlace, ...]
