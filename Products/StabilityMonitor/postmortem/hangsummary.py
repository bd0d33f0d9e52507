"""What is said of a site that did not answer: for how long, which threads, and where they stood.

Traces in, words and evidence out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from ..model.records import Evidence
from ..model.records import Frame
from ..model.records import clocktime
from ..model.records import duration
from . import hangnotes
from .evidence import Traces

#: A stack is mentioned when more than this share of its size has been used.
_DEEP = 0.75


def what_stood_still(t: Traces) -> Iterator[Evidence]:
    """The hangs, deadlocks and spinning threads that lasted to the end, whatever that was."""
    for kind in ('hang', 'deadlock', 'spinning'):
        for begun in hangnotes.all_lasting(t.notes, kind):
            lasted = duration(max(0.0, t.last_sign - begun.time))
            yield Evidence(
                'black box',
                f'{begun.title.rstrip(".")}, since {clocktime(begun.time)}: for '
                f'{lasted} until the end.',
            )


def what_was_slow(t: Traces) -> Iterator[Evidence]:
    """The requests that were slow when the end came, with the last note of each."""
    for request in t.in_flight:
        notes = [n for n in t.notes if n.kind == 'slow' and n.request == request.number]
        if not notes:
            continue
        note = notes[-1]
        where = f' in {_place(note.frames)}' if note.frames else ''
        more = f'; {note.detail}' if note.detail else ''
        yield Evidence(
            'black box',
            f'{note.title} was slow: when it was {duration(note.seconds)} old, '
            f'it stood{where}{more}.',
        )


def what_was_deep(t: Traces) -> Iterator[Evidence]:
    """The threads whose stacks had been nearly full."""
    if not t.recording:
        return
    stacks = [
        (f'thread 0x{ident:x}', slot.stack_size, slot.stack_used)
        for ident, slot in t.recording.threads.items()
    ]
    words = t.recording.words
    stacks.append(('the main thread', words['main_stack'], words['main_stack_used']))
    for name, size, used in stacks:
        if size and used > size * _DEEP:
            yield Evidence(
                'black box',
                f'The stack of {name} had been nearly full: {used >> 10} of {size >> 10} KiB.',
            )


def how_long(t: Traces) -> str:
    """For how long the site had not answered when it ended."""
    since = t.word('hung_since')
    if not since and t.hang and t.last_sample:
        since = t.last_sample.time
    lasted = t.last_sign - since if since else 0.0
    if lasted < 1:
        return 'was not answering any more'
    return f'had not been answering for {duration(lasted)}'


def who_hung(t: Traces) -> str:
    """Which threads hung and where they stood: MainThread, if the loop of the server hung; the
    oldest request, if all threads that serve did.
    """
    first = []
    for begun in hangnotes.all_lasting(t.notes):
        first += hangnotes.threads(t.notes, begun)[:1]
    who = [
        f'{note.title}{_stood(note.frames)}'
        for note in first
        if note.ident == t.main_ident and not note.request
    ]
    only_the_loop = who and len(who) == len(first)
    if t.hang or not only_the_loop:
        who += _oldest(t)
    return f': {"; ".join(who)}' if who else ''


def _oldest(t: Traces) -> list[str]:
    """The oldest request in flight and where its thread stood; at most one."""
    if not t.in_flight:
        return []
    request = min(t.in_flight, key=lambda request: request.started)
    for ident, frames in _frames_of_the_hung(t):
        if ident == request.ident:
            return [f'{request.method} {request.path}{_stood(frames)}']
    return [f'{request.method} {request.path}']


def _frames_of_the_hung(t: Traces) -> Iterator[tuple[int, tuple[Frame, ...]]]:
    """(ident, frames) of the threads that hung: as they wrote them at the end, or as the heartbeat
    saw them when it began.
    """
    for ident, mark in t.stuck.items():
        for thread in mark.last_threads:
            if thread.frames:
                yield ident, thread.frames
    for note in hangnotes.stuck(t.notes):
        yield note.ident, note.frames


def _stood(frames: Sequence[Frame]) -> str:
    return f' stood in {_place(frames)}' if frames else ''


def _place(frames: Sequence[Frame]) -> str:
    innermost = frames[0]
    return f'{innermost.function} ({innermost.file}:{innermost.line})'


def stood_still(t: Traces, all_overdue: bool) -> Iterator[Evidence]:
    """The evidence for a hang."""
    if t.hang:
        yield Evidence(
            'dead-man switch',
            f'The heartbeat had stood still since before {clocktime(t.hang.time)}, '
            'as when C code holds the interpreter lock (GIL).',
        )
    since = t.word('hung_since')
    if all_overdue:
        when = f' since {clocktime(since)}' if since else ''
        yield Evidence(
            'black box',
            f'All threads that serve were busy with requests older than the option "stall"{when}.',
        )
    elif since:
        yield Evidence(
            'black box', f'A hang had begun at {clocktime(since)}; that it ended was not noted.'
        )
    for ident, mark in t.stuck.items():
        for thread in mark.last_threads:
            if thread.frames:
                yield Evidence(
                    'dead-man switch', f'Thread 0x{ident:x} stood in {_place(thread.frames)}.'
                )
