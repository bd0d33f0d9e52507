"""Measures how much of a stack repeats the same few functions.  Frames in, a number out."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from ..model.records import Frame

#: At most this many frames may be above the cycle: the functions that the recursion called last.
CALLED_LAST = 8
#: Length of the longest cycle that is searched for, in frames.
_LONGEST_CYCLE = 8


def repetition(frames: Iterable[Frame]) -> int:
    """Return how many frames a repeating cycle covers at the top of the stack.

    A cycle is a sequence of up to 8 (file, function).  Up to CALLED_LAST other frames may be above
    it.  0 if no cycle occurs at least twice in a row.
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
    """Return how many frames a cycle of `size` frames covers, from index `top` on."""
    end = top + size
    while end < len(keys):
        one_cycle_before = keys[end - size]
        if keys[end] != one_cycle_before:
            break
        end += 1
    return end - top
