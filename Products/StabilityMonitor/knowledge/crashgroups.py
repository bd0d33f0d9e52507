"""The incidents that are the same fault.  Summaries and signatures in, groups out; no I/O.

Of two runs that died of the same fault, one may tell less: without a core file there are no native
places, and the class of the death may not be known.  So a signature that knows less joins the one
that says the same and more, if there is only one of that kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from ..model.records import Instance
from ..model.records import Moment
from ..model.runrecord import RunRecord
from ..model.signature import UNKNOWN_CLASS
from ..model.signature import Signature

#: Without the stack of the other threads, an overflow of the stack looks like a crash.
_ALIKE = frozenset(('crashed', 'stack-overflow'))
#: Of more signatures with equal signals and Python places, none joins another one: each is compared
#: with each.
_MOST = 200


@dataclass(frozen=True)
class Group:
    """The incidents of one fault.

    `signature` is the one that says most; `others` say less, and joined it.  `runs` are the
    summaries, newest first; there is at least one.
    """

    signature: Signature
    runs: tuple[RunRecord, ...]
    others: tuple[Signature, ...] = ()

    @property
    def id(self) -> str:
        return self.signature.id

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all signatures of the group."""
        return frozenset(each.id for each in (self.signature, *self.others))

    @property
    def count(self) -> int:
        return len(self.runs)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the runs."""
        return frozenset(run.run for run in self.runs)

    @cached_property
    def by_instance(self) -> Counter[Instance]:
        """How many of the incidents each instance had."""
        return Counter(run.instance for run in self.runs)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """When they ended, in seconds since the epoch, sorted; as far as that is known."""
        return tuple(sorted(run.ended for run in self.runs if run.ended is not None))

    @property
    def first(self) -> Moment | None:
        """When the oldest one ended, or began if that is not known."""
        return _time(self.runs[-1])

    @property
    def last(self) -> Moment | None:
        return _time(self.runs[0])


def groups(
    summaries: Iterable[RunRecord], signatures: Mapping[str, Signature | None]
) -> tuple[Group, ...]:
    """Return the groups, the one with the newest incident first.

    `summaries` are newest first, and `signatures` is {name of a run: its signature}.  Runs without
    a signature are in no group.
    """
    signed: list[tuple[RunRecord, str]] = []
    texts: dict[Signature, str] = {}  # many runs share a signature
    surest: dict[str, Signature] = {}
    for run in summaries:
        signature = signatures.get(run.run)
        if signature is None:
            continue
        if signature not in texts:
            strict = texts[signature] = signature.strict
            surest[strict] = min(surest.get(strict, signature), signature, key=_doubts)
        signed.append((run, texts[signature]))
    homes = _homes(surest)
    runs: dict[str, list[RunRecord]] = {}
    for run, strict in signed:
        runs.setdefault(homes[strict], []).append(run)
    others: dict[str, list[Signature]] = {}
    for strict, home in homes.items():
        if strict != home:
            others.setdefault(home, []).append(surest[strict])
    return tuple(
        Group(surest[home], tuple(found), tuple(others.get(home, ())))
        for home, found in runs.items()
    )


def find(known: Iterable[Group], id: str) -> Group | None:
    """Return the group with this signature, also by the id of one that joined it, or without ~."""
    wanted = id.removeprefix('~')
    for group in known:
        if any(each.removeprefix('~') == wanted for each in group.ids):
            return group
    return None


def group_of(known: Iterable[Group], run: str) -> Group | None:
    """Return the group of a run; None if it is in none."""
    for group in known:
        if run in group.names:
            return group
    return None


def family(known: Iterable[Group], group: Group) -> tuple[Group, ...]:
    """Return the other groups with the same suspect and class of death, newest first."""
    name = group.signature.family
    if not name:
        return ()
    return tuple(each for each in known if each.signature.family == name and each.id != group.id)


def covers(one: Signature, other: Signature) -> bool:
    """Whether a signature says the same as another one, and more."""
    if not one.python or _bucket(one) != _bucket(other) or one.strict == other.strict:
        return False
    is_alike = one.verdict == other.verdict or (
        not other.native and {one.verdict, other.verdict} == _ALIKE
    )
    is_death = one.death == other.death or not _knows_death(other)
    is_native = one.native == other.native or _tells_less(other.native, one.native)
    return is_alike and is_death and is_native and _rank(one) > _rank(other)


def _homes(signatures: Mapping[str, Signature]) -> dict[str, str]:
    """Return {strict text: that of the signature whose group it belongs to}."""
    homes = {strict: strict for strict in signatures}
    buckets: dict[tuple[object, ...], list[str]] = {}
    for strict, signature in signatures.items():
        if signature.python:
            buckets.setdefault(_bucket(signature), []).append(strict)
    for bucket in buckets.values():
        if len(bucket) > _MOST:
            continue
        covering = {
            strict: [each for each in bucket if covers(signatures[each], signatures[strict])]
            for strict in bucket
        }
        for strict, found in covering.items():
            most = [each for each in found if not covering[each]]
            if len(most) == 1:
                homes[strict] = most[0]
    return homes


def _bucket(signature: Signature) -> tuple[object, ...]:
    """Return what is equal in all signatures of a group."""
    return signature.signal, signature.python, signature.place


def _tells_less(some: tuple[str, ...], all: tuple[str, ...]) -> bool:
    """Whether native places are the innermost ones of others, as far as they are known.

    Without symbols only the object of a place is known, or also the offset in it; then several
    places may be one function and what calls it.
    """
    named = [place for place in some if '!' in place]
    if len(named) == len(some):
        return some == all[: len(some)]
    objects, others = _objects(some), _objects(all)
    return objects == others[: len(objects)] and set(named) <= set(all)


def _objects(places: tuple[str, ...]) -> list[str]:
    """Return the objects of native places, each once in a row.

    A place is as "lxml.etree!parse", "lxml.etree+0x12@ab12cd34" or "lxml.etree".
    """
    objects = [place.partition('!')[0].partition('+0x')[0] for place in places]
    return [name for name, _ in groupby(objects)]


def _rank(signature: Signature) -> tuple[bool, int, int, bool]:
    """Return how much a signature tells: more is greater."""
    is_overflow = signature.verdict == 'stack-overflow'
    named = sum('!' in place for place in signature.native)
    return _knows_death(signature), named, len(signature.native), is_overflow


def _knows_death(signature: Signature) -> bool:
    return signature.death not in ('', UNKNOWN_CLASS)


def _doubts(signature: Signature) -> tuple[bool, bool]:
    """Of equal signatures, the one that is not weak and has a suspect comes first."""
    return signature.is_weak, not signature.suspect


def _time(run: RunRecord) -> Moment | None:
    return run.ended if run.ended is not None else run.started
