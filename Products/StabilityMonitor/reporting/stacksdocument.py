"""A stacks document (`model.threadstates.Stacks`): put in order, judged, and told in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..model.jsonform import from_json
from ..model.records import duration
from ..model.severities import CRITICAL
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..threads.activity import ACTIVITIES
from . import axes

_KINDS = ('worker', 'main', 'other')


def tidy(document: dict[str, Any]) -> Stacks:
    """The values of a document, which may come from another process, even of another release."""
    return from_json(Stacks, document)


# -- judging ---------------------------------------------------------------------------------------


def is_well(told: Stacks) -> bool:
    """No hang, deadlock or slow request lasts, and no thread spins that should not."""
    for hang in told.hangs:
        may_spin = hang.kind == 'spinning' and hang.severity != CRITICAL
        if hang.lasts and not may_spin:
            return False
    return not any(request.lasts for request in told.slow)


def ordered(
    threads: Iterable[ThreadState], own: int = 0
) -> tuple[list[ThreadState], list[ThreadState]]:
    """(threads that do something, the oldest request first; idle workers and our own threads).

    `own` is the ident of the thread that asks: the request that it serves is the question itself.
    """
    loud: list[ThreadState] = []
    quiet: list[ThreadState] = []
    for thread in threads:
        group = quiet if _is_quiet(thread, own) else loud
        group.append(thread)
    loud.sort(key=_rank)
    quiet.sort(key=lambda thread: (thread.kind == 'monitor', thread.name, thread.native_id))
    return loud, quiet


def _is_quiet(thread: ThreadState, own: int) -> bool:
    if thread.kind == 'monitor':
        return True
    if own and thread.ident == own:
        return True
    return thread.activity == 'idle' and not thread.request


def _rank(thread: ThreadState) -> tuple[bool, float, int, str, int]:
    """For sorting: those with a request first, the oldest request first, then by kind."""
    kind = _KINDS.index(thread.kind) if thread.kind in _KINDS else len(_KINDS)
    seconds = thread.request.seconds or 0.0 if thread.request else 0.0
    return not thread.request, -seconds, kind, thread.name, thread.native_id


# -- words -----------------------------------------------------------------------------------------


def word(thread: ThreadState) -> str:
    """What a thread is doing, in words."""
    return ACTIVITIES.get(thread.activity, thread.activity) or 'not known'


def stack_words(thread: ThreadState) -> str:
    """`120 KiB of 8.0 MiB`; '' where it is not known."""
    if thread.stack_size <= 0 or thread.stack_used <= 0:
        return ''
    return f'{axes.size(thread.stack_used)} of {axes.size(thread.stack_size)}'


def room_words(thread: ThreadState) -> str:
    """`stack: 120 KiB of 8.0 MiB used, 7.9 MiB never`; '' where it is not known."""
    words = stack_words(thread)
    if not words:
        return ''
    left = max(0, thread.stack_size - thread.stack_used)
    return f'stack: {words} used, {axes.size(left)} never'


def age(seconds: float) -> str:
    """As `4.2 s` or `5 min 2 sec`."""
    return f'{seconds:.1f} s' if seconds < 60 else duration(seconds)
