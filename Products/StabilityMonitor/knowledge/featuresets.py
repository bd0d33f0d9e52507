"""The features of archived runs, with those that are kept in sets which many runs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

from ..model.feature import DISTRIBUTION
from ..model.feature import HOUR
from ..model.feature import INSTALLED
from ..model.feature import LIBRARY
from ..model.feature import MODULE
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
from .runfeatures import features_of_summary
from .runfeatures import reached

#: So many different sets are held in memory: each is read once.
_SETS = 64
#: A summary also tells that there was no request, or that it had no user.
_ALWAYS = (PATH, USER)
_NOTHING_LOADED = Loaded((), frozenset(), {})

#: Returns what is kept of a run, see `runfeatures.features_of`.
Kept = Callable[[RunRecord], Sequence[Feature]]


def facts_of(base: Base, runs: Iterable[RunRecord], kept: Kept) -> tuple[RunFacts, ...]:
    """Return the facts about archived runs; of what cannot be read, nothing is known."""
    return tuple(_facts(base, run, kept(run)) for run in runs)


def _facts(base: Base, run: RunRecord, kept: Sequence[Feature]) -> RunFacts:
    features = {one for each in kept for one in reached(each)}
    known = {each.kind for each in kept} | set(_ALWAYS)
    found = features_of_summary(run)
    features.update(found)
    if any(each.kind == HOUR for each in found):
        known.add(HOUR)
    for digest in [each.name for each in features if each.kind == INSTALLED]:
        installed = _distributions(base.path, digest)
        if installed:
            known.add(DISTRIBUTION)
            features |= installed
    loaded = _objects(base.path, objectsets.digest_of_run(base.archive / run.run))
    if loaded:
        known |= {MODULE, LIBRARY}
        features |= loaded
    return RunFacts(run, frozenset(features), frozenset(known))


@functools.lru_cache(_SETS)
def _distributions(base: Path, digest: str) -> frozenset[Feature]:
    versions = distributionsets.load(base, digest).get('distributions', {})
    return frozenset(
        Feature(DISTRIBUTION, name, version)
        for name, version in versions.items()
        if version and name.lower() != ZOPE  # which is a kind of its own
    )


@functools.lru_cache(_SETS)
def _objects(base: Path, digest: str) -> frozenset[Feature]:
    found: set[Feature] = set()
    for each in objectsets.load(base, digest):
        found.update(Feature(MODULE, name) for name in each.modules)
        if not each.modules:
            found.add(Feature(LIBRARY, framenames.object_name(each.file, _NOTHING_LOADED)))
    return frozenset(found)
