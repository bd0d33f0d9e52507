"""The sentences about open incidents and their acknowledgements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence

from ..model.counts import counted
from ..model.records import clocktime
from ..model.records import from_isotime
from ..model.runrecord import RunRecord
from ..model.verdicts import verdict
from ..store.acknowledged import Acknowledgement

_DAY = 86400  # seconds


def before_that(incidents: Sequence[RunRecord], age: Callable[[RunRecord], float | None]) -> str:
    """Return for example "Before that: 5 incidents in 24 h, the last: vanished, 2026-11-23 ...
    (3 crashed, 2 vanished)".

    `incidents` are sorted newest first; `age(record)` is how many seconds ago a run ended, None if
    that is not known.
    """
    newest = incidents[0]
    oldest = max(age(record) or 0.0 for record in incidents)
    span = '24 h' if oldest <= _DAY else f'{math.ceil(oldest / _DAY)} days'
    labels = Counter(verdict(record.verdict).label for record in incidents)
    kinds = ''
    if len(labels) > 1:
        kinds = f' ({", ".join(f"{count} {label}" for label, count in labels.most_common())})'
    return (
        f'Before that: {counted(len(incidents), "incident")} in {span}, '
        f'the last: {verdict(newest.verdict).label}, {clocktime(newest.ended)}{kinds}'
    )


def acknowledged_by(entry: Acknowledgement) -> str:
    """Return for example "Acknowledged by ada, 2026-11-23 07:45:01 UTC: a full disk"."""
    words = f'Acknowledged by {entry.who}, {clocktime(from_isotime(entry.when))}'
    return f'{words}: {entry.note}' if entry.note else words
