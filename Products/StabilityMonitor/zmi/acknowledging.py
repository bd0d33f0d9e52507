"""The values and the action of the form that acknowledges incidents.

This module does not import Zope.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

from ..model.counts import counted
from ..model.errors import NoSuchRun
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..postmortem.runhistory import is_open
from ..postmortem.runhistory import recent_incidents
from ..postmortem.runhistory import seconds_since_end
from ..reporting import openwords
from ..store.acknowledged import Acknowledgement
from ..store.acknowledged import Acknowledgements
from ..store.archive import Archive
from ..store.damagedrecords import together
from ..system import processidentity
from . import csrftoken
from .forms import variable

ACTION = 'acknowledge'
#: The value of the form variable `older` with which the older incidents are acknowledged, too.
_OLDER = 'yes'


@functools.cache
def boot_id() -> str:
    known: str = processidentity.identity()['boot_id']
    return known


def seconds_ago(run: RunRecord) -> float | None:
    """Return how many seconds ago a run ended; None if that is not known."""
    return seconds_since_end(run, boot_id(), time.monotonic(), time.time())


class OpenIncidents:
    """The recent open incidents among `runs`, those of one instance, newest first.

    `problem` is a finding if something is wrong with the list of acknowledgements, else None.
    """

    def __init__(self, archive: Archive, runs: Sequence[RunRecord]) -> None:
        self.acknowledged, self.problem = _read(archive)
        self.recent = together(
            runs, lambda runs: recent_incidents(runs, self.acknowledged, seconds_ago)
        )

    def state(self, run: RunRecord) -> dict[str, Any]:
        """Return {open, acknowledged}: whether a run is an open incident, or who acknowledged it,
        in words.
        """
        return _state(run, self.acknowledged)

    def form(
        self, life: ILivingRun, last: RunRecord | None, may_manage: bool
    ) -> dict[str, Any] | None:
        """Return the values of the overview's form; None if no incident is open.

        `before` is the sentence about the incidents before the last run, '' if there are none.
        """
        if not self.recent:
            return None
        before = [run for run in self.recent if last is None or run.run != last.run]
        newest = self.recent[0].run
        return {
            'before': openwords.before_that(before, seconds_ago) if before else '',
            'button': f'Acknowledge {counted(len(self.recent), "incident")}',
            'incident': newest,
            'older': _OLDER,
            'fields': csrftoken.fields(life, ACTION) if may_manage else None,
        }


def of_run(
    life: ILivingRun, archive: Archive, record: RunRecord, may_manage: bool
) -> dict[str, Any]:
    """Return the values of the form on the page of that run."""
    acknowledged, _ = _read(archive)
    state = _state(record, acknowledged)
    form = None
    if state['open']:
        form = {
            'before': '',
            'button': 'Acknowledge this incident',
            'incident': record.run,
            'older': '',
            'fields': csrftoken.fields(life, ACTION) if may_manage else None,
        }
    return {'standing': state, 'open_form': form}


def acknowledge(life: ILivingRun, archive: Archive, form: dict[str, Any], who: str) -> str:
    """Acknowledge the incident that the form names, or also the older ones; return a message.

    An incident that is newer than the page that the person saw stays open.  Raises NoSuchRun,
    ListIsBusy, and OSError if the list cannot be written.
    """
    wanted = variable(form, 'incident')
    summaries = archive.summaries()
    names = [run.run for run in summaries if run.is_incident]
    if wanted not in names:
        raise NoSuchRun('There is no such incident.')
    chosen = [wanted]
    if variable(form, 'older') == _OLDER:
        ours = [run for run in summaries if run.instance == life.instance]
        seen = [run.run for run in OpenIncidents(archive, ours).recent]
        if wanted in seen:
            chosen = seen[seen.index(wanted) :]
    count = Acknowledgements(life.base).acknowledge(chosen, who, variable(form, 'note'))
    return f'Acknowledged: {counted(count, "incident")}.'


def _read(archive: Archive) -> tuple[dict[str, Acknowledgement], Finding | None]:
    return Acknowledgements(archive.base).read()


def _state(run: RunRecord, acknowledged: dict[str, Acknowledgement]) -> dict[str, Any]:
    entry = acknowledged.get(run.run)
    return {
        'open': is_open(run, acknowledged),
        'acknowledged': openwords.acknowledged_by(entry) if entry else '',
    }
