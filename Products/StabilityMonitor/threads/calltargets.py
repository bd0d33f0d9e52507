"""The target of the system call of a thread: a path, a peer, a child process, or descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..system.tasks import Descriptor
from ..system.tasks import KernelThreads
from ..system.tasks import Task
from .activity import CHILDREN
from .activity import LOCKED
from .activity import PATHS
from .activity import POLLS
from .activity import STREAMS

#: At most this many descriptors of a call are read.
_MOST_DESCRIPTORS = 8
#: Process ids of Linux are below this.
_PID_LIMIT = 1 << 22


class CallTarget(NamedTuple):
    """What a call is about.  `name` is a path, a peer or a child process; '' if none is known."""

    name: str = ''
    descriptors: tuple[Descriptor, ...] = ()


_NONE = CallTarget()


def call_target(kernel: KernelThreads, task: Task | None) -> CallTarget:
    """Return the target of the call that a thread is in; an empty one if it is not known."""
    if task is None or not task.arguments:
        return _NONE
    call = task.call
    arguments = task.arguments
    if call in PATHS:
        path = arguments[PATHS[call]]
        return CallTarget(kernel.text(path))
    if call in CHILDREN:
        pid = arguments[1] if call == 'waitid' else arguments[0]
        return CallTarget(_child(kernel, pid))
    if call == 'connect':
        peer = kernel.socket_address(*arguments[1:3])
        return CallTarget(peer, _described(kernel, arguments[:1]))
    if call in POLLS:
        polled = kernel.polled(*arguments[:2])
        return CallTarget('', _described(kernel, polled))
    if call in STREAMS or call in LOCKED:
        return CallTarget('', _described(kernel, arguments[:1]))
    return _NONE


def _described(kernel: KernelThreads, numbers: Sequence[int]) -> tuple[Descriptor, ...]:
    found = []
    for number in numbers[:_MOST_DESCRIPTORS]:
        descriptor = kernel.descriptor(number)
        if descriptor:
            found.append(descriptor)
    return tuple(found)


def _child(kernel: KernelThreads, pid: int) -> str:
    """Return for example "process 4711 (convert)"."""
    if not 0 < pid < _PID_LIMIT:
        return 'any child process'
    name = kernel.process_name(pid)
    if name:
        return f'process {pid} ({name})'
    return f'process {pid}'
