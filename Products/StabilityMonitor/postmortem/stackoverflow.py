"""Whether a crash was the end of a thread's stack: a table of what the dump shows, and of how deep
the stack had been.

The high-water mark of a stack never sinks.  A recursion that the process outlived leaves the mark
near the end for good, and a crash days later may have any cause.  So the mark alone proves nothing:
it only confirms a deep dump.  The first overflow often leaves no mark, because the heartbeat reads
it once in a round.  `certain` needs two witnesses of the same moment: the recursion in the dump,
and a mark that rose to the end in the very request that crashed.

=========================================  ==============  ===========  ====================
the dump of the crashed thread             the mark came within a tenth of the end
                                           in its request  before that  never, or not known
=========================================  ==============  ===========  ====================
endless: a cycle, and cut (100 frames, *)  certain         strong       strong
cycle: repeated over 50 frames, all shown  strong          strong       likely
deep: 50 frames or cut, without a cycle    strong          likely       a crash as any other
shallow                                    a crash as any other, however deep the stack has been
=========================================  ==============  ===========  ====================

(*) Python 3.14 and later cut a recursion through C after 50 frames, and what the recursion called
last is among these.  There the cycle must cover all other frames that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.records import Evidence
from ..model.records import ThreadSlot
from ..model.threadstates import ThreadState
from .evidence import Traces
from .repetition import CALLED_LAST
from .repetition import repetition

#: The table: rows by what the dump shows, columns by when the mark came near the end.
_CONFIDENCES: dict[str, tuple[str | None, str | None, str | None]] = {
    'endless': ('certain', 'strong', 'strong'),
    'cycle': ('strong', 'strong', 'likely'),
    'deep': ('strong', 'likely', None),
    'shallow': (None, None, None),
}
#: Frames of a deep stack; in a repeating cycle, of a runaway recursion.  A dump shows at most 100.
_DEEP = 50
#: A stack is about to overflow when more than this share of its size has been used.
_NEAR_THE_END = 0.9
#: The columns of the table, in the words of the evidence.
_WHEN = (' in the request that crashed', ' before', ' before')
_UNKNOWN = ThreadSlot()


def confidence(t: Traces, crashed: ThreadState) -> str | None:
    """How sure it is that the crashed thread ran off its stack; None: a crash as any other."""
    row = _CONFIDENCES[_row(crashed)]
    return row[_column(t, crashed)]


def evidence(t: Traces, crashed: ThreadState) -> Iterator[Evidence]:
    """What was seen of the crashed thread's stack."""
    stack = stack_of(t, crashed.ident)
    repeats = _cycle(crashed)
    if repeats:
        shown = len(crashed.frames)
        yield Evidence(
            'fault log',
            f'{repeats} of the {shown} frames shown of the crashed thread '
            'are the same few functions over and over.',
        )
    if stack.stack_size:
        size = stack.stack_size >> 10
        used = stack.stack_used >> 10
        fact = f'The stack of that thread was {size} KiB'
        if used:
            when = _WHEN[_column(t, crashed)]
            fact += f'; {used} KiB of it had been used{when}'
        yield Evidence('black box', f'{fact}.')


def stack_of(t: Traces, ident: int) -> ThreadSlot:
    """What the black box holds of the stack of a thread."""
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
    """How many frames a runaway recursion covers; 0 if there is none."""
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
