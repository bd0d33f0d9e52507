"""When the process was frozen, and when the clock was set: what that says about times.

Traces in, evidence out.  Neither decides a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.counts import counted
from ..model.eventkinds import FROZEN
from ..model.eventkinds import SUSPENDED
from ..model.records import Evidence
from ..model.records import clocktime
from ..model.records import duration
from .evidence import Traces

#: At most this many freezes are told one by one.
_MOST = 3


#: A machine that was suspended goes on with a clock that is ahead by the same time, give or take
#: this many seconds.
_SLACK = 5.0


def clock_settings(t: Traces) -> Iterator[Evidence]:
    """Yield how the clock was set while the run lived: that changes the dates that are shown."""
    suspended = [note.seconds for note in t.notes if note.detail == SUSPENDED]
    found = []
    for setting in t.clock.settings():
        if not any(abs(setting.seconds - seconds) < _SLACK for seconds in suspended):
            found.append(setting)
    for setting in found[-_MOST:]:
        way = 'forward' if setting.seconds > 0 else 'back'
        by = duration(abs(setting.seconds))
        yield Evidence(
            'samples',
            f'The clock was set {way} by {by} while this run lived; then it showed '
            f'{clocktime(setting.time)}. Dates from before are those of the clock as it was; '
            'durations are those that passed.',
        )
    if found[:-_MOST]:
        times = counted(len(found[:-_MOST]), 'time', 'times')
        yield Evidence('samples', f'Before that the clock was set {times}.')


def freezes(t: Traces) -> Iterator[Evidence]:
    """Yield when the process was frozen (SIGSTOP, a debugger, a suspended machine)."""
    found = [note for note in t.notes if note.kind == f'{FROZEN}-ended']
    for note in found[-_MOST:]:
        yield Evidence('black box', f'{note.title} It went on at {clocktime(note.time)}.')
    earlier = found[:-_MOST]
    if earlier:
        total = duration(sum(note.seconds for note in earlier))
        times = counted(len(earlier), 'time')
        yield Evidence('black box', f'Before that it was frozen {times}, for {total}.')
    if t.frozen:
        yield Evidence(
            'black box',
            f'No sample was taken in the last {duration(t.frozen)}, and the watchdog did not fire '
            'in time: the process was frozen (SIGSTOP, a debugger, a suspended machine), or the '
            'clock was set.',
        )
