"""The features of archived runs, with those in sets which many runs share, and what they tell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from ..model.comparisons import Comparison
from ..model.feature import DISTRIBUTION
from ..model.feature import INSTALLED
from ..model.feature import LIBRARY
from ..model.feature import MODULE
from ..model.feature import OBJECTS
from ..model.feature import PATH
from ..model.feature import USER
from ..model.feature import ZOPE
from ..model.feature import Feature
from ..model.runrecord import RunRecord
from ..store import distributionsets
from ..store import objectsets
from ..store.rundirectory import Base
from . import framenames
from .compiledmodules import Loaded
from .correlations import RunFacts
from .correlations import compared
from .correlations import correlations
from .correlations import rate
from .correlations import since_change
from .correlations import uptime_since
from .correlations import version_uses
from .runfeatures import features_of_summary
from .runfeatures import reached

#: This many different sets are held in memory: each is read once.
_SETS = 64
#: A summary also tells that there was no request, or that it had no user.
_ALWAYS = (PATH, USER)
_NOTHING_LOADED = Loaded((), frozenset(), {})

#: This many comparisons are kept in memory: an archive changes less often than a page is reloaded.
_KEPT_COMPARISONS = 4

#: Returns what is kept of a run, see `runfeatures.features_of`.
Kept = Callable[[RunRecord], Sequence[Feature]]


@dataclass(frozen=True)
class _Past:
    """The runs that are compared: the data directory, a group, and all summaries."""

    base: Path
    group: tuple[RunRecord, ...]
    summaries: tuple[RunRecord, ...]


_KNOWN: list[tuple[_Past, Comparison]] = []


def comparison(
    base: Base,
    group: Sequence[RunRecord],
    summaries: Sequence[RunRecord],
    kept: Kept,
    now: float,
) -> Comparison:
    """Compare the incidents of a group with other runs.  `group` and `summaries` are sorted, newest
    first; `now` is in seconds since the epoch.
    """
    past = _Past(base.path, tuple(group), tuple(summaries))
    found = _known(past)
    if found is None:
        runs = compared(group, summaries)
        with_it = facts_of(base, runs.group, kept)
        others = facts_of(base, runs.others, kept)
        found = Comparison(
            rate=rate(group, uptime_since(group, summaries), now),
            correlations=correlations(with_it, others),
            versions=version_uses(with_it, others),
            since=since_change(with_it, others, runs.later),
        )
        _KNOWN[:] = [(past, found), *_KNOWN[: _KEPT_COMPARISONS - 1]]
    return replace(found, rate=rate(group, found.rate.uptime_seconds, now))


def _known(past: _Past) -> Comparison | None:
    """Return what came out of these runs before.

    Mostly the runs are the same objects: then only their addresses are compared.
    """
    for before, found in tuple(_KNOWN):
        if before == past:
            return found
    return None


def facts_of(base: Base, runs: Iterable[RunRecord], kept: Kept) -> tuple[RunFacts, ...]:
    """Return the facts about archived runs; of what cannot be read, nothing is known."""
    return tuple(_facts(base, run, kept(run)) for run in runs)


def _facts(base: Base, run: RunRecord, kept: Sequence[Feature]) -> RunFacts:
    small: dict[str, set[Feature]] = {kind: set() for kind in _ALWAYS}
    sets: dict[str, frozenset[Feature]] = {}
    for each in kept:
        if each.kind == INSTALLED:
            sets |= _distributions(base.path, each.name)
        elif each.kind == OBJECTS:
            sets |= _objects(base.path, each.name)
        else:
            small.setdefault(each.kind, set()).update(reached(each))
    for each in features_of_summary(run):
        small.setdefault(each.kind, set()).add(each)
    sets |= {kind: frozenset(features) for kind, features in small.items()}
    return RunFacts(run, sets)


@functools.lru_cache(_SETS)
def _distributions(base: Path, digest: str) -> dict[str, frozenset[Feature]]:
    """Return the distributions of a set, by their kind; {} if nothing is known."""
    versions = distributionsets.load(base, digest).get('distributions', {})
    found = frozenset(
        Feature(DISTRIBUTION, name, version)
        for name, version in versions.items()
        if version and name.lower() != ZOPE  # which is a kind of its own
    )
    return {DISTRIBUTION: found} if found else {}


@functools.lru_cache(_SETS)
def _objects(base: Path, digest: str) -> dict[str, frozenset[Feature]]:
    """Return the modules and libraries of a set, by their kind; {} if nothing is known."""
    modules: set[Feature] = set()
    libraries: set[Feature] = set()
    objects = objectsets.load(base, digest)
    for each in objects:
        modules.update(Feature(MODULE, name) for name in each.modules)
        if not each.modules:
            libraries.add(Feature(LIBRARY, framenames.object_name(each.file, _NOTHING_LOADED)))
    return {MODULE: frozenset(modules), LIBRARY: frozenset(libraries)} if objects else {}
