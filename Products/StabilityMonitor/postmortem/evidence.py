"""Collects what a dead run has left, and what the system knows about it.  Decides nothing.

This is the only module of the room that reads facts of the system.  Tests pass another `World`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from ..model.errors import UnreadableRecord
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..model.threadstates import ThreadState
from ..store import blackbox
from ..store import distributionsets
from ..store.blackboxreader import Recording
from ..store.blackboxreader import load
from ..store.regularfiles import open_outside
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_start_outside
from ..store.regularfiles import read_tail
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import SERVING
from ..store.rundirectory import mark_file
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system.processidentity import process_is_there
from . import faultlog

#: Bytes read at the end of the file that standard error went to.
_STDERR_TAIL = 512 << 10
#: Bytes read at the end of a mark.
_MARK_TAIL = 256 << 10
#: At most this many bytes of a file of the kernel, for example /proc/stat, are read.
_KERNEL_FILE = 1 << 20
#: At most this many records of the kernel's log are read.
_KERNEL_RECORDS = 50_000
#: The file with the counter of OOM kills in a memory cgroup's directory, by cgroup version.
_COUNTERS = {1: 'memory.oom_control', 2: 'memory.events'}
_SIGNALS = tuple(name for name in blackbox.MARKS if name.startswith('SIG'))
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')
_BOOT_TIME = re.compile(r'^btime (\d{1,12})$', re.MULTILINE)
_OOM_KILLS = re.compile(r'^oom_kill (\d{1,18})$', re.MULTILINE)
#: Seconds since the epoch (the year 5138); a later time comes from damaged bytes.
_LATEST = 1e11
#: Seconds by which the start in the context may differ from the start in the run's name.
_NEAR = 60
#: Seconds by which the kernel's clock and the process's monotonic clock may differ.
_CLOCK_SLACK = 5


#: What a run noted about itself, as read from its file.  The file may hold anything.
Context = dict[str, Any]


@dataclass(frozen=True)
class World:
    """The system on which the judging process runs.  `now` is in seconds since the epoch."""

    now: float = field(default_factory=time.time)
    proc: Path = Path('/proc')
    kernel_log: Path = Path('/dev/kmsg')
    machine_id: Path = Path('/etc/machine-id')


@dataclass(frozen=True)
class Mark:
    """What C code wrote into a mark file shortly before the end.

    `time` is when the file changed last, in seconds since the epoch.
    """

    time: float
    dumps: tuple[faultlog.Dump, ...]

    @property
    def last_threads(self) -> tuple[ThreadState, ...]:
        """The threads of the last dump in the mark file."""
        if not self.dumps:
            return ()
        return self.dumps[-1].threads


@dataclass(frozen=True)
class Traces:
    """All that is known about a dead run before it is judged.

    `loaded` is what the run noted when it began to serve: compiled modules and distributions.
    `recording` is None if there is no readable black box; `damage` says what is wrong with the
    files.  `fault` is the first fatal dump of the fault log, `stderr_fault` one on standard error.
    `marks` are the marks of signals that the process did not survive, by name; `hang` is the mark
    of the watchdog.  `cgroup_kills` and `host_kills` count OOM kills since the last sample.
    `kernel_line` is the line of the kernel's log about the kill of this process, or ''.  Times are
    seconds since the epoch.  None means "not known".
    """

    run: str
    started: float
    pid: int
    context: Context
    loaded: dict[str, Any]
    recording: Recording | None
    damage: str
    fault: faultlog.Dump | None
    fault_time: float
    marks: dict[str, Mark]
    hang: Mark | None
    stderr_fault: faultlog.Dump | None
    stderr_readable: bool
    cgroup_kills: int | None
    host_kills: int | None
    kernel_line: str
    same_boot: bool | None
    same_machine: bool | None
    boot_time: float
    #: What each worker wrote when the watchdog fired, by the ident of the thread.
    stuck: dict[int, Mark] = field(default_factory=dict)
    #: When SIGTERM and SIGINT last arrived, whether the process survived them or not.
    asked: dict[str, float] = field(default_factory=dict)
    #: Whether the process itself still exists, although the run has ended.
    still_there: bool = False

    @property
    def main_ident(self) -> int | None:
        return _main_ident(self.context)

    @property
    def role(self) -> str:
        if self.context.get('role') == 'script':
            return 'script'
        return 'server'

    def word(self, name: str) -> float:
        """Return the time of an event, in seconds since the epoch; 0.0 if it did not happen.

        `name` is one of the times among `blackbox.WORDS`.
        """
        if not self.recording:
            return 0.0
        nanoseconds: int = self.recording.words[name]
        return nanoseconds / 1e9

    @property
    def dump(self) -> faultlog.Dump | None:
        return self.fault or self.stderr_fault

    @property
    def in_flight(self) -> tuple[Request, ...]:
        if not self.recording:
            return ()
        return self.recording.in_flight

    @property
    def notes(self) -> tuple[Note, ...]:
        if not self.recording:
            return ()
        return self.recording.notes

    @property
    def last_sample(self) -> Sample | None:
        if not self.recording:
            return None
        return self.recording.last_sample

    @property
    def exception(self) -> str:
        """The traceback of the exception that ended the main thread, or ''."""
        if not self.recording:
            return ''
        return self.recording.exception

    @property
    def clock_step(self) -> float:
        """By how many seconds the wall clock was set forward during the run; negative: back.

        That is what lies between its start and the last sample, beyond the time that passed.
        Seconds by which a clock is slewed do not count.
        """
        sample = self.last_sample
        since = _number(self.context.get('monotonic'))
        if sample is None or not 0 < since <= sample.monotonic:
            return 0.0
        step = sample.time - self.started - (sample.monotonic - since)
        return step if abs(step) > _CLOCK_SLACK else 0.0

    @property
    def began(self) -> float:
        """The start by the clock as it was at the end."""
        return self.started + self.clock_step

    def by_last_clock(self, moment: float) -> float:
        """Return a moment of the run by the clock as it was at the end.

        A moment before the clock was set is recognised by its value, which the later clock cannot
        have shown in this run.
        """
        step = self.clock_step
        is_before_step = moment < self.began if step > 0 else moment >= self.started
        if step and is_before_step:
            return moment + step
        return moment

    @property
    def last_sign(self) -> float:
        """The last moment at which the run was certainly alive, in seconds since the epoch.

        If the clock was set, it is a moment of the clock as it was at the end.
        """
        signs = [self.started, self.fault_time]
        signs += [mark.time for mark in self.marks.values()]
        signs += [mark.time for mark in self.stuck.values()]
        if self.hang:
            signs.append(self.hang.time)
        box = self.recording
        if box:
            signs += [request.ended or 0.0 for request in box.finished[-1:]]
            signs += [request.started for request in box.in_flight]
            signs += [line.time for line in box.log[-1:]]
            signs += [note.time for note in box.notes[-1:]]
            signs += [self.word(name) for name in ('armed', 'serving', 'finished')]
        signs = [self.by_last_clock(sign) for sign in signs if 0 < sign < _LATEST]
        if self.last_sample:
            signs.append(self.last_sample.time)
        return max((sign for sign in signs if sign < _LATEST), default=0.0)


def collect(path: Path, world: World) -> Traces:
    """Return all traces of the run in directory `path`.  Damaged files raise nothing."""
    named_start, pid = name_facts(path.name)
    context = read_json(path / CONTEXT)
    started = named_start
    precise_start = _number(context.get('started'))  # the file may be damaged
    if abs(precise_start - named_start) < _NEAR:
        started = precise_start

    recording, damage = _recording(path)
    if not damage and not context:
        damage = 'No run context.'
    samples: tuple[Sample, ...] = ()
    last_sample = None
    if recording:
        samples = recording.samples
        last_sample = recording.last_sample

    fault = _mark(path, 'faults', recording)
    fatal = None
    fault_time = 0.0
    if fault:
        fatal = faultlog.first_fatal(fault.dumps)
        if fatal:
            fault_time = fault.time
    asked = _marks(path, _STOP_SIGNALS, None)

    stderr = _stderr_tail(context, [sample.stderr_size for sample in samples])
    stderr_fault = None
    if stderr is not None:
        stderr_fault = faultlog.find_py_fatal(stderr, _main_ident(context))

    identity = _dict(context, 'identity')
    boot_id = _line(world.proc / 'sys/kernel/random/boot_id')
    machine_id = _line(world.machine_id)
    same_boot = _same(identity.get('boot_id'), boot_id)
    same_machine = _same(context.get('machine_id'), machine_id)
    boot_time = _number_in(world.proc / 'stat', _BOOT_TIME, missing=0)

    cgroup_kills = None
    host_kills = None
    if same_boot:  # the kernel counts from 0 in each boot
        cgroup_kills = _cgroup_kills(context, last_sample)
        host_kills = _host_kills(context, last_sample, world)
    kernel_line = ''
    if cgroup_kills or host_kills:
        kernel_line = _kernel_line(world, pid, context)

    return Traces(
        run=path.name,
        started=started,
        pid=pid,
        context=context,
        loaded=read_json(path / SERVING) | distributionsets.of_run(path),
        recording=recording,
        damage=damage,
        fault=fatal,
        fault_time=fault_time,
        marks=_marks(path, _SIGNALS, recording),
        hang=_mark(path, 'watchdog', recording),
        stderr_fault=stderr_fault,
        stderr_readable=stderr is not None,
        cgroup_kills=cgroup_kills,
        host_kills=host_kills,
        kernel_line=kernel_line,
        same_boot=same_boot,
        same_machine=same_machine,
        boot_time=float(boot_time),
        stuck=_stuck(path, recording),
        asked={name: mark.time for name, mark in asked.items()},
        still_there=_still_there(identity, pid, world),
    )


# -- the run's own files ---------------------------------------------------------------------------


def _recording(path: Path) -> tuple[Recording | None, str]:
    """Return (black box, what is wrong with it); (None, '') if there is no black box."""
    try:
        return load(path / BLACKBOX), ''
    except FileNotFoundError:
        return None, ''
    except (UnreadableRecord, OSError) as error:
        return None, str(error)


def _mark(
    path: Path,
    name: str,
    recording: Recording | None,
) -> Mark | None:
    """Return what was written into a mark file shortly before the end; None if nothing was.

    The recording holds how many bytes of the file the process survived.  What follows was written
    less than two sample intervals before the end, or while the heartbeat was blocked.  Without a
    recording the whole file counts.
    """
    try:
        descriptor = open_regular(mark_file(path, name))
        with open(descriptor, 'rb') as file:
            status = os.fstat(file.fileno())
            data = read_tail(file.fileno(), _MARK_TAIL)
    except OSError:
        return None
    outlived = 0
    if recording:
        outlived = recording.survived[name]
    not_read = max(0, status.st_size - _MARK_TAIL)
    survived = max(0, outlived - not_read)
    survived = min(survived, len(data))
    if not data[survived:].strip(b'\0'):
        return None
    return Mark(status.st_mtime, faultlog.parse(data, survived))


def _marks(
    path: Path,
    names: Iterable[str],
    recording: Recording | None,
) -> dict[str, Mark]:
    """Return the marks that exist, by name."""
    found = {}
    for name in names:
        mark = _mark(path, name, recording)
        if mark:
            found[name] = mark
    return found


def _stuck(path: Path, recording: Recording | None) -> dict[int, Mark]:
    """Return the stack that each worker wrote when the watchdog fired, by its ident."""
    if not recording:
        return {}
    found = {}
    for ident, thread in recording.threads.items():
        name = f'watchdog-{thread.slot}'
        if name not in blackbox.MARKS:  # only the first sixteen workers have such a file
            continue
        mark = _mark(path, name, recording)
        if mark:
            found[ident] = mark
    return found


def _stderr_tail(context: Context, sizes: list[int]) -> bytes | None:
    """Return the end of what this run wrote to standard error; None if it can no longer be read.

    It can be read only if standard error was a regular file that is still there.  `sizes` are the
    sizes of that file in the samples, in bytes.  What was in it two samples before the last one is
    left out, because the process survived it.  It may be the dump of a forked child, which writes
    to the same file and whose main thread may have the same ident.
    """
    outputs = _dict(context, 'outputs')
    output = _dict(outputs, '2')
    if output.get('kind') != 'file':
        return None
    try:
        descriptor = open_outside(output['path'])
        with open(descriptor, 'rb') as file:
            status = os.fstat(file.fileno())
            if not _is_file(status, output):
                return None
            size_at_start = _count(output.get('size'))
            start = max(0, size_at_start, *sizes[-3:-2])
            least = max([start, *sizes[-1:]])
            if status.st_size < least:
                return None  # truncated meanwhile, for example by logrotate's copytruncate
            return read_tail(file.fileno(), _STDERR_TAIL, start)
    except (OSError, KeyError, TypeError, ValueError):
        return None


# -- the system ------------------------------------------------------------------------------------


def _still_there(
    identity: dict[str, Any],
    pid: int,
    world: World,
) -> bool:
    """Whether the process of the run exists; the same pid alone does not count."""
    if identity.get('pid') != pid or not identity.get('start_ticks'):
        return False
    return process_is_there(identity, world.proc) is True


def _host_kills(
    context: Context,
    last_sample: Sample | None,
    world: World,
) -> int | None:
    """Return how many processes the OOM killer of this host killed since the last sample.

    Without a sample it counts from the start of the run.  None: not known.
    """
    if last_sample:
        before = last_sample.host_kills
    else:
        before = _count(context.get('host_kills'))
    return _rise(world.proc / 'vmstat', before)


def _cgroup_kills(context: Context, last_sample: Sample | None) -> int | None:
    """Return how many processes in the run's memory cgroup were OOM-killed since the last sample.

    None: not known, for example because another cgroup now has the same path.  The counter of a new
    cgroup starts at 0 and says nothing about this run.
    """
    group = _dict(context, 'cgroup')
    if not last_sample:
        return None
    try:
        folder = Path(group['directory'])
        if not _is_file(os.stat(folder), group):
            return None
        counter = folder / _COUNTERS[group['version']]
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return _rise(counter, last_sample.cgroup_kills)


def _rise(counter: Path, before: int) -> int | None:
    """Return how much a counter of OOM kills rose; None if it cannot be read or was not known."""
    now = _number_in(counter, _OOM_KILLS, missing=-1)
    if 0 <= before <= now:
        return now - before
    return None


def _is_file(status: os.stat_result, known: dict[str, Any]) -> bool:
    """Whether a file or folder is still the one whose device and inode the context holds.

    Raises KeyError if the context does not hold them.
    """
    present = (status.st_dev, status.st_ino)
    return present == (known['device'], known['inode'])


def _kernel_line(world: World, pid: int, context: Context) -> str:
    """Return the line that the kernel logged about killing this process; '' if there is none.

    Only lines since the start of the run count: an earlier process may have had the same pid.
    Often the log cannot be read without privileges.  A record is
    `priority,number,microseconds since the boot,flags;message`.
    """
    since = _number(context.get('monotonic'))
    wanted = f'Killed process {pid} '
    for record in reversed(_kernel_records(world.kernel_log)):
        head, _, message = record.partition(';')
        if wanted not in message:
            continue
        fields = head.split(',')
        if len(fields) < 3 or not fields[2].isdigit():
            continue
        killed = int(fields[2]) / 1e6
        if killed >= since - _CLOCK_SLACK:
            lines = message.strip().splitlines()
            return lines[0]
    return ''


def _kernel_records(path: Path) -> list[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    records: list[str] = []
    try:
        while len(records) < _KERNEL_RECORDS:
            record = os.read(descriptor, 8192)
            if not record:
                break
            records.append(record.decode(errors='replace'))
    except OSError:  # EAGAIN: there are no more records; EPIPE: this one was overwritten
        pass
    finally:
        os.close(descriptor)
    return records


def _same(then: object, now: object) -> bool | None:
    """Whether both are equal; None if one of them is not known."""
    if not then or not now:
        return None
    return then == now


# -- values from a context, which may be damaged ---------------------------------------------------


def _main_ident(context: Context) -> int | None:
    ident = context.get('main_ident')
    if isinstance(ident, int):
        return ident
    return None


def _dict(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if isinstance(value, dict):
        return value
    return {}


def _count(value: object) -> int:
    """Return a whole number; -1 ("not known") for anything else."""
    if isinstance(value, bool):
        return -1
    if isinstance(value, int):
        return value
    return -1


def _number(value: object) -> int | float:
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return value
    return 0


# -- the kernel's files ----------------------------------------------------------------------------


def _number_in(
    path: Path,
    pattern: re.Pattern[str],
    missing: int,
) -> int:
    """Return the number that the pattern finds in a file; `missing` if it finds none."""
    found = pattern.search(_text(path))
    if not found:
        return missing
    return int(found[1])


def _text(path: Path) -> str:
    try:
        return read_start_outside(path, _KERNEL_FILE).decode('utf-8', 'replace')
    except OSError:
        return ''


def _line(path: Path) -> str:
    return _text(path).strip()
