"""What the kernel tells about the threads of this process, and the descriptors they wait for.

Nothing here raises: where the kernel refuses, where a thread has ended meanwhile, and on other
systems, the answer is None, '' or empty.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import procfiles
from .systemcalls import call_names
from .systemcalls import machine as this_machine

#: What the link of a descriptor begins with, and the word for it; any other with a "/" is a file.
_KINDS = (
    ('socket:', 'socket'),
    ('pipe:', 'pipe'),
    ('anon_inode:[eventfd]', 'eventfd'),
    ('anon_inode:[eventpoll]', 'epoll'),
    ('anon_inode:', 'other'),
    ('/dev/pts/', 'terminal'),
    ('/dev/tty', 'terminal'),
    ('/dev/console', 'terminal'),
    ('/dev/', 'device'),
    ('/', 'file'),
)
_STANDARD = {0: 'stdin', 1: 'stdout', 2: 'stderr'}
_STREAMS = ('terminal', 'pipe', 'socket')
_RUNTIME_SIZE = 1 << 20  # 3.11 to 3.13: 100 to 450 KiB; locks of programs lie elsewhere
_POLLED = 64
_IS_LINUX = sys.platform.startswith('linux')
_CLOCK_OF_THREAD = 6  # in the kernel's numbers: the scheduled time of one thread
_NET_SIZE = 1 << 16


class Reading(NamedTuple):
    """How much CPU a thread has had by now."""

    cpu: float  # seconds
    turns: int = -1  # how many times it was given a CPU; -1: not known
    waited: float = 0.0  # run-queue wait, in seconds


@dataclass(frozen=True)
class Task:
    """One thread as the kernel sees it.

    `state` is R, S, D ...  `call` is the system call that it waits in, "call 123" for one without a
    name here, "running" when it is on a CPU or ready for one, '' when not known.
    """

    tid: int
    comm: str = ''
    state: str = ''
    reading: Reading | None = None
    call: str = ''
    arguments: tuple[int, ...] = ()
    stack_pointer: int = 0


@dataclass(frozen=True)
class Descriptor:
    """What lies behind a descriptor."""

    number: int
    kind: str  # socket, pipe, file, terminal, device, eventfd, epoll or other
    name: str = ''
    standard: str = ''  # "stdin", "stdout" or "stderr" when it is the same file as that
    peer: str = ''  # the address at the other end


class KernelThreads:
    """The threads of process `pid`, by default of this one.

    `peer` returns the address at the other end of a socket.
    """

    def __init__(
        self,
        proc: Path = Path('/proc'),
        machine: str | None = None,
        peer: Callable[[int], str] | None = None,
        pid: int | None = None,
    ) -> None:
        self._self = str(proc / ('self' if pid is None else str(pid)))
        self._tasks = f'{self._self}/task'
        self._names = call_names(machine or this_machine())
        self._peer = peer or peer_of
        self._known: list[int] = []  # whose clocks were read last
        self._proc = proc

    def ids(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(self._tasks) if name.isdigit()]
        except OSError:
            return []

    def reading(self, tid: int) -> Reading | None:
        reading = _scheduled(procfiles.read(f'{self._tasks}/{tid}/schedstat'))
        if reading is None:
            _, _, fields = _status(procfiles.read(f'{self._tasks}/{tid}/stat'))
            reading = _ticks(fields)
        return reading

    def clocks(self) -> dict[int, float]:
        """{native id: what its `clock` shows} of all threads, for each round of the heartbeat.

        The threads are listed only when one has begun or ended: to list them takes as long as all
        else in a beat.
        """
        clocks = self.clocks_of(self._known)
        if len(clocks) == len(self._known) == self._count():
            return clocks
        self._known = self.ids()
        return self.clocks_of(self._known)

    def clocks_of(self, tids: Iterable[int]) -> dict[int, float]:
        """The same of those of these threads that still exist."""
        found = {}
        for tid in tids:
            seconds = clock(tid)
            if seconds is not None:
                found[tid] = seconds
        return found

    def _count(self) -> int:
        """How many threads there are: each one is a link to the directory that lists them."""
        try:
            return os.stat(self._tasks).st_nlink - 2
        except OSError:
            return -1

    def task(self, tid: int) -> Task | None:
        comm, state, _ = _status(procfiles.read(f'{self._tasks}/{tid}/stat'))
        if not state:
            return None
        call, arguments, pointer = self._call(
            procfiles.read(f'{self._tasks}/{tid}/syscall').split()
        )
        return Task(tid, comm, state, self.reading(tid), call, arguments, pointer)

    def _call(self, fields: Sequence[bytes]) -> tuple[str, tuple[int, ...], int]:
        """(name, arguments, stack pointer) out of a line of `syscall`.

        That is 'running', or '-1 sp pc' (waits, but in no call), or 'number a0 ... a5 sp pc'.
        """
        if fields == [b'running']:
            return 'running', (), 0
        try:
            if len(fields) == 3:
                return '', (), int(fields[1], 16)
            if len(fields) == 9:
                number = int(fields[0])
                values = tuple(int(field, 16) for field in fields[1:])
                return self._names.get(number) or f'call {number}', values[:6], values[6]
        except ValueError:
            pass
        return '', (), 0

    def descriptor(self, number: int) -> Descriptor | None:
        link = self.link(number)
        if not link:
            return None
        kind = next((word for start, word in _KINDS if link.startswith(start)), 'other')
        if kind == 'file' and self._is_fifo(number):
            kind = 'pipe'
        peer = ''
        if kind == 'socket':
            peer = self._peer(number) or self._connecting(link)
        return Descriptor(number, kind, link, self._standard(number, link, kind), peer)

    def _is_fifo(self, number: int) -> bool:
        """Whether it is a named pipe, whose link is a path."""
        try:
            return stat.S_ISFIFO(os.stat(f'{self._self}/fd/{number}').st_mode)
        except (OSError, ValueError):
            return False

    def _standard(self, number: int, link: str, kind: str) -> str:
        if number in _STANDARD:
            return _STANDARD[number]
        if kind in _STREAMS:
            for standard in (1, 2):
                if self.link(standard) == link:
                    return _STANDARD[standard]
        return ''

    def link(self, number: int) -> str:
        """The kernel's name of a descriptor, such as "socket:[17]" or a path."""
        try:
            return os.readlink(f'{self._self}/fd/{number}')
        except (OSError, ValueError):
            return ''

    def _connecting(self, link: str) -> str:
        """The peer of a socket that is not connected yet, out of the table of TCP connections."""
        inode = link[8:-1].encode()
        for table in ('tcp', 'tcp6'):
            for line in procfiles.read(f'{self._self}/net/{table}', _NET_SIZE).splitlines():
                fields = line.split()
                if len(fields) > 9 and fields[9] == inode:
                    return _hexadecimal_address(fields[2])
        return ''

    def memory(self, address: int, size: int) -> bytes:
        """Memory, read through the kernel, which refuses what is not mapped; b'' then."""
        try:
            file = os.open(f'{self._self}/mem', os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return b''
        try:
            return os.pread(file, size, address)
        except (OSError, OverflowError, ValueError):
            return b''
        finally:
            os.close(file)

    def polled(self, address: int, count: int) -> tuple[int, ...]:
        """The descriptors in an array of `struct pollfd`, at most 64."""
        found = self.memory(address, 8 * min(count, _POLLED))
        whole = found[: len(found) // 8 * 8]
        return tuple(fd for fd, _, _ in struct.iter_unpack('=ihh', whole) if fd >= 0)

    def text(self, address: int) -> str:
        """The path that a call was given, at most 255 bytes."""
        return self.memory(address, 255).partition(b'\0')[0].decode('utf-8', 'replace')

    def socket_address(self, address: int, size: int) -> str:
        return address_of(self.memory(address, min(size, 128)))

    def process_name(self, pid: int) -> str:
        name = procfiles.read(str(self._proc / str(pid) / 'comm'))
        return name.decode('utf-8', 'replace').strip()

    def by_stack(self, idents: Sequence[int], tasks: Sequence[Task]) -> dict[int, int]:
        """{ident: tid} for threads whose native id Python does not know.

        The ident of POSIX threads is an address at the upper end of the thread's stack (glibc,
        musl), so it lies above the stack pointer and in the same mapping.  From glibc 2.42 on the
        stacks of several threads can be one mapping: to a stack pointer belongs the nearest ident
        above it, and to an ident the nearest stack pointer below it.
        """
        if not idents or not tasks:
            return {}
        mappings = []
        for line in procfiles.read(f'{self._self}/maps', 1 << 22).splitlines():
            start, dash, end = line.split(b' ', 1)[0].partition(b'-')
            if dash:
                mappings.append((int(start, 16), int(end, 16)))
        mapping_of = {}
        for address in [*idents, *(task.stack_pointer for task in tasks)]:
            holding = (each for each in mappings if each[0] <= address < each[1])
            mapping_of[address] = next(holding, None)
        found = {}
        for task in sorted(tasks, key=lambda task: task.stack_pointer):
            above = [ident for ident in idents if ident > task.stack_pointer]
            mapping = mapping_of[task.stack_pointer]
            if above and mapping is not None and mapping == mapping_of[min(above)]:
                found[min(above)] = task.tid
        return found


def clock(tid: int) -> float | None:
    """Seconds of CPU time that a thread of this process has had.

    As long as it stays the same, the thread has not run.  None when the thread has ended, and on
    systems other than Linux, which numbers these clocks in its own way.

    Files of /proc tell the same, but take long to open.  `pthread_getcpuclockid` must not be called
    for a thread that has ended.
    """
    if not _IS_LINUX or not tid:
        return None
    try:
        return time.clock_gettime(~tid << 3 | _CLOCK_OF_THREAD)
    except OSError:
        return None


def _scheduled(text: bytes) -> Reading | None:
    """The Reading of a line of `schedstat`; None where the kernel does not count (all are 0)."""
    try:
        ran, waited, turns = map(int, text.split())
    except ValueError:
        return None
    return Reading(ran / 1e9, turns, waited / 1e9) if ran > 0 else None


def waits_for_interpreter(task: Task | None) -> bool:
    """Whether it waits for a futex of the interpreter itself, such as that of the GIL.

    Those lie in `_PyRuntime`.
    """
    if task is None or task.call != 'futex' or not _RUNTIME:
        return False
    return _RUNTIME <= task.arguments[0] < _RUNTIME + _RUNTIME_SIZE


def _runtime() -> int:
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'))
    except (AttributeError, ValueError):
        return 0


def peer_of(descriptor: int) -> str:
    """The address at the other end of a socket.

    `socket.socket(fileno=)` would tell it, but may make the descriptor non-blocking.
    """
    if procfiles.LIBC is None:
        return ''
    buffer = ctypes.create_string_buffer(128)
    size = ctypes.c_uint(128)
    try:
        refused = procfiles.LIBC.getpeername(descriptor, buffer, ctypes.byref(size))
        return '' if refused else address_of(buffer.raw[: size.value])
    except AttributeError:
        return ''


def address_of(raw: bytes) -> str:
    """A `struct sockaddr` of Linux in words: "10.0.0.5:5432", "[::1]:80", a path; '' for others."""
    if len(raw) < 2:
        return ''
    (family,) = struct.unpack_from('=H', raw)
    if family == socket.AF_UNIX:
        return raw[2:].lstrip(b'\0').partition(b'\0')[0].decode('utf-8', 'replace')
    port = int.from_bytes(raw[2:4], 'big')
    if family == socket.AF_INET and len(raw) >= 8:
        host = socket.inet_ntop(family, raw[4:8])
        return f'{host}:{port}'
    if family == socket.AF_INET6 and len(raw) >= 24:
        host = socket.inet_ntop(family, raw[8:24])
        return f'[{host}]:{port}'
    return ''


def _hexadecimal_address(field: bytes) -> str:
    """An address of /proc/net/tcp: 32-bit words in the CPU's own byte order, then the port."""
    host, _, port = field.decode('ascii', 'replace').partition(':')
    try:
        words = [int(host[start : start + 8], 16) for start in range(0, len(host), 8)]
        raw = b''.join(word.to_bytes(4, sys.byteorder) for word in words)
        name = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
        number = int(port, 16)
    except (ValueError, OSError):
        return ''
    if ':' in name:
        return f'[{name}]:{number}'
    return f'{name}:{number}' if number else ''


def _status(text: bytes) -> tuple[str, str, Sequence[bytes]]:
    """(comm, state, fields from the state on) of a `stat` file.

    The comm may hold blanks and parentheses.
    """
    head, found, rest = text.rpartition(b')')
    fields = rest.split()
    if not found or not fields:
        return '', '', ()
    comm = head.partition(b'(')[2].decode('utf-8', 'replace')
    state = fields[0].decode('ascii', 'replace')
    return comm, state, fields


def _ticks(fields: Sequence[bytes]) -> Reading | None:
    try:
        ticks = int(fields[11]) + int(fields[12])  # in user mode, and in the kernel
        return Reading(ticks / os.sysconf('SC_CLK_TCK'))
    except (IndexError, ValueError):
        return None


_RUNTIME = _runtime()
