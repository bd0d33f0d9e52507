"""Reads the core files of dead runs in the background, and writes down what they tell.

What the core file itself says is read here (`system.coreformat`); the stacks are read by a program
(`corestacks`).  That the core file was found is also evidence, as of a witness: a core file whose
content names the black box of the run decides how a run ended that left no trace of its own.

The file is a foreign input.  Its content is read in bounds, and a program reads it only if the file
belongs to the user of this process or to root.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..model import stackends
from ..model.action import Action
from ..model.corefile import BY_CONTENT
from ..model.corefile import BY_NAME
from ..model.corefile import CoreFile
from ..model.corefile import CoreThread
from ..model.corefile import Mapping
from ..model.corefile import MergedFrame
from ..model.errors import NoSuchRun
from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..model.witnesses import FAULT
from ..model.witnesses import SENT
from ..model.witnesses import Witness
from ..store import corerecords
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.corerecords import Stamp
from ..store.regularfiles import NotARegularFile
from ..store.regularfiles import open_outside
from ..store.regularfiles import opened
from ..store.regularfiles import own_user
from ..store.rundirectory import Base
from ..system import coreformat
from ..system import elffile
from ..system import signalframes
from ..system.backgroundjob import BackgroundJob
from ..system.backgroundjob import Turns
from ..system.coreformat import Core
from . import corefinding
from . import corestacks
from .corefinding import FoundCore
from .evidence import World

#: At most the core files of so many dead runs are looked for at once, the newest.
_MOST_RUNS = 8
#: Rounds of the heartbeat in which a core file is looked for again: systemd-coredump and apport
#: write theirs after the process is gone.
_ROUNDS = 3
#: A server that does not tell when it serves is no longer waited for after so many rounds.
_PATIENCE = 6
#: Bytes of the longest message of glibc that is kept, see `struct abort_msg_s` in its
#: <stdlib/abort.c>: the size of the whole, and then the text.
_ABORT_MESSAGE = 2000
_LIBC = 'libc.so.6'
_ROOT = 0
#: How many files that have changed since are named.
_NAMED = 5
#: At most this many programs and libraries are compared.
_MOST_LIBRARIES = 2000
_CRASHING = ('SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP', 'SIGSYS', 'SIGABRT')
#: In a process, only one core file is read at a time.
_TURNS: Turns = {}
#: {pid: the reading in progress}; a forked child has another pid.
_READING: dict[int, BackgroundJob[int, _Step]] = {}

#: Is called with the name of a run and its error.
OnError = Callable[[str, Exception], object]
#: Is called with the name of a program that begins to read a core file.
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Reading:
    """How core files are read.  `readers` are the programs, {name: command}."""

    world: World = field(default_factory=World)
    readers: MappingType[str, tuple[str, ...]] | None = None
    seconds: float = corestacks.SECONDS
    memory: int = corestacks.MEMORY

    def programs(self) -> MappingType[str, tuple[str, ...]]:
        return corestacks.find_readers() if self.readers is None else self.readers


@dataclass(frozen=True)
class _Step:
    """What is being done, and since when by the monotonic clock; for at most `seconds`."""

    words: str
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


def progress() -> str:
    """Return in words what this process reads, such as "reading the core file of run X: pystack,
    3 s of at most 120 s"; '' if it reads no core file.
    """
    job = _READING.get(os.getpid())
    step = job.progress if job else None
    if step is None:
        return ''
    took = f', {time.monotonic() - step.began:.0f} s'
    return step.words + took + (f' of at most {step.seconds:.0f} s' if step.seconds else '')


def _to_nobody(program: str) -> None:
    """Tell nobody."""


# -- when ------------------------------------------------------------------------------------------


def read_later(life: ILivingRun, judged: Iterable[RunRecord]) -> None:
    """Find and read the core files of the runs that were just judged, once Zope serves."""
    if life.role != 'server' or not life.is_watched:
        return  # without a heartbeat, it would run at once and make the start slower
    later = _Later(life, [record.run for record in judged])
    life.in_background(later.find)
    life.every_round(later.next_round)


class _Later:
    """Looks for core files at once and in the next rounds, and reads them when Zope serves."""

    def __init__(self, life: ILivingRun, runs: list[str]) -> None:
        self._life = life
        self._runs = runs
        self._rounds = 0
        self._found: dict[str, FoundCore] = {}
        self._done: set[str] = set()
        self._reading = Reading()
        self._job: BackgroundJob[int, _Step] = BackgroundJob(
            'core file',
            self._read,
            first=_Step('reading core files'),
            not_started='The core file was not read: {}.',
            failed='The core file was not read: {}.',
            turns=_TURNS,
        )

    def find(self) -> None:
        for run in self._runs[-_MOST_RUNS:]:
            if run not in self._found and run not in self._done:
                with _telling(run, self._on_error):
                    found = find_and_testify(self._life.base, run, self._reading.world)
                    if found:
                        self._found[run] = found
        self._start_if_ready()

    def next_round(self) -> None:
        self._rounds += 1
        if self._rounds <= _ROUNDS:
            self._life.in_background(self.find)
        else:
            self._start_if_ready()

    def _start_if_ready(self) -> None:
        is_ready = self._life.is_serving or self._rounds > _PATIENCE
        if is_ready and self._found.keys() - self._done:
            _READING[os.getpid()] = self._job
            self._job.start()  # not if it is still at work: then the next round starts it

    def _read(self) -> tuple[int, str]:
        for run, found in list(self._found.items()):
            if run not in self._done:
                self._done.add(run)
                words = f'reading the core file of run {run}'
                tell = functools.partial(self._tell, words)
                with _telling(run, self._on_error):
                    read_and_keep(self._life.base, run, found, self._reading, tell)
        if self._life.options.core_files:  # else it was the administrator who wanted core files
            remove_old(self._life.base, self._life.options.keep_cores)
        return len(self._done), ''

    def _tell(self, words: str, program: str) -> None:
        self._job.tell(_Step(f'{words}: {program}', seconds=self._reading.seconds))

    def _on_error(self, run: str, error: Exception) -> None:
        self._life.findings.add(
            f'core-{run}',
            f'The core file of run {run} could not be read.',
            f'{type(error).__name__}: {error}.',
            Action('Nothing is lost: the core file is still where the system has put it.'),
        )


def read_now(
    base: Base, runs: Iterable[str], on_error: OnError, reading: Reading | None = None
) -> None:
    """Find and read the core files of these archived runs.  Reading one may take minutes."""
    reading = reading or Reading()
    for run in list(runs)[-_MOST_RUNS:]:
        with _telling(run, on_error):
            found = find_and_testify(base, run, reading.world)
            if found:
                read_and_keep(base, run, found, reading)


@contextlib.contextmanager
def _telling(run: str, on_error: OnError) -> Iterator[None]:
    try:
        yield
    except NoSuchRun:  # it was pruned meanwhile, or only counted
        pass
    except Exception as error:
        on_error(run, error)


def find_and_testify(base: Base, run: str, world: World) -> FoundCore | None:
    """Find the core file of an archived run, and leave what it proves beside the record.

    None if there is none, or if it was read already.
    """
    if corerecords.has(base, run):
        return None
    record = Archive(base).record(run)
    found = corefinding.find(record, world)
    if found and witnessfiles.last_of_process(base, run) == run:
        witnessfiles.add(base, run, testimony(found))
        return found
    return None


def read_and_keep(
    base: Base, run: str, found: FoundCore, reading: Reading, tell: Tell = _to_nobody
) -> None:
    """Read a core file that was found, and write down what it tells.

    Nothing is written if it was removed or replaced meanwhile.
    """
    record = Archive(base).record(run)
    try:
        core = read(record, found, reading, tell)
    except (FileNotFoundError, NotARegularFile):
        return
    corerecords.add(base, run, core, Stamp.of(found.status))


# -- as a witness ----------------------------------------------------------------------------------


def testimony(found: FoundCore) -> Witness:
    """Return what the core file proves about the end of its run."""
    seen = Witness(
        source='core',
        time=time.time(),
        fact=f'There is a core file, {found.path}; ',
        ended=found.status.st_mtime,
        core_dumped=True,
    )
    if found.match == BY_NAME:
        return replace(
            seen,
            fact=seen.fact + 'its content could not be read here, but name and time fit, so it is '
            'likely that of this run.',
        )
    with open(corefinding.open_again(found), 'rb') as file:
        core = coreformat.read(file.fileno())
        info = _first_signal(core)
        told = CoreFile(found.path, seen.time, match=found.match)
        at_stack_end = stackends.of_core(_with_signal(told, core))
    if info is None:
        return replace(seen, fact=seen.fact + 'it names the black box of this run.')
    is_own = info.is_fault or (info.signal == 'SIGABRT' and info.sender == core.pid)
    is_sent = info.code in coreformat.SENT and info.sender != core.pid
    return replace(
        seen,
        fact=seen.fact + f'it names the black box of this run. {_words(info, core.pid)}',
        signal=info.signal,
        cause=FAULT if is_own else SENT if is_sent else '',
        at_stack_end=at_stack_end,
    )


def _words(info: coreformat.SignalInfo, own: int) -> str:
    """Return in a sentence how the process died."""
    said = f'The process died of {info.signal}'
    if info.code:
        said += f' ({info.code})'
    if info.address is not None:
        said += f' at address {info.address:#x}'
    if info.sender == own:
        said += ', which it raised itself'
    elif info.sender is not None:
        said += f', which process {info.sender} of user {info.sender_uid} sent'
    return f'{said}.'


def _first_signal(core: Core) -> coreformat.SignalInfo | None:
    """Return the signal that the thread took first: a handler may have raised it again."""
    interrupted = signalframes.interrupted(core)
    if interrupted:
        return interrupted.info
    if core.info is None and core.signal:
        return coreformat.SignalInfo(core.signal)
    return core.info


# -- reading ---------------------------------------------------------------------------------------


def read(
    record: RunRecord, found: FoundCore, reading: Reading, tell: Tell = _to_nobody
) -> CoreFile:
    """Return what a core file tells.  Raises OSError if it is gone, or another file by now.

    `tell` is called with the name of each program that begins to read it.
    """
    readers = reading.programs()
    told = CoreFile(
        path=found.path,
        time=time.time(),
        match=found.match,
        size=found.status.st_size,
        written=found.status.st_mtime,
    )
    executable = _recorded_executable(record)
    owner = found.status.st_uid
    if owner not in (_ROOT, own_user()):
        return _unread(told, readers, executable, f'It belongs to another user (uid {owner}).')
    try:
        descriptor = corefinding.open_again(found)
    except PermissionError:
        return _unread(told, readers, executable, 'This user may not read it.')
    with open(descriptor, 'rb') as file:
        try:
            core = coreformat.read(file.fileno())
        except coreformat.NotACoreFile as error:
            if found.match == BY_CONTENT:
                raise
            return _unread(told, readers, executable, f'{error}; it may be compressed.')
        executable = _executable(core) or executable
        told = replace(
            _with_signal(told, core),
            command=corestacks.command_line(readers, found.path, executable),
            abort_message=_abort_message(core),
            incomplete=_what_is_missing(core, found),
        )
        stacks = corestacks.read(
            found.path, executable, core.size, readers, reading.seconds, reading.memory, tell
        )
        return replace(
            told,
            reader=stacks.reader,
            threads=_with_places(stacks.threads, told, core),
            incomplete=(*told.incomplete, *stacks.incomplete),
        )


def _unread(
    told: CoreFile, readers: MappingType[str, tuple[str, ...]], executable: str, why: str
) -> CoreFile:
    return replace(
        told,
        command=corestacks.command_line(readers, told.path, executable),
        incomplete=(f'The core file was not read. {why}',),
    )


def _with_signal(told: CoreFile, core: Core) -> CoreFile:
    interrupted = signalframes.interrupted(core)
    info = _first_signal(core)
    first = core.threads[0] if core.threads else None
    registers = first.registers if first else {}
    if interrupted:
        registers = interrupted.registers
    program_counter = registers.get(core.machine.program_counter, 0)
    stack_pointer = registers.get(core.machine.stack_pointer, 0)
    address = info.address if info else None
    return replace(
        told,
        signal=core.signal,
        code=info.code if info else '',
        address=address,
        sender=info.sender if info else None,
        sender_uid=info.sender_uid if info else None,
        thread=first.native_id if first else 0,
        program_counter=program_counter,
        stack_pointer=stack_pointer,
        code_at=_mapping(core, program_counter),
        data_at=None if address is None else _mapping(core, address),
        stack_at=_mapping(core, stack_pointer),
        registers=registers,
    )


def _mapping(core: Core, address: int) -> Mapping | None:
    segment = core.segment_at(address)
    if segment is None:
        return None
    file = core.file_at(address)
    return Mapping(segment.start, segment.end, segment.permissions, file.path if file else '')


def _recorded_executable(record: RunRecord) -> str:
    """Return the program that the run has recorded.  Only a path: gdb would take other words for
    its options.
    """
    recorded = record.context.get('executable')
    is_path = isinstance(recorded, str) and os.path.isabs(recorded)
    return str(recorded) if is_path else 'python3'


def _executable(core: Core) -> str:
    """Return the program: the first file that is mapped with code; '' if it is not there now."""
    for file in core.files:
        segment = core.segment_at(file.start)
        if segment and 'x' in segment.permissions:
            is_there = os.path.isabs(file.path) and os.path.isfile(file.path)
            return file.path if is_there else ''
    return ''


def _abort_message(core: Core) -> str:
    """Return the last message of glibc before abort(), '' if there is none."""
    for file in core.files:
        if os.path.basename(file.path) != _LIBC:
            continue
        library = elffile.read(file.path)
        symbol = elffile.symbol_address(file.path, '__abort_msg')
        bias = library.bias(file.offset, file.start) if library else None
        if symbol is None or bias is None:
            return ''
        pointer = int.from_bytes(core.memory(bias + symbol, 8), 'little')
        size = int.from_bytes(core.memory(pointer, 4), 'little') if pointer else 0
        text = core.memory(pointer + 4, min(size, _ABORT_MESSAGE)).partition(b'\0')[0]
        return text.decode('utf-8', 'replace').strip()
    return ''


def _what_is_missing(core: Core, found: FoundCore) -> tuple[str, ...]:
    said = []
    if core.is_cut:
        said.append(
            f'The core file is cut off: it has {core.size} of {core.needed} bytes, because a limit '
            'or the end of the disk was reached.'
        )
    if not core.threads:
        said.append('It does not tell the threads.')
    changed = [path for path in _code_files(core) if _has_changed(path, found.status.st_mtime)]
    if changed:
        said.append(
            f'{len(changed)} of its programs and libraries have changed since or are missing, so '
            f'names may be wrong: {", ".join(changed[:_NAMED])}'
            + (' and others.' if len(changed) > _NAMED else '.')
        )
    return tuple(said)


def _code_files(core: Core) -> list[str]:
    """Return the first programs and libraries that were mapped."""
    paths: dict[str, None] = {}
    for file in core.files:
        segment = core.segment_at(file.start)
        if segment and 'x' in segment.permissions and file.path.startswith('/'):
            paths[file.path] = None
        if len(paths) >= _MOST_LIBRARIES:
            break
    return list(paths)


def _has_changed(path: str, since: float) -> bool:
    try:
        return os.stat(path).st_mtime > since
    except (OSError, ValueError):
        return True


def _with_places(
    threads: tuple[CoreThread, ...], told: CoreFile, core: Core
) -> tuple[CoreThread, ...]:
    """Return the threads with what the core file itself adds: the one that died, without the
    handler that ran at its end, and the whole paths of libraries.
    """
    was_raised_again = signalframes.interrupted(core) is not None
    libraries = Libraries(core)
    done = []
    for thread in threads:
        frames = thread.frames
        died = thread.native_id == told.thread
        if died and was_raised_again:
            frames = corestacks.without_handler(frames)
        if died and frames and frames[0].native and not frames[0].address:
            frames = (replace(frames[0], address=told.program_counter), *frames[1:])
        done.append(replace(thread, crashed=died, frames=libraries.placed(frames)))
    return tuple(done)


class Libraries:
    """The files that a process had mapped."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._starts: dict[str, int] = {}
        self._paths: dict[str, str] = {}  # by the last part of the path
        for file in core.files:
            self._starts.setdefault(file.path, file.start)
            name = os.path.basename(file.path)
            if self._paths.setdefault(name, file.path) != file.path:
                self._paths[name] = name  # of two files: it is not known which one is meant

    def placed(self, frames: Iterable[MergedFrame]) -> tuple[MergedFrame, ...]:
        """Return the frames of a thread: each native one with the whole path of its library and, if
        its address is known, its place there.
        """
        placed = []
        nearest: dict[str, str] = {}  # of two files with one name, it is likely that of the callee
        for frame in frames:
            file = self._core.file_at(frame.address) if frame.address else None
            if file and frame.native:
                nearest[os.path.basename(file.path)] = file.path
                offset = frame.address - self._starts[file.path]
                frame = replace(frame, library=file.path, offset=offset)
            elif frame.native:
                name = frame.library
                frame = replace(frame, library=nearest.get(name) or self._path(name))
            placed.append(frame)
        return tuple(placed)

    def _path(self, name: str) -> str:
        """Return the path of the file whose name a reader shows, as it is if none fits.

        A reader may show "libffi.so.8" where "libffi.so.8.1.2" was mapped.
        """
        if name and name not in self._paths:
            longer = (path for base, path in self._paths.items() if base.startswith(f'{name}.'))
            self._paths[name] = next(longer, name)
        return self._paths.get(name, name)


# -- how many are kept -----------------------------------------------------------------------------


def remove_old(base: Base, keep: int) -> list[str]:
    """Remove the older core files of runs of this data directory; return their paths.

    The newest `keep` stay; 0: all stay.  Only a file that is still the one which named the black
    box of such a run, and that belongs to this user, is removed.
    """
    if not keep:
        return []
    known: dict[Stamp, tuple[str, str]] = {}
    for record in Archive(base).summaries():  # newest first
        with contextlib.suppress(NoSuchRun):
            told = corerecords.kept(base, record.run)
            if told and told[0].match == BY_CONTENT and _is_there(told[0].path, told[1]):
                known.setdefault(told[1], (told[0].path, record.run))
    removed = []
    for stamp, (path, run) in list(known.items())[keep:]:
        if _names(path, run) and _is_there(path, stamp, removes=True):
            removed.append(path)
    return removed


def _names(path: str, run: str) -> bool:
    """Whether it is a core file of the black box of that run, whatever `core.json` says."""
    try:
        with open(open_outside(path), 'rb') as file:
            return corefinding.maps(coreformat.read(file.fileno()), run)
    except (OSError, ValueError, coreformat.NotACoreFile):
        return False


def _is_there(path: str, stamp: Stamp, removes: bool = False) -> bool:
    """Whether a file of this user with that stamp is there, and could be removed if `removes`."""
    above, name = os.path.split(path)
    try:
        with opened(os.path.realpath(above)) as folder:
            status = folder.stat(name)
            is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == own_user()
            if not is_ours or Stamp.of(status) != stamp:
                return False
            if removes:
                folder.unlink(name)
            return True
    except (OSError, ValueError):
        return False
