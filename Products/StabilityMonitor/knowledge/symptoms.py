"""What the vital signs of a run that has ended can show of a known issue.

A RunRecord in, (kind, sentence) or None out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType

from ..model.runrecord import RunRecord


def busy(record: RunRecord) -> tuple[str, str] | None:
    """A thread spun until the end, or the process used at least 90 % of a CPU then.

    A thread that spins gets less than a whole CPU where other processes compete for it.
    """
    for hang in record.hangs:
        if hang.kind == 'spinning' and hang.lasts:
            return 'processor', f'processor: {hang.summary}'
    last = []
    for sample in record.samples[-15:]:
        if sample.monotonic >= 0 and sample.cpu >= 0:
            last.append(sample)
    if not last:
        return None
    seconds = last[-1].monotonic - last[0].monotonic
    if seconds <= 0:
        return None
    share = (last[-1].cpu - last[0].cpu) / seconds
    if share < 0.9:
        return None
    return 'processor', f'processor: {share:.0%} of one in the last {seconds:.0f} s'


def growth(record: RunRecord) -> tuple[str, str] | None:
    """The memory grew to twice its size and by 100 MiB at least, and did not fall again."""
    sizes = [sample.rss for sample in record.samples if sample.rss > 0]
    if len(sizes) < 10:
        return None
    first = sizes[0]
    last = sizes[-1]
    after_the_start = sizes[len(sizes) // 10]
    if last < 2 * after_the_start or last < first + (100 << 20) or last < 0.9 * max(sizes):
        return None
    return 'memory', f'memory: grew from {first / 2**20:.0f} to {last / 2**20:.0f} MiB'


#: The signs by the words of the rules.
SIGNS: Mapping[str, Callable[[RunRecord], tuple[str, str] | None]] = MappingProxyType(
    {'busy': busy, 'growth': growth}
)
