"""The words about a site that stood still: how long, who, and where.  Traces in, words and evidence
out.
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

#: A stack of which so much (share of its size) has been used is worth a word.
_DEEP = 0.75


def what_stood_still(t: Traces) -> Iterator[Evidence]:
    """A hang, deadlock or spinning thread that lasted to the end, whatever that was."""
    notes = t.recording.notes if t.recording else ()
    for kind in ('hang', 'deadlock', 'spinning'):
        for begun in hangnotes.all_lasting(notes, kind):
            yield Evidence(
                'black box',
                f'{begun.title.rstrip(".")}, since {clocktime(begun.time)}: for '
                f'{duration(max(0.0, t.last_sign - begun.time))} until the end.',
            )


def what_was_slow(t: Traces) -> Iterator[Evidence]:
    """The requests that were slow when the end came: what was seen of each last."""
    notes = t.recording.notes if t.recording else ()
    for request in t.recording.in_flight if t.recording else ():
        note = next(
            (n for n in reversed(notes) if n.kind == 'slow' and n.request == request.number), None
        )
        if note:
            where = next((f' in {f.function} ({f.file}:{f.line})' for f in note.frames), '')
            more = f'; {note.detail}' if note.detail else ''
            yield Evidence(
                'black box',
                f'{note.title} was slow: when it was {duration(note.seconds)} old, '
                f'it stood{where}{more}.',
            )


def what_was_deep(t: Traces) -> Iterator[Evidence]:
    """Threads whose stacks had been nearly full."""
    if not t.recording:
        return
    stacks = [
        (f'thread 0x{ident:x}', s['stack_size'], s['stack_used'])
        for ident, s in t.recording.threads.items()
    ]
    stacks.append(
        ('the main thread', t.recording.words['main_stack'], t.recording.words['main_stack_used'])
    )
    for name, size, used in stacks:
        if size and used > size * _DEEP:
            yield Evidence(
                'black box',
                f'The stack of {name} had been nearly full: {used >> 10} of {size >> 10} KiB.',
            )


def how_long(t: Traces) -> str:
    sample = t.recording.last_sample if t.recording else None
    since = t.word('hung_since') or (sample.time if t.hang and sample else 0.0)
    lasted = t.last_sign - since if since else 0.0
    return (
        f'had not been answering for {duration(lasted)}'
        if lasted >= 1
        else 'was not answering any more'
    )


def who_hung(t: Traces) -> str:
    """MainThread, if the loop of the server stood still; the oldest request, if all did; and where
    they stood.
    """
    notes = t.recording.notes if t.recording else ()
    first = [
        note
        for begun in hangnotes.all_lasting(notes)
        for note in hangnotes.threads(notes, begun)[:1]
    ]
    main = t.main_ident
    loop = [
        f'{note.title}{_stood(note.frames)}'
        for note in first
        if note.ident == main and not note.request
    ]
    who = loop + (_oldest(t) if t.hang or not loop or len(loop) < len(first) else [])
    return f': {"; ".join(who)}' if who else ''


def _oldest(t: Traces) -> list[str]:
    """The oldest request; at most one."""
    found = sorted(
        t.recording.in_flight if t.recording else (), key=lambda request: request.started
    )[:1]
    return [
        f'{request.method} {request.path}'
        + next((_stood(frames) for ident, frames in _places(t) if ident == request.ident), '')
        for request in found
    ]


def _stood(frames: Sequence[Frame]) -> str:
    return next((f' stood in {frame.function} ({frame.file}:{frame.line})' for frame in frames), '')


def _places(t: Traces) -> Iterator[tuple[int, tuple[Frame, ...]]]:
    """(ident, frames) of the threads that hung: as they wrote them at the end, or as it began."""
    for ident, mark in t.stuck.items():
        yield from (
            (ident, thread.frames)
            for dump in mark.dumps[-1:]
            for thread in dump.threads
            if thread.frames
        )
    notes = t.recording.notes if t.recording else ()
    yield from ((note.ident, note.frames) for note in hangnotes.stuck(notes))


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
        yield Evidence(
            'black box',
            'All threads that serve were busy with requests older than the option '
            f'"stall"{f" since {clocktime(since)}" if since else ""}.',
        )
    elif since:
        yield Evidence(
            'black box', f'A hang had begun at {clocktime(since)}; that it ended was not noted.'
        )
    for ident, mark in t.stuck.items():
        yield from (
            Evidence(
                'dead-man switch',
                f'Thread 0x{ident:x} stood in {thread.frames[0].function} '
                f'({thread.frames[0].file}:{thread.frames[0].line}).',
            )
            for dump in mark.dumps[-1:]
            for thread in dump.threads
            if thread.frames
        )
