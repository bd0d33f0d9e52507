"""What every thread of this process is doing: Python's frames, the kernel's facts and the
recorder's requests, put together for one moment.

Of other threads only code, line and module name of their frames are read; no frame is kept.  No
lock is taken: a stuck thread may hold it (so `threading.enumerate` is not called).  `locks` is
imported when it is needed: the subscribers see that it is there before Zope serves, but arming need
not wait for it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from ..model.records import Frame
from ..model.records import Request
from ..model.records import ThreadState
from ..system.cpushares import UNKNOWN
from ..system.cpushares import Loads
from ..system.cpushares import is_busy
from ..system.tasks import Descriptor
from ..system.tasks import KernelThreads
from ..system.tasks import Task
from ..system.tasks import waits_for_interpreter
from . import activity
from .spots import Spot

if TYPE_CHECKING:  # see above: it is imported late
    from .locks import Deadlock

MOST_FRAMES = 200
_ALL_FRAMES = 10_000
#: A circle of locks is called a deadlock when nobody in it has moved for so many seconds.
STILL = 0.1
_NOT_MOVING = ('', 'futex', 'restart_syscall')


@dataclass(frozen=True)
class Observation:
    """All threads at one moment: main, workers, others; and those that wait for each other.  Where
    one of several threads may hold a lock, `holders` of the state is empty and its detail names
    them all.
    """

    states: tuple[ThreadState, ...]
    deadlocks: tuple[Deadlock, ...] = ()


class ServingThread(Protocol):
    """A slot of the recorder: a thread that serves requests, until `life` returns None."""

    ident: int
    native_id: int

    @property
    def life(self) -> Callable[[], object]: ...


class RequestSource(Protocol):
    """What is asked of a recorder."""

    @property
    def slots(self) -> Mapping[int, ServingThread]: ...

    def request(self, slot: Any) -> tuple[Request, float] | None:
        """What is in flight in one of its own slots, and when it began (monotonic)."""


class ThreadWatch:
    """`loads.look` now and then; `snapshot` or `observe` when somebody wants to know.  Any thread
    may call them.

    `gauge(ident, native_id)` gives (size, used) of a stack or None.
    """

    def __init__(
        self,
        recorder: RequestSource | None = None,
        clock: Callable[[], float] = time.monotonic,
        proc: Path = Path('/proc'),
        gauge: Callable[[int, int], tuple[int, int] | None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.recorder = recorder
        self.clock = clock
        self.gauge = gauge
        self.sleep = sleep
        self.kernel = KernelThreads(proc)
        self.loads = Loads(self.kernel, clock, sleep)

    def snapshot(self) -> tuple[ThreadState, ...]:
        """See `observe`."""
        return self.observe().states

    def observe(self) -> Observation:
        """All threads.  Their shares of the processor are known where a look is a second old."""
        return _Moment(self).observation()


class _Moment:
    """One observation in the making."""

    def __init__(self, watch: ThreadWatch) -> None:
        self.kernel = watch.kernel
        self.recorder = watch.recorder
        self.gauge = watch.gauge
        self.sleep = watch.sleep
        self.now = watch.clock()
        self.own = threading.get_ident()
        self.loads = watch.loads.now()
        self.of_next_moment = watch.loads.of_next_moment
        self.tasks = {tid: task for tid in self.kernel.ids() if (task := self.kernel.task(tid))}
        self.stacks = stacks()
        self.names, natives = _known_threads()
        self.slots = self._slots()
        natives |= {ident: slot.native_id for ident, slot in self.slots.items()}
        self.native_ids = {ident: natives[ident] for ident in self.stacks if natives.get(ident)}
        self.native_ids |= self._by_stack()
        for ident in self.stacks:
            self.names.setdefault(ident, self._comm(ident))
        from .locks import examine

        self.wants = examine(self.stacks, [ident for ident in self.stacks if self._may_wait(ident)])
        self.requests = {ident: self._request(ident) for ident in self.slots}
        self.calls = {
            ident: _call_is_about(self.kernel, self._task(ident)) for ident in self.stacks
        }
        self.busiest = max((load.cpu or 0.0 for load in self.loads.values()), default=0.0)

    def observation(self) -> Observation:
        if starving := self._starving():
            self.loads |= self.of_next_moment(
                starving
            )  # what was seen before belongs together, and is kept
        states = [self._state(ident) for ident in self.stacks]
        states += [self._native(task) for task in self._without_python()]
        return Observation(tuple(sorted(states, key=_order)), tuple(self._deadlocks()))

    # -- who is who --------------------------------------------------------------------------------

    def _slots(self) -> dict[int, ServingThread]:
        slots = tuple(self.recorder.slots.values()) if self.recorder else ()
        return {slot.ident: slot for slot in slots if slot.life() is not None}

    def _by_stack(self) -> dict[int, int]:
        nameless = [ident for ident in self.stacks if ident not in self.native_ids]
        known = set(self.native_ids.values())
        return self.kernel.by_stack(
            nameless, [task for tid, task in self.tasks.items() if tid not in known]
        )

    def _without_python(self) -> list[Task]:
        known = set(self.native_ids.values())
        return [task for tid, task in self.tasks.items() if tid not in known]

    def _task(self, ident: int) -> Task | None:
        return self.tasks.get(self.native_ids.get(ident, 0))

    def _comm(self, ident: int) -> str:
        task = self._task(ident)
        return task.comm if task else 'a thread without a name'

    def _may_wait(self, ident: int) -> bool:
        task = self._task(ident)
        return ident != self.own and (
            task is None or task.call in _NOT_MOVING and not waits_for_interpreter(task)
        )

    def _kind(self, ident: int, name: str, code: str) -> str:
        if ident == threading.main_thread().ident:
            return 'main'
        if name.startswith('StabilityMonitor'):
            return 'monitor'
        return (
            'worker'
            if ident in self.slots or name.startswith('waitress-') or code == 'idle'
            else 'other'
        )

    # -- what it does ------------------------------------------------------------------------------

    def _starving(self) -> list[int]:
        """Threads that are ready for a processor, but have had little of one: they have asked for
        the GIL in vain all the time, or have begun just now.
        """
        return [
            tid
            for ident, tid in self.native_ids.items()
            if ident != self.own and self._gets_little(tid)
        ]

    def _gets_little(self, tid: int) -> bool:
        task = self.tasks.get(tid)
        load = self.loads.get(tid)
        if task is None or load is None or load.cpu is None:
            return False
        is_ready = activity.is_ready(task, waits_for_interpreter(task))
        return is_ready and not is_busy(load.cpu, self.busiest)

    def _state(self, ident: int) -> ThreadState:
        task, frames = self._task(ident), frames_of(self.stacks[ident])
        code, detail = self._judge(ident, task, frames)
        name, native_id = self.names[ident], self.native_ids.get(ident, 0)
        size, used = self.gauge and self.gauge(ident, native_id) or (0, 0)
        load, want = self.loads.get(native_id, UNKNOWN), self.wants.get(ident)
        return ThreadState(
            ident,
            native_id,
            name,
            self._kind(ident, name, code),
            code,
            detail,
            frames,
            load.cpu,
            load.seconds,
            self.requests.get(ident),
            size,
            used,
            tuple(holder.ident for holder in want.holders)
            if want and len(want.holders) == 1
            else (),
        )

    def _native(self, task: Task) -> ThreadState:
        code, detail = activity.judge(activity.Facts((), task, False, *self._load(task)))
        load = self.loads.get(task.tid, UNKNOWN)
        return ThreadState(
            0, task.tid, task.comm, 'other', code, detail, (), load.cpu, load.seconds
        )

    def _load(self, task: Task | None) -> tuple[float | None, float, float]:
        """What activity.Facts holds of it."""
        load = self.loads.get(task.tid, UNKNOWN) if task else UNKNOWN
        return load.cpu, self.busiest, load.turns

    def _judge(self, ident: int, task: Task | None, frames: tuple[Frame, ...]) -> activity.Answer:
        if ident == self.own:
            return 'running', 'takes this snapshot'
        want = self.wants.get(ident)
        phrase = want.phrase(self.names) if want else ''
        lock, waiting = (phrase, '') if want and want.lock else ('', phrase)
        return activity.judge(
            activity.Facts(
                frames,
                task,
                waits_for_interpreter(task),
                *self._load(task),
                lock,
                waiting,
                *self.calls[ident],
            )
        )

    def _request(self, ident: int) -> dict[str, Any] | None:
        slot = self.slots.get(ident)
        if slot is None or self.recorder is None:
            return None
        try:
            found = self.recorder.request(slot)
        except ValueError:  # the black box was let go of
            return None
        if found is None:
            return None
        request, began = found
        return {
            'number': request.number,
            'method': request.method,
            'path': request.path,
            'started': request.started,
            'seconds': max(0.0, self.now - began),
            'phase': request.phase,
        }

    # -- deadlocks ---------------------------------------------------------------------------------

    def _deadlocks(self) -> Iterator[Deadlock]:
        """Circles in which nobody moves: looked at twice, since healthy code, too, waits for a
        moment.
        """
        from .locks import deadlocks

        found = deadlocks(self.wants, self.names)
        if not found:
            return
        self.sleep(STILL)
        again = stacks()
        for deadlock in found:
            if all(
                again.get(ident) == self.stacks[ident] and self._has_not_moved(ident)
                for ident in deadlock.idents
            ):
                yield deadlock

    def _has_not_moved(self, ident: int) -> bool:
        task = self._task(ident)
        return task is None or self.kernel.reading(task.tid) == task.reading


def stacks() -> dict[int, tuple[Spot, ...]]:
    """{ident: its frames, innermost first, at most MOST_FRAMES}."""
    frames = sys._current_frames()
    found: dict[int, tuple[Spot, ...]] = {}
    while frames:
        ident, frame = frames.popitem()
        found[ident] = tuple(_walk(frame))
    return found


def stack_of(ident: int) -> tuple[Spot, ...]:
    """All frames of one thread, innermost first."""
    frames = sys._current_frames()
    try:
        return tuple(_walk(frames.get(ident), _ALL_FRAMES))
    finally:
        frames.clear()  # it holds our own frame, which holds it


def _walk(frame: FrameType | None, most: int = MOST_FRAMES) -> list[Spot]:
    spots: list[Spot] = []
    while frame is not None and len(spots) < most:
        module = dict.get(frame.f_globals, '__name__')
        spots.append(
            Spot(frame.f_code, frame.f_lasti, frame.f_lineno, module if type(module) is str else '')
        )
        frame = frame.f_back
    return spots


def frames_of(spots: Iterable[Spot]) -> tuple[Frame, ...]:
    return tuple(Frame(spot.code.co_filename, spot.line, spot.code.co_name) for spot in spots)


def _known_threads() -> tuple[dict[int, str], dict[int, int]]:
    """({ident: name}, {ident: native id}) of Python's threads.  A copy of a dict is one step under
    the GIL.
    """
    threads = dict(threading._active)  # type: ignore[attr-defined]  # `enumerate` takes a lock
    return (
        {ident: str(getattr(thread, '_name', '')) for ident, thread in threads.items()},
        {ident: getattr(thread, '_native_id', None) or 0 for ident, thread in threads.items()},
    )


def _call_is_about(kernel: KernelThreads, task: Task | None) -> tuple[str, tuple[Descriptor, ...]]:
    """(a path, peer or child; descriptors) of the system call that a thread is in."""
    if task is None or not task.arguments:
        return '', ()
    call, arguments = task.call, task.arguments
    if call in activity.PATHS:
        return kernel.text(arguments[activity.PATHS[call]]), ()
    if call in activity.CHILDREN:
        return _child(kernel, arguments[call == 'waitid']), ()
    if call == 'connect':
        return kernel.socket_address(*arguments[1:3]), _described(kernel, arguments[:1])
    if call in activity.POLLS:
        return '', _described(kernel, kernel.polled(*arguments[:2]))
    if call in activity.STREAMS | activity.LOCKED:
        return '', _described(kernel, arguments[:1])
    return '', ()


def _described(kernel: KernelThreads, descriptors: Sequence[int]) -> tuple[Descriptor, ...]:
    return tuple(filter(None, (kernel.descriptor(number) for number in descriptors[:8])))


def _child(kernel: KernelThreads, pid: int) -> str:
    """Such as "process 4711 (convert)"."""
    if not 0 < pid < 1 << 22:
        return 'any child process'
    return ' '.join(
        filter(None, (f'process {pid}', (name := kernel.process_name(pid)) and f'({name})'))
    )


def _order(state: ThreadState) -> tuple[int, bool, int, int]:
    return (
        ('main', 'worker', 'other', 'monitor').index(state.kind),
        not state.frames,
        state.native_id,
        state.ident,
    )
