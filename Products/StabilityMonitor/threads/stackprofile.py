"""The stacks in which a request was seen, and how often; of a frame only its file and function.

While the request is in progress, a stack takes one byte for each frame.  After its end, only the
most frequent stacks are kept, compressed.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from ..model.records import Frame
from ..model.threadstates import Share

#: (file, function).
_Place = tuple[str, str]
#: (the numbers of the places of a stack, how often the stack was seen).
_Counted = tuple[list[int], int]
#: At most this many different stacks and places; samples beyond are dropped.
_MOST_STACKS = 100
_MOST_PLACES = 256  # their numbers are bytes
#: Shares are given for this many functions.
SHARES = 10
#: At most this many stacks of a request that has ended are kept.
_KEPT = 30


class StackCounts:
    """Counts the stacks of a request in progress.  `len` is the number of different stacks."""

    def __init__(self) -> None:
        self._numbers: dict[_Place, int] = {}
        self._counted: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._counted)

    def add(self, frames: Iterable[Frame]) -> None:
        """Count one sample; drop it if there is no room for its stack."""
        numbers = self._numbers
        places = [(frame.file, frame.function) for frame in frames]
        new = set(places).difference(numbers)
        places_fit = len(numbers) + len(new) <= _MOST_PLACES
        has_room = places_fit and len(self._counted) < _MOST_STACKS
        if new and not has_room:
            return
        key = bytes(numbers.setdefault(place, len(numbers)) for place in places)
        if has_room or key in self._counted:
            self._counted[key] += 1

    def shares(self) -> list[Share]:
        """Return the shares of the functions that took most of the time, at most SHARES.

        `within` is the share of the samples (0 to 1) in the function or in what it called, `own`
        the share of the samples in the function itself.
        """
        counted = self._counted.most_common()
        within: Counter[int] = Counter()
        own: Counter[int] = Counter()
        for stack, count in counted:
            within.update(dict.fromkeys(stack, count))
            own.update(dict.fromkeys(stack[:1], count))
        total = sum(count for _, count in counted)
        places = list(self._numbers)
        most_first = sorted(within, key=lambda number: (-own[number], -within[number]))
        shares = []
        for number in most_first[:SHARES]:
            file, function = places[number]
            share = Share(
                file,
                function,
                within=within[number] / total,
                own=own[number] / total,
            )
            shares.append(share)
        return shares

    def stacks(self) -> list[list[Any]]:
        """Return [[[file, function], ...], count] of each stack.

        The most frequent stack comes first; in a stack, the innermost function.
        """
        places, counted = self._commonest()
        return _named(places, counted)

    def packed(self) -> PackedStacks:
        """Return the most frequent stacks in compressed form, for a request that has ended."""
        return PackedStacks(len(self), self.shares(), self._commonest(_KEPT))

    def _commonest(self, most: int | None = None) -> tuple[list[_Place], list[_Counted]]:
        """Return the places, and the stacks as numbers of places.

        Both are copies: another thread may count more while this one turns the numbers into names.
        """
        counted = []
        for stack, count in self._counted.most_common(most):
            counted.append((list(stack), count))
        return list(self._numbers), counted


class PackedStacks:
    """The stacks of a request that has ended; see StackCounts."""

    def __init__(
        self,
        different: int,
        shares: list[Share],
        commonest: tuple[list[_Place], list[_Counted]],
    ) -> None:
        self._different = different
        self._shares = shares
        document = json.dumps(commonest)
        self._packed = zlib.compress(document.encode())

    def __len__(self) -> int:
        return self._different

    def shares(self) -> list[Share]:
        return self._shares

    def stacks(self) -> list[list[Any]]:
        places, counted = json.loads(zlib.decompress(self._packed))
        return _named(places, counted)


def _named(places: Sequence[_Place], counted: Iterable[_Counted]) -> list[list[Any]]:
    named: list[list[Any]] = []
    for stack, count in counted:
        frames = [list(places[number]) for number in stack]
        named.append([frames, count])
    return named
