"""The command "status": which processes are running, whether they hang, their vital signs, how the
last one ended, and crash loops.

It only reads files, so it never waits for a process.  The exit status is 1 if a process hangs, or
if the last run of an instance was an incident that is open: no drill, and not acknowledged.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from ..inspection import liveness
from ..inspection.vitalsnow import VitalsNow
from ..model.counts import counted
from ..model.counts import plural
from ..model.eventkinds import EVENT_KINDS
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.records import Instance
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import is_open
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..postmortem.runhistory import recent_incidents
from ..postmortem.runhistory import seconds_since_end
from ..reporting import openwords
from ..reporting import vitalwords
from ..store.acknowledged import Acknowledgement
from ..store.acknowledged import Acknowledgements
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from ..store.rundirectory import name_facts
from ..system.processidentity import identity
from . import nagios
from .exitstatus import WELL
from .exitstatus import WRONG
from .nagios import NAGIOS
from .terminal import print_json
from .terminal import print_lines

#: {kind of hang: the first word of its line}.  "silent" and "stopped" are added here: only another
#: process sees them, so they are not kinds of events.
_VERBS = {kind.code: kind.verb for kind in EVENT_KINDS.values()}
_VERBS |= {'silent': 'HANGS', 'stopped': 'STOPPED'}
#: The vital signs of a sample that the status shows, see model.records.Sample.
_VITAL_SIGNS = (
    'queue',
    'waited',
    'workers',
    'in_flight',
    'connections',
    'connection_limit',
    'accept_queue',
    'accept_errors',
    'descriptors',
    'descriptor_limit',
    'threads',
    'rss',
    'cgroup_current',
    'cgroup_limit',
)


def show(runs: AllRuns, format: str) -> int:
    """Print the status as text, JSON or for Nagios, and return the exit status."""
    document = of(runs)
    if format == NAGIOS:
        return nagios.show(document)
    if format == 'json':
        print_json(document)
    else:
        print_lines(_lines(document))
    exit_status: int = document['exit_status']
    return exit_status


def of(runs: AllRuns, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return the status as a document for JSON.

    Its keys are documented in docs/formats.rst; keys are added, but never changed or removed.
    """
    living = [_of_process(runs, name, context) for name, context in runs.living]
    # Each instance once; those with dead runs come first.
    found = [record.instance for record in runs.summaries()]
    for process in living:
        if _serves(process):
            found.append(from_json(Instance, process['instance']))
    acknowledged, _ = Acknowledgements(runs.base).read()
    instances = [
        _of_instance(instance, runs, living, acknowledged) for instance in dict.fromkeys(found)
    ]
    exit_status = WELL
    if any(process['hang'] for process in living):
        exit_status = WRONG
    for known in instances:
        last = known['last_run']
        if last and last['is_open']:
            exit_status = WRONG
    return {
        'generated': isotime(now()),
        'directory': str(runs.base.path),
        'exit_status': exit_status,
        'living': living,
        'waiting': [
            alone(record, lambda record: _of_record(record, acknowledged))
            for record in runs.waiting
        ],
        'clean_scripts_waiting': runs.clean_waiting,
        'copied': [
            alone(record, lambda record: _of_record(record, acknowledged)) for record in runs.copied
        ],
        'instances': instances,
    }


def _of_process(
    runs: AllRuns,
    name: str,
    context: dict[str, Any],
) -> dict[str, Any]:
    """The facts of a living process, with its hang if it hangs."""
    seen = liveness.look(runs.base.runs / name, context)
    is_script = context.get('role') == 'script'
    started, _ = name_facts(name)
    return {
        'run': name,
        'pid': seen.pid,
        'role': 'script' if is_script else 'server',
        'instance': to_json(instance_of(context)),
        'started': isotime(started),
        'state': seen.state,
        'last_sample': isotime(seen.last_sample),
        'hang': _of_hang(seen.hang),
        'delay': _of_hang(seen.delay),
        'vitals': _of_vitals(seen.vitals),
    }


def _of_vitals(now: VitalsNow | None) -> dict[str, Any] | None:
    """Return the vital signs and their words; what is not known is None."""
    if now is None:
        return None
    sample = now.sample
    known = {name: None if (value := getattr(sample, name)) < 0 else value for name in _VITAL_SIGNS}
    growth = None
    if now.growth:
        growth = to_json(now.growth) | {
            'seconds_to_limit': now.seconds_to_limit,
            'summary': now.growth.summary,
        }
    return {
        'time': isotime(sample.time),
        **known,
        'growth': growth,
        'words': [f'{label}: {words}' for label, words in vitalwords.facts(now)],
    }


def _of_hang(hang: liveness.Hang | None) -> dict[str, Any] | None:
    if hang is None:
        return None
    document: dict[str, Any] = to_json(hang)
    document['since'] = isotime(hang.since)
    return document


def _of_record(record: RunRecord, acknowledged: Mapping[str, Acknowledgement]) -> dict[str, Any]:
    """The short facts of a dead run."""
    entry = acknowledged.get(record.run)
    known = None
    if entry:
        known = {'who': entry.who, 'note': entry.note, 'when': entry.when}
    return {
        'run': record.run,
        'role': record.role,
        'pid': record.pid,
        'started': isotime(record.started),
        'ended': isotime(record.ended),
        'uptime_seconds': record.uptime_seconds,
        'verdict': record.verdict,
        'confidence': record.confidence,
        'summary': record.summary,
        'signal': record.signal,
        'exit_code': record.exit_code,
        'instance': to_json(record.instance),
        'is_incident': record.is_incident,
        'drill': record.drill,
        'acknowledged': known,
        'is_open': is_open(record, acknowledged),
        'copied': isotime(record.copied),
    }


def _serves(process: dict[str, Any]) -> bool:
    """Whether the process is a server, not a script."""
    role: str = process['role']
    return role == 'server'


def _of_instance(
    instance: Instance,
    runs: AllRuns,
    living: list[dict[str, Any]],
    acknowledged: Mapping[str, Acknowledgement],
) -> dict[str, Any]:
    """The living servers of an instance, how its last run ended, its crash loop, and what happened
    before that.
    """
    ours = of_instance(runs.summaries(), instance)
    last = last_server_run(ours)
    named = to_json(instance)
    servers = []
    for process in living:
        if _serves(process) and process['instance'] == named:
            servers.append(process['run'])
    loop = together(ours, lambda runs: crash_loop(runs, acknowledged))
    age = functools.partial(
        seconds_since_end,
        boot_id=identity()['boot_id'],
        monotonic=time.monotonic(),
        now=time.time(),
    )
    recent = together(ours, lambda runs: recent_incidents(runs, acknowledged, age))
    before = [record for record in recent if last is None or record.run != last.run]
    return {
        'instance': named,
        'living': servers,
        'last_run': alone(last, lambda run: _of_record(run, acknowledged)) if last else None,
        'crash_loop': [record.run for record in loop],
        'open_incidents': [record.run for record in recent],
        'before_that': openwords.before_that(before, age) if before else None,
    }


# -- as text ---------------------------------------------------------------------------------------


def _lines(document: dict[str, Any]) -> Iterator[str]:
    instances = document['instances']
    living = document['living']
    waiting = document['waiting']
    clean_scripts = document['clean_scripts_waiting']
    for known in instances:
        count = len(known['crash_loop'])
        if count:
            yield f'CRASH LOOP: {count} incidents in a row: {_label(known)}'
    for process in living:
        yield from _process_lines(process)
    copied = document['copied']
    has_runs = instances or living or waiting or clean_scripts or copied
    if not has_runs:
        yield 'No run has been recorded here yet.'
        return
    for record in copied:
        yield f'of another machine: {record["run"]}: {record["summary"]} (it stays where it is)'
    if not living:
        yield 'No process is running here.' if copied else 'No process is running.'
    elif not any(map(_serves, living)):
        yield 'Only scripts are running, no server.'
    # That a run waits to be archived is not a problem of the site.
    for record in waiting:
        yield (
            f'dead, not yet archived: {record["run"]} [{record["verdict"]}, '
            f'{record["confidence"]}] (the next start of Zope archives it, or '
            '"stabilitymonitor triage")'
        )
    if clean_scripts:
        runs = counted(len(clean_scripts), 'clean run of a script', 'clean runs of scripts')
        yield f'{runs}, not yet counted'
    for known in instances:
        last = known['last_run']
        if last:
            ended = clocktime(from_isotime(last['ended']))
            yield (
                f'last run of {_label(known)}: {last["summary"]} '
                f'[{last["verdict"]}, {last["confidence"]}] '
                f'uptime {duration(last["uptime_seconds"])}, ended {ended}'
            )
        if known['before_that']:
            yield f'    {known["before_that"]}'
        if known['open_incidents']:
            yield '    (to acknowledge: "stabilitymonitor ack --all", or with the name of a run)'


def _process_lines(process: dict[str, Any]) -> Iterator[str]:
    pid = process['pid']
    word = process['state']
    if word not in ('starting', 'ending'):
        word = 'running'
    script = '' if _serves(process) else ' (script)'
    began = clocktime(from_isotime(process['started']))
    yield (f'{word}: pid {pid}, began {began}, {_label(process)} {process["run"]}{script}')
    for hang in (process['hang'], process['delay']):
        if hang:
            yield _hang_line(pid, hang)
    if process['vitals'] and _serves(process):
        yield from _vital_lines(process['vitals'], process['hang'])


def _vital_lines(vitals: dict[str, Any], hang: dict[str, Any] | None) -> Iterator[str]:
    if hang and hang['kind'] in ('silent', 'stopped'):  # it takes no samples
        when = clocktime(from_isotime(vitals['time']))
        yield f'    as of {when}; of the kernel and of the descriptors as of now:'
    for words in vitals['words']:
        yield f'    {words}'


def _hang_line(pid: int, hang: dict[str, Any]) -> str:
    began = from_isotime(hang['since'])
    lasts = duration(hang['seconds']) if began else 'an unknown time'
    return (
        f'{_VERBS[hang["kind"]]}: pid {pid}, began {clocktime(began)}, for {lasts}: '
        f'{hang["summary"]} {_stuck_threads(hang)}'
    )


def _stuck_threads(hang: dict[str, Any]) -> str:
    """For example "3 of 4 workers are stuck."; '' if no worker is."""
    if hang['serving'] <= 0 or not hang['stuck']:
        return ''
    threads = f'{hang["stuck"]} of {counted(hang["serving"], "worker")}'
    if hang['kind'] in ('silent', 'stopped'):
        return f'{threads} {plural(hang["stuck"], "was", "were")} busy at the last sample.'
    return f'{threads} {plural(hang["stuck"], "is", "are")} stuck.'


def _label(document: dict[str, Any]) -> str:
    return from_json(Instance, document['instance']).label
