"""A stacks document as plain text: for the download, and for the command line while no worker is
free.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from ..model.plaintext import clean
from ..model.records import clocktime
from .stacksdocument import age
from .stacksdocument import is_lasting
from .stacksdocument import ordered
from .stacksdocument import stack_words
from .stacksdocument import word

_HANGS = {'hang': 'HANG', 'deadlock': 'DEADLOCK', 'spinning': 'SPINNING THREAD'}
_SHARES, _LEAST_SHARE = 6, 0.01


def text(document: dict[str, Any], subject: str = 'this process', own: int = 0) -> str:
    """A tidy document, safe for a terminal.  `own` is the ident of the thread that asks, see
    `ordered`.
    """
    return ''.join(f'{clean(line)}\n' for line in lines(document, subject, own))


def lines(document: dict[str, Any], subject: str, own: int = 0) -> Iterator[str]:
    yield f'Threads of {subject} at {clocktime(document["time"])}'
    for hang in document['hangs']:
        yield from ('', hang_line(hang))
    loud, quiet = ordered(document['threads'], own)
    for thread in loud:
        yield from ('', *thread_lines(thread))
    yield from ('', _quiet_line(quiet) if quiet or loud else 'No thread could be looked at.')
    yield from _profiles('Slow requests', [p for p in document['slow'] if is_lasting(p)])
    yield from _profiles(
        'Slow requests that have ended', [p for p in document['slow'] if not is_lasting(p)]
    )


def hang_line(hang: dict[str, Any]) -> str:
    over = '' if is_lasting(hang) else f', ended {clocktime(hang["ended"])}'
    return (
        f'{_HANGS.get(hang["kind"], hang["kind"])} since {clocktime(hang["started"])}{over}: '
        f'{hang["summary"]}'
    )


def thread_lines(thread: dict[str, Any]) -> Iterator[str]:
    """One thread with its stack, innermost frame first."""
    yield f'{_name(thread)}: {word(thread)}' + (f'; {thread["detail"]}' if thread['detail'] else '')
    request = thread['request']
    if request:
        yield (
            f'  serves {request["method"]} {request["path"]} for {age(request["seconds"])} '
            f'({request["phase"]})'
        )
    facts = ', '.join(_facts(thread))
    if facts:
        yield f'  {facts}'
    yield from frame_lines(thread['frames'], '    ')


def _facts(thread: dict[str, Any]) -> Iterator[str]:
    if thread['cpu'] is not None:
        yield f'processor {thread["cpu"]:.0%} of the last {thread["cpu_seconds"]:.1f} s'
    stack = stack_words(thread)
    if stack:
        yield f'stack {stack} used'


def frame_line(frame: dict[str, Any]) -> str:
    """One frame as Python's traceback writes it.  What is not known is shown as `?` or `???`."""
    return (
        f'File "{frame.get("file") or "???"}", line {frame.get("line") or "?"}, '
        f'in {frame.get("function") or "???"}'
    )


def frame_lines(frames: Collection[dict[str, Any]], indent: str = '') -> Iterator[str]:
    """A stack, one line for each frame."""
    for frame in frames:
        yield f'{indent}{frame_line(frame)}'
    if not frames:
        yield f'{indent}no Python frame'


def _name(thread: dict[str, Any]) -> str:
    ident = f', 0x{thread["ident"]:x}' if thread['ident'] else ''
    return f'{thread["name"] or "A thread"} (native id {thread["native_id"] or "not known"}{ident})'


def _quiet_line(threads: Iterable[dict[str, Any]]) -> str:
    return 'Idle, or of the stability monitor: ' + (', '.join(map(_name, threads)) or 'none')


def _profiles(title: str, profiles: Collection[dict[str, Any]]) -> Iterator[str]:
    if profiles:
        yield from ('', f'{title}:')
    for profile in profiles:
        yield from _profile(profile)


def _profile(profile: dict[str, Any]) -> Iterator[str]:
    yield (
        f'  {profile["method"]} {profile["path"]}: {age(profile["seconds"])} '
        f'{"so far" if is_lasting(profile) else "in all"}, since {clocktime(profile["started"])}, '
        f'in thread 0x{profile["ident"]:x}; looked at {profile["samples"]} times'
    )
    for share in profile['shares'][:_SHARES]:
        if share['own'] >= _LEAST_SHARE:
            yield f'    {share["own"]:4.0%} in {share["function"]} ({share["file"]})'
