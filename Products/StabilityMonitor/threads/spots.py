"""One frame of a thread, without a reference to it."""

from __future__ import annotations

from types import CodeType
from typing import NamedTuple

from .activity import place


class Spot(NamedTuple):
    """Code, offset in its bytecode, line, name of its module.

    A tuple, because it is made while frames of other threads are held.
    """

    code: CodeType
    offset: int
    line: int | None
    module: str

    @property
    def place(self) -> str:
        return place(self.code.co_filename, self.line, self.code.co_name)
