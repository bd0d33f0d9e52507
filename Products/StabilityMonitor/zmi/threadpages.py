"""What the Threads page shows: plain values for its templates, out of a stacks document.  No Zope
object in sight.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from ..inspection import nativestacks
from ..model.interfaces import ILivingRun
from ..model.records import clocktime
from ..reporting import bars
from ..reporting import threadtext
from ..reporting import tracetext
from ..reporting.flames import flames
from ..reporting.stacksdocument import age
from ..reporting.stacksdocument import is_lasting
from ..reporting.stacksdocument import ordered
from ..reporting.stacksdocument import stack_words
from ..reporting.stacksdocument import tidy
from ..reporting.stacksdocument import word
from ..store.blackboxreader import read
from ..threads import codeorigin
from . import csrftoken

NATIVE_ACTION = 'native-stacks'

#: pid of this process: the NativeStacks that were asked for last; a forked child has none.
_NATIVE: dict[int, nativestacks.NativeStacks] = {}
#: Seconds for which they are kept: they may be megabytes.
_KEEP_NATIVE = 600.0
#: activity: icon, and how it looks: 'busy' works, 'stuck' waits for somebody here, 'away' for
#: somebody elsewhere.
_LOOKS = {
    'running': ('fa-cog', 'busy'),
    'gil': ('fa-traffic-light', 'stuck'),
    'lock': ('fa-lock', 'stuck'),
    'terminal': ('fa-terminal', 'stuck'),
    'pipe': ('fa-grip-lines', 'away'),
    'socket': ('fa-plug', 'away'),
    'database': ('fa-database', 'away'),
    'file': ('fa-file-alt', 'away'),
    'subprocess': ('fa-sitemap', 'away'),
    'sleep': ('fa-bed', 'away'),
    'native': ('fa-microchip', 'away'),
    'event': ('fa-hourglass-half', 'calm'),
    'waiting': ('fa-hourglass-half', 'calm'),
    'listening': ('fa-headphones', 'calm'),
    'idle': ('fa-mug-hot', 'calm'),
    'page': ('fa-eye', 'calm'),
}
_UNKNOWN = ('fa-question-circle', 'calm')
_HANGS = {
    'hang': ('Nobody answers', 'fa-hand-paper'),
    'deadlock': ('Deadlock', 'fa-lock'),
    'spinning': ('A thread spins', 'fa-sync-alt'),
}
_IDENT = re.compile(r'\b(?:thread )?0x([0-9a-f]{1,16})\b')
#: The title says that it is one.
_DEADLOCK = re.compile(r'Deadlock \(([^)]*)\): (.*)\.')
_TIGHT, _BUSY, _SHARES, _LEAST_SHARE = 3 / 4, 0.5, 8, 0.01


def threads(life: ILivingRun) -> dict[str, Any]:
    """What the living process does right now; asked in a thread that serves, which is shown as
    such.
    """
    return page(told(life), threading.get_ident()) | {
        'part': 'live',
        'run': life.name,
        'pid': life.pid,
        'slow_request': f'{life.options.slow_request:g} s',
        'recording': life.is_watched,
        'command': f'stabilitymonitor --directory {life.path} stacks {life.name}',
    }


def told(life: ILivingRun) -> dict[str, Any]:
    """The stacks document of this process; an empty one where nothing is recorded."""
    return tidy(life.stacks_document())


def page(document: dict[str, Any], own: int = 0) -> dict[str, Any]:
    """The values for a tidy stacks document; `own` is the ident of the thread that makes the
    page.
    """
    loud, quiet = ordered(document['threads'], own)
    stuck = {
        ident
        for hang in document['hangs']
        if hang['kind'] == 'deadlock' and is_lasting(hang)
        for ident in hang['threads']
    }
    names = {thread['ident']: thread['name'] for thread in document['threads']}
    rows = {
        group: [_thread(t, own, names, stuck) for t in found]
        for group, found in (('loud', loud), ('quiet', quiet))
    }
    hangs, slow = document['hangs'], document['slow']
    return {
        'time': clocktime(document['time']),
        'count': len(document['threads']),
        'requests': [row for row in rows['loud'] if row['request']],
        'others': [row for row in rows['loud'] if not row['request']],
        'quiet': rows['quiet'],
        'hangs': [_hang(hang, document['time'], names) for hang in hangs if is_lasting(hang)],
        'past_hangs': [
            _hang(hang, document['time'], names) for hang in hangs if not is_lasting(hang)
        ],
        'slow': [_profile(p) for p in slow if is_lasting(p)],
        'past_slow': [_profile(p) for p in slow if not is_lasting(p)],
    }


# -- threads ---------------------------------------------------------------------------------------


def _thread(
    thread: dict[str, Any], own: int, names: Mapping[int, str], stuck: Collection[int]
) -> dict[str, Any]:
    is_own = 0 != own == thread['ident']
    icon, look = _LOOKS.get('page' if is_own else thread['activity'], _UNKNOWN)
    return {
        'key': f'thread-{thread["ident"]:x}'
        if thread['ident']
        else f'native-{thread["native_id"]}',
        'name': thread['name'] or 'a thread without a name',
        'native_id': thread['native_id'] or '?',
        'icon': icon,
        'look': 'stuck' if thread['ident'] in stuck else look,
        'word': 'makes this page' if is_own else word(thread),
        'detail': '' if is_own else _told(thread['detail'], names),
        'deadlock': thread['ident'] in stuck,
        'request': _request(thread['request']),
        'holders': [
            {'key': f'thread-{ident:x}', 'name': names[ident]}
            for ident in thread['holders']
            if ident in names
        ],
        'stack': _stack(thread),
        'processor': _processor(thread),
        'top': _top(thread['frames']),
        'frames': _groups(thread['frames']),
        'depth': len(thread['frames']),
    }


def _told(text: str, names: Mapping[int, str]) -> str:
    """Files shortened, and threads called by their names."""
    return _IDENT.sub(
        lambda match: names.get(int(match[1], 16)) or match[0], codeorigin.shortened(text)
    )


def _request(request: dict[str, Any] | None) -> dict[str, Any] | None:
    return request and {
        'method': request['method'],
        'path': request['path'],
        'phase': request['phase'],
        'age': age(request['seconds']),
    }


def _processor(thread: dict[str, Any]) -> dict[str, Any]:
    share = thread['cpu']
    if share is None:
        return {'text': 'not known', 'bar': ''}
    told = f'{share:.0%} of one processor over the last {thread["cpu_seconds"]:.1f} s'
    return {
        'text': f'{share:.0%}',
        'bar': bars.bar(share, bars.BUSY if share > _BUSY else bars.PLAIN, told),
    }


def _stack(thread: dict[str, Any]) -> dict[str, Any]:
    told = stack_words(thread)
    if not told:
        return {'text': 'not known', 'bar': '', 'tight': False}
    share = thread['stack_used'] / thread['stack_size']
    tight = share > _TIGHT
    return {
        'text': told,
        'tight': tight,
        'bar': bars.bar(share, bars.BAD if tight else bars.GOOD, f'{told} was used at the deepest'),
    }


def _top(frames: list[dict[str, Any]]) -> dict[str, Any] | None:
    frame = codeorigin.own(frames)
    return _frame(frame) if frame else None


def _groups(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            'folded': f'{len(run)} frames of {codeorigin.named(f["file"] for f in run)}'
            if folded
            else '',
            'key': f'f{number}',
            'frames': [_frame(frame) for frame in run],
        }
        for number, (folded, run) in enumerate(codeorigin.groups(frames))
    ]


def _frame(frame: dict[str, Any]) -> dict[str, Any]:
    place = codeorigin.place(frame['file'])
    return {
        'function': frame['function'] or '?',
        'short': place.short,
        'file': frame['file'],
        'line': frame['line'] or '?',
        'style': f'stability-{place.kind}',
    }


# -- hangs and slow requests -----------------------------------------------------------------------


def _hang(hang: dict[str, Any], now: float, names: Mapping[int, str]) -> dict[str, Any]:
    title, icon = _HANGS.get(hang['kind'], (hang['kind'], 'fa-exclamation-triangle'))
    end = now if is_lasting(hang) else hang['ended']
    return {
        'title': title,
        'icon': icon,
        'since': clocktime(hang['started']),
        'summary': _told(_DEADLOCK.sub(r'\2 (\1).', hang['summary']), names),
        'lasted': age(max(0.0, end - hang['started'])),
    }


def _profile(profile: dict[str, Any]) -> dict[str, Any]:
    return {
        'key': f'slow-{profile["number"]}',
        'method': profile['method'],
        'path': profile['path'],
        'took': age(profile['seconds']),
        'started': clocktime(profile['started']),
        'samples': profile['samples'],
        'thread': f'thread-{profile["ident"]:x}',
        'lasts': is_lasting(profile),
        'shares': [
            _share(share) for share in profile['shares'][:_SHARES] if share['own'] >= _LEAST_SHARE
        ],
        'picture': _picture(profile),
        'top': _top(profile['frames']),
    }


def _picture(profile: dict[str, Any]) -> str:
    """What its flames are asked for by: something else when they may have changed, so that a
    browser may keep them.
    """
    return (
        f'request={profile["number"]}&samples={profile["samples"]}'
        if profile['different_stacks'] > 1
        else ''
    )


def picture(life: ILivingRun, run: str, number: str) -> str:
    """The flames of a slow request as SVG; '' when this process knows nothing of it any more."""
    known = life.slow_requests() if run == life.name else ()
    return next(
        (flames(profile.stacks.stacks()) for profile in known if number == str(profile.number)), ''
    )


def _share(share: dict[str, Any]) -> dict[str, Any]:
    place = codeorigin.place(share['file'])
    told = (
        f'{share["own"]:.0%} of the time in the function itself, {share["within"]:.0%} with '
        'what it called'
    )
    return {
        'function': share['function'],
        'short': place.short,
        'file': share['file'],
        'own': f'{share["own"]:.0%}',
        'style': f'stability-{place.kind}',
        'bar': bars.bar(share['own'], bars.BAD, told, share['within']),
    }


# -- native stacks ---------------------------------------------------------------------------------


def native(life: ILivingRun, may_manage: bool) -> dict[str, Any]:
    """How far the native stacks are that were asked for last, and how else they can be had."""
    forget_native()
    taking, tools = _NATIVE.get(life.pid), list(nativestacks.find_tools())
    return {
        'part': 'native',
        'native': {
            'busy': bool(taking and taking.busy),
            'progress': taking.progress if taking else '',
            'error': taking.error if taking else '',
            'result': taking.result if taking and not taking.busy else '',
            'ago': age(max(0.0, time.time() - taking.taken)) if taking else '',
            'tools': ' and '.join(tools),
            'fields': csrftoken.fields(life, NATIVE_ACTION) if may_manage and tools else None,
            'may': may_manage,
            'needed': nativestacks.what_is_needed(life.pid),
            'lines': [
                {'title': title, 'command': command}
                for title, command in nativestacks.command_lines(life.pid, sys.executable)
            ],
        },
    }


def take_native(life: ILivingRun) -> None:
    """Begin to take them, unless that is under way already."""
    taking = nativestacks.NativeStacks(life.pid)
    before = _NATIVE.get(life.pid)
    if (before is None or not before.busy) and taking.start():
        _NATIVE[life.pid] = taking
        life.every_round(forget_native)


def forget_native() -> None:
    """Those that were taken long ago; nobody may come back to look at them."""
    for pid, taking in list(_NATIVE.items()):
        if taking.taken and time.time() - taking.taken > _KEEP_NATIVE:
            _NATIVE.pop(pid, None)


# -- downloads -------------------------------------------------------------------------------------


def stacks_text(life: ILivingRun) -> str:
    subject = f'process {life.pid} (run {life.name})'
    return threadtext.text(told(life), subject, threading.get_ident())


def trace_text(life: ILivingRun) -> bytes:
    recording = read(bytes(life.recorder.buffer))
    return tracetext.as_text(
        tracetext.trace_lines(
            recording.finished,
            recording.in_flight,
            time.time(),
            started=life.started,
            run=life.name,
            overflow=recording.words['overflow'],
        )
    )
