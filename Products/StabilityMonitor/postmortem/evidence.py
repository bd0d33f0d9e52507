"""Collects what a dead run has left, and what the system knows about it.  Decides nothing.

This is the only module of the room that reads facts of the system.  Tests pass another `World`.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from ..model.errors import UnreadableRecord
from ..model.options import from_record
from ..model.options import watchdog_times
from ..model.records import Frame
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
from ..store.wallclock import WallClock
from ..system import kernelmessages
from ..system.processidentity import process_is_there
from . import crashplace
from . import faultlines
from . import faultlog
from . import kernellog
from . import lastwords
from . import lockedstorage
from . import sentsignal

#: Bytes read at the end of the file that standard error went to.
_STDERR_TAIL = 512 << 10
#: Bytes read at the end of a mark.
_MARK_TAIL = 256 << 10
#: At most this many bytes of a file of the kernel, for example /proc/stat, are read.
_KERNEL_FILE = 1 << 20
#: The file with the counter of OOM kills in a memory cgroup's directory, by cgroup version.
_COUNTERS = {1: 'memory.oom_control', 2: 'memory.events'}
_SIGNALS = tuple(name for name in blackbox.MARKS if name.startswith('SIG'))
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')
_BOOT_TIME = re.compile(r'^btime (\d{1,12})$', re.MULTILINE)
#: A statement that imports: the module, or the package and the first name from it.
_IMPORT = re.compile(
    rb'[ \t]*(?:from[ \t]+([\w.]{1,200})[ \t]+)?import[ \t]+\(?[ \t]*([\w.]{0,200})'
)
#: At most this many bytes of a line of Python code are read.
_LONGEST_LINE = 500
#: At most this many bytes of a file of Python code are read to find a line of it.
_SOURCE = 1 << 20
#: At most this many characters of an unknown fault log are quoted.
_QUOTED = 120
_OOM_KILLS = re.compile(r'^oom_kill (\d{1,18})$', re.MULTILINE)
#: Seconds since the epoch (the year 5138); a later time comes from damaged bytes.
_LATEST = 1e11
#: Seconds by which the start in the context may differ from the start in the run's name.
_NEAR = 60
#: Seconds: the time of a file may be this much older than the write.  It is that of the last tick.
_TICK = 0.05
#: Seconds by which two notes of the same moment may differ.
_SAME = 0.001
#: Seconds by which the watchdog may be late on a busy machine.
_LATE = 2.0


#: What a run noted about itself, as read from its file.  The file may hold anything.
Context = dict[str, Any]


@dataclass(frozen=True)
class World:
    """The system on which the judging process runs.  `now` is in seconds since the epoch.

    `is_of_run` is False if the run is of another machine: then only its own files are read.
    """

    now: float = field(default_factory=time.time)
    is_of_run: bool = True
    proc: Path = Path('/proc')
    kernel_log: Path = Path('/dev/kmsg')
    machine_id: Path = Path('/etc/machine-id')
    #: Where syslog keeps the kernel's log for those who may not read /dev/kmsg.
    kernel_files: tuple[Path, ...] = (Path('/var/log/kern.log'), Path('/var/log/messages'))
    #: None: no program may be started.
    journalctl: Path | None = Path('/usr/bin/journalctl')
    #: The folder that is "/", and the programs which keep core files below it.
    root: Path = Path('/')
    core_keepers: tuple[str, ...] = ('/systemd-coredump', '/apport', '/abrt-hook-ccpp')


@dataclass(frozen=True)
class Mark:
    """What C code wrote into a mark file shortly before the end.

    `time` is when the file changed last, in seconds since the epoch.  `size` is how many bytes
    were written and not survived, and `beginning` is the start of their first line.
    """

    time: float
    dumps: tuple[faultlog.Dump, ...]
    size: int = 0
    beginning: str = ''

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

    `fault_log` is all that the process did not survive in the fault log, whatever it is, and
    `outlived` the last fatal dump in it that the process did survive.  `last_words` are the words
    of C code at the end of standard error.  `kernel_fault` is the line of the kernel's log about
    the fault; it is looked for if the dump does not name the thread which crashed, or if that
    thread stood where nothing can fault: `harmless_place`, see `sentsignal`.  `imported` is the
    module that the crashed thread was importing.
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
    #: What MainThread wrote while an exit handler held the GIL.
    last_place: Mark | None = None
    #: When SIGTERM and SIGINT last arrived, whether the process survived them or not.
    asked: dict[str, float] = field(default_factory=dict)
    #: The marks of signals that the process survived, by name.
    survived_marks: dict[str, Mark] = field(default_factory=dict)
    #: Whether the process itself still exists, although the run has ended.
    still_there: bool = False
    #: The lock file of a database that the run could not lock, and who holds it now.
    locked_file: lockedstorage.LockedFile | None = None
    fault_log: Mark | None = None
    outlived: faultlog.Dump | None = None
    outlived_time: float = 0.0
    last_words: tuple[str, ...] = ()
    kernel_fault: str = ''
    imported: str = ''
    harmless_place: str = ''
    #: For how many seconds the process had not run when it wrote its last mark; 0.0: not known.
    frozen: float = 0.0

    @property
    def main_ident(self) -> int | None:
        return _main_ident(self.context)

    @property
    def boot_id(self) -> str:
        boot_id = _dict(self.context, 'identity').get('boot_id')
        return boot_id if isinstance(boot_id, str) else ''

    @property
    def started_monotonic(self) -> float | None:
        """The start by the monotonic clock, in seconds; None if it is not known."""
        since = _number(self.context.get('monotonic'))
        return since if since > 0 else None

    @property
    def role(self) -> str:
        if self.context.get('role') == 'script':
            return 'script'
        return 'server'

    @property
    def unmarked(self) -> frozenset[str]:
        """The signals that leave no mark in this run.

        Other code handles them, or the signal marks are off.
        """
        if not self.recording:
            return frozenset()
        return blackbox.marks_of(self.recording.words['unmarked'])

    @property
    def handled(self) -> frozenset[str] | None:
        """The signals with a handler of other code, in Python or in C; None if not known."""
        known = self.context.get('handled_signals')
        if not isinstance(known, list):
            return None
        return frozenset(map(str, known)) | self.unmarked

    def word(self, name: str) -> float:
        """Return the time of an event, in seconds since the epoch; 0.0 if it did not happen.

        `name` is one of the times among `blackbox.WORDS`.
        """
        if not self.recording:
            return 0.0
        nanoseconds: int = self.recording.words[name]
        return nanoseconds / 1e9

    @property
    def headless(self) -> faultlog.Dump | None:
        """The last stacks of a fault log that holds no line "Fatal Python error", or None."""
        if self.fault or not self.fault_log or not self.fault_log.dumps:
            return None
        return self.fault_log.dumps[-1]

    @property
    def dump(self) -> faultlog.Dump | None:
        return self.fault or self.stderr_fault or self.headless

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

    @functools.cached_property
    def clock(self) -> WallClock:
        """The wall clock of the run: it may have been set."""
        moments = []
        samples = self.recording.samples if self.recording else ()
        since = self.started_monotonic
        has_start = since is not None and bool(samples) and since <= samples[0].monotonic
        if has_start and since is not None:
            moments.append((self.started, since))
        moments += [(sample.time, sample.monotonic) for sample in samples]
        return WallClock(moments, has_start)

    @property
    def began(self) -> float:
        """The start by the clock as it was at the end."""
        return self.by_last_clock(self.started)

    def by_last_clock(self, moment: float) -> float:
        """Return a moment of the run by the clock as it was at the end.

        What was written last, as a mark that the process did not survive, is such a moment already.
        """
        monotonic = self.word('hung_monotonic')
        is_begin_of_hang = abs(moment - self.word('hung_since')) < _SAME
        if monotonic and is_begin_of_hang and self.clock.was_set:
            return self.clock.at(monotonic)
        return self.clock.by_last(moment)

    def start_of(self, request: Request) -> float:
        """Return when a request began, by the clock as it was at the end."""
        began = self.recording.began.get(request.number) if self.recording else None
        if began is None or not self.clock.was_set:
            return self.by_last_clock(request.started)
        return self.clock.at(began)

    def came(self, name: str, moment: float) -> float:
        """Return when a signal came, by the clock as it was at the end.

        `moment` is the time of its mark.
        """
        return moment if name in self.marks else self.by_last_clock(moment)

    @property
    def end_was_seen(self) -> bool:
        """Whether the run left a trace of its end: a fatal dump, a mark, or its normal exit."""
        return bool(self.dump or self.marks or self.exception or self.word('finished'))

    @property
    def last_sign(self) -> float:
        """The last moment at which the run was certainly alive, in seconds since the epoch.

        If the clock was set, it is a moment of the clock as it was at the end.
        """
        signs = [self.started, self.outlived_time]
        # These were written last.
        last_signs = [self.fault_time]
        last_signs += [mark.time for mark in self.marks.values()]
        last_signs += [mark.time for mark in self.stuck.values()]
        for mark in (self.hang, self.fault_log, self.last_place):
            if mark:
                last_signs.append(mark.time)
        box = self.recording
        if box:
            signs += [request.ended or 0.0 for request in box.finished[-1:]]
            signs += [request.started for request in box.in_flight]
            signs += [line.latest for line in box.log[-1:]]
            signs += [note.time for note in box.notes[-1:]]
            signs += [self.word(name) for name in ('armed', 'serving', 'finished')]
        signs = [self.by_last_clock(sign) for sign in signs if 0 < sign < _LATEST]
        signs += last_signs
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
    marks = _marks(path, _SIGNALS, recording)
    every_mark = _marks(path, _SIGNALS, None)
    asked = {name: every_mark[name].time for name in _STOP_SIGNALS if name in every_mark}
    survived_marks = {name: mark for name, mark in every_mark.items() if name not in marks}
    outlived, outlived_time = _outlived(path, recording)
    if recording and fatal and recording.words['finished'] / 1e9 > fault_time + _TICK:
        # Python began its exit after the dump, so the process did not die of that signal.
        outlived, outlived_time = fatal, fault_time
        fault, fatal, fault_time = None, None, 0.0

    hang = _mark(path, 'watchdog', recording)
    stuck = _stuck(path, recording)
    frozen = 0.0
    if os.path.lexists(mark_file(path, 'watchdog')):
        last_marks = [mark.time for mark in (hang, fault, *marks.values(), *stuck.values()) if mark]
        frozen = _frozen(context, recording, last_marks)
    if frozen:
        hang = None  # the timers expired while no thread ran, so they say nothing about a hang
        stuck = {}

    stderr = None
    if world.is_of_run:
        stderr = stderr_tail(context, [sample.stderr_size for sample in samples])
    stderr_fault = None
    last_words: tuple[str, ...] = ()
    if stderr is not None:
        stderr_fault = faultlog.find_py_fatal(stderr, _main_ident(context))
        last_words = lastwords.find(stderr, pid)

    identity = _dict(context, 'identity')
    boot_id = _line(world.proc / 'sys/kernel/random/boot_id')
    machine_id = _line(world.machine_id)
    same_boot = None
    same_machine = None
    if world.is_of_run:
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
    kernel_fault = ''
    with_source = (fatal or stderr_fault) if world.is_of_run else None
    harmless_place = _harmless_place(with_source, started)
    thread = fatal.crashed_thread if fatal else None
    if fatal and same_boot and (harmless_place or not thread):
        line, ident = _kernel_fault(world, pid, context, recording, fault_time)
        if line and (not thread or thread.ident == ident):
            kernel_fault = line
            fatal = faultlog.with_crashed(fatal, ident)

    locked_file = None
    if same_boot and recording and recording.exception:
        locked_file = lockedstorage.look(recording.exception, path, world.proc)

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
        marks=marks,
        hang=hang,
        stderr_fault=stderr_fault,
        stderr_readable=stderr is not None,
        cgroup_kills=cgroup_kills,
        host_kills=host_kills,
        kernel_line=kernel_line,
        same_boot=same_boot,
        same_machine=same_machine,
        boot_time=float(boot_time),
        stuck=stuck,
        last_place=_mark(path, 'ending', recording),
        asked=asked,
        survived_marks=survived_marks,
        still_there=world.is_of_run and _still_there(identity, pid, world),
        locked_file=locked_file,
        fault_log=fault,
        outlived=outlived,
        outlived_time=outlived_time,
        last_words=last_words,
        kernel_fault=kernel_fault,
        imported=_imported(with_source, started),
        harmless_place=harmless_place,
        frozen=frozen,
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
    written = data[survived:].strip(b'\0')
    if not written:
        return None
    first_line = written.lstrip()[:_QUOTED].split(b'\n')[0]
    return Mark(
        time=status.st_mtime,
        dumps=faultlog.parse(data, survived),
        size=len(written),
        beginning=faultlines.read_text(first_line.strip()),
    )


def _outlived(path: Path, recording: Recording | None) -> tuple[faultlog.Dump | None, float]:
    """Return the last fatal dump that the process survived, and its time; 0.0: not known.

    The time is known if nothing was written into the fault log later.
    """
    if not recording or not recording.survived['faults']:
        return None, 0.0
    survived = recording.survived['faults']
    whole = _mark(path, 'faults', None)
    if not whole:
        return None, 0.0
    before = [dump for dump in whole.dumps if dump.offset < survived]
    last = faultlog.first_fatal(reversed(before))
    if last is None:
        return None, 0.0
    is_newest = len(before) == len(whole.dumps)
    return last, whole.time if is_newest else 0.0


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


def _frozen(context: Context, recording: Recording | None, marks: list[float]) -> float:
    """Return for how many seconds the process had not run before the first of these marks, which
    it did not survive; 0.0 if it ran, or if that is not known.

    A process that runs takes samples.  If C code holds the interpreter lock it takes none, but then
    the watchdog fires in time, or the workers write their stacks.  After a freeze the heartbeat
    may have finished the beat that was interrupted: a sample that is about as new as the mark says
    nothing, unless it is so old that the watchdog has waited since then.
    """
    options = from_record(context.get('options'))
    stall = options.get('stall')
    interval = options.get('sample-interval')
    if not marks or not recording or not recording.last_sample or recording.words['finished']:
        return 0.0
    if not isinstance(stall, int | float) or not isinstance(interval, int | float):
        return 0.0  # the run is from an older release
    if not stall or not interval:
        return 0.0
    timeout, _ = watchdog_times(stall, interval)
    mark = min(marks)
    as_new = min(interval + _LATE, timeout / 2)
    before = [sample.time for sample in recording.samples if sample.time < mark - as_new]
    silence = mark - max(before, default=mark)
    return silence if silence > timeout + interval + _LATE else 0.0


def stderr_tail(context: Context, sizes: list[int]) -> bytes | None:
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


def _imported(dump: faultlog.Dump | None, started: float) -> str:
    """Return the module that the crashed thread was importing; '' if that is not known.

    A stack does not name it, but the line that imports it does.
    """
    if not dump or not dump.crashed_thread:
        return ''
    frame = crashplace.importing_frame(dump.crashed_thread.frames)
    statement = _IMPORT.match(_source_line(frame, started))
    if not statement:
        return ''
    package, name = statement.groups()
    if package and package.strip(b'.'):
        name = package
    elif package:
        name = package + name
    return faultlines.read_text(name)


def _harmless_place(dump: faultlog.Dump | None, started: float) -> str:
    """Return where the crashed thread stood, if nothing there can fault; else ''."""
    if not dump or not dump.crashed_thread or not dump.crashed_thread.frames:
        return ''
    frames = dump.crashed_thread.frames
    line = _source_line(frames[0], started)
    return sentsignal.harmless_place(frames, line.decode('utf-8', 'replace'))


def _source_line(frame: Frame | None, started: float) -> bytes:
    """Return the start of the line of code at which a frame stands; b'' if it is not known.

    A file that was changed after the start of the run may have another line there.
    """
    if frame is None or not frame.line:
        return b''
    try:
        with open(open_outside(frame.file), 'rb') as file:
            if os.fstat(file.fileno()).st_mtime >= started:
                return b''
            lines = file.read(_SOURCE).split(b'\n', frame.line)
    except (OSError, ValueError):
        return b''
    if len(lines) < frame.line:
        return b''
    return lines[frame.line - 1][:_LONGEST_LINE]


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
    """
    since = _number(context.get('monotonic'))
    for message in kernelmessages.of_device(world.kernel_log, since):
        if kernellog.killed(message, pid):
            return message
    return ''


def _kernel_fault(
    world: World,
    pid: int,
    context: Context,
    recording: Recording | None,
    fault_time: float,
) -> tuple[str, int]:
    """Return the kernel's line about a fault in a thread of this process, and its ident; ('', 0).

    In a container the kernel logs other ids than those that the process knows: then none is found,
    unless another process has the same id.  So only lines of the moment of the dump count.
    """
    main_ident = _main_ident(context)
    if not recording or not recording.last_sample or not main_ident:
        return '', 0
    idents = {thread.native_id: ident for ident, thread in recording.threads.items()}
    idents[pid] = main_ident
    sample = recording.last_sample
    moment = sample.monotonic + fault_time - sample.time
    for message in kernelmessages.of_device(world.kernel_log, moment, moment):
        fault = kernellog.FAULT_LINE.match(message)
        if fault and int(fault[2]) in idents:
            return message, idents[int(fault[2])]
    return '', 0


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
