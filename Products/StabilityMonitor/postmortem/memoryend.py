"""Describes the memory of a run that ended when memory was short.

Traces in, words and evidence out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..knowledge.growth import began
from ..knowledge.growth import memory_growth
from ..model.records import Evidence
from .evidence import Traces

#: The memory of a cgroup is near its limit from this share of it on.
_NEAR = 0.8


def was_near_limit(t: Traces) -> bool:
    """Whether the cgroup used at least four fifths of its memory at the last sample."""
    sample = t.last_sample
    if sample is None or sample.cgroup_limit <= 0:
        return False
    return sample.cgroup_current >= _NEAR * sample.cgroup_limit


def growth_to_the_limit(t: Traces) -> Iterator[Evidence]:
    """Yield how the memory had grown until the end, if it may have to do with the end."""
    may_matter = t.kernel_line or t.cgroup_kills or t.host_kills or was_near_limit(t)
    if not t.recording or not may_matter:
        return
    growth = memory_growth(t.recording.curve, t.recording.samples, began(t.context))
    if growth:
        yield Evidence('black box', f'The memory of Zope {growth.summary}.')
