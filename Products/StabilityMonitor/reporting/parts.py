"""The parts of a report that are read only on demand: logs, configuration, changes, gaps."""

from __future__ import annotations

from collections.abc import Collection

from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.reportparts import ChangedSince
from ..store.archive import Archive
from .fromdisk import Document
from .fromdisk import RecordedRun

#: The keys of these parts in a report.
PARTS = ('logs', 'configuration', 'not_told', 'changed_since_stable')


def parts_of(
    wanted: Collection[str],
    life: ILivingRun | None,
    archive: Archive,
    run: str | None,
    left: RecordedRun | None,
) -> Document:
    """Return those of PARTS that are wanted, as in a report:

    logs [LogPortion], configuration [ConfigurationFile], not_told [Gap] and changed_since_stable
    (ChangedSince), see `model.reportparts`; about the archived `run`, or else about this process
    or the run `left`.
    """
    empty: Document = {
        'logs': [],
        'configuration': [],
        'not_told': [],
        'changed_since_stable': to_json(ChangedSince()),
    }
    return {key: value for key, value in empty.items() if key in wanted}
