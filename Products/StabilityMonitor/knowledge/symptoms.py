"""Signs of a known issue in the vital signs of a run that has ended.

Each function takes a RunRecord and returns a Sign or None.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..model.runrecord import RunRecord
from .growth import began
from .growth import memory_growth

#: At most this many of the last samples show a busy CPU; there is one sample per second.
_LAST_SAMPLES = 15
#: A process is busy from this share of one CPU on.
_BUSY = 0.9


@dataclass(frozen=True)
class Sign:
    """Something that shows an issue: a key of `knowledgebase.WEIGHTS`, and a sentence."""

    kind: str
    sentence: str


def busy(record: RunRecord) -> Sign | None:
    """Return a Sign if a thread spun until the end, or the process used at least 90 % of one CPU at
    the end.

    A thread that spins gets less than a whole CPU if other processes compete for it.
    """
    for hang in record.hangs:
        if hang.kind == 'spinning' and hang.lasts:
            return Sign('cpu', f'CPU: {hang.summary}')
    samples = []
    for sample in record.samples[-_LAST_SAMPLES:]:
        is_known = sample.monotonic >= 0 and sample.cpu >= 0
        if is_known:
            samples.append(sample)
    if not samples:
        return None
    first = samples[0]
    last = samples[-1]
    seconds = last.monotonic - first.monotonic
    if seconds <= 0:
        return None
    share = (last.cpu - first.cpu) / seconds
    if share < _BUSY:
        return None
    return Sign(
        'cpu',
        f'CPU: {share:.0%} of one CPU in the last {seconds:.0f} s',
    )


def growth(record: RunRecord) -> Sign | None:
    """Return a Sign if the memory grew until the run ended, see `growth.memory_growth`."""
    found = memory_growth(record.curve, record.samples, began(record.context))
    return Sign('memory', f'memory: {found.summary}') if found else None


_Symptom = Callable[[RunRecord], Sign | None]
#: {word in the field `signs` of a rule: the function that looks for it}
SIGNS: Mapping[str, _Symptom] = MappingProxyType(
    {
        'busy': busy,
        'growth': growth,
    }
)
