"""The report: one document that the tab, the downloads and the command line render.

Its keys are the contract of DESIGN section 4; keys are only ever added.  `life` is the living run
of this process, or None when Zope is down.
"""

from __future__ import annotations

import os
import sys
import time

from ..blackboxreader import read
from ..diagnosis.inventory import inventory
from ..diagnosis.known_here import of_incident
from ..diagnosis.standing import of as standing_of
from ..diagnosis.statistics import crash_loop
from ..diagnosis.statistics import last_server_run
from ..diagnosis.statistics import of_instance
from ..recording.runcontext import compiled_modules
from ..recording.runcontext import system_name
from ..records import Instance
from ..records import isotime
from ..records import shallow

SCHEMA = 'stabilitymonitor/1'


def build(
    life, archive, run: str | None = None, instance: Instance | None = None, clock=time.time
) -> dict:
    """The report of this process and its past; with `run`, about that incident.  Raises
    NoSuchRun.
    """
    instance = Instance(**life.instance) if life else instance
    summaries = archive.summaries()
    ours = of_instance(summaries, instance) if instance else summaries
    last = last_server_run(ours)
    incident = _whole(archive, run) if run else None
    report = {
        'schema': SCHEMA,
        'generated': isotime(clock()),
        'instance': shallow(instance or (last.instance if last else Instance())),
        'process': process(life, clock) if life else None,
        'previous': _whole(archive, last.run) if last else None,
        'history': [r.summary_json() for r in ours],
        'checks': standing_of(life).look().to_json() if life else [],
        'workarounds': [],
        'inventory': inventory(compiled_modules() if life else ()),
        'in_flight': in_flight(life, clock) if life else [],
        **standing(life),
        'crash_loop': [r.run for r in crash_loop(ours)],
        'clean_scripts': archive.clean_scripts,
        'support': _support(life),
    }
    return report | ({'incident': incident} if incident else {})


def _whole(archive, run):
    """Everything about one archived run, with the known issues that it may have met by what is
    known today.
    """
    record = archive.record(run)
    return record.to_json() | {'known_issues': of_incident(record, archive.base.path)}


def process(life, clock=time.time) -> dict:
    """This process: the HOWTO's eight values first."""
    software, context = life.software, life.context
    return {
        'zope': software.get('zope', ''),
        'python': sys.version,
        'platform': sys.platform,
        'software_home': software.get('software_home', ''),
        'instance_home': software.get('instance_home', ''),
        'client_home': software.get('client_home', ''),
        'pid': os.getpid(),
        'uptime_seconds': round(time.monotonic() - life.started_monotonic, 3),
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


def standing(life) -> dict:
    """What every thread of this process does, which requests are slow, and what hangs, right now.

    {threads [records.ThreadState], slow_requests [slowrequests.Profile], hangs [hangs.Hang]}, as
    dicts.
    """
    told = life.rounds.tell_stacks() if life and life.rounds else {}
    return {
        'threads': told.get('threads', []),
        'slow_requests': told.get('slow', []),
        'hangs': told.get('hangs', []),
    }


def in_flight(life, clock=time.time) -> list[dict]:
    """The requests of this process right now, oldest first, as its black box has them."""
    if life.recorder is None:
        return []
    now, found = clock(), []
    for request in sorted(read(bytes(life.recorder.buffer)).in_flight, key=lambda r: r.started):
        found.append(
            shallow(request)
            | {
                'thread': f'0x{request.ident:016x}',
                'started': isotime(request.started),
                'seconds': round(max(0.0, now - request.started), 3),
            }
        )
    return found


def _support(life):
    options = life.options if life else None
    return {
        key: getattr(options, key, '') for key in ('support_name', 'support_contact', 'tracker_url')
    }
