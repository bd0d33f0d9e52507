"""The values that the Threads page shows, made from a stacks document.

This module does not import Zope.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from ..inspection import nativestacks
from ..model.counts import counted
from ..model.eventkinds import event_kind
from ..model.interfaces import ILivingRun
from ..model.records import Frame
from ..model.records import Request
from ..model.records import clocktime
from ..model.snapshotrecord import SnapshotRecord
from ..model.threadstates import Event
from ..model.threadstates import Share
from ..model.threadstates import SlowRequest
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..reporting import bars
from ..reporting import threadtext
from ..reporting import tracetext
from ..reporting.flames import flames
from ..reporting.redaction import policy_of_life
from ..reporting.redaction import redacted_values
from ..reporting.stacksdocument import age
from ..reporting.stacksdocument import ordered
from ..reporting.stacksdocument import stack_words
from ..reporting.stacksdocument import word
from ..store.blackboxreader import read
from ..threads import codeorigin
from ..threads.cycles import cycle_words
from ..threads.cycles import source_words
from . import csrftoken

NATIVE_ACTION = 'native-stacks'

#: The latest NativeStacks.  The key is the pid of this process, so a forked child begins without.
_NATIVE: dict[int, nativestacks.NativeStacks] = {}
#: Seconds after which native stacks are dropped: they can need megabytes.
_KEEP_NATIVE = 600.0
#: Icon and look of each activity.  A 'busy' thread works, a 'stuck' thread waits for something in
#: this process, an 'away' thread waits for something outside, a 'calm' thread has nothing to do.
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
#: A thread that has used more than this share of its stack is shown as short of stack.
_TIGHT = 3 / 4
#: A thread above this share of one CPU is shown as busy.
_BUSY = 0.5
#: At most this many functions of a slow request are listed, and none below the least share.
_SHARES = 8
_LEAST_SHARE = 0.01


def threads(life: ILivingRun) -> dict[str, Any]:
    """Return what this process does now.  The calling thread counts as the thread of the page."""
    shown = page(life.stacks(), threading.get_ident())
    return shown | {
        'part': 'live',
        'run': life.name,
        'pid': life.pid,
        'no_requests': 'No requests in progress other than this page.',
        'slow_request': f'{life.options.slow_request:g} s',
        'recording': life.is_watched,
        'command': f'stabilitymonitor --directory {life.path} stacks {life.name}',
    }


def kept(record: SnapshotRecord) -> dict[str, Any]:
    """Return the same values for what a snapshot kept."""
    shown = page(record.stacks, record.own, 'took this snapshot')
    for profile in (*shown['slow'], *shown['past_slow']):
        profile['picture'] = ''  # the samples are not kept
    return shown | {
        'run': record.run,
        'pid': record.pid,
        'slow_request': '',
        'recording': True,
        'no_requests': 'No requests were in progress.',
    }


def page(stacks: Stacks, own: int = 0, own_word: str = 'serves this page') -> dict[str, Any]:
    """Return the values for the page; `own` is the ident of the thread that makes the page, and
    `own_word` says so.
    """
    now = stacks.time
    names = {thread.ident: thread.name for thread in stacks.threads}
    lasting_hangs, past_hangs = _lasting_and_past(stacks.hangs)
    lasting_slow, past_slow = _lasting_and_past(stacks.slow)
    files: set[str] = set()
    for thread in stacks.threads:
        files.update(frame.file for frame in thread.frames)
    stuck: set[int] = set()
    for hang in lasting_hangs:
        if hang.kind == 'deadlock':
            stuck.update(hang.threads)
    active, quiet = ordered(stacks.threads, own)
    active_rows = [_thread(thread, own, own_word, names, stuck, files) for thread in active]
    return {
        'time': clocktime(now),
        'count': len(stacks.threads),
        'requests': [row for row in active_rows if row['request']],
        'others': [row for row in active_rows if not row['request']],
        'quiet': [_thread(thread, own, own_word, names, stuck, files) for thread in quiet],
        'hangs': [_hang(hang, now, files) for hang in lasting_hangs],
        'past_hangs': [_hang(hang, now, files) for hang in past_hangs],
        'slow': [_profile(profile) for profile in lasting_slow],
        'past_slow': [_profile(profile) for profile in past_slow],
        'connections': [threadtext.connection_words(each) for each in stacks.connections],
    }


_Lasting = TypeVar('_Lasting', Event, SlowRequest)


def _lasting_and_past(items: Sequence[_Lasting]) -> tuple[list[_Lasting], list[_Lasting]]:
    lasting = [item for item in items if item.lasts]
    past = [item for item in items if not item.lasts]
    return lasting, past


# -- threads ---------------------------------------------------------------------------------------


def _thread(
    thread: ThreadState,
    own: int,
    own_word: str,
    names: Mapping[int, str],
    stuck: Collection[int],
    files: Collection[str],
) -> dict[str, Any]:
    ident = thread.ident
    native_id = thread.native_id
    if own and own == ident:  # ident 0 means a thread that Python does not know
        icon, look = _LOOKS['page']
        does = own_word
        detail = ''
    else:
        icon, look = _LOOKS.get(thread.activity, _UNKNOWN)
        does = word(thread)
        detail = codeorigin.shortened(thread.detail, files)
    is_stuck = ident in stuck
    holders = [holder for holder in thread.holders if holder in names]
    return {
        'key': _key(ident) if ident else f'native-{native_id}',
        'name': thread.name or 'unnamed thread',
        'native_id': native_id or '?',
        'icon': icon,
        'look': 'stuck' if is_stuck else look,
        'word': does,
        'detail': detail,
        'deadlock': is_stuck,
        'request': _request(thread.request),
        'holders': [{'key': _key(holder), 'name': names[holder]} for holder in holders],
        'stack': _stack(thread),
        'cpu': _cpu(thread),
        'top': _top(thread.frames),
        'frames': _groups(thread.frames),
        'depth': counted(len(thread.frames), 'frame') if thread.frames else '',
    }


def _key(ident: int) -> str:
    """Return the HTML id of a thread on the page."""
    return f'thread-{ident:x}'


def _request(request: Request | None) -> dict[str, Any] | None:
    if not request:
        return None
    return {
        'method': request.method,
        'path': request.path,
        'phase': request.phase,
        'age': age(request.seconds or 0.0),
    }


def _cpu(thread: ThreadState) -> dict[str, Any]:
    share = thread.cpu
    if share is None:
        return {'text': 'unknown', 'bar': ''}
    colour = bars.BUSY if share > _BUSY else bars.PLAIN
    words = f'{share:.0%} of one CPU over the last {thread.cpu_seconds:.1f} s'
    return {'text': f'{share:.0%}', 'bar': bars.bar(share, colour, words)}


def _stack(thread: ThreadState) -> dict[str, Any]:
    words = stack_words(thread)
    if not words:
        return {'text': 'unknown', 'bar': '', 'tight': False}
    share = thread.stack_used / thread.stack_size
    tight = share > _TIGHT
    colour = bars.BAD if tight else bars.GOOD
    bar = bars.bar(share, colour, f'High-water mark: {words}')
    return {'text': words, 'tight': tight, 'bar': bar}


def _top(frames: Sequence[Frame]) -> dict[str, Any] | None:
    """Return the frame that says best what a thread does; None without frames."""
    frame = codeorigin.own(frames)
    return _frame(frame) if frame else None


def _groups(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Return the frames in groups.

    `folded` is the label of a folded group, and '' for a group that is shown.
    """
    rows = []
    for number, (is_folded, group) in enumerate(codeorigin.groups(frames)):
        folded = ''
        if is_folded:
            packages = codeorigin.named(frame.file for frame in group)
            folded = f'{counted(len(group), "frame")} of {packages}'
        shown = [_frame(frame) for frame in group]
        rows.append({'folded': folded, 'key': f'f{number}', 'frames': shown})
    return rows


def _frame(frame: Frame) -> dict[str, Any]:
    place = codeorigin.place(frame.file)
    return {
        'function': frame.function or '?',
        'short': place.short,
        'file': frame.file,
        'line': frame.line or '?',
        'style': f'stability-{place.kind}',
    }


# -- hangs and slow requests -----------------------------------------------------------------------


def _hang(hang: Event, now: float, files: Collection[str]) -> dict[str, Any]:
    kind = event_kind(hang.kind)
    end = now if hang.ended is None else hang.ended
    # The place of a past hang can be in a file that is on no stack now.
    own_files = {hang.place.file} if hang.place else set()
    all_files = own_files.union(files)
    return {
        'title': kind.headline,
        'icon': kind.icon,
        'alert': hang.severity.alert,
        'since': clocktime(hang.started),
        'summary': codeorigin.shortened(_summary(hang), all_files),
        'lasted': age(max(0.0, end - hang.started)),
        'duration': _duration(hang, end),
    }


def _duration(hang: Event, end: float) -> str:
    """Return for example "for 31.0 s".

    A deadlock begins when it is first seen: how long it had lasted by then is not known.
    """
    seconds = max(0.0, end - hang.started)
    if hang.lasts and seconds < 1:
        return 'seen just now'
    return f'for {age(seconds)}'


def _summary(hang: Event) -> str:
    """Return the summary; without the word "deadlock", which is already in the title."""
    if hang.known is None or not hang.cycle:
        return hang.summary
    return f'{cycle_words(hang.cycle)} ({source_words(hang.known, hang.possible)}).'


def _profile(profile: SlowRequest) -> dict[str, Any]:
    shares = [share for share in profile.shares[:_SHARES] if share.own >= _LEAST_SHARE]
    return {
        'key': f'slow-{profile.number}',
        'method': profile.method,
        'path': profile.path,
        'took': age(profile.seconds),
        'started': clocktime(profile.started),
        'samples': counted(profile.samples, 'time'),
        'thread': _key(profile.ident),
        'lasts': profile.lasts,
        'shares': [_share(share) for share in shares],
        'picture': _picture(profile),
        'top': _top(profile.frames),
    }


def _picture(profile: SlowRequest) -> str:
    """Return the query string of the flame graph; '' if all samples have the same stack.

    It contains the number of samples.  So a browser may cache the picture, and fetches it again
    after the next sample.
    """
    if profile.different_stacks <= 1:
        return ''
    return f'request={profile.number}&samples={profile.samples}'


def picture(life: ILivingRun, run: str, number: str) -> str:
    """Return the flame graph of a slow request as SVG; '' if its samples are no longer kept."""
    if run != life.name:
        return ''
    for profile in life.slow_requests():
        if number == str(profile.number):
            label = f'Flame graph of {profile.method} {profile.path} - {life.instance.host}'
            return flames(profile.stacks.stacks(), label)
    return ''


def _share(share: Share) -> dict[str, Any]:
    place = codeorigin.place(share.file)
    own = f'{share.own:.0%}'
    within = f'{share.within:.0%}'
    words = f'{own} of the time in the function itself, {within} with the functions it calls'
    return {
        'function': share.function,
        'short': place.short,
        'file': share.file,
        'own': own,
        'style': f'stability-{place.kind}',
        'bar': bars.bar(share.own, bars.BAD, words, share.within),
    }


# -- native stacks ---------------------------------------------------------------------------------


def native(life: ILivingRun, may_manage: bool) -> dict[str, Any]:
    """Return the state of the latest native stacks, and the commands to take them in a shell."""
    forget_native()
    tools = list(nativestacks.find_tools())
    fields = None
    if may_manage and tools:
        fields = csrftoken.fields(life, NATIVE_ACTION)
    values = {
        'busy': False,
        'progress': '',
        'error': '',
        'result': '',
        'ago': '',
        'tools': ' and '.join(tools),
        'fields': fields,
        'may': may_manage,
        'needed': nativestacks.what_is_needed(life.pid),
        'lines': [
            {'title': title, 'command': command}
            for title, command in nativestacks.command_lines(life.pid, sys.executable)
        ],
    }
    taking = _NATIVE.get(life.pid)
    if taking is not None:
        is_busy = taking.running
        values |= {
            'busy': is_busy,
            'progress': taking.words,
            'error': taking.error,
            'result': '' if is_busy else taking.result or '',
            'ago': age(taking.seconds_ago),
        }
    return {'part': 'native', 'native': values}


def take_native(life: ILivingRun) -> None:
    """Start to take native stacks, unless they are already being taken."""
    taking = nativestacks.NativeStacks(life.pid)
    before = _NATIVE.get(life.pid)
    if before is not None and before.running:
        return
    if not taking.start() and not taking.ended:
        return  # another request has started it meanwhile
    _NATIVE[life.pid] = taking
    life.every_round(forget_native)


def forget_native() -> None:
    """Drop old native stacks, because the page that shows them may never be opened again."""
    for pid, taking in list(_NATIVE.items()):
        if taking.ended and taking.seconds_ago > _KEEP_NATIVE:
            _NATIVE.pop(pid, None)


# -- downloads -------------------------------------------------------------------------------------


def stacks_text(life: ILivingRun) -> str:
    subject = f'process {life.pid} (run {life.name})'
    stacks = redacted_values({'stacks': life.stacks()}, policy_of_life(life))['stacks']
    return threadtext.text(stacks, subject, threading.get_ident())


def trace_text(life: ILivingRun) -> bytes:
    """Return the last requests of this process as a trace log."""
    recording = read(bytes(life.recorder.buffer))
    lines = tracetext.trace_lines(
        recording.finished,
        recording.in_flight,
        time.time(),
        started=life.started,
        run=life.name,
        overflow=recording.words['overflow'],
        policy=policy_of_life(life),
    )
    return tracetext.as_text(lines)
