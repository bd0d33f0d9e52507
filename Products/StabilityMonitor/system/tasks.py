"""What the kernel knows about the threads of a process, and the descriptors they wait for.

Nothing here raises an exception.  If the kernel refuses, if a thread has ended meanwhile, and on
other systems, the result is None, '' or empty.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
import threading
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

#: (how the link of a descriptor begins, kind).  The first match counts.
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
#: No `_PyRuntime` is larger: it has 100 to 450 KiB in Python 3.11 to 3.13.  The locks of a program
#: are not near it, so a futex within this many bytes belongs to the interpreter.
_RUNTIME_SIZE = 1 << 20
_POLLED = 64
_IS_LINUX = sys.platform.startswith('linux')
_CLOCK_OF_THREAD = 6  # the kernel's number for the CPU time of one thread
#: At most this many bytes of /proc/net/tcp and of /proc/PID/maps are read.
_NET_SIZE = 1 << 16
_MAPS_SIZE = 1 << 22
#: `struct pollfd`: only the descriptor; the requested and returned events are skipped.
_POLLFD = struct.Struct('=i4x')
#: `struct sockaddr_in` and `sockaddr_in6` after the family: port, address.
_IPV4 = struct.Struct('!2xH4s')
_IPV6 = struct.Struct('!2xH4x16s')

try:
    _RUNTIME = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'))
except (AttributeError, ValueError):
    _RUNTIME = 0


class Reading(NamedTuple):
    """How much CPU time a thread has had so far."""

    cpu: float  # seconds
    turns: int = -1  # how many times it was given a CPU; -1: not known
    waited: float = 0.0  # run-queue wait, in seconds


@dataclass(frozen=True)
class Task:
    """One thread as the kernel sees it.

    `state` is R, S, D ...  `call` is the name of the system call that it waits in ("call 123" for
    one that is not in the table), "running" if it is on a CPU or ready for one, '' if not known.
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
    """What a descriptor refers to."""

    number: int
    kind: str  # socket, pipe, file, terminal, device, eventfd, epoll or other
    name: str = ''
    standard: str = ''  # "stdin", "stdout" or "stderr" if it is the same stream
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
        name = 'self' if pid is None else str(pid)
        self._self = str(proc / name)
        self._tasks = f'{self._self}/task'
        self._names = call_names(machine or this_machine())
        self._peer = peer or peer_of
        self._known: list[int] = []  # the threads whose clocks were read last
        self._proc = proc

    def ids(self) -> list[int]:
        try:
            names = os.listdir(self._tasks)
        except OSError:
            return []
        return [int(name) for name in names if name.isdigit()]

    def _file(self, tid: int, name: str) -> bytes:
        """Return the content of a file of a thread's directory; b'' if the thread has ended."""
        return procfiles.read(f'{self._tasks}/{tid}/{name}')

    def reading(self, tid: int) -> Reading | None:
        try:
            ran, waited, turns = map(int, self._file(tid, 'schedstat').split())
        except ValueError:  # the kernel has no such file, or the thread has ended
            ran = 0
            waited = 0
            turns = 0
        if ran > 0:
            return Reading(
                cpu=ran / 1e9,  # from nanoseconds
                turns=turns,
                waited=waited / 1e9,
            )
        # The kernel does not keep these counters (all are 0): use the coarser ticks of `stat`.
        _, fields = _stat(self._file(tid, 'stat'))
        try:
            in_user_mode = int(fields[11])
            in_kernel = int(fields[12])
        except (IndexError, ValueError):
            return None
        ticks_a_second = os.sysconf('SC_CLK_TCK')
        return Reading((in_user_mode + in_kernel) / ticks_a_second)

    def clocks(self) -> dict[int, float]:
        """Return {native id: CPU seconds} of all threads; the heartbeat calls this on each beat.

        The threads are listed only if one has started or ended, because listing them takes as long
        as everything else in a beat.
        """
        clocks = self.clocks_of(self._known)
        try:
            # Each thread adds one link to the directory that lists them.
            count = os.stat(self._tasks).st_nlink - 2
        except OSError:
            count = -1
        if len(clocks) == len(self._known) == count:
            return clocks
        self._known = self.ids() or self._known  # without a descriptor they cannot be listed
        return self.clocks_of(self._known)

    def clocks_of(self, tids: Iterable[int]) -> dict[int, float]:
        """Return {native id: CPU seconds} of those of the given threads that still exist."""
        found = {}
        for tid in tids:
            seconds = clock(tid)
            if seconds is not None:
                found[tid] = seconds
        return found

    def task(self, tid: int) -> Task | None:
        """Return one thread as the kernel sees it; None if it has ended."""
        comm, fields = _stat(self._file(tid, 'stat'))
        if not fields:
            return None
        state = fields[0].decode('ascii', 'replace')
        call = ''
        arguments: tuple[int, ...] = ()
        stack_pointer = 0
        # One of: "running"; "-1 sp pc" (waits outside a system call); "number a0 ... a5 sp pc".
        words = self._file(tid, 'syscall').split()
        try:
            if words == [b'running']:
                call = 'running'
            elif len(words) == 3:
                stack_pointer = int(words[1], 16)
            elif len(words) == 9:
                number = int(words[0])
                values = [int(word, 16) for word in words[1:]]
                call = self._names.get(number) or f'call {number}'
                arguments = tuple(values[:6])
                stack_pointer = values[6]
        except ValueError:  # a format that no known kernel writes
            pass
        reading = self.reading(tid)
        return Task(
            tid,
            comm,
            state,
            reading,
            call,
            arguments,
            stack_pointer,
        )

    def descriptor(self, number: int) -> Descriptor | None:
        link = self.link(number)
        if not link:
            return None
        kind = 'other'
        for beginning, word in _KINDS:
            if link.startswith(beginning):
                kind = word
                break
        if kind == 'file' and self._is_fifo(number):
            kind = 'pipe'
        standard = _STANDARD.get(number, '')
        if not standard and kind in _STREAMS:
            for other in (1, 2):
                if self.link(other) == link:
                    standard = _STANDARD[other]
                    break
        peer = ''
        if kind == 'socket':
            peer = self._peer(number) or self._connecting(link)
        return Descriptor(
            number,
            kind,
            name=link,
            standard=standard,
            peer=peer,
        )

    def _is_fifo(self, number: int) -> bool:
        """Return whether a descriptor is a named pipe, whose link is a path like that of a file."""
        try:
            mode = os.stat(f'{self._self}/fd/{number}').st_mode
        except (OSError, ValueError):
            return False
        return stat.S_ISFIFO(mode)

    def link(self, number: int) -> str:
        """Return the kernel's name of a descriptor, such as "socket:[17]" or a path."""
        try:
            return os.readlink(f'{self._self}/fd/{number}')
        except (OSError, ValueError):
            return ''

    def _connecting(self, link: str) -> str:
        """Return the peer of a socket that is still connecting, from the TCP connection table."""
        inode = link.removeprefix('socket:[').removesuffix(']').encode()
        for name in ('tcp', 'tcp6'):
            table = procfiles.read(f'{self._self}/net/{name}', _NET_SIZE)
            for line in table.splitlines():
                fields = line.split()
                if len(fields) <= 9:
                    continue
                _, _, remote = fields[:3]
                if fields[9] == inode:
                    return _hexadecimal_address(remote)
        return ''

    def memory(self, address: int, size: int) -> bytes:
        """Return a piece of memory; b'' if it is not mapped.

        It is read through the kernel, which refuses a wrong address instead of crashing.
        """
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
        """Return the descriptors in an array of `struct pollfd`, at most 64."""
        size = _POLLFD.size * min(count, _POLLED)
        array = self.memory(address, size)
        cut_off = len(array) % _POLLFD.size
        whole = array[: len(array) - cut_off]
        found = []
        for (descriptor,) in _POLLFD.iter_unpack(whole):
            if descriptor >= 0:  # poll ignores negative ones
                found.append(descriptor)
        return tuple(found)

    def text(self, address: int) -> str:
        """Return the path argument of a system call, at most 255 bytes."""
        path, _, _ = self.memory(address, 255).partition(b'\0')
        return path.decode('utf-8', 'replace')

    def socket_address(self, address: int, size: int) -> str:
        return address_of(self.memory(address, min(size, 128)))

    def process_name(self, pid: int) -> str:
        name = procfiles.read(self._proc / str(pid) / 'comm')
        return name.decode('utf-8', 'replace').strip()

    def by_stack(
        self,
        idents: Sequence[int],
        tasks: Sequence[Task],
    ) -> dict[int, int]:
        """Return {ident: tid} for threads whose native id Python does not know.

        The ident of POSIX threads is an address at the upper end of the thread's stack (glibc,
        musl), so it is above the stack pointer and in the same mapping.  Since glibc 2.42 the
        stacks of several threads can be in one mapping.  So a stack pointer belongs to the nearest
        ident above it, and an ident to the nearest stack pointer below it.
        """
        if not idents or not tasks:
            return {}
        mappings = []
        for line in procfiles.read(f'{self._self}/maps', _MAPS_SIZE).splitlines():
            addresses, _, _ = line.partition(b' ')
            start, dash, end = addresses.partition(b'-')
            if dash:
                mappings.append(range(int(start, 16), int(end, 16)))
        found = {}
        # Ascending: of several stack pointers below one ident, the last one is the nearest.
        for task in sorted(tasks, key=lambda task: task.stack_pointer):
            above = [ident for ident in idents if ident > task.stack_pointer]
            if not above:
                continue
            nearest = min(above)
            for mapping in mappings:
                if task.stack_pointer in mapping and nearest in mapping:
                    found[nearest] = task.tid
                    break
        return found


def native_id_of(thread: threading.Thread) -> int:
    """Return the kernel's number of a thread; 0 if it is not known.

    In a forked process Python keeps the number that the main thread had in the parent (measured
    with 3.11, 3.12 and 3.13).  The kernel gives the main thread of a process the number of the
    process.
    """
    known: int = getattr(thread, '_native_id', None) or 0
    if thread is not threading.main_thread() or known == os.getpid() or not _IS_LINUX:
        return known
    # A program in C may have started Python in another thread.
    return known if os.path.exists(f'/proc/self/task/{known}') else os.getpid()


def clock(tid: int) -> float | None:
    """Return the seconds of CPU time that a thread of this process has had so far.

    While the value stays the same, the thread has not run.  None if the thread has ended, and on
    systems other than Linux, whose clock ids are different.

    Files of /proc have the same value, but are slow to open.  `pthread_getcpuclockid` must not be
    called for a thread that has ended.
    """
    number = clock_id(tid)
    if number is None:
        return None
    try:
        return time.clock_gettime(number)
    except OSError:
        return None


def clock_id(tid: int) -> int | None:
    """Return the kernel's number of the clock of a thread's CPU time; None on systems other than
    Linux.

    It is made from the kernel's thread id.  `pthread_getcpuclockid` needs an ident that is a
    pthread, and under gevent `threading.get_ident` returns the address of a greenlet: the process
    would crash.
    """
    if not _IS_LINUX or not tid:
        return None
    return ~tid << 3 | _CLOCK_OF_THREAD


def waits_for_interpreter(task: Task | None) -> bool:
    """Return whether a thread waits for a futex of the interpreter itself, such as that of the GIL.

    These futexes are inside `_PyRuntime`.
    """
    if task is None or task.call != 'futex' or not _RUNTIME:
        return False
    futex = task.arguments[0]
    return _RUNTIME <= futex < _RUNTIME + _RUNTIME_SIZE


def peer_of(descriptor: int) -> str:
    """Return the address at the other end of a socket; '' if not known.

    `socket.socket(fileno=)` is not used because it may make the descriptor non-blocking.
    """
    if procfiles.LIBC is None:
        return ''
    buffer = ctypes.create_string_buffer(128)
    size = ctypes.c_uint(128)
    try:
        refused = procfiles.LIBC.getpeername(
            descriptor,
            buffer,
            ctypes.byref(size),
        )
    except AttributeError:
        return ''
    if refused:
        return ''
    return address_of(buffer.raw[: size.value])


def address_of(raw: bytes) -> str:
    """Return a Linux `struct sockaddr` as text: "10.0.0.5:5432", "[::1]:80" or a path; else ''."""
    size = len(raw)
    if size < 2:
        return ''
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == socket.AF_UNIX:
        path = raw[2:].lstrip(b'\0')  # the path of an abstract socket begins with a NUL
        path, _, _ = path.partition(b'\0')
        return path.decode('utf-8', 'replace')
    if family == socket.AF_INET and size >= _IPV4.size:
        port, host = _IPV4.unpack_from(raw)
        name = socket.inet_ntop(family, host)
        return f'{name}:{port}'
    if family == socket.AF_INET6 and size >= _IPV6.size:
        port, host = _IPV6.unpack_from(raw)
        name = socket.inet_ntop(family, host)
        return f'[{name}]:{port}'
    return ''


def _hexadecimal_address(field: bytes) -> str:
    """Return an address of /proc/net/tcp as text.

    There it is 32-bit words in the CPU's byte order, then the port.
    """
    host, _, port = field.decode('ascii', 'replace').partition(':')
    raw = b''
    try:
        for start in range(0, len(host), 8):
            word = int(host[start : start + 8], 16)
            raw += word.to_bytes(4, sys.byteorder)
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        name = socket.inet_ntop(family, raw)
        number = int(port, 16)
    except (ValueError, OSError):
        return ''
    if family == socket.AF_INET6:
        return f'[{name}]:{number}'
    if not number:
        return ''
    return f'{name}:{number}'


def _stat(text: bytes) -> tuple[str, list[bytes]]:
    """Return (comm, fields from the state on) of a `stat` file; ('', []) if it is unreadable.

    The comm, which is the name of the thread, may contain blanks and parentheses.
    """
    head, bracket, rest = text.rpartition(b')')
    if not bracket:
        return '', []
    _, _, comm = head.partition(b'(')
    return comm.decode('utf-8', 'replace'), rest.split()
