"""When the process was frozen, and when the clock was set: what that says about times.

Traces in, evidence out.  Neither decides a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.eventkinds import FROZEN
from ..model.records import Evidence
from ..model.records import clocktime
from ..model.records import duration
from .evidence import Traces

#: At most this many freezes are told one by one.
_MOST = 3


def freezes(t: Traces) -> Iterator[Evidence]:
    """Yield when the process was frozen (SIGSTOP, a debugger, a suspended machine)."""
    found = [note for note in t.notes if note.kind == f'{FROZEN}-ended']
    for note in found[-_MOST:]:
        yield Evidence('black box', f'{note.title} It went on at {clocktime(note.time)}.')
    earlier = found[:-_MOST]
    if earlier:
        total = duration(sum(note.seconds for note in earlier))
        yield Evidence('black box', f'Before that it was frozen {len(earlier)} times, for {total}.')
    if t.frozen:
        yield Evidence(
            'black box',
            f'No sample was taken in the last {duration(t.frozen)}, and the watchdog did not fire '
            'in time: the process was frozen (SIGSTOP, a debugger, a suspended machine), or the '
            'clock was set.',
        )
