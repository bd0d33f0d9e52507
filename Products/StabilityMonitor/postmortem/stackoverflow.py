"""Decides whether a crash was a stack overflow, and how certain that is.

The table below combines what the dump shows with the high-water mark of the thread's stack.

A high-water mark never sinks.  A deep recursion that the process survived leaves the mark near the
end of the stack, and a crash days later may have any cause.  So the mark alone proves nothing: it
only confirms a deep dump.  Often the first overflow does not raise the mark, because the heartbeat
reads it only once in a round.  `certain` needs two proofs from the same moment: the recursion in
the dump, and a mark that rose to the end of the stack in the request that crashed.

=========================================  ==============  ===========  ====================
the dump of the crashed thread             the mark came within a tenth of the stack's end
                                           in its request  before that  never, or not known
=========================================  ==============  ===========  ====================
endless: a cycle, and cut (100 frames, *)  certain         strong       strong
cycle: repeated over 50 frames, all shown  strong          strong       likely
deep: 50 frames or cut, without a cycle    strong          likely       another crash
shallow                                    another crash, even if the stack was deep before
=========================================  ==============  ===========  ====================

(*) Python 3.14 and later cut a recursion through C after 50 frames.  The functions that the
recursion called last are among these, so the cycle must cover all other frames that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.records import Evidence
from ..model.records import ThreadSlot
from ..model.threadstates import ThreadState
from .evidence import Traces
from .repetition import CALLED_LAST
from .repetition import repetition

#: The table: a row for what the dump shows, a column for when the mark came near the end.
_CONFIDENCES: dict[str, tuple[str | None, str | None, str | None]] = {
    'endless': ('certain', 'strong', 'strong'),
    'cycle': ('strong', 'strong', 'likely'),
    'deep': ('strong', 'likely', None),
    'shallow': (None, None, None),
}
#: A stack with at least this many frames is deep.  A cycle that covers at least this many frames is
#: a runaway recursion.  A dump shows at most 100 frames of a thread.
_DEEP = 50
#: The mark is near the end of the stack if it is at or above this share of the stack's size.
_NEAR_THE_END = 0.9
#: The columns of the table, in the words of the evidence.
_WHEN = ('in the request that crashed', 'earlier', 'earlier')
_UNKNOWN = ThreadSlot()


def confidence(t: Traces, crashed: ThreadState) -> str | None:
    """Return how certain it is that the thread overflowed its stack; None: another crash."""
    row = _CONFIDENCES[_row(crashed)]
    return row[_column(t, crashed)]


def evidence(
    t: Traces,
    crashed: ThreadState,
    source: str = 'fault log',
) -> Iterator[Evidence]:
    """Yield what is known about the stack of the crashed thread.  `source` is where it was read."""
    stack = stack_of(t, crashed.ident)
    repeats = _cycle(crashed)
    if repeats:
        shown = len(crashed.frames)
        yield Evidence(
            source,
            f'{repeats} of the {shown} frames shown for the crashed thread '
            'repeat the same few functions.',
        )
    if stack.stack_size:
        size = stack.stack_size >> 10
        used = stack.stack_used >> 10
        fact = f'The stack of the crashed thread had {size} KiB'
        if used:
            when = _WHEN[_column(t, crashed)]
            fact += f'; its high-water mark was {used} KiB, measured {when}'
        yield Evidence('black box', f'{fact}.')


def stack_of(t: Traces, ident: int) -> ThreadSlot:
    """Return what the black box holds about the stack of a thread."""
    if not t.recording or not ident:
        return _UNKNOWN
    if ident == t.main_ident:
        words = t.recording.words
        return ThreadSlot(
            stack_size=words['main_stack'],
            stack_used=words['main_stack_used'],
        )
    return t.recording.threads.get(ident, _UNKNOWN)


def _cycle(thread: ThreadState) -> int:
    """Return how many frames a runaway recursion covers; 0 if there is none."""
    repeats = repetition(thread.frames)
    if repeats >= _DEEP:
        return repeats
    shown = len(thread.frames)
    covers_all = repeats >= shown - CALLED_LAST
    if thread.cut and shown >= _DEEP and covers_all:
        return repeats
    return 0


def _row(thread: ThreadState) -> str:
    if _cycle(thread):
        if thread.cut:
            return 'endless'
        return 'cycle'
    if thread.cut or len(thread.frames) >= _DEEP:
        return 'deep'
    return 'shallow'


def _column(t: Traces, crashed: ThreadState) -> int:
    stack = stack_of(t, crashed.ident)
    near_the_end = stack.stack_size * _NEAR_THE_END
    if not 0 < near_the_end <= stack.stack_used:
        return 2
    for request in t.in_flight:
        is_of_the_thread = request.ident == crashed.ident
        if is_of_the_thread and request.number == stack.stack_request:
            return 0
    return 1
