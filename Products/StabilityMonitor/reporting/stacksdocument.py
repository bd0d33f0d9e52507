"""Sort, judge and describe a stacks document (`model.threadstates.Stacks`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..model.eventkinds import event_kind
from ..model.jsonform import from_json
from ..model.records import duration
from ..model.severities import CRITICAL
from ..model.threadstates import Event
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..threads.activity import ACTIVITIES
from . import axes

_KINDS = ('worker', 'main', 'other')


def tidy(document: dict[str, Any]) -> Stacks:
    """Read a document, which may come from another process, even of another release."""
    return from_json(Stacks, document)


# -- judging ---------------------------------------------------------------------------------------


def is_well(stacks: Stacks) -> bool:
    """Whether no hang, deadlock, slow request, or critical spin, slow start or slow stop lasts."""
    return not (lasting_trouble(stacks) or any(request.lasts for request in stacks.slow))


def lasting_trouble(stacks: Stacks) -> list[Event]:
    """Return each hang, deadlock, and critical spin, slow start or slow stop that lasts."""
    found = []
    for hang in stacks.hangs:
        may_be_harmless = hang.kind == 'spinning' or not event_kind(hang.kind).is_trouble
        is_harmless = may_be_harmless and hang.severity != CRITICAL
        if hang.lasts and not is_harmless:
            found.append(hang)
    return found


def ordered(
    threads: Iterable[ThreadState], own: int = 0
) -> tuple[list[ThreadState], list[ThreadState]]:
    """Return (busy threads, the oldest request first; idle workers and our own threads).

    `own` is the ident of the thread that makes the document: its request is the one that asked for
    the document, so the thread counts as idle.
    """
    active: list[ThreadState] = []
    idle: list[ThreadState] = []
    for thread in threads:
        if _counts_as_idle(thread, own):
            idle.append(thread)
        else:
            active.append(thread)
    active.sort(key=_rank)
    idle.sort(key=lambda thread: (thread.kind == 'monitor', thread.name, thread.native_id))
    return active, idle


def _counts_as_idle(thread: ThreadState, own: int) -> bool:
    if thread.kind == 'monitor':
        return True
    if own and thread.ident == own:
        return True
    return thread.activity == 'idle' and not thread.request


def _rank(thread: ThreadState) -> tuple[bool, float, int, str, int]:
    """Sort key: threads with a request first, the oldest request first, then by kind."""
    kind = len(_KINDS)
    if thread.kind in _KINDS:
        kind = _KINDS.index(thread.kind)
    seconds = 0.0
    if thread.request:
        seconds = thread.request.seconds or 0.0
    return (
        not thread.request,
        -seconds,
        kind,
        thread.name,
        thread.native_id,
    )


# -- words -----------------------------------------------------------------------------------------


def word(thread: ThreadState) -> str:
    """Return what a thread is doing, in words."""
    return ACTIVITIES.get(thread.activity, thread.activity) or ACTIVITIES['unknown']


def stack_words(thread: ThreadState) -> str:
    """For example `120 KiB of 8.0 MiB`; '' if it is not known."""
    size = thread.stack_size
    used = thread.stack_used
    if size <= 0 or used <= 0:
        return ''
    return f'{axes.size(used)} of {axes.size(size)}'


def room_words(thread: ThreadState) -> str:
    """For example `stack: at most 120 KiB of 8.0 MiB used`; '' if it is not known."""
    words = stack_words(thread)
    return f'stack: at most {words} used' if words else ''


def age(seconds: float) -> str:
    """Return seconds as `4.2 s` or `5 min 2 sec`."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    return duration(seconds)
