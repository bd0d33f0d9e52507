"""The Python stacks of other threads: file, line and function of each frame, and nothing else.

Locals are never read.  References to frames are dropped at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType

from ..model.records import Frame
from ..system.currentframes import current_frames

MOST = 200


def walk(frame: FrameType | None, most: int = MOST) -> tuple[Frame, ...]:
    """The frames from `frame` outwards, innermost first."""
    found: list[Frame] = []
    while frame is not None and len(found) < most:
        code = frame.f_code
        found.append(Frame(code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


def stacks(idents: Iterable[int]) -> dict[int, tuple[Frame, ...]]:
    """The stacks of those threads that are still there."""
    frames = current_frames()
    try:
        return {ident: walk(frames[ident]) for ident in idents if ident in frames}
    finally:
        frames.clear()  # it holds our own frame, which holds it
