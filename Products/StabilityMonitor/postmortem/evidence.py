"""Collects what a dead run has left and what the system tells about it.  Decides nothing.

Of this room only this module reads what the system tells; tests hand in another `World`.
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
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_start
from ..store.regularfiles import read_tail
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import SERVING
from ..store.rundirectory import mark_name
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from . import faultlog

#: Bytes read at the end of the file that standard error went to.
_STDERR_TAIL = 512 << 10
#: Bytes read at the end of a mark.
_MARK_TAIL = 256 << 10
#: Bytes read at the beginning of a file of the kernel.
_KERNEL_FILE = 1 << 20
#: Records read of the kernel's log.
_KERNEL_RECORDS = 50_000
#: The kernel's counter of OOM kills in the directory of a memory cgroup, by the version of cgroups.
_COUNTERS = {1: 'memory.oom_control', 2: 'memory.events'}
_SIGNALS = tuple(name for name in blackbox.MARKS if name.startswith('SIG'))
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')


@dataclass(frozen=True)
class World:
    """The system on which the judging process runs."""

    now: float = field(default_factory=time.time)
    proc: Path = Path('/proc')
    kernel_log: Path = Path('/dev/kmsg')
    machine_id: Path = Path('/etc/machine-id')


@dataclass(frozen=True)
class Mark:
    """What C code wrote into a mark file and the process did not outlive."""

    time: float
    dumps: tuple[faultlog.Dump, ...]

    @property
    def last_threads(self) -> tuple[ThreadState, ...]:
        """The threads of its last dump."""
        return self.dumps[-1].threads if self.dumps else ()


@dataclass(frozen=True)
class Traces:
    """All that is known about a dead run before it is judged.

    `loaded` is what the run noted when it began to serve: compiled modules and distributions.
    `recording` is None where there is no black box, `damage` says what is wrong with the files.
    `fault` is the first fatal dump of the fault log, `stderr_fault` one on standard error.  `marks`
    are those of signals that the process did not outlive, by name; `hang` is the mark of the
    watchdog.  `cgroup_kills` and `host_kills` are OOM kills since the last sample.  Times are
    seconds since the epoch; None stands for "not known".
    """

    run: str
    started: float
    pid: int
    context: dict[str, Any]
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
    #: What each thread that serves wrote when the watchdog fired, by its ident.
    stuck: dict[int, Mark] = field(default_factory=dict)
    #: When SIGTERM and SIGINT came last, whether the process outlived them or not.
    asked: dict[str, float] = field(default_factory=dict)

    @property
    def main_ident(self) -> int | None:
        return _main_ident(self.context)

    @property
    def role(self) -> str:
        return 'script' if self.context.get('role') == 'script' else 'server'

    def word(self, name: str) -> float:
        """When something was stamped, in seconds since the epoch; 0.0 if it never was."""
        if not self.recording:
            return 0.0
        nanoseconds: int = self.recording.words[name]
        return nanoseconds / 1e9

    @property
    def dump(self) -> faultlog.Dump | None:
        return self.fault or self.stderr_fault

    @property
    def in_flight(self) -> tuple[Request, ...]:
        return self.recording.in_flight if self.recording else ()

    @property
    def notes(self) -> tuple[Note, ...]:
        return self.recording.notes if self.recording else ()

    @property
    def last_sample(self) -> Sample | None:
        return self.recording.last_sample if self.recording else None

    @property
    def exception(self) -> str:
        """The traceback with which the main thread ended, or ''."""
        return self.recording.exception if self.recording else ''

    @property
    def last_sign(self) -> float:
        """The last moment at which the run is known to have lived, in seconds since the epoch."""
        marks = [*self.marks.values(), *self.stuck.values(), *filter(None, [self.hang])]
        signs = [self.started, self.fault_time, *(mark.time for mark in marks)]
        box = self.recording
        if box:
            signs += [sample.time for sample in box.samples[-1:]]
            signs += [request.ended or 0.0 for request in box.finished[-1:]]
            signs += [request.started for request in box.in_flight]
            signs += [line.time for line in box.log[-1:]]
            signs += [note.time for note in box.notes[-1:]]
            signs += [self.word(name) for name in ('armed', 'serving', 'finished')]
        return max(sign for sign in signs if sign < 1e11)


def collect(path: Path, world: World) -> Traces:
    """All traces of the run in directory `path`.  Raises nothing for damaged files."""
    started, pid = name_facts(path.name)
    context = read_json(path / CONTEXT)
    recording, damage = _recording(path)
    fault = _mark(path, 'faults', recording)
    fatal = faultlog.first_fatal(fault.dumps) if fault else None
    boot_id = _line(world.proc / 'sys/kernel/random/boot_id')
    same_boot = _same(_dict(context, 'identity').get('boot_id'), boot_id)
    cgroup_kills, host_kills = _kills(context, recording, world, same_boot)
    kernel_line = ''
    if same_boot and (cgroup_kills or host_kills):
        kernel_line = _kernel_line(world, pid, context)
    stderr = _stderr_tail(context, [s.stderr_size for s in recording.samples] if recording else [])
    return Traces(
        run=path.name,
        started=_near(_number(context.get('started')), started),
        pid=pid,
        context=context,
        loaded=read_json(path / SERVING) | distributionsets.of_run(path),
        recording=recording,
        damage=damage or ('' if context else 'No run context.'),
        fault=fatal,
        fault_time=fault.time if fault and fatal else 0.0,
        marks=_marks(path, _SIGNALS, recording),
        hang=_mark(path, 'deadman', recording),
        stderr_fault=faultlog.find_py_fatal(stderr, _main_ident(context)) if stderr else None,
        stderr_readable=stderr is not None,
        cgroup_kills=cgroup_kills,
        host_kills=host_kills,
        kernel_line=kernel_line,
        same_boot=same_boot,
        same_machine=_same(context.get('machine_id'), _line(world.machine_id)),
        boot_time=_boot_time(world),
        stuck=_stuck(path, recording),
        asked={name: mark.time for name, mark in _marks(path, _STOP_SIGNALS, None).items()},
    )


def _main_ident(context: dict[str, Any]) -> int | None:
    ident = context.get('main_ident')
    return ident if isinstance(ident, int) else None


# -- the run's own files ---------------------------------------------------------------------------


def _recording(path: Path) -> tuple[Recording | None, str]:
    """The black box and what is wrong with it; (None, '') where there never was one."""
    try:
        return load(path / BLACKBOX), ''
    except FileNotFoundError:
        return None, ''
    except (UnreadableRecord, OSError) as error:
        return None, str(error)


def _mark(path: Path, name: str, recording: Recording | None) -> Mark | None:
    """The part of a mark file that the process did not outlive; None if there is none.

    The recording tells how many bytes of it the heartbeat has seen: those the process outlived.
    """
    try:
        with open(open_regular(path / mark_name(name)), 'rb') as file:
            status = os.fstat(file.fileno())
            data = read_tail(file.fileno(), _MARK_TAIL)
    except OSError:
        return None
    outlived: int = recording.survived[name] if recording else 0
    not_read = max(0, status.st_size - _MARK_TAIL)
    survived = min(max(0, outlived - not_read), len(data))
    if not data[survived:].strip(b'\0'):
        return None
    return Mark(status.st_mtime, faultlog.parse(data, survived))


def _marks(path: Path, names: Iterable[str], recording: Recording | None) -> dict[str, Mark]:
    """The marks of those names that are there."""
    found = {}
    for name in names:
        mark = _mark(path, name, recording)
        if mark:
            found[name] = mark
    return found


def _stuck(path: Path, recording: Recording | None) -> dict[int, Mark]:
    """What each thread that serves wrote of itself when the watchdog fired, by its ident."""
    found = {}
    for ident, thread in recording.threads.items() if recording else ():
        name = f'deadman-{thread.slot}'
        mark = _mark(path, name, recording) if name in blackbox.MARKS else None
        if mark:
            found[ident] = mark
    return found


def _stderr_tail(context: dict[str, Any], sizes: list[int]) -> bytes | None:
    """The end of what this run wrote to the regular file that was its standard error; None where
    that cannot be read any more.

    `sizes` are the sizes of that file in the samples.  The process outlived what was in it two
    samples before the last one: that may be the dump of a forked child, which writes to the same
    file and whose main thread may have the same ident.
    """
    output = _dict(_dict(context, 'outputs'), '2')
    if output.get('kind') != 'file':
        return None
    try:
        with open(open_regular(output['path']), 'rb') as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != (output['device'], output['inode']):
                return None
            start = max(0, _count(output.get('size')), *sizes[-3:-2])
            if status.st_size < max([start, *sizes[-1:]]):
                return None  # it was cut meanwhile, as logrotate's copytruncate does
            return read_tail(file.fileno(), _STDERR_TAIL, start)
    except (OSError, KeyError, TypeError, ValueError):
        return None


# -- the system ------------------------------------------------------------------------------------


def _kills(
    context: dict[str, Any], recording: Recording | None, world: World, same_boot: bool | None
) -> tuple[int | None, int | None]:
    """By how much the kernel's counters of OOM kills rose since the last sample: that of the same
    cgroup, and that of the host.  None: not known.
    """
    if not same_boot:
        return None, None
    last = recording.last_sample if recording else None
    before = last.host_kills if last else _count(context.get('host_kills'))
    host = _rise(_counter(world.proc / 'vmstat'), before)
    group = _dict(context, 'cgroup')
    if not last or not _is_same_group(group):
        return None, host
    counter = _counter(Path(group['directory'], _COUNTERS[group['version']]))
    return _rise(counter, last.cgroup_kills), host


def _is_same_group(group: dict[str, Any]) -> bool:
    """Whether the cgroup of the run's context is still there.  Another one may have its path: it
    has counted from 0 on, and its counter says nothing of the run.
    """
    try:
        status = os.stat(group['directory'])
        is_same = (status.st_dev, status.st_ino) == (group['device'], group['inode'])
        return is_same and group['version'] in _COUNTERS
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _counter(path: Path) -> int:
    found = re.search(r'^oom_kill (\d{1,18})$', _text(path), re.MULTILINE)
    return int(found[1]) if found else -1


def _rise(now: int, before: int) -> int | None:
    return now - before if 0 <= before <= now else None


def _kernel_line(world: World, pid: int, context: dict[str, Any]) -> str:
    """The line that the kernel logged about killing this pid, since the run began; '' where there
    is none, or the log cannot be read.

    A record is `priority,number,microseconds since the boot,flags;message`.
    """
    since = _number(context.get('monotonic'))
    wanted = f'Killed process {pid} '
    for record in reversed(_kernel_records(world.kernel_log)):
        head, _, message = record.partition(';')
        if wanted not in message:
            continue
        fields = head.split(',')
        stamp = fields[2] if len(fields) > 2 else ''
        if stamp.isdigit() and int(stamp) / 1e6 >= since - 5:
            return message.strip().splitlines()[0]
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
    except OSError:  # EAGAIN: that was all; EPIPE: overwritten meanwhile
        pass
    finally:
        os.close(descriptor)
    return records


def _boot_time(world: World) -> float:
    found = re.search(r'^btime (\d{1,12})$', _text(world.proc / 'stat'), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _same(then: object, now: object) -> bool | None:
    """Whether both are known and equal; None where one is not known."""
    return then == now if then and now else None


def _near(precise: float, rough: float) -> float:
    """The precise time, unless it cannot be true: it comes from a file that may be damaged."""
    return precise if abs(precise - rough) < 60 else rough


def _dict(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    """A whole number out of a foreign document; -1, which stands for "not known", else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _number(value: object) -> int | float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _text(path: Path) -> str:
    try:
        return read_start(path, _KERNEL_FILE).decode('utf-8', 'replace')
    except OSError:
        return ''


def _line(path: Path) -> str:
    return _text(path).strip()
