"""The stacks document: what every thread does, which requests are slow, and what hangs.

It is what `recording.heartbeatwork.Rounds.tell_stacks` answers, {time, threads [ThreadState], slow
[Profile], hangs [Hang]} as dicts.  It may come from another process, even of another release:
`tidy` makes it safe to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..model.records import duration
from ..threads.activity import ACTIVITIES
from . import axes

_FRAME: dict[str, Any] = {'file': '', 'line': None, 'function': ''}
_REQUEST = {'number': 0, 'method': '', 'path': '', 'started': 0.0, 'seconds': 0.0, 'phase': ''}
_THREAD = {
    'ident': 0,
    'native_id': 0,
    'name': '',
    'kind': 'other',
    'activity': '',
    'detail': '',
    'frames': [],
    'cpu': None,
    'cpu_seconds': 0.0,
    'request': None,
    'stack_size': 0,
    'stack_used': 0,
    'holders': [],
}
_PROFILE = {
    'number': 0,
    'ident': 0,
    'method': '',
    'path': '',
    'started': 0.0,
    'seconds': 0.0,
    'ended': None,
    'samples': 0,
    'different_stacks': 0,
    'shares': [],
    'frames': [],
}
_HANG = {
    'kind': '',
    'started': 0.0,
    'summary': '',
    'ended': None,
    'threads': [],
    'severity': 'critical',
}
_SHARE = {'file': '', 'function': '', 'within': 0.0, 'own': 0.0}
_KINDS = ('worker', 'main', 'other')


def tidy(document: dict[str, Any]) -> dict[str, Any]:
    """The same with every key there and of its type; what is not so is left out."""
    return {
        'time': _shaped(document, {'time': 0.0})['time'],
        'threads': [_thread(item) for item in _items(document, 'threads')],
        'slow': [_profile(item) for item in _items(document, 'slow')],
        'hangs': [_shaped(item, _HANG) for item in _items(document, 'hangs')],
    }


def _thread(item: dict[str, Any]) -> dict[str, Any]:
    thread = _shaped(item, _THREAD)
    request = thread['request']
    return thread | {
        'frames': _frames(thread),
        'holders': [h for h in thread['holders'] if isinstance(h, int)],
        'request': _shaped(request, _REQUEST) if isinstance(request, dict) else None,
        'cpu': thread['cpu'] if isinstance(thread['cpu'], int | float) else None,
    }


def _profile(item: dict[str, Any]) -> dict[str, Any]:
    profile = _shaped(item, _PROFILE)
    return profile | {
        'frames': _frames(profile),
        'shares': [_shaped(s, _SHARE) for s in _items(profile, 'shares')],
    }


def _frames(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [_shaped(frame, _FRAME) for frame in _items(item, 'frames')]


def _items(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key)
    return (
        [item for item in found if isinstance(item, dict)]
        if isinstance(found, list | tuple)
        else []
    )


def _shaped(item: dict[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: item[key] if key in item and _fits(item[key], default) else default
        for key, default in shape.items()
    }


def _fits(value: object, default: object) -> bool:
    """Numbers stand for each other, lists for tuples, and None for whatever may be None."""
    kinds = {float: int | float, list: list | tuple}
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return default is None or isinstance(value, kinds.get(type(default), type(default)))


# -- judging ---------------------------------------------------------------------------------------


def is_lasting(item: dict[str, Any]) -> bool:
    """Of a hang or a slow request: has it not ended yet?"""
    return item['ended'] is None


def is_well(document: dict[str, Any]) -> bool:
    """No hang, deadlock or slow request at present, and no thread that spins and should not."""
    grave = [
        hang
        for hang in document['hangs']
        if hang['kind'] != 'spinning' or hang['severity'] == 'critical'
    ]
    return not any(map(is_lasting, [*grave, *document['slow']]))


def ordered(
    threads: list[dict[str, Any]], own: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(those that do something, the oldest request first; idle workers and what is ours).

    `own` is the ident of the thread that asks: it serves nothing but the question.
    """
    loud = [thread for thread in threads if not _is_quiet(thread, own)]
    quiet = [thread for thread in threads if _is_quiet(thread, own)]
    return sorted(loud, key=_rank), sorted(
        quiet, key=lambda t: (t['kind'] == 'monitor', t['name'], t['native_id'])
    )


def _is_quiet(thread: dict[str, Any], own: int) -> bool:
    return (
        thread['kind'] == 'monitor'
        or 0 != own == thread['ident']
        or (thread['activity'] == 'idle' and not thread['request'])
    )


def _rank(thread: dict[str, Any]) -> tuple[bool, float, int, str, int]:
    kind = _KINDS.index(thread['kind']) if thread['kind'] in _KINDS else len(_KINDS)
    age = thread['request']['seconds'] if thread['request'] else 0
    return not thread['request'], -age, kind, thread['name'], thread['native_id']


# -- words -----------------------------------------------------------------------------------------


def word(thread: dict[str, Any]) -> str:
    """What it is doing, for a person."""
    return ACTIVITIES.get(thread['activity'], thread['activity']) or 'not known'


def stack_words(thread: dict[str, Any]) -> str:
    """`120 KiB of 8.0 MiB`; '' where it is not known."""
    size, used = thread['stack_size'], thread['stack_used']
    return f'{axes.size(used)} of {axes.size(size)}' if size > 0 and used > 0 else ''


def room_words(thread: dict[str, Any]) -> str:
    """`stack: 120 KiB of 8.0 MiB used, 7.9 MiB never`; '' where it is not known."""
    known = {'stack_size': 0, 'stack_used': 0} | thread
    left = max(0, known['stack_size'] - known['stack_used'])
    return (
        f'stack: {stack_words(known)} used, {axes.size(left)} never' if stack_words(known) else ''
    )


def age(seconds: float) -> str:
    """As `4.2 s` or `5 min 2 sec`."""
    return f'{seconds:.1f} s' if seconds < 60 else duration(seconds)
