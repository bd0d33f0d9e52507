"""The report: one document that the tab, the downloads and the command render.

Programs rely on its keys; keys are only ever added.  `life` is the living run of this process, or
None while Zope is down.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

from ..checks.allfindings import Look
from ..checks.allfindings import of as standing_of
from ..checks.allfindings import sorted_out
from ..checks.muted import MuteList
from ..knowledge import signedruns
from ..knowledge.rulesinforce import of_incident
from ..knowledge.signedruns import SignedRuns
from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.records import Instance
from ..model.records import Request
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..model.siteparts import SitesRead
from ..model.snapshotrecord import SnapshotRecord
from ..model.threadstates import Stacks
from ..postmortem.evidence import World
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..store.acknowledged import Acknowledgements
from ..store.archive import Archive
from ..store.blackboxreader import read
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from ..system.runcontext import compiled_modules
from ..system.runcontext import system_name
from . import fromdisk
from .fromdisk import Clock
from .fromdisk import Document
from .fromdisk import RecordedRun
from .inventory import inventory
from .parts import parts_of
from .signedpast import SignedPast
from .signedpast import signed_past

SCHEMA = 'stabilitymonitor/1'
#: Options that say who files the report, and where.
_SUPPORT = ('support_name', 'support_contact', 'tracker_url')


def build(
    life: ILivingRun | None,
    archive: Archive,
    run: str | None = None,
    instance: Instance | None = None,
    clock: Clock = time.time,
    sites: SitesRead | None = None,
    parts: Collection[str] = (),
    world: World | None = None,
) -> Document:
    """Return the report of this process and its past; with `run`, about that incident.

    Without `life`, it contains what the last run of `instance` has left on disk.  The key `sources`
    has, for each part, its source and the time when it was true.  `sites` are the Plone sites; only
    a request in Zope can read them.  `parts` are those of `parts.PARTS` that are read, too: they
    cost more than all the rest.  `world` is the system whose logs are read.  Raises NoSuchRun.
    """
    sites = sites or SitesRead()
    if life:
        instance = life.instance
    summaries = archive.summaries()
    ours = of_instance(summaries, instance) if instance else summaries
    last = last_server_run(ours)
    if instance is None:
        instance = last.instance if last else Instance()
    if life:
        left = None
        now = _of_life(life, clock)
    else:
        left = fromdisk.newest(archive, ours, instance)
        now = _of_disk(left, archive, instance, clock)
    past = signed_past(archive, summaries)
    incident = _extended_record(archive, run, life, left, past) if run else None
    previous = None
    if last and last.run == run:
        previous = incident
    elif last:
        previous = _extended_record(archive, last.run, life, left, past)
    acknowledged, _ = Acknowledgements(archive.base).read()
    report: Document = {
        'schema': SCHEMA,
        'generated': isotime(clock()),
        'about': {'kind': 'incident' if run else 'state', 'run': run},
        'instance': to_json(instance),
        'process': now['process'],
        'last_process': now['last_process'],
        'previous': previous,
        'history': _history(archive, ours),
        'checks': now['checks'],
        'workarounds': [],
        'inventory': now['inventory'],
        'in_flight': now['in_flight'],
        **standing(life),
        'crash_loop': [
            record.run for record in together(ours, lambda runs: crash_loop(runs, acknowledged))
        ],
        'clean_scripts': archive.clean_scripts,
        'support': _support(life),
        'sites': list(map(to_json, sites.sites)),
        'sources': now['sources'] | {'sites': _source_of_sites(sites, life)},
    }
    if incident:
        report['incident'] = incident
    if parts:
        report |= parts_of(parts, life, archive, run, left, world)
    return report


def _history(archive: Archive, runs: Sequence[RunRecord]) -> list[Document]:
    """Return the summaries with the labels of their signatures, as far as these are known."""
    labels = SignedRuns(archive).labels(runs)
    rows = []
    for record in runs:
        row = alone(record, RunRecord.summary_json)
        rows.append(row | {'signature': labels.get(record.run, '')})
    return rows


def build_of_snapshot(
    life: ILivingRun | None,
    archive: Archive,
    snapshot: SnapshotRecord,
    clock: Clock = time.time,
) -> Document:
    """Return the report of a snapshot: of its process, as of its time.

    It has the keys of `build` without an incident, and the whole snapshot as `snapshot`.
    """
    report = build(None, archive, instance=snapshot.instance, clock=clock)
    if life:
        report['support'] = _support(life)
    look = sorted_out(snapshot.findings, MuteList(archive.base.path, snapshot.instance.label))
    stacks = to_json(snapshot.stacks, plain=True)
    source = {
        'source': fromdisk.SNAPSHOT,
        'run': snapshot.run,
        'as_of': isotime(snapshot.time or None),
    }
    checked = source | {'as_of': isotime(snapshot.checked), 'running': None, 'error': ''}
    report |= {
        'process': snapshot.process or None,
        'last_process': None,
        'checks': look.to_json(),
        'inventory': fromdisk.NO_INVENTORY | snapshot.inventory,
        'in_flight': list(map(to_json, snapshot.requests)),
        'threads': stacks['threads'],
        'slow_requests': stacks['slow'],
        'hangs': stacks['hangs'],
        'sources': report['sources']
        | {'process': source, 'inventory': source, 'in_flight': source, 'checks': checked},
        'snapshot': snapshot.to_json(),
        'about': {'kind': 'snapshot', 'run': snapshot.run, 'snapshot': snapshot.id},
    }
    return report


def _support(life: ILivingRun | None) -> Document:
    options = life.options if life else None
    return {key: getattr(options, key, '') for key in _SUPPORT}


def _source_of_sites(sites: SitesRead, life: ILivingRun | None) -> Document:
    if life is None or sites.when is None:
        return fromdisk.UNKNOWN | {'note': sites.note}
    as_of = isotime(sites.when)
    return {'source': fromdisk.PROCESS, 'run': life.name, 'as_of': as_of, 'note': sites.note}


def _of_life(life: ILivingRun, clock: Clock) -> Document:
    """The parts of a report about this process, as of now."""
    state, look = checks_state(life)
    source = {'source': fromdisk.PROCESS, 'run': life.name, 'as_of': isotime(clock())}
    return {
        'process': process(life, clock),
        'last_process': None,
        'checks': look.to_json(),
        'inventory': inventory(compiled_modules(), fromdisk.databases({'software': life.software})),
        'in_flight': list(map(to_json, in_flight(life, clock))),
        'sources': {
            'process': source,
            'checks': source | state,
            'inventory': source,
            'in_flight': source,
        },
    }


def _of_disk(
    left: RecordedRun | None, archive: Archive, instance: Instance, clock: Clock
) -> Document:
    """The same parts from the files of the run `left`, with their times; empty without a run."""
    if left is None:
        return {
            'process': None,
            'last_process': None,
            'checks': [],
            'inventory': fromdisk.NO_INVENTORY,
            'in_flight': [],
            'sources': {
                'process': fromdisk.UNKNOWN,
                'checks': fromdisk.UNKNOWN | {'running': False, 'error': ''},
                'inventory': fromdisk.UNKNOWN,
                'in_flight': fromdisk.UNKNOWN,
            },
        }
    checks, source_of_checks = fromdisk.checks(left, archive, instance)
    requests, source_of_requests = fromdisk.in_flight(left, clock)
    facts = fromdisk.process(left, archive, clock)
    at_its_start = left.source(left.started)
    return {
        'process': facts if left.alive else None,
        'last_process': None if left.alive else facts,
        'checks': checks,
        'inventory': fromdisk.inventory(left),
        'in_flight': list(map(to_json, with_seconds(requests, clock()))),
        'sources': {
            'process': at_its_start,
            'checks': source_of_checks,
            'inventory': at_its_start,
            'in_flight': source_of_requests,
        },
    }


def checks_state(life: ILivingRun) -> tuple[Document, Look]:
    """Return ({as_of, running, error} of the checks, findings); no results: `as_of` is None."""
    state_of_checks = standing_of(life)
    # Read before the results: checks that end between the two lines count as running.
    running = state_of_checks.checks.running
    look = state_of_checks.look()
    state = {
        'as_of': isotime(look.when),
        'running': running,
        'error': state_of_checks.checks.error,
    }
    return state, look


def _extended_record(
    archive: Archive,
    run: str,
    life: ILivingRun | None,
    left: RecordedRun | None,
    past: SignedPast,
) -> Document:
    """Everything about one archived run.

    In addition to the record: the class of its death, the suspects and the known issues that may
    have caused it (by today's rules), what incidents with its signature tell, what was installed
    then, and what has changed since.
    """
    return alone(archive.record(run), lambda record: _whole_of(archive, record, life, left, past))


def _whole_of(
    archive: Archive,
    record: RunRecord,
    life: ILivingRun | None,
    left: RecordedRun | None,
    past: SignedPast,
) -> Document:
    record = signedruns.of_archive(archive, record)
    then = fromdisk.of_record(archive, record)
    known_issues = of_incident(record, archive.base.path)
    seen = past.seen_before(archive, record)
    return record.to_json() | {
        'seen_before': seen.to_json() if seen else None,
        'known_issues': list(map(to_json, known_issues)),
        'inventory': fromdisk.inventory(then),
        'versions': fromdisk.compared(then, life, left),
    }


def process(life: ILivingRun, clock: Clock = time.time) -> Document:
    """Return facts about this process; the first eight are those of the Zope Stability HOWTO."""
    software = life.software
    context = life.context
    return {
        'zope': software.get('zope', ''),
        'python': sys.version,
        'platform': sys.platform,
        'software_home': software.get('software_home', ''),
        'instance_home': software.get('instance_home', ''),
        'client_home': software.get('client_home', ''),
        'pid': os.getpid(),
        'uptime_seconds': round(time.monotonic() - life.started_monotonic, 3),
        'plone': software.get('plone', ''),
        'started': isotime(life.started),
        'run': life.name,
        'role': life.role,
        'debug_mode': bool(software.get('debug_mode')),
        'server_software': software.get('server_software', ''),
        'threads': software.get('threads'),
        'supervisor': context.get('supervisor', ''),
        'libc': context.get('libc', ''),
        'system': system_name(),
        'safe_mode': life.safe_mode,
        'recording': life.recorder is not None,
        'directory': str(life.path),
        'thread_stack': context.get('thread_stack'),
        'core_pattern': context.get('core_pattern', ''),
    }


def standing(life: ILivingRun | None) -> Document:
    """Return what every thread of this process does now, which requests are slow, and what hangs.

    {threads [ThreadState], slow_requests [SlowRequest], hangs [Event]} of `model.threadstates`, as
    JSON with times in seconds since the epoch.
    """
    stacks = life.stacks() if life else Stacks()
    document = to_json(stacks, plain=True)
    return {
        'threads': document['threads'],
        'slow_requests': document['slow'],
        'hangs': document['hangs'],
    }


def in_flight(life: ILivingRun, clock: Clock = time.time) -> list[Request]:
    """Return the requests in progress in this process, oldest first, from its black box."""
    if life.recorder is None:
        return []
    recording = read(bytes(life.recorder.buffer))
    return with_seconds(recording.in_flight, clock())


def with_seconds(requests: Iterable[Request], now: float) -> list[Request]:
    """Return the requests, oldest first, with the seconds that they have taken so far."""
    found = []
    oldest_first = sorted(requests, key=lambda request: request.started)
    for request in oldest_first:
        seconds = round(max(0.0, now - request.started), 3)
        found.append(replace(request, seconds=seconds))
    return found
