"""The state of a living run, read from its files only: a process that may hang is never asked.

    look(path, context)    the Pulse of the run in that directory

While the heartbeat beats, the black box says since when the run hangs.  If C code holds the
interpreter lock (GIL), or the process is stopped, there are no more samples; `look` recognises that
too.
"""

import os
import time
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Protocol

from ..knowledge.growth import began
from ..model.eventkinds import CRITICAL_AFTER
from ..model.eventkinds import EVENT_KINDS
from ..model.eventkinds import REASONS
from ..model.options import from_record
from ..model.records import Sample
from ..model.records import duration
from ..postmortem import evidence
from ..postmortem import hangnotes
from ..postmortem.evidence import Traces
from ..store.blackboxreader import Recording
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from ..system import procfiles
from . import vitalsnow
from .vitalsnow import VitalsNow

#: The heartbeat counts as silent when the last sample is this many sample intervals old.
_BEATS = 5
#: The heartbeat never counts as silent before this many seconds: a busy machine delays it.
_LEAST_SILENCE = 10.0
#: If the watchdog has fired, the heartbeat counts as silent after this many sample intervals.
_BEATS_IF_FIRED = 3
_STOPPED = frozenset('Tt')


class Clock(Protocol):
    """The module `time`, or a substitute in a test."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True)
class Hang:
    """How a living process hangs, or why its start or end takes long.

    `kind` is hang (all workers are busy, or the server loop is blocked), silent (no heartbeat),
    stopped (by a signal), deadlock, spinning, slow-start or slow-stop.  `since` is in seconds since
    the epoch, `summary` a sentence.  `serving` is the number of workers, `stuck` the number of
    those whose request is too old; in a silent process, of those with any request.  It has lasted
    for `seconds`, by a clock that cannot be set.  `reason` is a code of eventkinds.REASONS, '' if
    it is not known.
    """

    kind: str
    since: float
    summary: str
    stuck: int = 0
    serving: int = 0
    reason: str = ''
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Pulse:
    """The state of a living run.

    `state` is starting, running, hanging, stopped, ending or unknown (nothing is recorded).
    `last_sample` is in seconds since the epoch, `hang` is None if all is well.  `delay` is a start
    or an end that takes long, but not yet so long that it is a hang.  `vitals` is None without a
    sample.
    """

    run: str
    pid: int
    state: str
    hang: Hang | None = None
    last_sample: float | None = None
    delay: Hang | None = None
    vitals: VitalsNow | None = None


def look(
    path: Path,
    context: dict[str, Any],
    proc: Path = Path('/proc'),
    clock: Clock = time,
) -> Pulse:
    """Return the Pulse of the run in directory `path`."""
    _, pid = name_facts(path.name)
    traces = evidence.collect(path, evidence.World(proc=proc))
    recording = traces.recording
    if recording is None:
        return Pulse(path.name, pid, 'unknown')
    sample = recording.last_sample
    last = sample.time if sample else None
    delay = _delay(traces)
    late = None
    age = _age(traces, recording.samples, clock)
    if delay:
        delay = _with_seconds(delay, traces, age)
    if delay and _is_critical(delay, context):
        late = delay
        delay = None
    vitals = vitalsnow.of(recording.samples, recording.curve, began(traces.context))
    if traces.word('finished'):
        return Pulse(path.name, pid, 'ending', late, last, delay, vitals)
    hang: Hang | None
    interval = _interval(recording.samples, context)
    there = is_alive(path, proc) if age > interval else None
    if there and sample and _is_stopped(traces.pid, proc):
        hang = _hang_of_stopped(traces, recording, sample)
    elif sample and _is_silent(traces, recording.samples, age, interval):
        hang = _hang_of_silent(traces, recording, sample, age, there)
    else:
        hang = _recorded_hang(traces, recording) or late
    if there and vitals and hang and hang.kind in ('silent', 'stopped'):
        vitals = vitalsnow.from_outside(vitals, pid, proc)
    if hang:
        hang = _with_seconds(hang, traces, age)
    if hang is None or hang.kind == 'slow-start':
        serves = traces.word('serving') or traces.role == 'script'
        state = 'running' if serves else 'starting'
    elif hang.kind == 'stopped':
        state = 'stopped'
    else:
        state = 'hanging'
    return Pulse(path.name, pid, state, hang, last, delay, vitals)


def _delay(traces: Traces) -> Hang | None:
    """Return the start or end that the heartbeat has noted as slow, and that still lasts."""
    for kind in EVENT_KINDS.values():
        if not kind.is_delay:
            continue
        begun = hangnotes.lasting(traces.notes, kind.code)
        if begun:
            return Hang(kind.code, begun.time, begun.title)
    return None


def _with_seconds(hang: Hang, traces: Traces, age: float) -> Hang:
    """Return the hang with its duration; the last sample is `age` seconds old."""
    if traces.last_sample is None:
        return hang
    until_sample = traces.last_sample.time - traces.by_last_clock(hang.since)
    return replace(hang, seconds=round(max(0.0, until_sample + age), 3))


def _is_critical(delay: Hang, context: dict[str, Any]) -> bool:
    """Return whether MainThread has been at one place for so long that something is wrong."""
    stall = from_record(context.get('options')).get('stall')
    if not isinstance(stall, int | float):
        return False
    return delay.seconds > CRITICAL_AFTER * stall


def _interval(samples: tuple[Sample, ...], context: dict[str, Any]) -> float:
    """Return the seconds between two samples."""
    interval = from_record(context.get('options')).get('sample-interval')
    if isinstance(interval, int | float):
        return interval
    if len(samples) > 1:  # the run is from an older release
        return samples[-1].monotonic - samples[-2].monotonic
    return 1.0


def _age(traces: Traces, samples: tuple[Sample, ...], clock: Clock) -> float:
    """Return how many seconds ago the last sample was taken; 0.0 if no more of them come."""
    if not samples:
        return 0.0  # the run is arming, or its heartbeat could not start, which is a finding
    if traces.role == 'script' and len(samples) == 1:
        return 0.0  # it has no heartbeat
    last = samples[-1]
    if traces.same_boot:
        # All processes of a system share one monotonic clock, and it cannot be set.  Only a
        # process in another time namespace has another clock, which may be behind.
        monotonic = clock.monotonic() - last.monotonic
        if monotonic >= 0:
            return monotonic
    return max(0.0, clock.time() - last.time)


def _is_silent(
    traces: Traces,
    samples: tuple[Sample, ...],
    age: float,
    interval: float,
) -> bool:
    """Whether there is no heartbeat; the last sample is `age` seconds old."""
    longest = max(_LEAST_SILENCE, _BEATS * interval)
    if traces.hang is not None:
        longest = min(longest, _BEATS_IF_FIRED * interval)
    return bool(samples) and age > longest


def _hang_of_stopped(traces: Traces, recording: Recording, sample: Sample) -> Hang:
    summary = (
        f'All its threads are stopped (state T), for example by SIGSTOP; "kill -CONT {traces.pid}" '
        'resumes it.'
    )
    return Hang('stopped', sample.time, summary, len(recording.in_flight), sample.workers)


def _hang_of_silent(
    traces: Traces,
    recording: Recording,
    sample: Sample,
    silence: float,
    there: bool | None,
) -> Hang:
    """Return why there is no heartbeat; `sample` is the last sample."""
    summary = f'The heartbeat has been silent for {duration(silence)}'
    if there is None:
        summary += '; this command cannot see whether the process is still alive.'
    else:
        summary += ', for example because C code holds the interpreter lock (GIL)'
        summary += _place_of_a_request(traces, recording)
    return Hang(
        'silent',
        sample.time,
        summary,
        # The sample may be older than the request that hangs: count the requests themselves.
        stuck=len(recording.in_flight),
        serving=sample.workers,
        # The watchdog fires when the heartbeat has waited long for the GIL.
        reason='gil' if traces.hang or traces.stuck else '',
    )


def _place_of_a_request(traces: Traces, recording: Recording) -> str:
    """Return the end of the sentence: which function a request is in.

    The function is from the stack that a worker wrote when the watchdog fired; "." if there is no
    such stack of a request in flight.
    """
    requests = {request.ident: request for request in reversed(recording.in_flight)}
    for ident, mark in traces.stuck.items():
        request = requests.get(ident)
        if request is None or not mark.dumps:
            continue
        last = mark.dumps[-1]
        for thread in last.threads:
            if thread.frames:
                frame = thread.frames[0]
                place = f'{frame.function} ({frame.file}:{frame.line})'
                return f'; {request.method} {request.path} is in {place}.'
    return '.'


def _recorded_hang(traces: Traces, recording: Recording) -> Hang | None:
    """Return the hang, deadlock or spin that the heartbeat has noted and that still lasts.

    A hang comes first: during a deadlock, or while the main thread spins, other threads may still
    serve requests.
    """
    sample = recording.last_sample
    overdue = sample.overdue if sample else 0
    workers = sample.workers if sample else 0
    notes = recording.notes
    since = traces.word('hung_since')
    begun = hangnotes.lasting(notes)
    deadlock = hangnotes.lasting(notes, 'deadlock')
    if begun:
        reason = begun.detail if begun.detail in REASONS else ''
        title = f'{begun.title} {deadlock.title}' if deadlock else begun.title
        return Hang('hang', since or begun.time, title, overdue, workers, reason)
    if since:
        return Hang('hang', since, 'The site does not answer.', overdue, workers)
    if deadlock:
        stuck = len(hangnotes.threads(notes, deadlock))
        return Hang('deadlock', deadlock.time, deadlock.title, stuck, workers)
    main = traces.context.get('main_ident')
    for spinning in hangnotes.all_lasting(notes, 'spinning'):
        for note in hangnotes.threads(notes, spinning):
            if note.ident == main:
                return Hang('spinning', spinning.time, spinning.title, 0, workers)
    return None


def _is_stopped(pid: int, proc: Path) -> bool:
    """Whether a signal or a debugger has stopped all threads of the process."""
    folder = proc / str(pid) / 'task'
    states: set[str] = set()
    try:
        for tid in os.listdir(folder):
            stat = procfiles.read(folder / tid / 'stat')
            # The state follows the name, which is in brackets and may contain any character.
            _, _, fields = stat.decode('ascii', 'replace').rpartition(')')
            states.add(fields.strip()[:1])
    except OSError:
        return False
    return bool(states) and states <= _STOPPED
