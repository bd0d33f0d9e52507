"""What was different the time before: two incidents of one signature.  Records in, values out."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.comparisons import OPTION
from ..model.comparisons import UPTIME
from ..model.comparisons import Difference
from ..model.feature import DISTRIBUTION
from ..model.feature import PATH
from ..model.feature import PYTHON
from ..model.feature import USER
from ..model.feature import ZOPE
from ..model.feature import Feature
from ..model.options import from_record
from ..model.runrecord import RunRecord
from .runfeatures import amounts_of
from .runfeatures import features_of
from .runfeatures import features_of_summary
from .runfeatures import versions_of

#: Uptimes, and amounts of memory and threads, differ if one is this many times the other.
_TIMES_UPTIME = 2
_TIMES = 1.25
#: Seconds: uptimes below it do not differ.
_SHORT = 60
#: More distributions than this are only counted.
_MOST_VERSIONS = 10
#: The option whose value may name what it hides.
_HIDDEN = 'redact-pattern'


def differences(record: RunRecord, earlier: RunRecord) -> tuple[Difference, ...]:
    """Return what differs between the whole records of two incidents; what is not known of one of
    them does not differ.
    """
    return (
        *_versions(record, earlier),
        *_options(record, earlier),
        *_requests(record, earlier),
        *_numbers(record, earlier),
    )


def _versions(record: RunRecord, earlier: RunRecord) -> Iterator[Difference]:
    after, before = _by_kind(record), _by_kind(earlier)
    for kind in (PYTHON, ZOPE):
        if kind in after and kind in before and after[kind] != before[kind]:
            name = after[kind].name
            yield Difference(kind, name, before[kind].version, after[kind].version)
    now, then = versions_of(record), versions_of(earlier)
    if not now or not then:
        return
    names = sorted({*now, *then}, key=str.lower)
    found = [name for name in names if now.get(name) != then.get(name)]
    for place, name in enumerate(found[:_MOST_VERSIONS], 1):
        more = len(found) - place if place == _MOST_VERSIONS else 0
        yield Difference(DISTRIBUTION, name, then.get(name, ''), now.get(name, ''), more=more)


def _options(record: RunRecord, earlier: RunRecord) -> Iterator[Difference]:
    after = from_record(record.context.get('options'))
    before = from_record(earlier.context.get('options'))
    for name, value in after.items():
        if name not in before or before[name] == value:
            continue
        if name == _HIDDEN:
            yield Difference(OPTION, name)
        else:
            yield Difference(OPTION, name, str(before[name]), str(value))


def _requests(record: RunRecord, earlier: RunRecord) -> Iterator[Difference]:
    paths, earlier_paths = _paths(record), _paths(earlier)
    if paths != earlier_paths:
        yield Difference(PATH, before=' '.join(earlier_paths), after=' '.join(paths))
    users, earlier_users = _users(record), _users(earlier)
    if users != earlier_users:
        yield Difference(USER, who=users, who_before=earlier_users)


def _numbers(record: RunRecord, earlier: RunRecord) -> Iterator[Difference]:
    if record.uptime_seconds is not None and earlier.uptime_seconds is not None:
        before, after = round(earlier.uptime_seconds), round(record.uptime_seconds)
        if max(before, after) >= _SHORT and _are_apart(before, after, _TIMES_UPTIME):
            yield Difference(UPTIME, before=str(before), after=str(after))
    now, then = amounts_of(record), amounts_of(earlier)
    for kind, amount in now.items():
        if kind in then and _are_apart(then[kind], amount, _TIMES):
            yield Difference(kind, before=str(then[kind]), after=str(amount))


def _are_apart(one: int, other: int, times: float) -> bool:
    return max(one, other) >= times * min(one, other) and one != other


def _by_kind(record: RunRecord) -> dict[str, Feature]:
    return {feature.kind: feature for feature in features_of(record)}


def _paths(record: RunRecord) -> list[str]:
    return [each.name for each in features_of_summary(record) if each.kind == PATH]


def _users(record: RunRecord) -> tuple[str, ...]:
    return tuple(each.who for each in features_of_summary(record) if each.kind == USER)
