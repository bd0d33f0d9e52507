"""The plain text about a process that does not answer: an `outside.View` in, lines out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..inspection.outside import Seen
from ..inspection.outside import View
from ..model.counts import counted
from ..model.eventkinds import EVENT_KINDS
from ..model.jsonform import to_json
from ..model.records import Request
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import isotime
from ..postmortem import hangnotes
from ..postmortem.evidence import Mark
from ..threads.activity import waits_for_work
from .stacksdocument import age
from .stackssummary import EVIDENCE_IS_KEPT
from .stackssummary import before_a_hang
from .stackssummary import stall_of
from .threadtext import frame_lines

#: The states of a thread in the kernel, see proc_pid_stat(5).
_STATES = {
    'R': 'runs',
    'S': 'sleeps',
    'D': 'sleeps in the kernel',
    'T': 'is stopped',
    't': 'is stopped by a debugger',
    'Z': 'is dead',
    'I': 'is idle',
}


def lines(
    view: View,
    subject: str,
    reason: str,
) -> Iterator[str]:
    """Yield the lines.  `reason` is a sentence that says why there is no answer."""
    yield f'No answer from {subject}: {reason[:1].lower()}{reason[1:]}'
    yield f'This can be seen from outside at {clocktime(view.time)}:'
    yield ''
    yield from _judgement(view)
    if view.threads:
        yield ''
        yield 'Its threads, from the kernel:'
        yield from map(_thread, view.threads)
    yield from _requests(view)
    yield from _marks(view)
    yield from _hangs(view)


def document(view: View) -> dict[str, Any]:
    """Return the same facts for JSON; docs/formats.rst has the keys."""
    threads = []
    for seen in view.threads:
        threads.append(
            {
                'native_id': seen.kernel.tid,
                'ident': seen.ident or None,
                'state': seen.kernel.state,
                'call': seen.kernel.call,
                'target': seen.target,
                'cpu': seen.cpu,
                'waits_for_gil': seen.waits_for_gil,
            }
        )
    return {
        'time': isotime(view.time),
        'there': view.there,
        'stopped': view.is_stopped,
        'threads': threads,
        'gil_holders': [seen.kernel.tid for seen in view.holders()],
        'requests': [to_json(request) for request in _in_flight(view)],
        'summary': list(_judgement(view)),
    }


# -- the judgement ---------------------------------------------------------------------------------


def _judgement(view: View) -> Iterator[str]:
    if view.there is None:
        yield (
            'This command cannot see the process: it runs on another machine, or in another '
            'container.'
        )
    elif not view.there:
        yield 'The process has ended. Run "stabilitymonitor triage" to see how it ended.'
    elif view.is_stopped:
        yield (
            f'All its threads are stopped. "kill -CONT {view.pid}" resumes it, unless a debugger '
            'holds it.'
        )
    else:
        yield from _holder(view)
    recording = view.traces.recording
    sample = recording.last_sample if recording else None
    if sample and view.there is not False:
        ago = duration(view.seconds_since(sample.time, sample.monotonic))
        yield f'The last beat of its heartbeat was {ago} ago, at {clocktime(sample.time)}.'
    if view.traces.damage:
        yield f'Its black box: {view.traces.damage}'
    if view.there and not view.is_stopped:
        if _is_recorded(view):
            yield EVIDENCE_IS_KEPT
        else:
            yield before_a_hang(stall_of(view.traces.context))


def _is_recorded(view: View) -> bool:
    """Return whether the next start will know of the hang: by the watchdog or by a note."""
    recording = view.traces.recording
    if view.traces.hang or view.traces.stuck:
        return True
    if recording is None:
        return False
    for kind in EVENT_KINDS.values():
        if kind.is_trouble and hangnotes.lasting(recording.notes, kind.code):
            return True
    return False


def _holder(view: View) -> Iterator[str]:
    """Say which thread probably holds the interpreter lock."""
    found = view.holders()
    waiting = len(view.waiting)
    waiters = counted(waiting, 'thread waits', 'threads wait')
    if not waiting:
        yield (
            'No thread waits for the interpreter lock (GIL): perhaps only the heartbeat is stuck, '
            'the process is frozen (as by "docker pause"), or the machine is slow.'
        )
    elif len(found) == 1:
        holder = found[0]
        yield (
            f'The interpreter lock (GIL) is probably held by {_thread_label(holder)}: '
            f'it {_doing(holder)}. {waiters} for it.'
        )
    else:
        yield (f'{waiters} for the interpreter lock (GIL); one of these probably holds it:')
        for seen in found:
            yield f'  {_thread_label(seen)}: it {_doing(seen)}'


def _thread_label(seen: Seen) -> str:
    who = f'thread {seen.kernel.tid}'
    if seen.ident:
        who += f' (0x{seen.ident:x})'
    request = seen.request
    if request:
        who += f', which serves {request.method} {request.path}'
    return who


def _doing(seen: Seen) -> str:
    if seen.runs:
        return 'runs on a CPU'
    call = seen.kernel.call
    if not call:
        return _STATES.get(seen.kernel.state, 'is in an unknown state')
    target = f' on {seen.target}' if seen.target else ''
    return f'waits in the system call {call}{target}'


# -- what was seen ---------------------------------------------------------------------------------


def _thread(seen: Seen) -> str:
    kernel = seen.kernel
    cpu = '   ?'
    if seen.cpu is not None:
        cpu = f'{seen.cpu:4.0%}'
    state = _STATES.get(kernel.state, kernel.state)
    what = f'{kernel.call} {seen.target}'.strip()
    if seen.waits_for_gil:
        what = 'waits for the GIL'
    return f'  {kernel.tid:>8}  {cpu} CPU  {state:20}  {what}'.rstrip()


def _requests(view: View) -> Iterator[str]:
    requests = sorted(_in_flight(view), key=lambda request: request.started)
    if requests:
        yield ''
        yield 'Requests in progress, from its black box:'
    recording = view.traces.recording
    for request in requests:
        began = recording.began.get(request.number) if recording else None
        so_far = age(view.seconds_since(request.started, began))
        yield (
            f'  {request.method} {request.path} for {so_far} ({request.phase}) '
            f'in thread {request.native_id} (0x{request.ident:x})'
        )


def _marks(view: View) -> Iterator[str]:
    """The stacks that the watchdog wrote when the heartbeat was stuck."""
    requests = {request.ident: request for request in _in_flight(view)}
    stuck = sorted(view.traces.stuck.items(), key=lambda pair: pair[0] not in requests)
    for ident, mark in stuck:
        if ident not in requests and _is_idle(mark):
            continue
        subject = f'thread 0x{ident:x}'
        request = requests.get(ident)
        if request:
            subject += f' ({request.method} {request.path})'
        yield from _mark(subject, mark)
    if view.traces.hang:
        yield from _mark('the heartbeat', view.traces.hang)


def _is_idle(mark: Mark) -> bool:
    """Return whether the last dump is of a thread that waits for a request."""
    return any(waits_for_work(thread.frames) for dump in mark.dumps[-1:] for thread in dump.threads)


def _mark(subject: str, mark: Mark) -> Iterator[str]:
    for dump in mark.dumps[-1:]:
        when = clocktime(mark.time)
        yield ''
        yield f'The stack of {subject}, as of {when}:'
        for thread in dump.threads:
            yield from frame_lines(thread.frames, '    ')


def _hangs(view: View) -> Iterator[str]:
    recording = view.traces.recording
    notes = recording.notes if recording else ()
    for kind in EVENT_KINDS:
        for begun in hangnotes.all_lasting(notes, kind):
            yield ''
            yield f'Noted at {clocktime(begun.time)}: {begun.title}'
            for note in hangnotes.threads(notes, begun):
                yield f'  {note.title}: {note.detail}'
                yield from frame_lines(note.frames, '    ')


def _in_flight(view: View) -> tuple[Request, ...]:
    recording = view.traces.recording
    return recording.in_flight if recording else ()
