"""A stacks document as plain text: for the download, and for the command, which works while no
worker is free.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

from ..model.eventkinds import event_kind
from ..model.plaintext import clean
from ..model.records import clocktime
from .stacksdocument import age
from .stacksdocument import is_lasting
from .stacksdocument import ordered
from .stacksdocument import stack_words
from .stacksdocument import word

_SHARES = 6
_LEAST_SHARE = 0.01


def text(document: dict[str, Any], subject: str = 'this process', own: int = 0) -> str:
    """The text of a tidy document, safe for a terminal.

    `own` is the ident of the thread that asks, see `stacksdocument.ordered`.
    """
    return ''.join(f'{clean(line)}\n' for line in lines(document, subject, own))


def lines(document: dict[str, Any], subject: str, own: int = 0) -> Iterator[str]:
    yield f'Threads of {subject} at {clocktime(document["time"])}'
    for hang in document['hangs']:
        yield from ('', hang_line(hang))
    loud, quiet = ordered(document['threads'], own)
    for thread in loud:
        yield from ('', *thread_lines(thread))
    yield ''
    if loud or quiet:
        names = ', '.join(map(_name, quiet)) or 'none'
        yield f'Idle, or of the stability monitor: {names}'
    else:
        yield 'No thread could be looked at.'
    lasting = [profile for profile in document['slow'] if is_lasting(profile)]
    ended = [profile for profile in document['slow'] if not is_lasting(profile)]
    yield from _profiles('Slow requests', lasting)
    yield from _profiles('Slow requests that have ended', ended)


def hang_line(hang: dict[str, Any]) -> str:
    kind = event_kind(hang['kind']).shout
    over = '' if is_lasting(hang) else f', ended {clocktime(hang["ended"])}'
    return f'{kind} since {clocktime(hang["started"])}{over}: {hang["summary"]}'


def thread_lines(thread: dict[str, Any]) -> Iterator[str]:
    """One thread with its stack, innermost frame first."""
    detail = f'; {thread["detail"]}' if thread['detail'] else ''
    yield f'{_name(thread)}: {word(thread)}{detail}'
    request = thread['request']
    if request:
        yield (
            f'  serves {request["method"]} {request["path"]} for {age(request["seconds"])} '
            f'({request["phase"]})'
        )
    facts = []
    if thread['cpu'] is not None:
        facts.append(f'processor {thread["cpu"]:.0%} of the last {thread["cpu_seconds"]:.1f} s')
    stack = stack_words(thread)
    if stack:
        facts.append(f'stack {stack} used')
    if facts:
        yield f'  {", ".join(facts)}'
    yield from frame_lines(thread['frames'], '    ')


def frame_line(frame: dict[str, Any]) -> str:
    """One frame as Python's traceback writes it.  What is not known is shown as `?` or `???`."""
    file = frame.get('file') or '???'
    line = frame.get('line') or '?'
    function = frame.get('function') or '???'
    return f'File "{file}", line {line}, in {function}'


def frame_lines(frames: Collection[dict[str, Any]], indent: str = '') -> Iterator[str]:
    """A stack, one line for each frame."""
    for frame in frames:
        yield f'{indent}{frame_line(frame)}'
    if not frames:
        yield f'{indent}no Python frame'


def _name(thread: dict[str, Any]) -> str:
    name = thread['name'] or 'A thread'
    native_id = thread['native_id'] or 'not known'
    ident = f', 0x{thread["ident"]:x}' if thread['ident'] else ''
    return f'{name} (native id {native_id}{ident})'


def _profiles(title: str, profiles: Collection[dict[str, Any]]) -> Iterator[str]:
    if profiles:
        yield from ('', f'{title}:')
    for profile in profiles:
        yield from _profile(profile)


def _profile(profile: dict[str, Any]) -> Iterator[str]:
    so_far = 'so far' if is_lasting(profile) else 'in all'
    yield (
        f'  {profile["method"]} {profile["path"]}: {age(profile["seconds"])} '
        f'{so_far}, since {clocktime(profile["started"])}, '
        f'in thread 0x{profile["ident"]:x}; looked at {profile["samples"]} times'
    )
    for share in profile['shares'][:_SHARES]:
        if share['own'] >= _LEAST_SHARE:
            yield f'    {share["own"]:4.0%} in {share["function"]} ({share["file"]})'
