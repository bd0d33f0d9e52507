"""The parts of a report that are read from the files of a run, not asked of its process.

Each part says when it was true, and nothing in the files is trusted.  What only a living process
knows (what its threads do, which requests are slow, what hangs) stays unknown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import allfindings
from ..checks.muted import MuteList
from ..knowledge import systemfacts
from ..model.errors import UnreadableRecord
from ..model.finding import finding_from
from ..model.interfaces import ILivingRun
from ..model.jsonform import items_from_json
from ..model.jsonform import to_json
from ..model.records import Instance
from ..model.records import Request
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..model.siteparts import ConfiguredDatabase
from ..postmortem.runhistory import last_server_run
from ..store import distributionsets
from ..store.archive import Archive
from ..store.blackboxreader import load
from ..store.regularfiles import is_folder
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import SERVING
from ..store.rundirectory import is_possible
from ..store.rundirectory import may_live
from ..store.rundirectory import name_facts
from ..store.rundirectory import number_of
from ..store.rundirectory import read_json
from ..system import processidentity
from ..system.distributions import normalized

# The source of a part of a report.
PROCESS = 'process'  # the process itself
RUN = 'run'  # the files of a run
COMMAND = 'command'  # this command
SNAPSHOT = 'snapshot'  # a snapshot
NOBODY = 'nobody'  # the part is not known

Clock = Callable[[], float]
#: A report or a part of one, in JSON form.
Document = dict[str, Any]

#: Seconds.  A start that differs more from the start in the name of the run is not trusted.
_NEAR = 60


@dataclass(frozen=True)
class RecordedRun:
    """A run, known by its directory.

    `alive`: whether it probably lives.  `record`: how it ended, if that is known.
    """

    path: Path
    context: Document
    alive: bool = False
    record: RunRecord | None = None

    @property
    def run(self) -> str:
        return self.path.name

    @property
    def pid(self) -> int:
        _, pid = name_facts(self.run)
        return pid

    @property
    def started(self) -> float:
        """Seconds since the epoch; 0.0 if the name contains a day that does not exist."""
        named, _ = name_facts(self.run)
        if self.record:
            precise = self.record.started
        else:
            precise = self.context.get('started')
        if isinstance(precise, int | float) and abs(precise - named) < _NEAR:
            return precise
        return named

    @property
    def instance(self) -> Instance:
        if self.record:
            return self.record.instance
        return instance_of(self.context)

    def source(self, as_of: float | None) -> Document:
        """Return the entry of a report's `sources` for a part from this run."""
        return {'source': RUN, 'run': self.run, 'as_of': isotime(as_of)}


UNKNOWN: Document = {'source': NOBODY, 'run': None, 'as_of': None}
NO_INVENTORY: Document = {
    'distributions': [],
    'products': [],
    'compiled_modules': [],
    'databases': [],
    'system': {},
}


def newest(archive: Archive, ours: Sequence[RunRecord], instance: Instance) -> RecordedRun | None:
    """Return the living server of that instance, else the server that started last.

    `ours` are the summaries of that instance from the archive, newest first.
    """
    base = archive.base
    dead = None
    for name in reversed(base.waiting()):
        if not is_possible(name):
            continue
        path = base.runs / name
        context = read_json(path / CONTEXT)
        is_script = context.get('role') == 'script'
        if is_script or instance_of(context) != instance:
            continue
        if may_live(path):
            return RecordedRun(path, context, alive=True)
        if dead is None:
            of_this_name = (record for record in ours if record.run == name)
            dead = RecordedRun(path, context, record=next(of_this_name, None))
    last = last_server_run(ours)
    if last is None:
        return dead
    if dead and _order(dead.path) >= _order(archive.path / last.run, last):
        return dead
    return of_record(archive, archive.record(last.run))


def _order(path: Path, record: RunRecord | None = None) -> tuple[int, str]:
    """Return the sort key of a run: its number, then its name."""
    number = record.number if record else number_of(path)
    return number, path.name


def of_record(archive: Archive, record: RunRecord) -> RecordedRun:
    """Return the recorded run of a record, archived or still waiting for triage."""
    path = archive.path / record.run
    if not is_folder(path):
        path = archive.base.runs / record.run
    context = record.context or read_json(path / CONTEXT)
    return RecordedRun(path, context, record=record)


def _dict(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ''


def _list(document: Document, key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


# -- the parts of a report -------------------------------------------------------------------------


def process(last: RecordedRun, archive: Archive, clock: Clock = time.time) -> Document:
    """Like `report.process`, from what the run wrote at its start."""
    context = last.context
    software = _dict(context, 'software')
    home_of_instance = _text(_dict(context, 'instance'), 'client_home')
    threads = software.get('threads')
    stack = _list(context, 'thread_stack')
    system = str(context.get('platform') or '')
    system_family, _, _ = system.partition('-')
    uptime = last.record.uptime_seconds if last.record else None
    if last.alive:
        uptime = round(seconds_up(last, clock), 3)
    black_boxes = (last.path / BLACKBOX, last.path / f'{BLACKBOX}.gz')
    return {
        'zope': _text(software, 'zope'),
        'python': _text(context, 'python'),
        'platform': system_family.lower(),
        'software_home': _text(software, 'software_home'),
        'instance_home': _text(software, 'instance_home'),
        'client_home': _text(software, 'client_home') or home_of_instance,
        'pid': last.pid,
        'uptime_seconds': uptime,
        'plone': _text(software, 'plone'),
        'started': isotime(last.started),
        'run': last.run,
        'role': _text(context, 'role') or 'server',
        'debug_mode': bool(software.get('debug_mode')),
        'server_software': _text(software, 'server_software'),
        'threads': threads if type(threads) is int else None,
        'supervisor': _text(context, 'supervisor'),
        'libc': _text(context, 'libc'),
        'system': system,
        'safe_mode': None,
        'recording': any(path.exists() for path in black_boxes),
        'directory': str(archive.base.path),
        'thread_stack': stack if stack and set(map(type, stack)) == {int} else None,
        'core_pattern': _text(context, 'core_pattern'),
    }


def seconds_up(last: RecordedRun, clock: Clock = time.time) -> float:
    """Return for how many seconds a living run is up.

    In its boot, all processes share one monotonic clock, which cannot be set.  In another time
    namespace it may be behind.
    """
    identity = _dict(last.context, 'identity')
    boot_id = processidentity.identity()['boot_id']
    since = last.context.get('monotonic')
    if boot_id and identity.get('boot_id') == boot_id and isinstance(since, int | float):
        passed = time.monotonic() - since
        if passed >= 0:
            return passed
    return max(0.0, clock() - last.started)


def checks(
    last: RecordedRun,
    archive: Archive,
    instance: Instance,
) -> tuple[list[Document], Document]:
    """Return (findings as in a report, their entry of `sources`): the last results of the run.

    Findings that are muted today are marked.
    """
    word = allfindings.last_word(last.path)
    when = from_isotime(word.get('when'))
    error = str(word.get('error') or '')
    if when is None and not error:
        return [], UNKNOWN | {'running': False, 'error': ''}
    findings = []
    for row in _list(word, 'checks'):
        finding = finding_from(row)
        if finding:
            findings.append(finding)
    muted = MuteList(archive.base.path, instance.label)
    look = allfindings.sorted_out(findings, muted)
    source = last.source(when) | {'running': False, 'error': error}
    return look.to_json(), source


def inventory(last: RecordedRun) -> Document:
    """Like `reporting.inventory.inventory`, for that run.  What it did not record is empty."""
    context = last.context
    serving = read_json(last.path / SERVING)
    compiled: Iterable[object] = last.record.compiled_modules if last.record else ()
    if not compiled:
        compiled = _list(serving, 'compiled_modules')
    distributions = []
    for name, version in sorted(versions(last).items()):
        distributions.append({'name': name, 'version': version})
    # For example "3.12.1 (main, Dec 8 2023, 05:40:51) [GCC 12.2.0]".
    python, _, compiler = str(context.get('python') or '').partition('[')
    platform = str(context.get('platform') or '')
    release = _dict(context, 'release')
    return {
        'distributions': distributions,
        'products': sorted(map(str, _list(serving, 'products'))),
        'compiled_modules': list(map(str, compiled)),
        'databases': list(map(to_json, databases(context))),
        'system': {
            'platform': platform,
            'distribution': str(release.get('name') or ''),
            'level': str(release.get('level') or ''),
            'kernel': platform.partition('-')[2].rpartition('-')[0],
            'container': str(context.get('container') or ''),
            'machine': platform.rpartition('-')[2],
            'libc': str(context.get('libc') or ''),
            'python_build': python.strip(),
            'compiler': compiler.rstrip(']'),
            'gil': None,
        },
    }


def databases(context: Document) -> tuple[ConfiguredDatabase, ...]:
    """Return the databases that a run recorded at its start."""
    return items_from_json(ConfiguredDatabase, _dict(context, 'software').get('databases'))


def in_flight(last: RecordedRun, clock: Clock = time.time) -> tuple[tuple[Request, ...], Document]:
    """Return (requests in progress, their entry of `sources`) from a living run's black box."""
    if not last.alive:
        return (), UNKNOWN
    try:
        recording = load(last.path / BLACKBOX)
    except (OSError, UnreadableRecord):  # the run may have no black box on disk
        return (), UNKNOWN
    return recording.in_flight, last.source(clock())


# -- versions then and now -------------------------------------------------------------------------


def versions(last: RecordedRun) -> dict[str, str]:
    """Return {normalized name: version} of what was installed at the start; {} if not known."""
    known = last.context.get('distributions')
    if not known:
        known = distributionsets.of_run(last.path).get('distributions')
    if not isinstance(known, dict):
        return {}
    found = {}
    for name, version in known.items():
        if isinstance(version, str):
            found[str(name)] = version
    return found


def compared(
    then: RecordedRun,
    life: ILivingRun | None,
    living: RecordedRun | None,
) -> Document:
    """Compare the versions of that run with those of now; returns {known, with, changed}.

    `known`: whether the run recorded its versions.
    `with`: the source of the current versions: "process" (the living process of that instance, or
    this process if it has the same Python), "command", or "nobody".
    `changed`: [{name, then, now}]; None if one of the two sides is not known.
    """
    before = versions(then)
    source, now = _now(then, life, living)
    changed = None
    if not now:
        source = NOBODY
    elif before:
        changed = _changes(before, now)
    return {'known': bool(before), 'with': source, 'changed': changed}


def _now(
    then: RecordedRun,
    life: ILivingRun | None,
    living: RecordedRun | None,
) -> tuple[str, dict[str, str]]:
    """(source, versions) of what is installed now, if it can be compared with that run."""
    has_same_python = then.context.get('executable') == sys.executable
    if life:
        if has_same_python or then.instance == life.instance:
            # The versions at the start of this process: a later install takes effect at a restart.
            directory = getattr(life, 'directory', None)
            noted = distributionsets.of_run(directory.path) if directory else {}
            at_start = noted.get('distributions')
            return PROCESS, at_start or dict(systemfacts.here().distributions)
    elif living and living.alive and living.instance == then.instance:
        return PROCESS, versions(living)
    elif has_same_python:
        return COMMAND, dict(systemfacts.here().distributions)
    return NOBODY, {}


def _changes(then: dict[str, str], now: dict[str, str]) -> list[Document]:
    then = {normalized(name): version for name, version in then.items()}
    now = {normalized(name): version for name, version in now.items()}
    changes = []
    for name in sorted(then.keys() | now.keys()):
        before = then.get(name)
        after = now.get(name)
        if before != after:
            changes.append({'name': name, 'then': before, 'now': after})
    return changes
