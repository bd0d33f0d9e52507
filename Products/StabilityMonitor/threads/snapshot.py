"""A snapshot of what every thread of this process is doing.

It combines the frames of Python, facts of the kernel, and the requests of the recorder.  Of the
frames of other threads only code, line and module name are read (but see `secondlook`), and no
frame is kept.  No lock is taken, because a stuck thread may hold it; so `threading.enumerate` is
not called.  `locks` is imported late so that arming does not wait for it; the subscribers import it
before Zope serves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
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
from ..system.tasks import KernelThreads
from ..system.tasks import Task
from ..system.tasks import native_id_of
from ..system.tasks import waits_for_interpreter
from . import activity
from .calltargets import CallTarget
from .calltargets import call_target
from .codeplaces import CodePlace
from .codeplaces import Stack

if TYPE_CHECKING:  # see above: it is imported late
    from .locks import Deadlock

MOST_FRAMES = 200
_ALL_FRAMES = 10_000
#: A cycle of locks counts as a deadlock if no thread in it has progressed for this many seconds.
STILL = 0.1
_NOT_MOVING = ('', 'futex', 'restart_syscall')
#: The kinds of threads, in the order of an observation.
_KINDS = ('main', 'worker', 'other', 'monitor')


@dataclass(frozen=True)
class Observation:
    """All threads at one moment, in the order of _KINDS, and the deadlocks.

    If several threads may hold the lock that a thread waits for, `holders` of its state is empty,
    and the detail names all of them.  `without_kernel`: what the kernel knows of the threads could
    not be read, because no descriptor was left.
    """

    states: tuple[ThreadState, ...]
    deadlocks: tuple[Deadlock, ...] = ()
    without_kernel: bool = False


class ServingThread(Protocol):
    """A slot of the recorder, used by one worker.  `life` returns None if the worker has ended."""

    ident: int
    native_id: int

    @property
    def life(self) -> Callable[[], object]: ...


class RequestSource(Protocol):
    """The part of a recorder that is used here."""

    @property
    def slots(self) -> Mapping[int, ServingThread]: ...

    def request(self, slot: Any) -> tuple[Request, float] | None:
        """Return the request in progress in a slot, and its start (monotonic, in seconds)."""


class ThreadWatch:
    """Takes snapshots of all threads.

    Call `loads.look` periodically.  Any thread may call `snapshot` or `observe` at any time.
    `gauge(ident, native_id)` returns (size, used) of a stack in bytes, or None.
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
        """Return the states of all threads; see `observe`."""
        return self.observe().states

    def observe(self) -> Observation:
        """Return all threads and deadlocks.

        CPU shares are known if the last call of `loads.look`, or the one before, is at least a
        second old.
        """
        return _Moment(self).observation()


class _Moment:
    """Makes one observation; holds what has been read so far."""

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
        self.names: dict[int, str] = {}
        self.native_ids: dict[int, int] = {}
        self.slots: dict[int, ServingThread] = {}
        self._identify()
        from .locks import examine

        waiting = [ident for ident in self.stacks if self._may_wait(ident)]
        self.wants = examine(self.stacks, waiting)
        self.requests = {ident: self._request(ident) for ident in self.slots}
        self.targets: dict[int, CallTarget] = {}
        for ident in self.stacks:
            self.targets[ident] = call_target(self.kernel, self._task(ident))
        self.busiest = 0.0
        for load in self.loads.values():
            self.busiest = max(self.busiest, load.cpu or 0.0)

    def observation(self) -> Observation:
        starving = self._starving()
        if starving:
            # Only the loads of these threads are measured again.  Everything else was read at one
            # moment and stays as it is.
            self.loads |= self.of_next_moment(starving)
        states = [self._state(ident) for ident in self.stacks]
        for task in self._without_python():
            states.append(self._native(task))
        states.sort(key=_order)
        return Observation(tuple(states), tuple(self._deadlocks()), not self.tasks)

    # -- which thread is which ---------------------------------------------------------------------

    def _identify(self) -> None:
        """Find the name and the native id of each thread, and the slots of the workers."""
        # `threading.enumerate` takes a lock.  A dict is copied in one step under the GIL.
        threads = dict(threading._active)  # type: ignore[attr-defined]
        native_ids: dict[int, int] = {}
        for ident, thread in threads.items():
            self.names[ident] = str(getattr(thread, '_name', ''))
            native_ids[ident] = native_id_of(thread)
        slots = () if self.recorder is None else tuple(self.recorder.slots.values())
        for slot in slots:
            if slot.life() is not None:
                self.slots[slot.ident] = slot
                native_ids[slot.ident] = slot.native_id
        nameless = []
        for ident in self.stacks:
            native_id = native_ids.get(ident)
            if native_id:
                self.native_ids[ident] = native_id
            else:
                nameless.append(ident)
        self.native_ids |= self.kernel.by_stack(nameless, self._without_python())
        for ident in self.stacks:
            if ident not in self.names:  # C code started this thread
                task = self._task(ident)
                self.names[ident] = task.comm if task else 'a thread without a name'

    def _without_python(self) -> list[Task]:
        """Return the kernel's threads for which no thread of Python is known yet."""
        known = set(self.native_ids.values())
        found = []
        for tid, task in self.tasks.items():
            if tid not in known:
                found.append(task)
        return found

    def _task(self, ident: int) -> Task | None:
        return self.tasks.get(self.native_ids.get(ident, 0))

    def _may_wait(self, ident: int) -> bool:
        if ident == self.own:
            return False
        task = self._task(ident)
        if task is None:
            return True
        return task.call in _NOT_MOVING and not waits_for_interpreter(task)

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
        """Return the native ids of threads that are ready for a CPU but had little CPU time.

        They have waited for the GIL all the time, or have only just become ready.
        """
        found = []
        for ident, tid in self.native_ids.items():
            task = self.tasks.get(tid)
            cpu = self.loads.get(tid, UNKNOWN).cpu
            if ident == self.own or task is None or cpu is None:
                continue
            is_ready = activity.is_ready(task, waits_for_interpreter(task))
            if is_ready and not is_busy(cpu, self.busiest):
                found.append(tid)
        return found

    def _state(self, ident: int) -> ThreadState:
        frames = frames_of(self.stacks[ident])
        code, detail = self._judge(ident, self._task(ident), frames)
        name = self.names[ident]
        native_id = self.native_ids.get(ident, 0)
        load = self.loads.get(native_id, UNKNOWN)
        stack = self.gauge(ident, native_id) if self.gauge else None
        size, used = stack or (0, 0)
        want = self.wants.get(ident)
        holders = [holder.ident for holder in want.holders] if want else []
        if len(holders) > 1:  # it is not known which one
            holders = []
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
            holders=tuple(holders),
        )

    def _native(self, task: Task) -> ThreadState:
        load = self.loads.get(task.tid, UNKNOWN)
        facts = activity.Facts(
            task=task,
            cpu=load.cpu,
            busiest=self.busiest,
            turns=load.turns,
        )
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
        lock = ''
        waiting = ''
        want = self.wants.get(ident)
        if want and want.lock:
            lock = want.phrase(self.names)
        elif want:
            waiting = want.phrase(self.names)
        target = self.targets[ident]
        facts = activity.Facts(
            frames=frames,
            task=task,
            gil=waits_for_interpreter(task),
            cpu=load.cpu,
            busiest=self.busiest,
            turns=load.turns,
            lock=lock,
            waiting=waiting,
            target=target.name,
            descriptors=target.descriptors,
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
        """Yield the cycles in which no thread progresses.

        Each thread is checked twice, because healthy code also waits for a moment.
        """
        from .locks import deadlocks

        found = deadlocks(self.wants, self.names)
        if not found:
            return
        self.sleep(STILL)
        again = stacks()
        for deadlock in found:
            moved = (self._has_moved(ident, again) for ident in deadlock.idents)
            if not any(moved):
                yield deadlock

    def _has_moved(self, ident: int, again: Mapping[int, Stack]) -> bool:
        if again.get(ident) != self.stacks[ident]:
            return True
        task = self._task(ident)
        return task is not None and self.kernel.reading(task.tid) != task.reading


def stacks() -> dict[int, Stack]:
    """Return {ident: stack} of all threads; a stack has at most MOST_FRAMES frames."""
    frames = current_frames()
    found: dict[int, Stack] = {}
    while frames:
        ident, frame = frames.popitem()
        found[ident] = tuple(_walk(frame))
    return found


def stack_of(ident: int) -> Stack:
    """Return all frames of one thread; () if it has ended."""
    frames = current_frames()
    try:
        return tuple(_walk(frames.get(ident), _ALL_FRAMES))
    finally:
        frames.clear()  # break the cycle: it refers to our own frame, which refers to it


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
    frames = []
    for place in places:
        code = place.code
        frames.append(Frame(code.co_filename, place.line, code.co_name))
    return tuple(frames)


def _order(state: ThreadState) -> tuple[int, bool, int, int]:
    return (
        _KINDS.index(state.kind),
        not state.frames,
        state.native_id,
        state.ident,
    )
