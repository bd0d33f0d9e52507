"""Was it the end of a thread's stack?  A table over what the dump shows and how deep that stack has
been.

The mark of a stack never sinks: a recursion that was survived leaves it near the end for good, and
what crashes there days later may be anything.  So the mark alone says nothing; it bears out a dump
that goes deep.  A first overflow has left none, for the heartbeat looks once in a round.  `certain`
is only what has two witnesses of the same moment: the recursion in the dump, and a mark that rose
to the end in the very request that crashed.

=========================================  ==============  ===========  ====================
the dump of the crashed thread             the mark came within a tenth of the end
                                           in its request  before that  never, or not known
=========================================  ==============  ===========  ====================
endless: a cycle, and cut (100 frames, *)  certain         strong       strong
cycle: repeated over 50 frames, all shown  strong          strong       likely
deep: 50 frames or cut, without a cycle    strong          likely       a crash as any other
shallow                                    a crash as any other, however deep the stack has been
=========================================  ==============  ===========  ====================

(*) From Python 3.14 on, a recursion through C is cut after 50 frames, and what it called last is
among them: there the cycle must cover all frames shown but those.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.records import Evidence
from ..model.records import ThreadStack
from .evidence import Traces
from .repetition import CALLED_LAST
from .repetition import repetition

_CONFIDENCES: dict[str, tuple[str | None, str | None, str | None]] = {
    'endless': ('certain', 'strong', 'strong'),
    'cycle': ('strong', 'strong', 'likely'),
    'deep': ('strong', 'likely', None),
    'shallow': (None, None, None),
}
#: A dump shows at most 100 frames of a thread; so many are deep, and in a repeating cycle a runaway
#: recursion.
_DEEP = 50
#: A stack whose high-water mark has come so near its end (share of its size) is about to overflow.
_NEAR_THE_END = 0.9
_WHEN = (' in the request that crashed', ' before', ' before')
_UNKNOWN = {'stack_size': 0, 'stack_used': 0, 'stack_request': 0}


def confidence(t: Traces, crashed: ThreadStack) -> str | None:
    """How sure it is that the crashed thread ran off its stack; None where nothing speaks for
    it.
    """
    return _CONFIDENCES[_look(crashed)][_came_near(t, crashed)]


def evidence(t: Traces, crashed: ThreadStack) -> Iterator[Evidence]:
    """What was seen of the crashed thread's stack."""
    stack = stack_of(t, crashed.ident)
    repeats = _cycle(crashed)
    if repeats:
        yield Evidence(
            'fault log',
            f'{repeats} of the {len(crashed.frames)} frames shown of the crashed thread '
            'are the same few functions over and over.',
        )
    if stack['stack_size']:
        used = stack['stack_used'] >> 10
        when = f'; {used} KiB of it had been used{_WHEN[_came_near(t, crashed)]}' if used else ''
        yield Evidence(
            'black box', f'The stack of that thread was {stack["stack_size"] >> 10} KiB{when}.'
        )


def stack_of(t: Traces, ident: int | None) -> dict[str, int]:
    """{stack_size, stack_used, stack_request} of a thread, in bytes: how large, how deep, and the
    request in which it came so deep; 0 where not known.
    """
    if not t.recording or ident is None:
        return _UNKNOWN
    if ident == t.main_ident:
        words = t.recording.words
        return _UNKNOWN | {
            'stack_size': words['main_stack'],
            'stack_used': words['main_stack_used'],
        }
    known = t.recording.threads.get(ident, _UNKNOWN)
    return {key: known.get(key, 0) for key in _UNKNOWN}


def _cycle(thread: ThreadStack) -> int:
    """How many frames a runaway recursion covers; 0 if there is none."""
    repeats, shown = repetition(thread.frames), len(thread.frames)
    reaches_the_cut = thread.cut and shown >= _DEEP and repeats >= shown - CALLED_LAST
    return repeats if repeats >= _DEEP or reaches_the_cut else 0


def _look(thread: ThreadStack) -> str:
    """The row of the table."""
    if _cycle(thread):
        return 'endless' if thread.cut else 'cycle'
    return 'deep' if thread.cut or len(thread.frames) >= _DEEP else 'shallow'


def _came_near(t: Traces, crashed: ThreadStack) -> int:
    """The column of the table."""
    stack = stack_of(t, crashed.ident)
    if not 0 < stack['stack_size'] * _NEAR_THE_END <= stack['stack_used']:
        return 2
    requests = t.recording.in_flight if t.recording else ()
    served = [request.number for request in requests if request.ident == crashed.ident]
    return 0 if stack['stack_request'] in served else 1
