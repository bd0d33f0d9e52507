"""What crashed runs had in common that other runs lacked, and what changed before a crash.

Records in, values out.  A difference is only told if chance does not explain it: Fisher's exact
test, with the number of different features that were tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from ..model.runrecord import RunRecord
from . import deathclass
from .runfeatures import versions_of

#: Chance explains what is as probable as this, or more.
LEVEL = 0.05
#: More features than these that were always together point at nothing.
_TOGETHER = 3
#: So many distributions that changed at once point at nothing.
_CHANGES = 5


@dataclass(frozen=True)
class Common:
    """A feature of the crashed runs: a compiled module, or a version of a distribution.

    `probability` is that of such a difference by chance alone.
    """

    name: str
    version: str
    is_module: bool
    crashed: int
    others: int
    probability: float


def fisher(with_crashed: int, crashed: int, with_others: int, others: int) -> float:
    """Return the probability by chance that at least so many crashed runs have the feature.

    `with_crashed` of `crashed` runs and `with_others` of `others` have it.
    """
    having = with_crashed + with_others
    runs = crashed + others
    if not runs:
        return 1.0
    ways = 0
    for more in range(with_crashed, min(having, crashed) + 1):
        ways += comb(crashed, more) * comb(others, having - more)
    return ways / comb(runs, having)


def common(record: RunRecord, earlier: Iterable[RunRecord]) -> tuple[Common, ...]:
    """Return what the crashed runs had and the others lacked, unless chance may explain it."""
    crashed = [_features(record)]
    others = []
    for run in earlier:
        features = _features(run)
        if not features:
            continue
        if run.verdict in deathclass.VERDICTS:
            crashed.append(features)
        elif not run.is_incident:
            others.append(features)
    if len(crashed) < 2 or not others:
        return ()
    groups: dict[tuple[bool, ...], list[tuple[str, str]]] = {}
    for feature in sorted(crashed[0]):
        presence = tuple(feature in run for run in (*crashed, *others))
        groups.setdefault(presence, []).append(feature)
    groups = {presence: names for presence, names in groups.items() if not all(presence)}
    found = []
    for presence, features_of in groups.items():
        with_crashed, with_others = sum(presence[: len(crashed)]), sum(presence[len(crashed) :])
        chance = fisher(with_crashed, len(crashed), with_others, len(others)) * len(groups)
        if chance >= LEVEL or len(features_of) > _TOGETHER:
            continue
        for name, version in features_of:
            found.append(
                Common(name, version, not version, with_crashed, with_others, min(1.0, chance))
            )
    return tuple(sorted(found, key=lambda each: each.probability))


def changed(record: RunRecord, earlier: Sequence[RunRecord]) -> tuple[tuple[str, str, str], ...]:
    """Return (distribution, version before, version now) that changed since the last stable run.

    `earlier` is newest first.  The version before is '' if it is new.  () if nothing is known, or
    if so many changed that this points at none of them.
    """
    now = versions_of(record)
    for run in earlier:
        before = versions_of(run)
        if run.is_incident or not before:
            continue
        found = []
        for name, version in sorted(now.items()):
            if before.get(name, '') != version:
                found.append((name, before.get(name, ''), version))
        return tuple(found) if len(found) <= _CHANGES else ()
    return ()


def _features(record: RunRecord) -> frozenset[tuple[str, str]]:
    """Return (compiled module, '') and (distribution, version) of a run."""
    modules = {(name, '') for name in record.compiled_modules}
    return frozenset(modules | set(versions_of(record).items()))
