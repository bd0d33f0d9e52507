"""Reads the stacks in a core file with pystack, or else with gdb, and takes their output apart.

pystack shows native and Python frames, gdb only native ones.  Both run in the warden
(`system.stacktools`), with low priority, limited time and memory.  gdb must load no script: not the
user's, not those beside the libraries; and neither may fetch anything from elsewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from ..model.corefile import CoreThread
from ..model.corefile import MergedFrame
from ..system import stacktools
from ..system.stacktools import GuardedTool
from ..system.stacktools import Limits
from ..system.stacktools import Outcome

#: The programs that can read a core file, the better one first.
READERS = ('pystack', 'gdb')
#: Older ones show wrong stacks for some core files of Python 3.11 and newer.
OLDEST_PYSTACK = (1, 7, 2)
#: Seconds that a reader may take, and bytes of memory of its own.  Measured with a core file of
#: 2 GiB: pystack 29 MiB, gdb 77 MiB.
SECONDS = 120.0
MEMORY = 1 << 30
#: pystack 1.7.2 maps a core file three times, measured with 2 GiB.
_MAPPED = 4
_VERSION_SECONDS = 20.0
_OUTPUT = 16 << 20
#: At most so many frames of a thread are kept, and of all threads: the innermost and the outermost.
INNERMOST, OUTERMOST = 300, 50
MOST_FRAMES = 5000
MOST_THREADS = 500
_LONGEST = 400  # characters of a function or path

#: The frame that the kernel makes to call a signal handler, in the words of each reader.
_SIGNAL_FRAMES = ('__restore_rt', '__kernel_rt_sigreturn', '<signal handler called>')
#: A handler of faulthandler that raises the signal again has few frames.
_MOST_HANDLER_FRAMES = 20
_RAISING = re.compile(r'_*(GI_)?(pthread_kill\w*|raise|gsignal)')

_GDB_HEAD = re.compile(r'Thread \d+ \((?:.*\()?LWP (?P<id>\d+)\)?\)')
_GDB_FRAME = re.compile(r'#\d+ +(?:0x(?P<address>[0-9a-f]+) in )?(?P<rest>\S.*)')
_GDB_SOURCE = re.compile(r' at (?P<file>[^:]+):(?P<line>\d+)$')
_GDB_LIBRARY = re.compile(r' from (?P<library>/.*)$')


@dataclass(frozen=True)
class Stacks:
    """What a reader has shown.  `incomplete` says in sentences what is missing, and why."""

    reader: str = ''
    threads: tuple[CoreThread, ...] = ()
    incomplete: tuple[str, ...] = ()


def find_readers() -> dict[str, tuple[str, ...]]:
    """Return {name: command} of the readers that are installed."""
    found = stacktools.find_tools(READERS)
    return {name: found[name] for name in READERS if name in found}


def command(reader: str, started: tuple[str, ...], core: str, executable: str) -> list[str]:
    """Return the command with which this reader shows the stacks in a core file."""
    if reader == 'pystack':
        return [*started, 'core', core, executable, '--native-all']
    return [
        *started,
        '-batch',
        '-nx',
        *('-iex', 'set auto-load off'),
        *('-iex', 'set debuginfod enabled off'),
        *('-ex', 'set pagination off'),
        *('-ex', 'thread apply all bt'),
        executable,
        core,
    ]


def command_line(readers: Mapping[str, tuple[str, ...]], core: str, executable: str) -> str:
    """Return the shell line with which a person reads the core file."""
    for name, started in readers.items():
        return shlex.join(command(name, started, core, executable))
    python = sys.executable or 'python3'
    started = (os.path.join(os.path.dirname(python), 'pystack'),)
    return shlex.join(command('pystack', started, core, executable))


def read(
    core: str,
    executable: str,
    size: int,
    readers: Mapping[str, tuple[str, ...]],
    seconds: float = SECONDS,
    memory: int = MEMORY,
    tell: Callable[[str], object] = str,
) -> Stacks:
    """Return the stacks in a core file of `size` bytes, from the first reader that shows any.

    `tell` is called with the name of each reader that begins.
    """
    incomplete: list[str] = []
    for name, started in readers.items():
        if name == 'pystack':
            refused = _too_old(started)
            if refused:
                incomplete.append(refused)
                continue
        tell(name)
        limits = Limits(seconds, _OUTPUT, memory, 2 * memory + _MAPPED * size)
        try:
            with GuardedTool(command(name, started, core, executable), limits=limits) as tool:
                outcome = tool.run()
        except OSError as error:
            incomplete.append(f'{name} could not be started: {error}.')
            continue
        threads = of_pystack(outcome.output) if name == 'pystack' else of_gdb(outcome.output)
        if threads:
            if outcome.ended != 'itself' or outcome.code:
                incomplete.append(_why(name, outcome, seconds))
            if name == 'gdb':
                incomplete.append(
                    'gdb shows no Python frames; pystack does (pip install "pystack>=1.7.2").'
                )
            kept, left_out = bounded(threads)
            return Stacks(name, kept, (*incomplete, *left_out))
        incomplete.append(_why(name, outcome, seconds))
    if not readers:
        incomplete.append(
            'The stacks were not read, because neither pystack nor gdb is installed: '
            'pip install "pystack>=1.7.2" into the Python of Zope.'
        )
    return Stacks('', (), tuple(incomplete))


def _too_old(started: tuple[str, ...]) -> str:
    """Return a sentence if this pystack must not be used, else ''."""
    wanted = '.'.join(map(str, OLDEST_PYSTACK))
    try:
        with GuardedTool([*started, '--version'], limits=Limits(_VERSION_SECONDS)) as tool:
            output = tool.run().output
    except OSError as error:
        return f'pystack could not be started: {error}.'
    found = re.search(r'(\d{1,5})\.(\d{1,5})(?:\.(\d{1,5}))?', output)
    if not found:
        return f'pystack does not tell its version; {wanted} or newer is needed.'
    version = tuple(int(number or 0) for number in found.groups())
    if version >= OLDEST_PYSTACK:
        return ''
    return (
        f'pystack {found[0]} is too old to read core files reliably: '
        f'pip install "pystack>={wanted}".'
    )


def _why(name: str, outcome: Outcome, seconds: float) -> str:
    """Return in a sentence why a reader has not shown everything."""
    if outcome.ended == 'time':
        return f'{name} was ended after {seconds:.0f} s.'
    if outcome.ended != 'itself':
        return f'The process that controls {name} was ended.'
    last = 'nothing'
    for line in outcome.output.splitlines():
        last = line.strip() or last
    if 'MemoryError' in outcome.output or 'bad_alloc' in outcome.output:
        return f'{name} needs more memory than it may take here; its last line: {last[:300]}'
    return f'{name} ended with exit status {outcome.code}; its last line: {last[:300]}'


# -- their output ----------------------------------------------------------------------------------


def of_pystack(output: str) -> list[CoreThread]:
    """Return the threads in the output of `pystack core --native-all`."""
    threads = []
    for thread in stacktools.parse(output):
        frames = tuple(
            MergedFrame(
                function=_cut(frame['function'].removesuffix(' (inlined)')),
                native=frame['native'],
                library=_cut(frame['library']),
                file=_cut(frame['file']),
                line=frame['line'],
            )
            for frame in thread['frames']
        )
        threads.append(
            CoreThread(
                thread['native_id'],
                _cut(thread['name']),
                holds_gil=thread['holds_gil'],
                frames=frames,
            )
        )
    return threads


def of_gdb(output: str) -> list[CoreThread]:
    """Return the threads in the output of gdb's `thread apply all bt`."""
    threads: list[tuple[int, list[MergedFrame]]] = []
    for line in output.splitlines():
        head = _GDB_HEAD.match(line)
        frame = _GDB_FRAME.match(line)
        if head:
            threads.append((int(head['id']), []))
        elif frame and threads:
            threads[-1][1].append(_gdb_frame(frame))
    return [CoreThread(native_id, frames=_with_libraries(frames)) for native_id, frames in threads]


def _with_libraries(frames: list[MergedFrame]) -> tuple[MergedFrame, ...]:
    """gdb shows no address for a frame into which the one before was inlined: it is the same."""
    found: list[MergedFrame] = []
    for frame in frames:
        if found and not frame.address and not frame.function.startswith('<'):
            frame = replace(frame, library=found[-1].library, address=found[-1].address)
        found.append(frame)
    return tuple(found)


def _gdb_frame(found: re.Match[str]) -> MergedFrame:
    rest = found['rest']
    source = _GDB_SOURCE.search(rest)
    library = _GDB_LIBRARY.search(rest)
    end = source or library
    if end:
        rest = rest[: end.start()]
    function = rest if rest.startswith('<') else _without_arguments(rest)
    return MergedFrame(
        function=_cut(function.replace('??', '')),
        library=_cut(library['library']) if library else '',
        file=_cut(source['file']) if source else '',
        line=int(source['line'][:9]) if source else None,
        address=int(found['address'] or '0', 16) & ((1 << 64) - 1),
    )


def _without_arguments(text: str) -> str:
    """Return "ns::f<int (*)(char)>" of "ns::f<int (*)(char)> (x=3)"."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == '<') - (letter == '>')
        if depth <= 0 and text.startswith(' (', index):
            return text[:index]
    return text


def _cut(text: str) -> str:
    return text[:_LONGEST]


# -- what is kept of it ----------------------------------------------------------------------------


def bounded(threads: list[CoreThread]) -> tuple[tuple[CoreThread, ...], tuple[str, ...]]:
    """Return the threads with at most so many frames, and sentences about what was left out."""
    said = []
    kept = []
    left = MOST_FRAMES
    for thread in threads[:MOST_THREADS]:
        frames = thread.frames
        if len(frames) > INNERMOST + OUTERMOST:
            said.append(
                f'Thread {thread.native_id} has {len(frames)} frames: the innermost {INNERMOST} '
                f'and the outermost {OUTERMOST} are kept.'
            )
            frames = (*frames[:INNERMOST], *frames[-OUTERMOST:])
        frames = frames[:left]
        left -= len(frames)
        kept.append(replace(thread, frames=frames))
    if left <= 0 or len(threads) > MOST_THREADS:
        said.append(f'Of {len(threads)} threads at most {MOST_FRAMES} frames are kept.')
    return tuple(kept), tuple(said)


def without_handler(frames: tuple[MergedFrame, ...]) -> tuple[MergedFrame, ...]:
    """Return the frames of a thread from the place on where its signal arrived.

    Leaves out the handler that raised the signal again.  Where the reader has no name for the frame
    that the kernel made, it is the nameless one after the functions that raise a signal.
    """
    for index, frame in enumerate(frames[:_MOST_HANDLER_FRAMES]):
        if frame.function in _SIGNAL_FRAMES:
            return frames[index + 1 :]
    raising = 0
    while raising < len(frames) and _RAISING.fullmatch(frames[raising].function):
        raising += 1
    is_followed = raising < len(frames) and not frames[raising].function
    return frames[raising + 1 :] if raising and is_followed else frames
