"""The Python stacks of other threads: file, line and function of each frame, and nothing else.

Local variables are never read.  References to frames are dropped at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType

from ..model.records import Frame
from ..system.currentframes import current_frames

MOST = 200


def walk(frame: FrameType | None, most: int = MOST) -> tuple[Frame, ...]:
    """Return `frame` and its callers, innermost first, at most `most` frames."""
    found: list[Frame] = []
    while frame is not None and len(found) < most:
        code = frame.f_code
        found.append(Frame(code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


def stacks(idents: Iterable[int]) -> dict[int, tuple[Frame, ...]]:
    """Return {ident: frames} of those of the given threads that still exist."""
    frames = current_frames()
    try:
        return {ident: walk(frames[ident]) for ident in idents if ident in frames}
    finally:
        frames.clear()  # break the cycle: it refers to our own frame, which refers to it
