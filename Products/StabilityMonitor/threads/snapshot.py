"""What every thread of this process is doing at one moment: Python's frames, the kernel's facts and
the recorder's requests, put together.

Of the frames of other threads only code, line and module name are read, and no frame is kept.  No
lock is taken, because a stuck thread may hold it; so `threading.enumerate` is not called.  `locks`
is imported late: arming need not wait for it, and the subscribers import it before Zope serves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from ..model.records import Frame
from ..model.records import Request
from ..model.threadstates import ThreadState
from ..system.cpushares import UNKNOWN
from ..system.cpushares import Loads
from ..system.cpushares import is_busy
from ..system.currentframes import current_frames
from ..system.tasks import Descriptor
from ..system.tasks import KernelThreads
from ..system.tasks import Task
from ..system.tasks import waits_for_interpreter
from . import activity
from .codeplaces import CodePlace

if TYPE_CHECKING:  # see above: it is imported late
    from .locks import Deadlock

MOST_FRAMES = 200
_ALL_FRAMES = 10_000
#: A cycle of locks is called a deadlock when no thread in it has moved for so many seconds.
STILL = 0.1
_NOT_MOVING = ('', 'futex', 'restart_syscall')


@dataclass(frozen=True)
class Observation:
    """All threads at one moment, in the order main, workers, others; and the deadlocks.

    When several threads may hold the lock that a thread waits for, `holders` of its state is empty,
    and the detail names them all.
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
    """Call `loads.look` now and then, and `snapshot` or `observe` at any time, from any thread.

    `gauge(ident, native_id)` returns (size, used) of a stack, or None.
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
        """All threads.  Their CPU shares are known when a look is at least a second old."""
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
        self.tasks: dict[int, Task] = {}
        for tid in self.kernel.ids():
            task = self.kernel.task(tid)
            if task:
                self.tasks[tid] = task
        self.stacks = stacks()
        self.names, natives = _known_threads()
        self.slots = self._slots()
        natives |= {ident: slot.native_id for ident, slot in self.slots.items()}
        self.native_ids = {ident: natives[ident] for ident in self.stacks if natives.get(ident)}
        nameless = [ident for ident in self.stacks if ident not in self.native_ids]
        self.native_ids |= self.kernel.by_stack(nameless, self._without_python())
        for ident in self.stacks:
            if ident not in self.names:  # C code has started it
                unknown = self._task(ident)
                self.names[ident] = unknown.comm if unknown else 'a thread without a name'
        from .locks import examine

        waiting = [ident for ident in self.stacks if self._may_wait(ident)]
        self.wants = examine(self.stacks, waiting)
        self.requests = {ident: self._request(ident) for ident in self.slots}
        self.calls = {
            ident: _call_is_about(self.kernel, self._task(ident)) for ident in self.stacks
        }
        self.busiest = max((load.cpu or 0.0 for load in self.loads.values()), default=0.0)

    def observation(self) -> Observation:
        starving = self._starving()
        if starving:
            # Only their loads are read again: all else was seen at the same moment, and stays.
            self.loads |= self.of_next_moment(starving)
        states = [self._state(ident) for ident in self.stacks]
        states += [self._native(task) for task in self._without_python()]
        return Observation(tuple(sorted(states, key=_order)), tuple(self._deadlocks()))

    # -- which thread is which ---------------------------------------------------------------------

    def _slots(self) -> dict[int, ServingThread]:
        if self.recorder is None:
            return {}
        slots = tuple(self.recorder.slots.values())
        return {slot.ident: slot for slot in slots if slot.life() is not None}

    def _without_python(self) -> list[Task]:
        """The threads that belong to no thread of Python, as far as is known by now."""
        known = set(self.native_ids.values())
        return [task for tid, task in self.tasks.items() if tid not in known]

    def _task(self, ident: int) -> Task | None:
        return self.tasks.get(self.native_ids.get(ident, 0))

    def _may_wait(self, ident: int) -> bool:
        if ident == self.own:
            return False
        task = self._task(ident)
        return task is None or (task.call in _NOT_MOVING and not waits_for_interpreter(task))

    def _kind(self, ident: int, name: str, code: str) -> str:
        if ident == threading.main_thread().ident:
            return 'main'
        if name.startswith('StabilityMonitor'):
            return 'monitor'
        if ident in self.slots or name.startswith('waitress-') or code == 'idle':
            return 'worker'
        return 'other'

    # -- what it does ------------------------------------------------------------------------------

    def _starving(self) -> list[int]:
        """Threads that are ready for a CPU but have had little of one.

        They have asked for the GIL in vain all the time, or have only just become ready.
        """
        found = []
        for ident, tid in self.native_ids.items():
            if ident != self.own and self._gets_little(tid):
                found.append(tid)
        return found

    def _gets_little(self, tid: int) -> bool:
        task = self.tasks.get(tid)
        load = self.loads.get(tid)
        if task is None or load is None or load.cpu is None:
            return False
        is_ready = activity.is_ready(task, waits_for_interpreter(task))
        return is_ready and not is_busy(load.cpu, self.busiest)

    def _state(self, ident: int) -> ThreadState:
        frames = frames_of(self.stacks[ident])
        code, detail = self._judge(ident, self._task(ident), frames)
        name = self.names[ident]
        native_id = self.native_ids.get(ident, 0)
        load = self.loads.get(native_id, UNKNOWN)
        stack = self.gauge(ident, native_id) if self.gauge else None
        size, used = stack or (0, 0)
        want = self.wants.get(ident)
        holders: tuple[int, ...] = ()
        if want and len(want.holders) == 1:
            holders = (want.holders[0].ident,)
        return ThreadState(
            ident=ident,
            native_id=native_id,
            name=name,
            kind=self._kind(ident, name, code),
            activity=code,
            detail=detail,
            frames=frames,
            cpu=load.cpu,
            cpu_seconds=load.seconds,
            request=self.requests.get(ident),
            stack_size=size,
            stack_used=used,
            holders=holders,
        )

    def _native(self, task: Task) -> ThreadState:
        load = self.loads.get(task.tid, UNKNOWN)
        facts = activity.Facts(task=task, cpu=load.cpu, busiest=self.busiest, turns=load.turns)
        code, detail = activity.judge(facts)
        return ThreadState(
            ident=0,
            native_id=task.tid,
            name=task.comm,
            kind='other',
            activity=code,
            detail=detail,
            cpu=load.cpu,
            cpu_seconds=load.seconds,
        )

    def _judge(self, ident: int, task: Task | None, frames: tuple[Frame, ...]) -> activity.Answer:
        if ident == self.own:
            return 'running', 'takes this snapshot'
        load = self.loads.get(task.tid, UNKNOWN) if task else UNKNOWN
        lock = waiting = ''
        want = self.wants.get(ident)
        if want and want.lock:
            lock = want.phrase(self.names)
        elif want:
            waiting = want.phrase(self.names)
        target, descriptors = self.calls[ident]
        facts = activity.Facts(
            frames=frames,
            task=task,
            gil=waits_for_interpreter(task),
            cpu=load.cpu,
            busiest=self.busiest,
            turns=load.turns,
            lock=lock,
            waiting=waiting,
            target=target,
            descriptors=descriptors,
        )
        return activity.judge(facts)

    def _request(self, ident: int) -> Request | None:
        slot = self.slots.get(ident)
        if slot is None or self.recorder is None:
            return None
        try:
            found = self.recorder.request(slot)
        except ValueError:  # the black box is closed
            return None
        if found is None:
            return None
        request, began = found
        return replace(request, seconds=max(0.0, self.now - began))

    # -- deadlocks ---------------------------------------------------------------------------------

    def _deadlocks(self) -> Iterator[Deadlock]:
        """Cycles in which no thread moves.

        They are looked at twice, because healthy code also waits for a moment.
        """
        from .locks import deadlocks

        found = deadlocks(self.wants, self.names)
        if not found:
            return
        self.sleep(STILL)
        again = stacks()
        for deadlock in found:
            if not any(self._has_moved(ident, again) for ident in deadlock.idents):
                yield deadlock

    def _has_moved(self, ident: int, again: Mapping[int, tuple[CodePlace, ...]]) -> bool:
        if again.get(ident) != self.stacks[ident]:
            return True
        task = self._task(ident)
        return task is not None and self.kernel.reading(task.tid) != task.reading


def stacks() -> dict[int, tuple[CodePlace, ...]]:
    """{ident: its frames, innermost first, at most MOST_FRAMES}."""
    frames = current_frames()
    found: dict[int, tuple[CodePlace, ...]] = {}
    while frames:
        ident, frame = frames.popitem()
        found[ident] = tuple(_walk(frame))
    return found


def stack_of(ident: int) -> tuple[CodePlace, ...]:
    """All frames of one thread, innermost first."""
    frames = current_frames()
    try:
        return tuple(_walk(frames.get(ident), _ALL_FRAMES))
    finally:
        frames.clear()  # it holds our own frame, which holds it


def _walk(frame: FrameType | None, most: int = MOST_FRAMES) -> list[CodePlace]:
    places: list[CodePlace] = []
    while frame is not None and len(places) < most:
        module = dict.get(frame.f_globals, '__name__')
        if type(module) is not str:
            module = ''
        places.append(CodePlace(frame.f_code, frame.f_lasti, frame.f_lineno, module))
        frame = frame.f_back
    return places


def frames_of(places: Iterable[CodePlace]) -> tuple[Frame, ...]:
    return tuple(Frame(place.code.co_filename, place.line, place.code.co_name) for place in places)


def _known_threads() -> tuple[dict[int, str], dict[int, int]]:
    """({ident: name}, {ident: native id}) of Python's threads."""
    # A dict is copied in one step under the GIL.
    threads = dict(threading._active)  # type: ignore[attr-defined]  # `enumerate` takes a lock
    names = {}
    native_ids = {}
    for ident, thread in threads.items():
        names[ident] = str(getattr(thread, '_name', ''))
        native_ids[ident] = getattr(thread, '_native_id', None) or 0
    return names, native_ids


def _call_is_about(kernel: KernelThreads, task: Task | None) -> tuple[str, tuple[Descriptor, ...]]:
    """(a path, peer or child; descriptors) of the system call that a thread is in."""
    if task is None or not task.arguments:
        return '', ()
    call = task.call
    arguments = task.arguments
    if call in activity.PATHS:
        return kernel.text(arguments[activity.PATHS[call]]), ()
    if call in activity.CHILDREN:
        return _child(kernel, arguments[1 if call == 'waitid' else 0]), ()
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
    name = kernel.process_name(pid)
    return f'process {pid} ({name})' if name else f'process {pid}'


def _order(state: ThreadState) -> tuple[int, bool, int, int]:
    return (
        ('main', 'worker', 'other', 'monitor').index(state.kind),
        not state.frames,
        state.native_id,
        state.ident,
    )
