"""Describes a hang: how long it lasted, which threads hung, and in which function each one was.

Traces in, words and evidence out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from ..model.eventkinds import EVENT_KINDS
from ..model.eventkinds import REASONS
from ..model.records import Evidence
from ..model.records import Frame
from ..model.records import Note
from ..model.records import clocktime
from ..model.records import duration
from ..threads.activity import waits_for_work
from . import crashplace
from . import hangnotes
from .evidence import Traces

#: The reasons of hangs that no thread has caused.
_NO_THREADS = ('connections', 'descriptors')
#: A stack is evidence if its high-water mark is above this share of its size.
_DEEP = 0.75
#: Seconds without a sample after which the heartbeat counts as silent, as `status` counts it.
_LEAST_SILENCE = 10


def lasting_events(t: Traces) -> Iterator[Evidence]:
    """Yield the hangs, deadlocks and spinning threads that lasted to the end of the run."""
    for kind in EVENT_KINDS:
        for begun in hangnotes.all_lasting(t.notes, kind):
            what = begun.title.rstrip('.')
            began = clocktime(begun.time)
            lasted = duration(max(0.0, t.last_sign - t.by_last_clock(begun.time)))
            if t.end_was_seen:
                how_long = f'until the run ended, for {lasted}'
            else:
                how_long = f'until {clocktime(t.last_sign)} or later, for at least {lasted}'
            yield Evidence('black box', f'{what}; it lasted from {began} {how_long}.')


def slow_requests(t: Traces) -> Iterator[Evidence]:
    """Yield the requests that were slow at the end, with the last note of each.

    Requests for the same page that were in the same place are one piece of evidence, with the
    detail of the oldest.
    """
    groups: dict[tuple[str, str], list[Note]] = {}
    for request in t.in_flight:
        last = None
        for note in t.notes:
            if note.kind == 'slow' and note.request == request.number:
                last = note
        if last is None:
            continue
        place = place_words(last.frames) if last.frames else ''
        groups.setdefault((last.title, place), []).append(last)
    for (title, place), notes in groups.items():
        count = len(notes)
        ages = [note.seconds for note in notes]
        oldest = duration(max(ages))
        detail = max(notes, key=lambda note: note.seconds).detail
        if count == 1:
            fact = f'{title} was slow: when last noted, it had taken {oldest}'
            was = 'was'
        else:
            youngest = duration(min(ages))
            taken = oldest if youngest == oldest else f'{youngest} to {oldest}'
            fact = f'{count} requests {title} were slow: when last noted, they had taken {taken}'
            was = 'were'
        if place:
            fact += f' and {was} in {place}'
        if detail:
            fact += f'; {detail}'
        yield Evidence('black box', f'{fact}.')


def deep_stacks(t: Traces) -> Iterator[Evidence]:
    """Yield the threads whose stacks were nearly full at some time."""
    if not t.recording:
        return
    words = t.recording.words
    for ident, slot in t.recording.threads.items():
        name = f'thread {slot.name}' if slot.name else f'thread 0x{ident:x}'
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
    """Yield the evidence of one deep stack; nothing for a shallow one.  Sizes are in bytes."""
    if not size or used <= size * _DEEP:
        return
    used_kib = used >> 10
    size_kib = size >> 10
    fact = f'The stack of {name} had been nearly full: {used_kib} of {size_kib} KiB were used.'
    yield Evidence('black box', fact)


def held_gil(t: Traces) -> bool:
    """Whether C code held the GIL at the end, although the heartbeat's own timer had not fired yet.

    That timer fires some seconds after the option "stall".  The workers write their stacks earlier,
    when the heartbeat has waited for the GIL; it has taken no sample since.
    """
    if t.hang or not t.stuck or not t.last_sample:
        return False
    written = max(mark.time for mark in t.stuck.values())
    return written - t.last_sample.time >= _LEAST_SILENCE


def how_long(t: Traces) -> str:
    """Return words for how long the site had not been answering when it ended."""
    since = t.word('hung_since')
    if not since and (t.hang or held_gil(t)) and t.last_sample:
        since = t.last_sample.time
    lasted = 0.0
    if since:
        lasted = t.last_sign - t.by_last_clock(since)
    if lasted < 1:
        return 'was no longer answering'
    at_least = '' if t.end_was_seen else 'at least '
    return f'had not been answering for {at_least}{duration(lasted)}'


def where_it_hung(t: Traces) -> str:
    """Return words for which threads hung, and in which function each one was.

    These are MainThread if the loop of the server hung, and the thread of the oldest request if all
    workers hung.
    """
    first_threads = []
    for begun in hangnotes.all_lasting(t.notes):
        if begun.detail in _NO_THREADS:
            return f': {REASONS[begun.detail]}'
        of_threads = hangnotes.threads(t.notes, begun)
        first_threads += of_threads[:1]
    hung = []
    for note in first_threads:
        is_the_loop = note.ident == t.main_ident and not note.request
        if is_the_loop:
            hung.append(note.title + _was_in(note.frames))
    only_the_loop = bool(hung) and len(hung) == len(first_threads)
    workers_hung = t.hang or not only_the_loop
    if workers_hung and t.in_flight:
        hung.append(_oldest_request(t))
    if not hung:
        return ''
    listed = '; '.join(hung)
    return f': {listed}'


def _oldest_request(t: Traces) -> str:
    """Return words for the oldest request in flight, and for the function that it was in."""
    oldest = min(t.in_flight, key=lambda request: request.started)
    request = f'{oldest.method} {oldest.path}'
    for ident, frames in _frames_of_the_hung(t):
        if ident == oldest.ident:
            return request + _was_in(frames)
    return request


def _frames_of_the_hung(t: Traces) -> Iterator[tuple[int, tuple[Frame, ...]]]:
    """Yield (ident, frames) of the threads that hung.

    First come the stacks that the threads wrote when the watchdog fired, then those that the
    heartbeat saw when the hang began.
    """
    for ident, mark in t.stuck.items():
        for thread in mark.last_threads:
            if thread.frames:
                yield ident, thread.frames
    for note in hangnotes.stuck(t.notes):
        yield note.ident, note.frames


def _was_in(frames: Sequence[Frame]) -> str:
    if not frames:
        return ''
    return f' was in {place_words(frames)}'


def place_words(frames: Sequence[Frame]) -> str:
    """Return the innermost function that is not of the import machinery, and its place:
    "read (/site/a.py:7)".
    """
    telling = crashplace.without_machinery(frames) or frames
    innermost = telling[0]
    return f'{innermost.function} ({innermost.file}:{innermost.line})'


def evidence_of_hang(t: Traces) -> Iterator[Evidence]:
    """Yield the evidence for the verdict "hung"."""
    if t.hang:
        yield Evidence(
            'watchdog',
            f'The heartbeat had stopped when the watchdog fired at {clocktime(t.hang.time)}, '
            'as it does when C code holds the interpreter lock (GIL).',
        )
    elif held_gil(t) and t.last_sample:
        yield Evidence(
            'watchdog',
            'The heartbeat waited for the interpreter lock (GIL) when the watchdog fired in the '
            f'workers; its last sample was at {clocktime(t.last_sample.time)}.',
        )
    since = t.word('hung_since')
    if since and not hangnotes.lasting(t.notes):  # else `lasting_events` says more
        when = clocktime(since)
        fact = f'A hang began at {when}; no end of it was recorded.'
        yield Evidence('black box', fact)
    places: dict[str, list[str]] = {}
    serving = {request.ident for request in t.in_flight}
    for ident, mark in t.stuck.items():
        if serving and ident not in serving:  # it was idle
            continue
        for thread in mark.last_threads:
            # A thread without work is in no hang.
            if thread.frames and not waits_for_work(thread.frames):
                names = places.setdefault(place_words(thread.frames), [])
                names.append(thread_name(t, ident) or f'0x{ident:x}')
    for place, names in places.items():
        fact = f'Thread {names[0]} was in {place}.'
        if len(names) > 1:
            listed = ', '.join(names)
            fact = f'{len(names)} threads were in {place}: {listed}.'
        yield Evidence('watchdog', fact)


def thread_name(t: Traces, ident: int) -> str:
    """Return the name of a thread in Python, as the run knew it; '' if it did not."""
    if ident == t.main_ident:
        return 'MainThread'
    slot = t.recording.threads.get(ident) if t.recording else None
    return slot.name if slot else ''
