"""What incidents are compared by: the features of one run, as texts."""

from __future__ import annotations

from ..model.runrecord import RunRecord


def features_of(record: RunRecord) -> tuple[str, ...]:
    """Return the features of a run."""
    return ()
