"""What the incidents of a signature share and other runs lack.  Values in, values out, no words.

A feature is only told if chance does not explain it: Fisher's exact test, with the number of
different features that were tried.  Paths, users and hours are compared with other incidents only,
because a stop that was wanted has no request in progress, and its hour was chosen by a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from datetime import date
from itertools import islice
from itertools import takewhile

from ..model.comparisons import Correlation
from ..model.comparisons import Rate
from ..model.comparisons import Since
from ..model.comparisons import VersionChange
from ..model.comparisons import VersionUse
from ..model.feature import DISTRIBUTION
from ..model.feature import HOUR
from ..model.feature import PATH
from ..model.feature import PYTHON
from ..model.feature import USER
from ..model.feature import ZOPE
from ..model.feature import Feature
from ..model.records import local_time
from ..model.runrecord import RunRecord
from .commonfeatures import LEVEL
from .commonfeatures import fisher
from .runfeatures import STEPS

#: At most this many incidents of a signature are compared, with at most this many other incidents
#: and this many other runs.
MOST_RUNS = 100
MOST_INCIDENTS = 50
MOST_OTHERS = 50
#: Others are looked for among this many runs, the newest ones.
_LOOKED_THROUGH = 2_000
#: A feature that fewer of the incidents have, or a smaller share of them, is not what they share.
_LEAST_RUNS = 3
_LEAST_SHARE = 0.5
#: This many features of one kind, which the same runs have, are named; the rest is counted.
_NAMED = 3
#: Kinds that are compared with other incidents only.
_OF_INCIDENTS = frozenset((PATH, USER, HOUR))
_VERSIONS = (PYTHON, ZOPE, DISTRIBUTION)
_UNREADABLE = 'unreadable'
_NO_FEATURES = frozenset[Feature]()
_DAY = 86400  # seconds


@dataclass(frozen=True)
class Compared:
    """The incidents of a signature and the `others` that are compared with them, newest first.

    The first `later` of the others are newer than each of the incidents.
    """

    group: tuple[RunRecord, ...]
    others: tuple[RunRecord, ...]
    later: int


@dataclass(frozen=True)
class RunFacts:
    """A run with its `features` by their kinds; of a kind that is missing, nothing is known.

    Equal sets of features should be the same object: most runs share those of their versions and
    modules, which are large.
    """

    run: RunRecord
    features: Mapping[str, frozenset[Feature]]


# -- which runs are compared -----------------------------------------------------------------------


def compared(group: Sequence[RunRecord], summaries: Iterable[RunRecord]) -> Compared:
    """Return which runs are compared.  `group` and `summaries` are sorted, newest first.

    The others are runs of the same instances in the same role, and no drills.
    """
    names = {run.run for run in group}
    kinds = {(run.instance, run.role) for run in group}
    others: list[RunRecord] = []
    incidents = 0
    later = -1
    for run in islice(summaries, _LOOKED_THROUGH):
        if run.run in names:
            later = len(others) if later < 0 else later
            continue
        if run.drill or run.verdict == _UNREADABLE or (run.instance, run.role) not in kinds:
            continue
        has_room = incidents < MOST_INCIDENTS
        if not run.is_incident:
            has_room = len(others) - incidents < MOST_OTHERS
        if has_room:
            incidents += run.is_incident
            others.append(run)
    return Compared(
        group=tuple(group[:MOST_RUNS]),
        others=tuple(others),
        later=len(others) if later < 0 else later,
    )


# -- what the incidents share ----------------------------------------------------------------------


def correlations(group: Sequence[RunFacts], others: Sequence[RunFacts]) -> tuple[Correlation, ...]:
    """Return what the incidents of a group share and others lack, the least probable first."""
    found: list[Correlation] = []
    tried = 0
    incidents = [each for each in others if each.run.is_incident]
    for kind in sorted({kind for each in group for kind in each.features}):
        are_incidents = kind in _OF_INCIDENTS
        with_it, without = group, incidents if are_incidents else others
        if kind == HOUR:
            with_it, without = _once_an_hour(with_it), _once_an_hour(without)
        sets, other_sets = _sets(kind, with_it), _sets(kind, without)
        if not other_sets:
            continue
        by_presence = _by_presence(sets, other_sets)
        tried += len(by_presence)
        found += [
            _correlation(kind, features, presence, len(sets), are_incidents)
            for presence, features in by_presence.items()
        ]
    likely = []
    for each in found:
        chance = min(1.0, each.probability * tried)
        if chance < LEVEL and each.having >= max(_LEAST_RUNS, each.runs * _LEAST_SHARE):
            likely.append(replace(each, probability=chance))
    likely.sort(key=lambda each: (each.probability, each.kind, each.features[0].name))
    return tuple(_best_steps(likely))


def _once_an_hour(runs: Iterable[RunFacts]) -> list[RunFacts]:
    """Return the newest run of each hour of each day: incidents of a crash loop share their hour
    because they follow one another.
    """
    found: dict[tuple[date, int], RunFacts] = {}
    for each in runs:
        ended = local_time(each.run.ended)
        if ended:
            found.setdefault((ended.date(), ended.hour), each)
    return list(found.values())


def _sets(kind: str, runs: Iterable[RunFacts]) -> list[frozenset[Feature]]:
    """Return the features of one kind of each run of which they are known."""
    return [each.features[kind] for each in runs if kind in each.features]


def _by_presence(
    group: Sequence[frozenset[Feature]], others: Sequence[frozenset[Feature]]
) -> dict[tuple[bool, ...], list[Feature]]:
    """Return {which of the runs have them: features of the group}, without what all runs have.

    Features that the same runs have are one try: modules of one package come together.
    """
    runs = (*group, *others)
    distinct = tuple(dict.fromkeys(runs))
    features = _NO_FEATURES.union(*dict.fromkeys(group)) - frozenset.intersection(*distinct)
    by_set: dict[tuple[bool, ...], list[Feature]] = {}
    for feature in sorted(features, key=_order):
        has_it = tuple(feature in each for each in distinct)
        by_set.setdefault(has_it, []).append(feature)
    found = {}
    for has_it, alike in by_set.items():
        has = dict(zip(distinct, has_it, strict=True))
        found[tuple(has[each] for each in runs)] = alike
    return found


def _correlation(
    kind: str,
    features: Sequence[Feature],
    presence: tuple[bool, ...],
    runs: int,
    are_incidents: bool,
) -> Correlation:
    """Return it with the probability of a single try."""
    having, others_having = sum(presence[:runs]), sum(presence[runs:])
    others = len(presence) - runs
    named = features[-1:] if kind in STEPS else features[:_NAMED]  # the highest step says it all
    return Correlation(
        kind=kind,
        features=tuple(named),
        more=0 if kind in STEPS else len(features) - len(named),
        having=having,
        runs=runs,
        others_having=others_having,
        others=others,
        are_incidents=are_incidents,
        probability=fisher(having, runs, others_having, others),
    )


def _best_steps(found: Iterable[Correlation]) -> Iterator[Correlation]:
    """Yield only the first of the steps of one kind: "at least 80 %" also means "at least 50 %"."""
    seen = set()
    for each in found:
        if each.kind in STEPS:
            if each.kind in seen:
                continue
            seen.add(each.kind)
        yield each


def _order(feature: Feature) -> tuple[int, str, str, str]:
    number = int(feature.name) if feature.kind in STEPS else 0
    return number, feature.name, feature.version, feature.who


# -- versions --------------------------------------------------------------------------------------


def version_uses(group: Sequence[RunFacts], others: Sequence[RunFacts]) -> tuple[VersionUse, ...]:
    """Return the versions that differ between runs with and without the signature.

    What differs most comes first; the versions of one distribution are together.
    """
    with_it, without = _versions_of(group), _versions_of(others)
    if not with_it or not without:
        return ()
    distinct = {id(each): frozenset(each.items()) for each in (*with_it, *without)}.values()
    differing = frozenset[tuple[str, str]]().union(*distinct) - frozenset.intersection(*distinct)
    found = []
    for name in {name for name, _ in differing}:
        having = Counter(versions.get(name, '') for versions in with_it)
        others_having = Counter(versions.get(name, '') for versions in without)
        both = having.keys() | others_having.keys()
        uses = tuple(VersionUse(name, each, having[each], others_having[each]) for each in both)
        apart = max(_apart(each, len(with_it), len(without)) for each in uses)
        found.append((-apart, name.lower(), sorted(uses, key=lambda use: -use.having)))
    return tuple(use for _, _, uses in sorted(found, key=lambda row: row[:2]) for use in uses)


def since_change(
    group: Sequence[RunFacts], others: Sequence[RunFacts], later: int
) -> tuple[Since, ...]:
    """Return since which changes of versions no run had the signature, the latest change first.

    `group` and `others` are sorted newest first; the first `later` others are newer than the group.
    """
    with_it = _versions_of(group[:1])
    newer = [each for each in others[:later] if DISTRIBUTION in each.features]
    versions = _versions_of(newer)
    if not with_it or not versions:
        return ()
    before, now = with_it[0], versions[0]
    had = set().union(*(each.items() for each in _versions_of(group)))
    by_runs: dict[int, list[VersionChange]] = {}
    for name in sorted({*before, *now}, key=str.lower):
        version = now.get(name, '')
        if version == before.get(name, '') or (name, version) in had:
            continue
        change = VersionChange(name, before.get(name, ''), version)
        by_runs.setdefault(_first_with(versions, name, version), []).append(change)
    return tuple(
        Since(
            changes=tuple(changes[:_NAMED]),
            more=max(0, len(changes) - _NAMED),
            runs=runs,
            uptime_seconds=sum(each.run.uptime_seconds or 0.0 for each in newer[:runs]),
            is_cut=runs >= min(MOST_INCIDENTS, MOST_OTHERS),
        )
        for runs, changes in sorted(by_runs.items())
    )


def _versions_of(runs: Iterable[RunFacts]) -> list[Mapping[str, str]]:
    """Return {name: version} of each run of which they are known; equal ones are one object."""
    distinct: dict[tuple[frozenset[Feature], ...], Mapping[str, str]] = {}
    found = []
    for each in runs:
        if DISTRIBUTION not in each.features:
            continue
        sets = tuple(each.features.get(kind, _NO_FEATURES) for kind in _VERSIONS)
        if sets not in distinct:
            distinct[sets] = {one.name: one.version for features in sets for one in features}
        found.append(distinct[sets])
    return found


def _first_with(runs: Iterable[Mapping[str, str]], name: str, version: str) -> int:
    """Return how many of the first runs had a version, until one had another."""
    return sum(1 for _ in takewhile(lambda versions: versions.get(name, '') == version, runs))


def _apart(use: VersionUse, runs: int, others: int) -> float:
    return abs(use.having / runs - use.others_having / others)


# -- how often -------------------------------------------------------------------------------------


def uptime_since(group: Sequence[RunRecord], summaries: Iterable[RunRecord]) -> float:
    """Return the seconds of uptime from the oldest incident of a group on, of all runs of the same
    instances in the same role; both lists are sorted newest first.  Damaged runs have no uptime.
    """
    instances = tuple({run.instance for run in group})  # to compare is faster than to hash
    roles = {run.role for run in group}
    uptime = 0.0
    for run in summaries:
        if run.role in roles and run.instance in instances:
            uptime += run.uptime_seconds or 0.0
        if run.run == group[-1].run:
            break
    return uptime


def rate(group: Sequence[RunRecord], uptime: float, now: float) -> Rate:
    """Return how often the incidents of a group happen, see `uptime_since`.

    `now` is in seconds since the epoch.
    """
    first = group[-1].ended
    days = max(0.0, now - first) / _DAY if first is not None else 0.0
    is_single = len(group) < 2
    return Rate(
        count=len(group),
        days=days,
        per_day=None if is_single or days < 1 else len(group) / days,
        uptime_seconds=uptime,
        per_uptime_day=None if is_single or uptime <= 0 else len(group) * _DAY / uptime,
    )
