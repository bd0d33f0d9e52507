"""The vital signs of a living process: its last sample, and how its memory has grown.

A process that is mute takes no samples.  What the kernel tells of it is read from outside then: the
connections that wait, and the descriptors.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from ..knowledge.growth import Growth
from ..knowledge.growth import memory_growth
from ..model.records import LifePoint
from ..model.records import Sample
from ..system import acceptqueue


@dataclass(frozen=True)
class VitalsNow:
    """`sample` is the last one, or has newer values from outside.  `new_errors` counts the errors
    of accept() since the first sample that is kept, which is `span` seconds older than the last;
    -1: not known.  `growth` is None if the memory does not grow.
    """

    sample: Sample
    new_errors: int = -1
    span: float = 0.0
    growth: Growth | None = None

    @property
    def seconds_to_limit(self) -> float | None:
        """After how many seconds the memory cgroup is full if the memory grows on like this; None
        if it does not grow, or has no limit.
        """
        if self.growth is None:
            return None
        return self.growth.seconds_until(self.sample.cgroup_current, self.sample.cgroup_limit)


def of(
    samples: Sequence[Sample],
    curve: Sequence[LifePoint],
    started: float | None,
) -> VitalsNow | None:
    """Return the vital signs; None without a sample.  `started` is on the monotonic clock."""
    if not samples:
        return None
    last = samples[-1]
    first = next((sample for sample in samples if sample.accept_errors >= 0), last)
    new_errors = -1
    if first.accept_errors >= 0 and last.accept_errors >= first.accept_errors:
        new_errors = last.accept_errors - first.accept_errors
    return VitalsNow(
        last,
        new_errors,
        last.monotonic - first.monotonic,
        memory_growth(curve, samples, started),
    )


def from_outside(now: VitalsNow, pid: int, proc: Path = Path('/proc')) -> VitalsNow:
    """Return it with what the kernel tells now of that process, where this user may read it."""
    sample = now.sample
    with contextlib.suppress(OSError):
        sample = replace(sample, descriptors=len(os.listdir(proc / str(pid) / 'fd')))
        sockets = acceptqueue.inodes_of_process(pid, proc)
        tables = acceptqueue.tables_of(pid, proc)
        sample = replace(sample, accept_queue=acceptqueue.waiting(sockets, tables))
    return replace(now, sample=sample)
