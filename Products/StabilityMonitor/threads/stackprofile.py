"""Which stacks a request was seen in, and how often, in little room: places (file, function) only.

While it lasts a stack is a byte for each frame.  When it has ended, the commonest stacks are kept
compressed.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from ..model.records import Frame

#: (file, function), and a stack as the numbers of its places with how often it was seen.
_Place = tuple[str, str]
_Counted = tuple[list[int], int]
#: So many different stacks, of so many places, are counted; of a sample beyond them nothing is.
_MOST_STACKS, _MOST_PLACES = 100, 256
#: So many functions are told with their shares, and so many stacks are left of a request that has
#: ended.
SHARES, _KEPT = 10, 30


class StackCounts:
    """Counts the stacks of a request that lasts.  `len`: how many different ones."""

    def __init__(self) -> None:
        self._numbers: dict[_Place, int] = {}
        self._counted: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._counted)

    def add(self, frames: Iterable[Frame]) -> None:
        places = [(frame.file, frame.function) for frame in frames]
        new = set(places).difference(self._numbers)
        room = len(self._counted) < _MOST_STACKS and len(self._numbers) + len(new) <= _MOST_PLACES
        if new and not room:
            return
        key = bytes(self._numbers.setdefault(place, len(self._numbers)) for place in places)
        if room or key in self._counted:
            self._counted[key] += 1

    def shares(self) -> list[dict[str, Any]]:
        """[{file, function, within, own}]: the share of the samples within each function and in it
        itself, 0 to 1.

        Those in which most of the time was spent, and no more than SHARES.
        """
        counted = self._counted.most_common()
        within: Counter[int] = Counter()
        own: Counter[int] = Counter()
        for stack, count in counted:
            within.update(dict.fromkeys(stack, count))
            own.update(dict.fromkeys(stack[:1], count))
        total = sum(count for _, count in counted) or 1
        places = list(self._numbers)
        return [
            {
                'file': places[n][0],
                'function': places[n][1],
                'within': within[n] / total,
                'own': own[n] / total,
            }
            for n in sorted(within, key=lambda n: (-own[n], -within[n]))[:SHARES]
        ]

    def stacks(self) -> list[list[Any]]:
        """[[[file, function], ...] innermost first, count], the commonest first."""
        return _named(*self._commonest())

    def packed(self) -> PackedStacks:
        return PackedStacks(len(self), self.shares(), self._commonest(_KEPT))

    def _commonest(self, most: int | None = None) -> tuple[list[_Place], list[_Counted]]:
        """Numbers first: while they are named by one thread, another may go on counting."""
        counted = [(list(stack), count) for stack, count in self._counted.most_common(most)]
        return list(self._numbers), counted


class PackedStacks:
    """What is left of them when the request has ended; see StackCounts."""

    def __init__(
        self,
        different: int,
        shares: list[dict[str, Any]],
        commonest: tuple[list[_Place], list[_Counted]],
    ) -> None:
        self._different = different
        self._shares = shares
        self._packed = zlib.compress(json.dumps(commonest).encode())

    def __len__(self) -> int:
        return self._different

    def shares(self) -> list[dict[str, Any]]:
        return self._shares

    def stacks(self) -> list[list[Any]]:
        return _named(*json.loads(zlib.decompress(self._packed)))


def _named(places: Sequence[_Place], counted: Iterable[_Counted]) -> list[list[Any]]:
    return [[[list(places[number]) for number in stack], count] for stack, count in counted]
