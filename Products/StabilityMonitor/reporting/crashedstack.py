"""The stack of the thread that died, native and Python frames merged.  A record in, lines out."""

from __future__ import annotations

from collections.abc import Sequence

from ..knowledge import frametable
from ..knowledge.deathfacts import DeathFacts
from ..knowledge.deathfacts import facts_of
from ..model.corefile import MergedFrame
from ..model.records import Frame
from ..model.runrecord import RunRecord
from .causewords import merged_lines


def frames(record: RunRecord) -> tuple[MergedFrame, ...]:
    """Return the frames, innermost first; () if none is known.

    The frames of the handler that wrote the stack down are left out.  Python's own dump has the C
    stack and the Python stack apart: the C stack counts up to where it evaluates Python code.
    """
    facts = facts_of(record)
    native = facts.stack[_start(facts) :]
    if any(not frame.native for frame in native):
        return native
    return (*native[: _evaluation(native, facts)], *map(_merged, facts.python))


def lines(record: RunRecord) -> list[str]:
    """Return `frames` as lines; frames that repeat are shown once, with a count."""
    return merged_lines(frames(record))


def _start(facts: DeathFacts) -> int:
    """Return the index of the first frame that is not one of the handler of the signal."""
    first = facts.frames[0].frame.address if facts.frames else 0
    for index, frame in enumerate(facts.stack):
        if first and frame.address == first:
            return index
    return 0


def _evaluation(native: Sequence[MergedFrame], facts: DeathFacts) -> int:
    """Return the index of the first frame that evaluates Python code.

    It is the length of the stack if there is none, or if the Python stack is not known.
    """
    for index, frame in enumerate(native):
        row = frametable.row_of(frame.function, frame.library)
        if facts.python and row and row.category == frametable.EVALUATION:
            return index
    return len(native)


def _merged(frame: Frame) -> MergedFrame:
    return MergedFrame(frame.function, native=False, file=frame.file, line=frame.line)
