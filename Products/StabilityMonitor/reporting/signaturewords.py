"""Words for signatures: seen before, how often, and what incidents share.

The values come from `model.seenbefore` and `model.comparisons`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator

from ..model import comparisons
from ..model import feature
from ..model.comparisons import Correlation
from ..model.comparisons import Difference
from ..model.comparisons import Since
from ..model.comparisons import VersionChange
from ..model.counts import counted
from ..model.feature import Feature
from ..model.records import clocktime
from ..model.records import duration
from ..model.seenbefore import SeenBefore

#: What the mark of a weak signature means.
WEAK = (
    'The mark ~ means a weak signature: a part of it is not known, so that different faults may '
    'have it.'
)
#: {kind of a feature or difference: its label}
_LABELS = {
    feature.PATH: 'Request in progress',
    feature.USER: 'User',
    feature.HOUR: 'Hour of day',
    feature.MEMORY_SHARE: 'Memory, of the limit',
    feature.MEMORY: 'Memory',
    feature.THREADS: 'Threads',
    feature.PYTHON: 'Version',
    feature.ZOPE: 'Version',
    feature.DISTRIBUTION: 'Version',
    feature.MODULE: 'Compiled module',
    feature.LIBRARY: 'Library',
    comparisons.OPTION: 'Option',
    comparisons.UPTIME: 'Uptime',
}


# -- seen before -----------------------------------------------------------------------------------


def seen_words(seen: SeenBefore) -> str:
    """Return one sentence: how often the fault of an incident was seen before."""
    if not seen.count:
        words = 'Not seen before'
    elif seen.count == 1:
        words = f'Seen before: once, {clocktime(seen.last)}'
    else:
        first, last = clocktime(seen.first), clocktime(seen.last)
        words = f'Seen before: {seen.count:,} times, first {first}, last {last}'
    if seen.since:
        words += '; seen once since' if seen.since == 1 else f'; seen {seen.since:,} times since'
    if seen.weak and (seen.count or seen.since):
        words += '; the signature is weak (~), so these may be different faults'
    if seen.unsigned:
        words += f'; {unsigned_words(seen.unsigned)}'
    return f'{words}.'


def difference_lines(different: Iterable[Difference]) -> Iterator[str]:
    """Yield a line for each difference, for example "lxml: 6.0.2 then, 6.1.3 now"."""
    for each in different:
        label, then, now = difference_words(each)
        yield f'{label}: {then} then, {now} now'


def unsigned_words(unsigned: int) -> str:
    return f'{counted(unsigned, "past incident")} not looked at yet'


def difference_words(difference: Difference) -> tuple[str, str, str]:
    """Return (what is different, how it was then, how it is now)."""
    label = _LABELS.get(difference.kind, difference.kind)
    if difference.name:
        label = difference.name if label == 'Version' else f'{label} {difference.name}'
    if difference.more:
        label += f' and {difference.more:,} more'
    if difference.kind == feature.USER:
        return label, _listed(difference.who_before), _listed(difference.who)
    before = _amount(difference.kind, difference.before)
    after = _amount(difference.kind, difference.after)
    return label, before, after


def _listed(names: tuple[str, ...]) -> str:
    return ', '.join(names) or 'none'


def _amount(kind: str, text: str) -> str:
    if kind == comparisons.UPTIME and text.isdecimal():
        return duration(int(text[:12]))
    unit = {feature.MEMORY: 'MiB', feature.MEMORY_SHARE: '%'}.get(kind, '')
    nothing = 'not installed' if kind == feature.DISTRIBUTION else 'none'
    return ' '.join(filter(None, [text or nothing, unit]))


# -- how often -------------------------------------------------------------------------------------


def rate_words(per_day: float | None, unit: str = 'a day', many: str = 'days') -> str:
    """Return how often something occurs, for example "2.5 a day", "1 in 4 days"; '' for None.

    `unit` and `many` are the words for 24 hours.
    """
    if per_day is None or per_day <= 0:
        return ''
    if per_day >= 0.95:
        return f'{per_day:,.1f} {unit}'
    days = 1 / per_day
    return f'1 in {days:,.1f} {many}' if days < 10 else f'1 in {days:,.0f} {many}'


# -- what incidents share --------------------------------------------------------------------------


def shared_words(found: Correlation) -> tuple[str, str, str, str, str]:
    """Return (kind of feature, its names, these, others, by chance)."""
    label = _LABELS.get(found.kind, found.kind)
    names = ', '.join(map(_feature_words, found.features))
    if found.more:
        names += f' and {found.more:,} more'
    others = 'other incident' if found.are_incidents else 'other run'
    return (
        label,
        names,
        f'{found.having:,} of {found.runs:,}',
        f'{found.others_having:,} of {counted(found.others, others)}',
        chance_words(found.probability),
    )


def _feature_words(each: Feature) -> str:
    match each.kind:
        case feature.USER:
            return each.who
        case feature.HOUR:
            hour = int(each.name) if each.name.isdecimal() and len(each.name) < 3 else 0
            return f'{hour:02}:00 to {hour:02}:59'
        case feature.MEMORY_SHARE:
            return f'{each.name} % or more'
        case feature.MEMORY:
            return f'{each.name} MiB or more'
        case feature.THREADS:
            return f'{each.name} or more'
    return ' '.join(filter(None, [each.name, each.version]))


def chance_words(probability: float) -> str:
    """Return a probability as "1 in 5,000", with two digits."""
    if probability <= 0:
        return 'less than 1 in 1,000,000'
    times = 1 / probability
    if times > 1_000_000:
        return 'less than 1 in 1,000,000'
    digits = max(0, len(str(int(times))) - 2)
    return f'1 in {round(times, -digits):,.0f}'


def since_words(since: Since) -> str:
    """For example "Since lxml 6.0.2 -> 6.1.3: none in 12 runs with 4 days of uptime"."""
    changes = ', '.join(map(_change_words, since.changes))
    if since.more:
        changes += f' and {since.more:,} more'
    runs = f'the last {counted(since.runs, "run")}' if since.is_cut else counted(since.runs, 'run')
    return f'Since {changes}: none in {runs}, {duration(since.uptime_seconds)} of uptime.'


def _change_words(change: VersionChange) -> str:
    before = change.before or 'not installed'
    return f'{change.name} {before} -> {change.after or "not installed"}'
