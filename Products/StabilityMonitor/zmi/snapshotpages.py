"""The values of the page of a snapshot, of the list of snapshots, and of the form that keeps one.

This module does not import Zope.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from ..inspection import nativestacks
from ..inspection import vitalsnow
from ..model.errors import StabilityError
from ..model.interfaces import ILivingRun
from ..model.records import clocktime
from ..model.records import duration
from ..model.snapshotrecord import BY_KERNEL
from ..model.snapshotrecord import READING
from ..model.snapshotrecord import SnapshotRecord
from ..reporting import charts
from ..reporting import snapshottaking
from ..reporting import snapshottext
from ..reporting import vitalwords
from ..reporting.causewords import core_threads_title
from ..reporting.causewords import equal_core_threads
from ..reporting.causewords import merged_lines
from ..store.snapshotfiles import Snapshots
from ..system.eventlog import LOGGER
from . import csrftoken
from . import pages
from . import threadpages
from .forms import variable

ACTION = 'snapshot'
_NATIVE = 'yes'
#: Rows of a list that are shown at once.
_SHOWN = 10
#: Seconds after which native stacks that are not there will not come: their process has ended.
_NATIVE_OVERDUE = 2 * nativestacks.LONGEST
#: Log records that are shown.
_LOG = 20


class NothingToKeep(StabilityError):
    next_step = (
        'Either the option "enabled" is off, or the findings on the "Stability" tab show the '
        'reason.'
    )


def address(snapshot: str) -> str:
    """Return the URL of the page of a snapshot."""
    return 'manage_snapshot?' + urlencode({'snapshot': snapshot})


# -- the form --------------------------------------------------------------------------------------


def form(life: ILivingRun, may_manage: bool) -> dict[str, Any]:
    """Return {snapshot_form}: {fields, tools} of the form; None if this user may not use it."""
    shown = None
    if may_manage and life.recorder is not None:
        tools = ' or '.join(nativestacks.find_tools())
        shown = {'fields': csrftoken.fields(life, ACTION), 'tools': tools, 'native': _NATIVE}
    return {'snapshot_form': shown}


def keep(life: ILivingRun, variables: dict[str, Any], who: str) -> str:
    """Keep a snapshot of this process; return its name.

    If native stacks are wanted, a job in the background reads them, and adds them later.  Raises
    NothingToKeep, and OSError if the snapshot cannot be written.
    """
    if life.recorder is None:
        raise NothingToKeep('No snapshot was kept: this process is not recorded.')
    note = variable(variables, 'note')
    record = snapshottaking.of_life(life, who, note, threading.get_ident())
    wants_native = variable(variables, 'native') == _NATIVE
    if wants_native:
        record = replace(record, native_state=READING)
    snapshots = Snapshots(life.base)
    snapshots.add(record)
    if wants_native:
        _read_native(snapshots, record)
    return record.id


def _read_native(snapshots: Snapshots, record: SnapshotRecord) -> None:
    """Start the job that adds the native stacks; the page says so if it cannot be started."""
    taking = nativestacks.NativeStacks(record.pid)

    def add() -> None:
        try:
            snapshots.amend(snapshottaking.with_native(record, taking.result or '', taking.error))
        except (OSError, StabilityError) as error:
            LOGGER.warning('The native stacks of a snapshot were not kept: %s', error)

    if not taking.start(then=add):
        add()


# -- the list --------------------------------------------------------------------------------------


def listed(life: ILivingRun, all_instances: bool) -> dict[str, Any]:
    """Return {snapshots}: the rows of the list, newest first, in two parts."""
    records = Snapshots(life.base).summaries()
    if not all_instances:
        records = tuple(record for record in records if record.instance == life.instance)
    return {'snapshots': pages.cut(list(map(_row, records)), _SHOWN)}


def _row(record: SnapshotRecord) -> dict[str, Any]:
    return {
        'address': address(record.id),
        'time': clocktime(record.time or None),
        'who': record.who,
        'summary': record.summary,
        'note': record.note,
    }


# -- one snapshot ----------------------------------------------------------------------------------


def snapshot(life: ILivingRun, name: str) -> dict[str, Any]:
    """Return the values of the page of one snapshot.  Raises NoSuchSnapshot."""
    record = Snapshots(life.base).record(name)
    pressing = [finding for finding in record.findings if finding.severity.presses]
    others = tuple(finding for finding in record.findings if finding not in pressing)
    from_outside = record.told_by == BY_KERNEL
    stall = -1.0 if record.stall is None else record.stall
    return threadpages.kept(record) | {
        'title': f'Snapshot {record.id}',
        'summary': record.summary,
        'note': record.note,
        'who': record.who,
        'when': _when(record),
        'no_answer': record.reason if from_outside else '',
        'seen': list(record.seen),
        'facts': _facts(record),
        'in_flight': list(map(pages.request_row, record.requests)) if from_outside else [],
        'recent': list(map(pages.request_row, record.recent[:_SHOWN])),
        'vitals': _vitals(record),
        'charts': charts.vital_signs(record.samples, record.curve, stall, charts.UNTIL_THEN),
        'findings': pages.findings(pressing),
        'other_findings': list(snapshottext.findings(replace(record, findings=others))),
        'native': _native(record),
        'log': [pages.log_row(line) for line in reversed(record.log[-_LOG:])],
        'report': 'manage_report?' + urlencode({'snapshot': record.id}),
        'everything': 'report?' + urlencode({'format': 'zip', 'snapshot': record.id}),
    }


def _when(record: SnapshotRecord) -> str:
    ago = duration(max(0.0, time.time() - record.time)) if record.time else 'an unknown time'
    return f'{ago} ago ({clocktime(record.time or None)})'


def _facts(record: SnapshotRecord) -> list[dict[str, str]]:
    process = record.process
    up = ''
    if record.started and record.time:
        up = duration(max(0.0, record.time - record.started))
    facts = (
        ('Instance', record.instance.label),
        ('Run', record.run),
        ('Role', record.role),
        ('Process Id', record.pid),
        ('Started', clocktime(record.started)),
        ('Uptime', up),
        ('Zope', process.get('zope')),
        ('Plone', process.get('plone')),
        ('Python', process.get('python')),
        ('System', process.get('system')),
        ('C library', process.get('libc')),
        ('Supervisor', process.get('supervisor')),
    )
    return [
        {'label': label, 'value': str(value)} for label, value in facts if value not in (None, '')
    ]


def _vitals(record: SnapshotRecord) -> list[dict[str, str]]:
    now = vitalsnow.of(record.samples, record.curve, record.monotonic)
    rows = vitalwords.facts(now) if now else ()
    return [{'label': label, 'value': words} for label, words in rows]


def _native(record: SnapshotRecord) -> dict[str, Any] | None:
    """Return {note, again, threads} of the native stacks; None if nobody wanted them.

    `again` is the address of the page while they are being read: Zope's footer takes the query from
    the address that the browser shows, so it cannot load the page again by itself.
    """
    if not record.native_state:
        return None
    note = record.native_error
    again = ''
    if record.native_state == READING:
        note = 'The native stacks are being read.'
        again = f'{address(record.id)}#native'
        if time.time() - record.time > _NATIVE_OVERDUE:
            note = 'The native stacks were not read: the process has ended meanwhile.'
            again = ''
    threads = []
    for alike in equal_core_threads(record.native_threads):
        frames = merged_lines(alike[0].frames)
        top = frames[0].strip() if frames else 'no frames'
        threads.append({'title': core_threads_title(alike), 'top': top, 'frames': frames})
    return {'note': note, 'again': again, 'threads': threads}
