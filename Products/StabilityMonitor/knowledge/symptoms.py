"""What the vital signs of a run that has ended can show of a known issue: a RunRecord in, a
sentence or None out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..model.runrecord import RunRecord


def busy(record: RunRecord) -> tuple[str, str] | None:
    """A thread spun until the end, or the process used a whole processor then: beside other load it
    gets less.
    """
    spinning = next(
        (hang for hang in record.hangs if hang['kind'] == 'spinning' and hang['ended'] is None),
        None,
    )
    if spinning:
        return 'processor', f'processor: {spinning["summary"]}'
    last = [
        s for s in record.samples[-15:] if _number(s, 'monotonic') >= 0 and _number(s, 'cpu') >= 0
    ]
    seconds = last[-1]['monotonic'] - last[0]['monotonic'] if last else 0
    share = (last[-1]['cpu'] - last[0]['cpu']) / seconds if seconds > 0 else 0
    return (
        ('processor', f'processor: {share:.0%} of one in the last {seconds:.0f} s')
        if share >= 0.9
        else None
    )


def growth(record: RunRecord) -> tuple[str, str] | None:
    """The memory grew to twice its size and by 100 MiB at least, and did not fall again."""
    sizes = [s['rss'] for s in record.samples if _number(s, 'rss') > 0]
    if len(sizes) < 10 or sizes[-1] < max(
        2 * sizes[len(sizes) // 10], sizes[0] + (100 << 20), 0.9 * max(sizes)
    ):
        return None
    return 'memory', f'memory: grew from {sizes[0] / 2**20:.0f} to {sizes[-1] / 2**20:.0f} MiB'


def _number(sample: dict[str, Any], name: str) -> int | float:
    value = sample.get(name)
    return value if isinstance(value, int | float) and abs(value) < 1e18 else -1


#: By the words of the rules: (kind, sentence) or None.
SIGNS: Mapping[str, Callable[[RunRecord], tuple[str, str] | None]] = MappingProxyType(
    {'busy': busy, 'growth': growth}
)
