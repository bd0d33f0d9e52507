"""What stands above the stacks of all threads: how many workers are busy and with what, and what to
do next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..model.counts import counted
from ..model.options import from_record
from ..model.records import duration
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from .stacksdocument import age
from .stacksdocument import lasting_trouble
from .stacksdocument import word

#: What to do in a hang that is recorded.
EVIDENCE_IS_KEPT = (
    'What next: the evidence of this is kept, so you may restart Zope. The next start says how '
    'this run ended and why it hung.'
)
#: How long a hang lasts before Zope is killed, so that it is recorded, in seconds beyond "stall".
_TO_RECORD = 10


def lines(stacks: Stacks, own: int = 0, stall: float | None = None) -> Iterator[str]:
    """Yield the sentences; none if no thread serves requests.

    `own` is the ident of the thread that makes the text; its request does not count.  `stall` is
    the option of the process, None if it is not known.
    """
    serving = [thread for thread in stacks.threads if thread.kind == 'worker' or thread.request]
    busy = [thread for thread in serving if thread.request and thread.ident != own]
    if not serving:
        return
    workers = counted(len(serving), 'worker')
    verb = 'is' if len(busy) == 1 or len(serving) == 1 else 'are'
    yield f'{len(busy)} of {workers} {verb} busy{_oldest(busy)}.'
    doing = Counter(word(thread) for thread in busy)
    if len(busy) > 1:
        words = ', '.join(f'{each} ({count})' for each, count in doing.most_common())
        yield f'What each does: {words}.'
    if lasting_trouble(stacks):
        yield EVIDENCE_IS_KEPT
    elif len(busy) == len(serving):
        yield f'No hang is recorded. {before_a_hang(stall)}'


def stall_of(context: dict[str, Any]) -> float | None:
    """Return the option "stall" of a run in seconds; None if its context does not say it."""
    stall = from_record(context.get('options')).get('stall')
    return float(stall) if isinstance(stall, int | float) else None


def _oldest(busy: list[ThreadState]) -> str:
    """For example "; the oldest request is GET /export, for 17.0 s"; '' if there is none."""
    requests = [thread.request for thread in busy if thread.request]
    if not requests:
        return ''
    oldest = max(requests, key=lambda request: request.seconds or 0.0)
    so_far = age(oldest.seconds or 0.0)
    return f'; the oldest request is {oldest.method} {oldest.path}, for {so_far}'


def before_a_hang(stall: float | None) -> str:
    """Return what to do when the site may hang, but that is not recorded yet."""
    limit = 'the option "stall"'
    if stall is not None:
        limit = f'{duration(stall)} ({limit})'
    return (
        f'What next: if the site does not answer, let that last {_TO_RECORD} s longer than {limit} '
        'before you restart Zope. Then its evidence is kept.'
    )
