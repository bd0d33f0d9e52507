"""A living process that does not answer, seen from outside: by the kernel, its black box, its
dead-man switch.

Collects first (`look`); who probably holds the interpreter lock (GIL) is judged by a table of what
tells it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.records import Request
from ..postmortem import evidence
from ..postmortem.evidence import Traces
from ..store.blackboxreader import Recording
from ..store.rundirectory import is_alive
from ..system import procfiles
from ..system.tasks import KernelThreads
from ..system.tasks import Reading
from ..system.tasks import Task
from ..threads.activity import LOCKED
from ..threads.activity import STREAMS

#: A thread that waits for the GIL wakes up some 200 times a second (`threads.activity`).
_WAKES, _RUNS = 40, 0.5
_POLLS = ('select', 'pselect6', 'poll', 'ppoll', 'epoll_wait', 'epoll_pwait', 'epoll_pwait2')
_STOPPED = ('T', 't')


@dataclass(frozen=True)
class Seen:
    """One thread.  `cpu` is a share of a processor, `wakes` a second; None: not known."""

    kernel: Task
    ident: int = 0
    cpu: float | None = None
    wakes: float | None = None
    request: Request | None = None
    target: str = ''  # what the descriptor of its system call leads to

    @property
    def waits_for_gil(self) -> bool:
        return self.kernel.call == 'futex' and (self.wakes or 0) >= _WAKES

    @property
    def runs(self) -> bool:
        return self.kernel.state == 'R' or (self.cpu or 0) >= _RUNS


@dataclass(frozen=True)
class View:
    """`there`: does the process exist?  None: where this process cannot look.  `threads` are empty
    then.
    """

    pid: int
    time: float
    there: bool | None
    threads: tuple[Seen, ...]
    traces: Traces

    @property
    def is_stopped(self) -> bool:
        return bool(self.threads) and all(seen.kernel.state in _STOPPED for seen in self.threads)

    @property
    def waiting(self) -> list[Seen]:
        """Those that wait for the GIL."""
        return [seen for seen in self.threads if seen.waits_for_gil]

    def holders(self) -> list[Seen]:
        """Who probably holds the GIL, if anybody waits for it: as a rule one."""
        found = [seen for seen in self.threads if not seen.waits_for_gil]
        for tells in _TELLS:
            found = [seen for seen in found if tells(seen)] or found
        return found if self.waiting and not self.is_stopped else []


#: What tells the holder from the others, the surest first; what holds for nobody tells nothing.
_TELLS: tuple[Callable[[Seen], bool], ...] = (
    lambda seen: seen.runs,
    lambda seen: seen.kernel.call not in ('futex', *_POLLS),
    lambda seen: seen.request is not None,
    lambda seen: seen.kernel.call != 'futex',
)


def look(
    path: Path, context: dict[str, Any], pid: int, proc: Path = Path('/proc'), pause: float = 0.3
) -> View:
    """All that is to be had of the run in directory `path`; takes `pause` seconds.  Raises OSError
    without rights.
    """
    traces = evidence.collect(path, evidence.World(proc=proc))
    there = is_alive(path, proc)
    threads = _threads(KernelThreads(proc, pid=pid), traces.recording, pause) if there else ()
    return View(pid, time.time(), there, threads, traces)


def executable(pid: int, proc: Path = Path('/proc')) -> str:
    """The program that a process runs; '' where that is not told."""
    try:
        return os.readlink(proc / str(pid) / 'exe')
    except OSError:
        return ''


def users(pid: int, proc: Path = Path('/proc')) -> set[int]:
    """The user ids of a process (real, effective, saved, of files); empty where they are not
    told.
    """
    status = procfiles.read(str(proc / str(pid) / 'status')).decode('ascii', 'replace')
    line = next((line for line in status.splitlines() if line.startswith('Uid:')), '')
    return set(map(int, line.split()[1:]))


def _threads(kernel: KernelThreads, recording: Recording | None, pause: float) -> tuple[Seen, ...]:
    idents = (
        {slot['native_id']: ident for ident, slot in recording.threads.items()} if recording else {}
    )
    flying = {request.native_id: request for request in recording.in_flight} if recording else {}
    before = {tid: kernel.reading(tid) for tid in kernel.ids()}
    began = time.monotonic()
    time.sleep(pause)
    seconds = time.monotonic() - began
    found = []
    for tid, reading in before.items():
        task = kernel.task(tid)
        if task:
            cpu, wakes = _rates(reading, task.reading, seconds)
            ident, request = idents.get(tid, 0), flying.get(tid)
            found.append(Seen(task, ident, cpu, wakes, request, _target(kernel, task)))
    return tuple(found)


def _target(kernel: KernelThreads, task: Task) -> str:
    return (
        kernel.link(task.arguments[0]) if task.arguments and task.call in STREAMS | LOCKED else ''
    )


def _rates(
    before: Reading | None, now: Reading | None, seconds: float
) -> tuple[float | None, float | None]:
    if before is None or now is None or seconds <= 0:
        return None, None
    wakes = (now.turns - before.turns) / seconds if min(now.turns, before.turns) >= 0 else None
    return max(0.0, now.cpu - before.cpu) / seconds, wakes
