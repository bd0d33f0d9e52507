"""Words for the end of a run and of its hangs.  What was not seen is said to be not seen."""

from __future__ import annotations

from ..model.records import clocktime
from ..model.records import duration
from ..model.records import short_clocktime
from ..model.runrecord import Decision
from ..model.runrecord import RunRecord
from ..model.threadstates import Event
from ..model.witnesses import SOURCES


def end_words(run: RunRecord) -> str:
    """Return when a run ended: a time, or its last sign of life and when it was found dead."""
    if run.is_open_end:
        return 'not known'
    ended = clocktime(run.ended)
    if run.ended_before is None:
        return ended
    return f'last sign {ended}; {_before(run, run.ended)}'


def when_it_ended(run: RunRecord, ago: str) -> str:
    """Return a sentence that says when a run ended.  `ago` is for example "3 min ago"."""
    ended = clocktime(run.ended)
    if run.is_open_end:
        return f'Its last sign of life was {ago} ({ended}); its end is not known.'
    if run.ended_before is None:
        return f'It ended {ago} ({ended}).'
    return f'Its last sign of life was {ago} ({ended}); it {_before(run, run.ended)}.'


def uptime_words(run: RunRecord) -> str:
    return _at_least(run) + duration(run.uptime_seconds)


def hang_words(hang: Event, run: RunRecord) -> str:
    """Return how long a hang, deadlock or spinning thread of a dead run lasted.

    For example "for at least 20 s; last sign 02:50:03; ended before 02:51:10 (next start)".
    """
    lasted = duration(hang.seconds)
    if not hang.lasts:
        return f'for {lasted}, then it ended'
    if run.is_open_end:
        return f'for at least {lasted}'
    if run.ended_before is None:
        return f'for {lasted}, until the run ended'
    last_sign = short_clocktime(run.ended, hang.started)
    return f'for at least {lasted}; last sign {last_sign}; {_before(run, hang.started)}'


def amended_words(run: RunRecord) -> str:
    """Return what witnesses have changed in the record; '' if there was none.

    For example "vanished (weak) at first; killed (certain) since 02:51:10, by another Zope".
    """
    if not run.amendments:
        return ''
    names = {SOURCES.get(each.source, each.source): None for each in run.amendments}
    changes = [each for each in run.amendments if _decision(each.before) != _decision(each.after)]
    if not changes:  # they may have confirmed it, or contradict, or know the moment only
        return f'no; its end is also known from: {", ".join(names)}'
    words = f'{_decision(changes[0].before)} at first'
    for change in changes:
        source = SOURCES.get(change.source, change.source)
        when = short_clocktime(change.time, run.ended)
        words += f'; {_decision(change.after)} since {when}, by {source}'
    return words


def _decision(decision: Decision) -> str:
    return f'{decision.verdict} ({decision.confidence})'


def _at_least(run: RunRecord) -> str:
    return 'at least ' if run.is_open_end or run.ended_before is not None else ''


def _before(run: RunRecord, beside: float | None) -> str:
    """Return the time before which a run ended, and who found it dead at that time."""
    finder = 'next start' if run.found_by else 'seen by the command'
    return f'ended before {short_clocktime(run.ended_before, beside)} ({finder})'
