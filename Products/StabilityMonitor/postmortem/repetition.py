"""How much of a stack is the same few functions over and over.  Frames in, a number out."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from ..model.records import Frame

#: Frames that may lie above the cycle: what the recursion called last.
CALLED_LAST = 8
#: The longest cycle that is looked for, in frames.
_LONGEST_CYCLE = 8


def repetition(frames: Iterable[Frame]) -> int:
    """How many frames a repeating cycle of up to 8 (file, function) covers at the stack's top.

    Up to CALLED_LAST other frames may lie above the cycle.  0 where no cycle is complete twice.
    """
    keys = [(frame.file, frame.function) for frame in frames]
    most = 0
    for top in range(CALLED_LAST + 1):
        for size in range(1, _LONGEST_CYCLE + 1):
            covered = _covered(keys, top, size)
            is_twice = covered >= 2 * size
            if is_twice:
                most = max(most, covered)
    return most


def _covered(
    keys: Sequence[tuple[str, str]],
    top: int,
    size: int,
) -> int:
    """How many frames from `top` on a cycle of `size` frames covers."""
    end = top + size
    while end < len(keys):
        one_cycle_before = keys[end - size]
        if keys[end] != one_cycle_before:
            break
        end += 1
    return end - top
