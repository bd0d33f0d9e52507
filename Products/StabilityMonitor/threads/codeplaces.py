"""Where in its code a frame of a thread stands, without a reference to the frame."""

from __future__ import annotations

from types import CodeType
from typing import NamedTuple

from .activity import place


class CodePlace(NamedTuple):
    """Code, offset in its bytecode, line, name of its module.

    A tuple, because it is made while frames of other threads are held.
    """

    code: CodeType
    offset: int
    line: int | None
    module: str

    @property
    def text(self) -> str:
        """Such as `shop/views.py:31 in checkout`."""
        return place(self.code.co_filename, self.line, self.code.co_name)


#: The places of a thread, innermost first.
Stack = tuple[CodePlace, ...]
