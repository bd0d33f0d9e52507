"""What the vital signs of a run that has ended can show of a known issue: a RunRecord in, a
sentence or None out.
"""

from __future__ import annotations

from types import MappingProxyType


def busy(record):
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


def growth(record):
    """The memory grew to twice its size and by 100 MiB at least, and did not fall again."""
    sizes = [s['rss'] for s in record.samples if _number(s, 'rss') > 0]
    if len(sizes) < 10 or sizes[-1] < max(
        2 * sizes[len(sizes) // 10], sizes[0] + (100 << 20), 0.9 * max(sizes)
    ):
        return None
    return 'memory', f'memory: grew from {sizes[0] / 2**20:.0f} to {sizes[-1] / 2**20:.0f} MiB'


def _number(sample, name):
    value = sample.get(name)
    return value if isinstance(value, int | float) and abs(value) < 1e18 else -1


#: By the words of the rules: (kind, sentence) or None.
SIGNS = MappingProxyType({'busy': busy, 'growth': growth})
