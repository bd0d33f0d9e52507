"""How much of a stack is the same few functions over and over.  Frames in, a number out."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from ..model.records import Frame

#: So many frames may lie above the cycle: what the recursion called last.
CALLED_LAST = 8


def repetition(frames: Iterable[Frame]) -> int:
    """How many frames a repeating cycle of up to 8 (file, function) covers at the stack's top.

    The cycle may start below CALLED_LAST other frames.  Fewer than two
    full cycles are none: 0.
    """
    keys = [(frame.file, frame.function) for frame in frames]
    return max(_run(keys, top, size) for top in range(CALLED_LAST + 1) for size in range(1, 9))


def _run(keys: Sequence[tuple[str, str]], top: int, size: int) -> int:
    end = top + size
    while end < len(keys) and keys[end] == keys[end - size]:
        end += 1
    return end - top if end - top >= 2 * size else 0
