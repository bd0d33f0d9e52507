"""The stacks document as plain text, for the download and for the command "stacks"."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..model.counts import counted
from ..model.eventkinds import event_kind
from ..model.plaintext import clean
from ..model.records import Frame
from ..model.records import clocktime
from ..model.records import hexadecimal
from ..model.threadstates import Connection
from ..model.threadstates import Event
from ..model.threadstates import SlowRequest
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..threads.activity import activity_words
from . import axes
from . import stackssummary
from .stacksdocument import age
from .stacksdocument import ordered
from .stacksdocument import stack_words

_SHARES = 6
_LEAST_SHARE = 0.01
#: Length of the longest cycle of frames that is searched for, as in `postmortem.repetition`.
_LONGEST_CYCLE = 8
#: A cycle is shown once if that saves at least this many lines.
_LEAST_SAVED = 3


def text(stacks: Stacks, subject: str = 'this process', own: int = 0) -> str:
    """Return the text, safe for a terminal.

    `own` is the ident of the thread that makes the text, see `stacksdocument.ordered`.
    """
    safe = map(clean, lines(stacks, subject, own))
    return ''.join(f'{line}\n' for line in safe)


def lines(
    stacks: Stacks,
    subject: str,
    own: int = 0,
    stall: float | None = None,
) -> Iterator[str]:
    """Yield the lines.  `stall` is the option of the process, None if it is not known."""
    yield f'Threads of {subject} at {clocktime(stacks.time)}'
    yield from stackssummary.lines(stacks, own, stall)
    if stacks.without_kernel:
        yield (
            'The process could not read what the kernel knows of its threads, as when no '
            'descriptor is left: what most of them wait for is not known.'
        )
    for hang in stacks.hangs:
        yield from ('', hang_line(hang))
    active, idle = ordered(stacks.threads, own)
    for thread in active:
        yield ''
        yield from thread_lines(thread)
    yield ''
    if active or idle:
        names = ', '.join(map(_name, idle))
        yield f'Idle threads, and threads of the stability monitor: {names or "none"}'
    else:
        yield 'No thread could be read.'
    lasting = []
    ended = []
    for profile in stacks.slow:
        if profile.lasts:
            lasting.append(profile)
        else:
            ended.append(profile)
    thread_names = {thread.ident: thread.name for thread in stacks.threads}
    yield from _profiles('Slow requests', lasting, thread_names)
    yield from _profiles('Finished slow requests', ended, thread_names)
    if stacks.connections:
        yield from ('', 'Connections in use that keep no worker busy:')
    for connection in stacks.connections:
        yield f'  {connection_words(connection)}'


def connection_words(connection: Connection) -> str:
    """For example "a request /a has been arriving for 3.0 s, 512 B so far"."""
    so_far = age(connection.seconds)
    much = axes.size(connection.bytes)
    if connection.does == 'sending':
        return f'an answer is being sent for {so_far}, {much} are left'
    path = connection.path or 'whose path is not known yet'
    return f'a request {path} has been arriving for {so_far}, {much} so far'


def hang_line(hang: Event) -> str:
    kind = event_kind(hang.kind).shout
    when = f'began {clocktime(hang.started)}'
    if not hang.lasts:
        when += f', ended {clocktime(hang.ended)}'
    return f'{kind} {when}: {hang.summary}'


def thread_lines(thread: ThreadState) -> Iterator[str]:
    """Yield the lines of one thread with its stack, innermost frame first."""
    yield f'{_name(thread)}: {activity_words(thread.activity or "unknown", thread.detail)}'
    request = thread.request
    if request:
        so_far = age(request.seconds or 0.0)
        yield f'  serves {request.method} {request.path} for {so_far} ({request.phase})'
    facts = []
    if thread.cpu is not None:
        facts.append(f'CPU {thread.cpu:.0%} of the last {thread.cpu_seconds:.1f} s')
    stack = stack_words(thread)
    if stack:
        facts.append(f'stack {stack} used')
    if facts:
        yield f'  {", ".join(facts)}'
    yield from frame_lines(thread.frames, '    ')


def frame_line(frame: Frame) -> str:
    """Return one frame as in a Python traceback.  Unknown parts are `?` or `???`."""
    file = frame.file or '???'
    line = frame.line or '?'
    function = frame.function or '???'
    return f'File "{file}", line {line}, in {function}'


def frame_lines(frames: Collection[Frame], indent: str = '') -> Iterator[str]:
    """Yield a stack, one line for each frame; frames that repeat are shown once, with a count."""
    for line in without_repetition(list(map(frame_line, frames))):
        yield f'{indent}{line}'
    if not frames:
        yield f'{indent}no Python frames'


def without_repetition(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a stack.  A cycle of up to 8 lines that repeats is shown once, and then
    how often it comes again, as in a traceback of Python.
    """
    begin = 0
    while begin < len(lines):
        size, again = _cycle_at(lines, begin)
        yield from lines[begin : begin + size]
        if again:
            what = 'The line above comes' if size == 1 else f'The {size} lines above come'
            yield f'[{what} {counted(again, "more time")}]'
        begin += size * (1 + again)


def _cycle_at(lines: Sequence[str], begin: int) -> tuple[int, int]:
    """Return (lines of the cycle that begins here, how often it comes again); (1, 0) if none."""
    for size in range(1, _LONGEST_CYCLE + 1):
        end = begin + size
        while end < len(lines) and lines[end] == lines[end - size]:
            end += 1
        again = (end - begin) // size - 1
        if again * size >= _LEAST_SAVED:
            return size, again
    return 1, 0


def _name(thread: ThreadState) -> str:
    name = thread.name or 'A thread'
    native_id = thread.native_id or 'not known'
    idents = f'native id {native_id}'
    if thread.ident:
        idents += f', 0x{thread.ident:x}'
    return f'{name} ({idents})'


def _profiles(
    title: str, profiles: Collection[SlowRequest], names: Mapping[int, str]
) -> Iterator[str]:
    if profiles:
        yield from ('', f'{title}:')
    for profile in profiles:
        took = age(profile.seconds)
        so_far = 'so far' if profile.lasts else 'in total'
        started = clocktime(profile.started)
        samples = counted(profile.samples, 'sample')
        thread = names.get(profile.ident) or hexadecimal(profile.ident)
        yield (
            f'  {profile.method} {profile.path}: {took} {so_far}, began {started}, '
            f'in thread {thread}; {samples}'
        )
        for share in profile.shares[:_SHARES]:
            if share.own >= _LEAST_SHARE:
                yield f'    {share.own:4.0%} in {share.function} ({share.file})'
