"""The command "status": which processes live, whether they hang, how the last one ended, and crash
loops.

It only reads files, so it answers at once whatever the processes do.  The exit status is 1 where a
process hangs, or where the last run of an instance was an incident.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from ..inspection import liveness
from ..model.eventkinds import EVENT_KINDS
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.plaintext import clean
from ..model.plaintext import json_text
from ..model.records import Instance
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.records import isotime
from ..model.records import shallow
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..store.rundirectory import name_facts

WELL = 0
WRONG = 1
#: Of what a process tells of itself, and of what only others see: that it is silent or stopped.
_VERBS = {kind.code: kind.verb for kind in EVENT_KINDS.values()}
_VERBS |= {'silent': 'HANGS', 'stopped': 'STOPPED'}


def show(runs: AllRuns, as_json: bool) -> int:
    """Print the status; returns the exit status."""
    document = of(runs)
    if as_json:
        print(json_text(document, indent=1))
    else:
        for line in _lines(document):
            print(clean(line))
    exit_status: int = document['exit_status']
    return exit_status


def of(runs: AllRuns, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """The status as a document for JSON.

    Its keys are documented in README.txt; keys are added, but never changed or removed.
    """
    living = [_of_process(runs, name, context) for name, context in runs.living]
    instances = [_of_instance(instance, runs, living) for instance in _instances(runs, living)]
    hangs = any(process['hang'] for process in living)
    last_runs = [known['last_run'] for known in instances if known['last_run']]
    has_incident = any(last['is_incident'] for last in last_runs)
    return {
        'generated': isotime(now()),
        'directory': str(runs.base.path),
        'exit_status': WRONG if hangs or has_incident else WELL,
        'living': living,
        'waiting': [_of_record(record) for record in runs.waiting],
        'clean_scripts_waiting': runs.clean_waiting,
        'instances': instances,
    }


def _of_process(runs: AllRuns, name: str, context: dict[str, Any]) -> dict[str, Any]:
    seen = liveness.look(runs.base.runs / name, context)
    hang = None
    if seen.hang:
        hang = shallow(seen.hang) | {'since': isotime(seen.hang.since)}
    return {
        'run': name,
        'pid': seen.pid,
        'role': 'script' if context.get('role') == 'script' else 'server',
        'instance': to_json(instance_of(context)),
        'started': isotime(name_facts(name)[0]),
        'state': seen.state,
        'last_sample': isotime(seen.last_sample),
        'hang': hang,
    }


def _of_record(record: RunRecord) -> dict[str, Any]:
    """The short facts of a dead run."""
    keys = (
        'run', 'role', 'pid', 'started', 'ended', 'uptime_seconds',
        'verdict', 'confidence', 'summary', 'signal', 'exit_code',
    )  # fmt: skip
    known = record.summary_json()
    facts = {key: known[key] for key in keys}
    facts['instance'] = to_json(record.instance)
    facts['is_incident'] = record.is_incident
    return facts


def _instances(runs: AllRuns, living: list[dict[str, Any]]) -> list[Instance]:
    """Each instance once: those that have a past first."""
    found = [record.instance for record in runs.summaries()]
    found += [from_json(Instance, process['instance']) for process in living if _serves(process)]
    return list(dict.fromkeys(found))


def _serves(process: dict[str, Any]) -> bool:
    return bool(process['role'] == 'server')


def _of_instance(instance: Instance, runs: AllRuns, living: list[dict[str, Any]]) -> dict[str, Any]:
    ours = of_instance(runs.summaries(), instance)
    last = last_server_run(ours)
    named = to_json(instance)
    servers = [process for process in living if _serves(process)]
    return {
        'instance': named,
        'living': [process['run'] for process in servers if process['instance'] == named],
        'last_run': _of_record(last) if last else None,
        'crash_loop': [record.run for record in crash_loop(ours)],
    }


# -- as text ---------------------------------------------------------------------------------------


def _lines(document: dict[str, Any]) -> Iterator[str]:
    instances = document['instances']
    living = document['living']
    for known in instances:
        if known['crash_loop']:
            count = len(known['crash_loop'])
            yield f'CRASH LOOP: {count} incidents in a row of {_label(known)}'
    for process in living:
        yield from _process(process)
    if not (instances or living or document['waiting'] or document['clean_scripts_waiting']):
        yield 'No run has been recorded here yet.'
        return
    if not any(map(_serves, living)):
        yield 'Only scripts run, no server.' if living else 'No process runs.'
    yield from _waiting(document)
    for known in instances:
        last = known['last_run']
        if last:
            yield (
                f'last run of {_label(known)}: {last["summary"]} '
                f'[{last["verdict"]}, {last["confidence"]}] '
                f'up {duration(last["uptime_seconds"])}, ended {last["ended"]}'
            )


def _process(process: dict[str, Any]) -> Iterator[str]:
    word = process['state'] if process['state'] in ('starting', 'ending') else 'running'
    script = '' if _serves(process) else ' (script)'
    yield (
        f'{word}: pid {process["pid"]} since {process["started"]} {_label(process)} '
        f'{process["run"]}{script}'
    )
    hang = process['hang']
    if hang:
        since = from_isotime(hang['since'])
        lasts = duration(max(0.0, time.time() - since)) if since else 'an unknown time'
        yield (
            f'{_VERBS[hang["kind"]]}: pid {process["pid"]} since {clocktime(since)}, for {lasts}: '
            f'{hang["summary"]} {_count(hang)}'
        )


def _count(hang: dict[str, Any]) -> str:
    if hang['serving'] <= 0:
        return ''
    if hang['kind'] in ('silent', 'stopped'):
        was = 'was' if hang['stuck'] == 1 else 'were'
        return f'{hang["stuck"]} of {hang["serving"]} threads that serve {was} busy then.'
    is_stuck = 'is' if hang['stuck'] == 1 else 'are'
    return f'{hang["stuck"]} of {hang["serving"]} threads that serve {is_stuck} stuck.'


def _waiting(document: dict[str, Any]) -> Iterator[str]:
    """Dead runs that are not in the archive yet: nothing is wrong with the site because of them."""
    for record in document['waiting']:
        yield (
            f'dead, not yet archived: {record["run"]} [{record["verdict"]}, '
            f'{record["confidence"]}] (the next start does it, or "stabilitymonitor triage")'
        )
    count = len(document['clean_scripts_waiting'])
    if count:
        yield f'clean runs of scripts, not yet counted: {count}'


def _label(document: dict[str, Any]) -> str:
    return from_json(Instance, document['instance']).label
