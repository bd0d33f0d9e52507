"""What is said of a site that did not answer: for how long, which threads, and where they stood.

Traces in, words and evidence out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from ..model.eventkinds import EVENT_KINDS
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
    for kind in EVENT_KINDS:
        for begun in hangnotes.all_lasting(t.notes, kind):
            what = begun.title.rstrip('.')
            since = clocktime(begun.time)
            lasted = max(0.0, t.last_sign - begun.time)
            fact = f'{what}, since {since}: for {duration(lasted)} until the end.'
            yield Evidence('black box', fact)


def what_was_slow(t: Traces) -> Iterator[Evidence]:
    """The requests that were slow when the end came, with the last note of each."""
    for request in t.in_flight:
        last = None
        for note in t.notes:
            if note.kind == 'slow' and note.request == request.number:
                last = note
        if last is None:
            continue
        age = duration(last.seconds)
        fact = f'{last.title} was slow: when it was {age} old, it stood'
        if last.frames:
            place = _place(last.frames)
            fact += f' in {place}'
        if last.detail:
            fact += f'; {last.detail}'
        yield Evidence('black box', f'{fact}.')


def what_was_deep(t: Traces) -> Iterator[Evidence]:
    """The threads whose stacks had been nearly full."""
    if not t.recording:
        return
    words = t.recording.words
    for ident, slot in t.recording.threads.items():
        name = f'thread 0x{ident:x}'
        yield from _nearly_full(name, size=slot.stack_size, used=slot.stack_used)
    yield from _nearly_full(
        'the main thread',
        size=words['main_stack'],
        used=words['main_stack_used'],
    )


def _nearly_full(
    name: str,
    size: int,
    used: int,
) -> Iterator[Evidence]:
    """The evidence of one deep stack; none for a shallow one.  `size` and `used` are bytes."""
    if not size or used <= size * _DEEP:
        return
    used_kib = used >> 10
    size_kib = size >> 10
    fact = f'The stack of {name} had been nearly full: {used_kib} of {size_kib} KiB.'
    yield Evidence('black box', fact)


def how_long(t: Traces) -> str:
    """For how long the site had not answered when it ended."""
    since = t.word('hung_since')
    if not since and t.hang and t.last_sample:
        since = t.last_sample.time
    lasted = 0.0
    if since:
        lasted = t.last_sign - since
    if lasted < 1:
        return 'was not answering any more'
    return f'had not been answering for {duration(lasted)}'


def who_hung(t: Traces) -> str:
    """Which threads hung and where they stood: MainThread, if the loop of the server hung; the
    oldest request, if all threads that serve did.
    """
    first_threads = []
    for begun in hangnotes.all_lasting(t.notes):
        of_threads = hangnotes.threads(t.notes, begun)
        first_threads += of_threads[:1]
    who = []
    for note in first_threads:
        is_the_loop = note.ident == t.main_ident and not note.request
        if is_the_loop:
            who.append(note.title + _stood(note.frames))
    only_the_loop = bool(who) and len(who) == len(first_threads)
    workers_hung = t.hang or not only_the_loop
    if workers_hung and t.in_flight:
        who.append(_oldest_request(t))
    if not who:
        return ''
    listed = '; '.join(who)
    return f': {listed}'


def _oldest_request(t: Traces) -> str:
    """The oldest request in flight, and where its thread stood."""
    oldest = min(t.in_flight, key=lambda request: request.started)
    request = f'{oldest.method} {oldest.path}'
    for ident, frames in _frames_of_the_hung(t):
        if ident == oldest.ident:
            return request + _stood(frames)
    return request


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
    if not frames:
        return ''
    return f' stood in {_place(frames)}'


def _place(frames: Sequence[Frame]) -> str:
    innermost = frames[0]
    return f'{innermost.function} ({innermost.file}:{innermost.line})'


def stood_still(t: Traces, all_overdue: bool) -> Iterator[Evidence]:
    """The evidence for a hang."""
    if t.hang:
        yield Evidence(
            'watchdog',
            f'The heartbeat had stood still since before {clocktime(t.hang.time)}, '
            'as when C code holds the interpreter lock (GIL).',
        )
    since = t.word('hung_since')
    if all_overdue:
        when = ''
        if since:
            when = f' since {clocktime(since)}'
        yield Evidence(
            'black box',
            f'All threads that serve were busy with requests older than the option "stall"{when}.',
        )
    elif since:
        when = clocktime(since)
        fact = f'A hang had begun at {when}; that it ended was not noted.'
        yield Evidence('black box', fact)
    for ident, mark in t.stuck.items():
        for thread in mark.last_threads:
            if thread.frames:
                place = _place(thread.frames)
                fact = f'Thread 0x{ident:x} stood in {place}.'
                yield Evidence('watchdog', fact)
