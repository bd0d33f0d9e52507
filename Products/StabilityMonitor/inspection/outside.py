"""A living process that does not answer, seen from outside: by the kernel, its black box and its
watchdog.

`look` collects the facts.  `View.holders` then judges, by the table `_SIGNS_OF_HOLDER`, which
thread probably holds the interpreter lock (GIL).

A process that has used up its descriptors answers, but cannot open the files of the kernel about
its threads.  `completed` reads them from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..model.records import Request
from ..model.threadstates import Stacks
from ..model.threadstates import ThreadState
from ..postmortem import evidence
from ..postmortem.evidence import Traces
from ..store.blackboxreader import Recording
from ..store.rundirectory import is_alive
from ..system import procfiles
from ..system.tasks import KernelThreads
from ..system.tasks import Reading
from ..system.tasks import Task
from ..threads import activity
from ..threads.activity import LOCKED
from ..threads.activity import STREAMS
from ..threads.calltargets import call_target

#: Wake-ups per second from which a thread counts as waiting for the GIL.  Such a thread wakes about
#: 200 times a second (`threads.activity`), on a busy machine less often.
_WAKES = 40
#: Share of one CPU from which a thread counts as running.
_RUNS = 0.5
#: The same for a thread that is on a CPU, or ready for one, at each look: on a busy machine a
#: thread that would run all the time gets less.
_RUNS_AT_EACH_LOOK = 0.05
#: How often `look` reads what each thread does.  A thread that waits for the GIL wakes so often
#: that one look alone may find it on a CPU.
_LOOKS = 4
_POLLS = ('select', 'pselect6', 'poll', 'ppoll', 'epoll_wait', 'epoll_pwait', 'epoll_pwait2')
_STOPPED = frozenset('Tt')
_LIMITS_SIZE = 4096


@dataclass(frozen=True)
class Seen:
    """One thread.  `cpu` is its share of one CPU, `wakes` is per second; None: not known.

    `kernel` is what it did at the last look, `before` at the looks before.
    """

    kernel: Task
    ident: int = 0
    cpu: float | None = None
    wakes: float | None = None
    request: Request | None = None
    target: str = ''  # what the descriptor in its system call refers to
    before: tuple[Task, ...] = ()

    @property
    def calls(self) -> set[str]:
        """The system calls in which it waited at the looks; '' for one that is not known."""
        return {task.call for task in (*self.before, self.kernel)} - {'running'}

    @property
    def waits_for_gil(self) -> bool:
        wakes = self.wakes or 0
        return 'futex' in self.calls and wakes >= _WAKES and not self.runs

    @property
    def runs(self) -> bool:
        """Whether it uses real CPU time; to be on a CPU at one look is not enough."""
        cpu = self.cpu or 0
        looks = (*self.before, self.kernel)
        is_always_ready = len(looks) > 1 and all(task.state == 'R' for task in looks)
        return cpu >= _RUNS or (is_always_ready and cpu >= _RUNS_AT_EACH_LOOK)


@dataclass(frozen=True)
class View:
    """The process at one moment.

    `there` says whether it exists; None: this process cannot know, and `threads` is empty.
    `monotonic` is the same moment by the monotonic clock, if the process has the same one.
    """

    pid: int
    time: float
    there: bool | None
    threads: tuple[Seen, ...]
    traces: Traces
    monotonic: float | None = None

    def seconds_since(self, moment: float, monotonic: float | None) -> float:
        """Return how many seconds ago a moment of the process was; `monotonic`: see the class."""
        if monotonic is not None and self.monotonic is not None:
            passed = self.monotonic - monotonic
            if passed >= 0:  # in another time namespace it may be behind
                return passed
        return max(0.0, self.time - moment)

    @property
    def is_stopped(self) -> bool:
        states = {seen.kernel.state for seen in self.threads}
        return bool(states) and states <= _STOPPED

    @property
    def waiting(self) -> list[Seen]:
        """The threads that wait for the GIL."""
        return [seen for seen in self.threads if seen.waits_for_gil]

    def holders(self) -> list[Seen]:
        """Return the threads that may hold the GIL, if any thread waits for it: usually one."""
        if not self.waiting or self.is_stopped:
            return []
        found = [seen for seen in self.threads if not seen.waits_for_gil]
        for has_sign in _SIGNS_OF_HOLDER:
            likely = [seen for seen in found if has_sign(seen)]
            if likely:
                found = likely
        return found


#: Signs of the thread that holds the GIL, the surest first.  A sign that no thread shows is
#: skipped.
_SIGNS_OF_HOLDER: tuple[Callable[[Seen], bool], ...] = (
    lambda seen: seen.runs,
    lambda seen: bool(seen.calls) and seen.calls.isdisjoint(('futex', *_POLLS)),
    lambda seen: seen.request is not None,
    lambda seen: bool(seen.calls) and 'futex' not in seen.calls,
)


def look(
    path: Path,
    context: dict[str, Any],
    pid: int,
    proc: Path = Path('/proc'),
    pause: float = 0.3,
) -> View:
    """Return everything that can be seen of the run in directory `path`; takes `pause` seconds.

    Raises OSError if the user has no permission.
    """
    traces = evidence.collect(path, evidence.World(proc=proc))
    there = is_alive(path, proc)
    threads: tuple[Seen, ...] = ()
    if there:
        threads = _threads(KernelThreads(proc, pid=pid), traces.recording, pause)
    monotonic = time.monotonic() if traces.same_boot else None
    return View(pid, time.time(), there, threads, traces, monotonic)


def executable(pid: int, proc: Path = Path('/proc')) -> str:
    """Return the program that a process runs; '' if it is not known."""
    try:
        return os.readlink(proc / str(pid) / 'exe')
    except OSError:
        return ''


def users(pid: int, proc: Path = Path('/proc')) -> set[int]:
    """Return the user ids of a process: real, effective, saved, file system; empty: not known."""
    status = procfiles.read(proc / str(pid) / 'status').decode('ascii', 'replace')
    for line in status.splitlines():
        if line.startswith('Uid:'):
            _, *numbers = line.split()
            return {int(number) for number in numbers}
    return set()


def descriptors(pid: int, proc: Path = Path('/proc')) -> tuple[int, int] | None:
    """Return (descriptors in use, limit) of a process; None if that cannot be read here."""
    limits = procfiles.read(proc / str(pid) / 'limits', _LIMITS_SIZE)
    _, found, rest = limits.partition(b'Max open files')
    soft, _, _ = rest.strip().partition(b' ')
    try:
        used = len(os.listdir(proc / str(pid) / 'fd'))
    except OSError:
        return None
    if not found or not soft.isdigit():  # it may be "unlimited"
        return None
    return used, int(soft)


def completed(stacks: Stacks, pid: int, proc: Path = Path('/proc')) -> Stacks:
    """Return the answer of a process, with what the kernel tells about its threads.

    Only threads are changed about which the process itself knows their Python frames at most.
    """
    kernel = KernelThreads(proc, pid=pid, peer=lambda descriptor: '')
    threads = []
    for thread in stacks.threads:
        if thread.activity == 'unknown':
            thread = _judged(thread, kernel)
        threads.append(thread)
    known = {thread.native_id for thread in threads}
    for tid in kernel.ids():
        if tid not in known:
            threads.append(_judged(ThreadState(native_id=tid, kind='other'), kernel))
    return replace(stacks, threads=tuple(threads), without_kernel=False)


def _judged(thread: ThreadState, kernel: KernelThreads) -> ThreadState:
    task = kernel.task(thread.native_id)
    if task is None:
        return thread
    target = call_target(kernel, task)
    code, detail = activity.judge(
        activity.Facts(
            frames=thread.frames,
            task=task,
            cpu=thread.cpu,
            busiest=thread.cpu or 0.0,
            target=target.name,
            descriptors=target.descriptors,
        )
    )
    return replace(thread, name=thread.name or task.comm, activity=code, detail=detail)


def _threads(
    kernel: KernelThreads,
    recording: Recording | None,
    pause: float,
) -> tuple[Seen, ...]:
    idents: dict[int, int] = {}
    requests: dict[int, Request] = {}
    if recording:
        idents = {slot.native_id: ident for ident, slot in recording.threads.items()}
        requests = {request.native_id: request for request in recording.in_flight}
    before = {tid: kernel.reading(tid) for tid in kernel.ids()}
    began = time.monotonic()
    looks: dict[int, list[Task]] = {tid: [] for tid in before}
    for _ in range(_LOOKS):
        time.sleep(pause / _LOOKS)
        for tid in before:
            task = kernel.task(tid)
            if task is not None:
                looks[tid].append(task)
    seconds = time.monotonic() - began
    found = []
    for tid, reading in before.items():
        if len(looks[tid]) < _LOOKS:  # it has ended
            continue
        *earlier, task = looks[tid]
        cpu, wakes = _rates(reading, task.reading, seconds)
        target = ''
        if task.arguments and task.call in STREAMS | LOCKED:
            target = kernel.link(task.arguments[0])
        seen = Seen(
            task,
            ident=idents.get(tid, 0),
            cpu=cpu,
            wakes=wakes,
            request=requests.get(tid),
            target=target,
            before=tuple(earlier),
        )
        found.append(seen)
    return tuple(found)


def _rates(
    before: Reading | None,
    now: Reading | None,
    seconds: float,
) -> tuple[float | None, float | None]:
    """(share of one CPU, turns on a CPU per second) between two readings; None: not known."""
    if before is None or now is None or seconds <= 0:
        return None, None
    ran = max(0.0, now.cpu - before.cpu)
    share = ran / seconds
    if before.turns < 0 or now.turns < 0:
        return share, None
    turns = now.turns - before.turns
    return share, turns / seconds
