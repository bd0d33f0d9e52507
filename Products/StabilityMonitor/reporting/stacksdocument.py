"""The stacks document: what every thread does, which requests are slow, and what hangs.

    {time, threads [ThreadState], slow [Profile], hangs [Hang]}, all of them dicts

`recording.heartbeatwork.Rounds.tell_stacks` makes it.  It may come from another process, even from
one of another release: `tidy` makes it safe to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..model.records import duration
from ..model.severities import CRITICAL
from ..model.severities import severity_of
from ..threads.activity import ACTIVITIES
from . import axes

# The keys of each part; a default shows the type.  None stands for any type, or for "not known".
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
    'severity': CRITICAL.code,
    'place': None,
    'known': None,
    'cycle': [],
}
_LINK = {'ident': 0, 'name': '', 'method': '', 'path': '', 'activity': '', 'detail': ''}
_SHARE = {'file': '', 'function': '', 'within': 0.0, 'own': 0.0}
_KINDS = ('worker', 'main', 'other')


def tidy(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with every key; a value of another type becomes the default, an item that
    is no dict is left out.
    """
    return {
        'time': _shaped(document, {'time': 0.0})['time'],
        'threads': [_thread(item) for item in _items(document, 'threads')],
        'slow': [_profile(item) for item in _items(document, 'slow')],
        'hangs': [_hang(item) for item in _items(document, 'hangs')],
    }


def _thread(item: dict[str, Any]) -> dict[str, Any]:
    thread = _shaped(item, _THREAD)
    request = thread['request']
    return thread | {
        'frames': _frames(thread),
        'holders': [ident for ident in thread['holders'] if isinstance(ident, int)],
        'request': _shaped(request, _REQUEST) if isinstance(request, dict) else None,
        'cpu': thread['cpu'] if isinstance(thread['cpu'], int | float) else None,
    }


def _profile(item: dict[str, Any]) -> dict[str, Any]:
    profile = _shaped(item, _PROFILE)
    return profile | {
        'frames': _frames(profile),
        'shares': [_shaped(share, _SHARE) for share in _items(profile, 'shares')],
    }


def _hang(item: dict[str, Any]) -> dict[str, Any]:
    hang = _shaped(item, _HANG)
    place = hang['place']
    return hang | {
        'place': _shaped(place, _FRAME) if isinstance(place, dict) else None,
        'known': hang['known'] if isinstance(hang['known'], bool) else None,
        'cycle': [_shaped(link, _LINK) for link in _items(hang, 'cycle')],
    }


def _frames(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [_shaped(frame, _FRAME) for frame in _items(item, 'frames')]


def _items(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The dicts in a list of the document."""
    found = document.get(key)
    if not isinstance(found, list | tuple):
        return []
    return [item for item in found if isinstance(item, dict)]


def _shaped(item: dict[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `shape`, with the values of `item` where they fit."""
    found = {}
    for key, default in shape.items():
        is_good = key in item and _fits(item[key], default)
        found[key] = item[key] if is_good else default
    return found


def _fits(value: object, default: object) -> bool:
    """Whether a value has the type of its default, or may stand for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if default is None:
        return True
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))


# -- judging ---------------------------------------------------------------------------------------


def is_lasting(item: dict[str, Any]) -> bool:
    """Whether a hang or a slow request has not ended yet."""
    return item['ended'] is None


def is_well(document: dict[str, Any]) -> bool:
    """No hang, deadlock or slow request lasts, and no thread spins that should not."""
    for hang in document['hangs']:
        is_critical = severity_of(hang['severity']) == CRITICAL
        may_spin = hang['kind'] == 'spinning' and not is_critical
        if is_lasting(hang) and not may_spin:
            return False
    return not any(map(is_lasting, document['slow']))


def ordered(
    threads: list[dict[str, Any]], own: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(threads that do something, the oldest request first; idle workers and our own threads).

    `own` is the ident of the thread that asks: the request that it serves is the question itself.
    """
    loud = [thread for thread in threads if not _is_quiet(thread, own)]
    quiet = [thread for thread in threads if _is_quiet(thread, own)]
    loud.sort(key=_rank)
    quiet.sort(
        key=lambda thread: (thread['kind'] == 'monitor', thread['name'], thread['native_id'])
    )
    return loud, quiet


def _is_quiet(thread: dict[str, Any], own: int) -> bool:
    if thread['kind'] == 'monitor':
        return True
    if own and thread['ident'] == own:
        return True
    return bool(thread['activity'] == 'idle' and not thread['request'])


def _rank(thread: dict[str, Any]) -> tuple[bool, float, int, str, int]:
    """For sorting: those with a request first, the oldest request first, then by kind."""
    kind = _KINDS.index(thread['kind']) if thread['kind'] in _KINDS else len(_KINDS)
    seconds = thread['request']['seconds'] if thread['request'] else 0
    return not thread['request'], -seconds, kind, thread['name'], thread['native_id']


# -- words -----------------------------------------------------------------------------------------


def word(thread: dict[str, Any]) -> str:
    """What a thread is doing, in words."""
    return ACTIVITIES.get(thread['activity'], thread['activity']) or 'not known'


def stack_words(thread: dict[str, Any]) -> str:
    """`120 KiB of 8.0 MiB`; '' where it is not known."""
    size = thread['stack_size']
    used = thread['stack_used']
    if size <= 0 or used <= 0:
        return ''
    return f'{axes.size(used)} of {axes.size(size)}'


def room_words(thread: dict[str, Any]) -> str:
    """`stack: 120 KiB of 8.0 MiB used, 7.9 MiB never`; '' where it is not known."""
    known = {'stack_size': 0, 'stack_used': 0} | thread
    words = stack_words(known)
    if not words:
        return ''
    left = max(0, known['stack_size'] - known['stack_used'])
    return f'stack: {words} used, {axes.size(left)} never'


def age(seconds: float) -> str:
    """As `4.2 s` or `5 min 2 sec`."""
    return f'{seconds:.1f} s' if seconds < 60 else duration(seconds)
