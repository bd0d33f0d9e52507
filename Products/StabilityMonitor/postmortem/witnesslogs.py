"""Asks those who keep logs how dead runs ended, and leaves what they say beside the records.

The sources are the log of the supervisor, the journal of systemd, and the log of the kernel.  A
source that fails is reported, and the others are asked all the same.  Supervisors may log late, so
runs that died in the last minutes and are still "vanished" are asked about again.

Paths come from the context of a run, which is not trusted: only regular files are read, no link is
followed, and only lines of the known forms are quoted.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from ..model.action import Action
from ..model.errors import NoSuchRun
from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..model.witnesses import Witness
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.regularfiles import open_outside
from ..store.regularfiles import own_user
from ..store.regularfiles import read_start_outside
from ..store.regularfiles import read_tail
from ..store.rundirectory import Base
from ..system import kernelmessages
from ..system import supervisorlog
from ..system.processidentity import FIRST_NAMESPACE
from ..system.runcontext import is_main_process
from . import evidence
from . import journal
from . import kernellog
from . import supervisorlogs
from .evidence import World
from .supervisorlogs import DeadProcess

#: Bytes read at the end of a log, and of the older log to which it was rotated.
_TAIL = 1 << 20
#: Bytes read at the start of a file of the kernel.
_KERNEL_FILE = 256
#: At most so many dead runs are asked about at once, the newest.
_MOST_RUNS = 32
#: Seconds for which a run that vanished is asked about again.
_RECENT = 600.0
#: Seconds after its last sign of life in which a line of the kernel counts: a process may hang
#: before it dies, but during a long downtime another one gets its pid.
_LONGEST_HANG = 900.0
#: Rounds of the heartbeat after the start in which the sources are asked again.
_ROUNDS = 2

#: Is called with the name of a source and its error.
OnError = Callable[[str, Exception], object]


@dataclass(frozen=True)
class _Question:
    """A dead run, and the system whose logs are read."""

    record: RunRecord
    world: World
    now: float
    read: Callable[[str], str]  # returns the end of a log

    @property
    def context(self) -> dict[str, Any]:
        return self.record.context

    @functools.cached_property
    def dead(self) -> DeadProcess:
        record = self.record
        parent = self.context.get('parent')
        started = record.started or 0.0
        return DeadProcess(
            pid=record.pid,
            started=started,
            last_sign=record.ended or started,
            found=self.now,
            parent=parent if isinstance(parent, int) else 0,
        )


def ask(
    base: Base,
    records: Iterable[RunRecord],
    on_error: OnError,
    world: World | None = None,
) -> None:
    """Leave what the logs say about the ends of these dead runs beside their records.

    The records must be whole.
    """
    world = world or World()
    newest = sorted(records, key=lambda record: record.started or 0.0)[-_MOST_RUNS:]
    read = functools.cache(end_of_log)
    for record in newest:
        path = base.archive / record.run
        known = {witness.source for witness in witnessfiles.of_run(path)}
        question = _Question(record, world, time.time(), read)
        for name, source in _SOURCES.items():
            if known & source.writes:
                continue
            try:
                found = source.ask(question)
                if found and witnessfiles.last_of_process(base, record.run) == record.run:
                    witnessfiles.add(base, record.run, found)
            except NoSuchRun:  # it was pruned meanwhile
                break
            except Exception as error:
                on_error(name, error)


def ask_later(life: ILivingRun, judged: Iterable[RunRecord]) -> None:
    """Ask about the runs that were just judged, in the background, at once and again later."""
    if life.role != 'server' or not life.is_watched:
        return  # without a heartbeat, an errand would run at once and make the start slower
    at_once = tuple(judged)

    def on_error(name: str, error: Exception) -> None:
        life.findings.add(
            f'witness-{name}',
            f'The {_SOURCES[name].words} could not be asked how the last process ended.',
            f'{type(error).__name__}: {error}.',
            Action('Nothing is lost: the verdict rests on the traces of the process itself.'),
        )

    left = _ROUNDS

    def again() -> None:
        nonlocal left
        if left > 0:
            left -= 1
            life.in_background(lambda: ask(life.base, recent(life.base), on_error))

    life.in_background(lambda: ask(life.base, at_once, on_error))
    life.every_round(again)


def recent(base: Base) -> list[RunRecord]:
    """Return the whole records of the archived runs that vanished in the last minutes."""
    archive = Archive(base)
    since = time.time() - _RECENT
    found = []
    for summary in archive.summaries():
        ended = max(summary.ended or 0.0, summary.ended_before or 0.0)
        if summary.verdict == 'vanished' and ended > since:
            try:
                found.append(archive.record(summary.run))
            except NoSuchRun:
                continue
    return found


# -- the log of the supervisor ---------------------------------------------------------------------


def _of_supervisor(question: _Question) -> Witness | None:
    context = question.context
    kind = str(context.get('supervisor') or '')
    if kind == 'uwsgi':
        return _of_uwsgi(question)
    path = supervisorlog.path_of(context)
    if not os.path.isabs(path):
        return None
    parsers = supervisorlogs.PARSERS
    text = _since(question, path)
    for parser in (parsers[kind],) if kind in parsers else tuple(parsers.values()):
        found = parser(text, question.dead)
        if found:
            return found
    return None


def _since(question: _Question, path: str) -> str:
    """Return the end of a log, with that of the log before it if it does not reach back to the
    start of the run.
    """
    text = question.read(path)
    first = supervisorlogs.first_moment(text)
    if first is None or first > question.dead.started:
        text = f'{question.read(f"{path}.1")}\n{text}'
    return text


def _of_uwsgi(question: _Question) -> Witness | None:
    """uWSGI writes to standard error, without times: what counts was written after the last
    samples.
    """
    sizes = [sample.stderr_size for sample in question.record.samples]
    text = evidence.stderr_tail(question.context, sizes)
    if text is None:
        return None
    return supervisorlogs.uwsgi(text.decode('utf-8', 'replace'), question.dead)


def end_of_log(path: str) -> str:
    """Return the end of a log; '' if it cannot be read."""
    try:
        with open(open_outside(path), 'rb') as file:
            return read_tail(file.fileno(), _TAIL).decode('utf-8', 'replace')
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ''


# -- the journal -----------------------------------------------------------------------------------


def _of_journal(question: _Question) -> Witness | None:
    context = question.context
    invocation = context.get('invocation_id')
    is_main = is_main_process(context, question.dead.pid)
    if not is_main or not isinstance(invocation, str):
        return None
    entries = journal.unit_entries(question.world.journalctl, invocation)
    return journal.of_unit(entries, question.dead, invocation, own_user())


# -- the log of the kernel -------------------------------------------------------------------------


def _of_kernel(question: _Question) -> Witness | None:
    record, world = question.record, question.world
    boot = _line(world.proc / 'sys/kernel/random/boot_id')
    identity = question.context.get('identity')
    known = identity if isinstance(identity, dict) else {}
    in_first = known.get('pid_namespace') == FIRST_NAMESPACE
    if not in_first or not boot or record.boot_id != boot:
        return None
    requests = (*record.requests, *record.recent)
    threads = {request.native_id for request in requests if request.native_id > 0}
    # Later lines are about another process that has the pid, or the id of the thread, by now.
    found = max(record.ended_before or question.now, question.dead.last_sign)
    until = min(found, question.dead.last_sign + _LONGEST_HANG) + kernelmessages.CLOCK_SLACK
    lines = [(at, line) for at, line in _kernel_lines(question) if at <= until]
    return kernellog.witness(lines, record.pid, threads, question.now)


def _kernel_lines(question: _Question) -> list[tuple[float, str]]:
    """Return (time in seconds since the epoch, line) of what the kernel logged since the last sign
    of life, from the first place that can be read.
    """
    record, dead = question.record, question.dead
    if record.samples:
        ahead: float | None = record.samples[-1].time - record.samples[-1].monotonic
    elif record.monotonic is not None:
        ahead = dead.started - record.monotonic
    else:
        ahead = None
    return kernel_lines(question.world, dead.last_sign, question.now, ahead, question.read)


def kernel_lines(
    world: World,
    since: float,
    until: float,
    ahead: float | None,
    read: Callable[[str], str],
) -> list[tuple[float, str]]:
    """Return (time, line) of what the kernel logged in that time, in seconds since the epoch.

    They are from the first place that can be read.  `ahead` is how many seconds the clock is ahead
    of the monotonic clock of this boot; None: not known.  `read` returns the end of a log.
    """
    if kernelmessages.is_readable(world.kernel_log):
        if ahead is None:
            return []
        timed = kernelmessages.timed(world.kernel_log, since - ahead, until - ahead)
        return [(at + ahead, line) for at, line in timed]
    since -= kernelmessages.CLOCK_SLACK
    until += kernelmessages.CLOCK_SLACK
    for path in world.kernel_files:
        text = read(str(path))
        if text:
            lines = kernellog.of_file(text, until)  # what is later does not count
            return [(at, line) for at, line in lines if since <= at <= until]
    entries = journal.kernel_entries(world.journalctl, since, until)
    return [(at, line) for at, line in journal.kernel_lines(entries) if since <= at <= until]


def _line(path: Path) -> str:
    try:
        return read_start_outside(path, _KERNEL_FILE).decode('utf-8', 'replace').strip()
    except OSError:
        return ''


@dataclass(frozen=True)
class _Source:
    """One source: `ask` asks it, and its witnesses have one of the names in `writes`."""

    words: str
    ask: Callable[[_Question], Witness | None]
    writes: frozenset[str] = field(default_factory=frozenset)


_SOURCES = {
    'supervisor': _Source(
        'log of the supervisor',
        _of_supervisor,
        frozenset({'zdaemon', 'supervisord', 'gunicorn', 'uwsgi'}),
    ),
    'journal': _Source('journal', _of_journal, frozenset({'journal'})),
    'kernel': _Source('log of the kernel', _of_kernel, frozenset({'kernel'})),
}
