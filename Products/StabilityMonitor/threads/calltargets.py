"""What the system call that a thread is in is about: a path, a peer, a child, descriptors."""

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

#: No more descriptors of a call are looked at.
_MOST_DESCRIPTORS = 8
#: Linux has no larger process ids.
_PID_LIMIT = 1 << 22


class CallTarget(NamedTuple):
    """`name`: a path, a peer or a child, in words; '' for none."""

    name: str = ''
    descriptors: tuple[Descriptor, ...] = ()


_NONE = CallTarget()


def call_target(kernel: KernelThreads, task: Task | None) -> CallTarget:
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
    """Such as "process 4711 (convert)"."""
    if not 0 < pid < _PID_LIMIT:
        return 'any child process'
    name = kernel.process_name(pid)
    if name:
        return f'process {pid} ({name})'
    return f'process {pid}'
