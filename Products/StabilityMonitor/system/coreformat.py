"""Reads core files of 64-bit Linux: threads, signal, mapped files, and the memory that was dumped.

A core file is an ELF file, see elf(5) and core(5).  The layouts of its notes are those of the
kernel's `elf_prstatus`, `elf_prpsinfo`, `siginfo` and `fill_files_note` (fs/binfmt_elf.c), for
x86_64 and aarch64.

A core file is never trusted: whatever its bytes are, `read` returns a value or raises
NotACoreFile, and it takes a bounded amount of work and memory.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from .signalnames import signal_name

#: At most this many segments are read; the kernel allows 65,530 mappings unless it is told to.
MOST_SEGMENTS = 1 << 18
#: At most this many threads and notes are read.
MOST_THREADS = 4096
MOST_NOTES = 1 << 16
#: Bytes of the longest note that is read.  The kernel writes at most 16 MiB of mapped files.
LONGEST_NOTE = 16 << 20

_NOTE, _LOAD = 4, 1  # types of segments
_PRSTATUS, _PRPSINFO, _FILE, _SIGINFO = 1, 3, 0x46494C45, 0x53494749  # types of notes
_CORE_TYPE = 4
#: In `e_phnum`: the number of segments is in the first section header.
_MANY_SEGMENTS = 0xFFFF
_ELF_HEADER = struct.Struct('<16sHHIQQQIHHHHHH')
_SEGMENT = struct.Struct('<IIQQQQQQ')
_NOTE_HEADER = struct.Struct('<III')
_MAPPED = struct.Struct('<QQQ')
_IDENTIFICATION = b'\x7fELF\x02\x01'  # 64 bits, little-endian
_SECTION_INFO = 44  # offset of `sh_info` in a section header
_REGISTERS_AT = 112  # offset of the registers in `elf_prstatus`
_PSINFO = struct.Struct('<4s4xQIIIIII16s80s')

_X86_64 = (
    'r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss '
    'fs_base gs_base ds es fs gs'
).split()
_AARCH64 = [*(f'x{number}' for number in range(31)), 'sp', 'pc', 'pstate']


@dataclass(frozen=True)
class Machine:
    """A kind of CPU: its general registers in the order of the kernel, and two of their names."""

    name: str
    registers: tuple[str, ...]
    program_counter: str
    stack_pointer: str


#: {e_machine: the kind of CPU}
MACHINES = {
    62: Machine('x86_64', tuple(_X86_64), 'rip', 'rsp'),
    183: Machine('aarch64', tuple(_AARCH64), 'pc', 'sp'),
}

#: {si_code: its name}: codes that every signal may have, see sigaction(2).
_ANY_CODE = {
    0: 'SI_USER',
    0x80: 'SI_KERNEL',
    -1: 'SI_QUEUE',
    -2: 'SI_TIMER',
    -3: 'SI_MESGQ',
    -4: 'SI_ASYNCIO',
    -5: 'SI_SIGIO',
    -6: 'SI_TKILL',
}
#: {signal: names of its codes from 1 on}
_CODES = {
    'SIGSEGV': (
        'SEGV_MAPERR SEGV_ACCERR SEGV_BNDERR SEGV_PKUERR SEGV_ACCADI SEGV_ADIDERR SEGV_ADIPERR '
        'SEGV_MTEAERR SEGV_MTESERR SEGV_CPERR'
    ).split(),
    'SIGBUS': 'BUS_ADRALN BUS_ADRERR BUS_OBJERR BUS_MCEERR_AR BUS_MCEERR_AO'.split(),
    'SIGILL': (
        'ILL_ILLOPC ILL_ILLOPN ILL_ILLADR ILL_ILLTRP ILL_PRVOPC ILL_PRVREG ILL_COPROC ILL_BADSTK'
    ).split(),
    'SIGFPE': (
        'FPE_INTDIV FPE_INTOVF FPE_FLTDIV FPE_FLTOVF FPE_FLTUND FPE_FLTRES FPE_FLTINV FPE_FLTSUB'
    ).split(),
    'SIGTRAP': 'TRAP_BRKPT TRAP_TRACE TRAP_BRANCH TRAP_HWBKPT TRAP_UNK TRAP_PERF'.split(),
    'SIGSYS': ['SYS_SECCOMP'],
}
#: Codes of signals that a process has sent: its pid and uid follow.
SENT = ('SI_USER', 'SI_TKILL', 'SI_QUEUE')


class NotACoreFile(Exception):
    """The bytes are not a core file that can be read here."""


@dataclass(frozen=True)
class SignalInfo:
    """The siginfo of a signal; see `model.corefile.CoreFile` for the fields."""

    signal: str
    code: str = ''
    address: int | None = None
    sender: int | None = None
    sender_uid: int | None = None

    @property
    def is_fault(self) -> bool:
        """Whether the CPU or the kernel raised it, and no process sent it."""
        prefix = self.signal.removeprefix('SIG')
        return self.code.startswith(f'{prefix}_') or self.code == 'SI_KERNEL'


@dataclass(frozen=True)
class Thread:
    """One thread: its id, the signal that it was about to take ('' for none), its registers."""

    native_id: int
    signal: str
    registers: dict[str, int]


@dataclass(frozen=True)
class MappedFile:
    """A part of a file that was mapped: addresses and its offset in the file, in bytes."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class Segment:
    """A part of the address space.  The file has the first `dumped` bytes of it, at `offset`."""

    start: int
    end: int
    permissions: str
    offset: int
    dumped: int


@dataclass(frozen=True)
class Core:
    """A core file that is open as `descriptor`.

    The first of `threads` is the one that died, as the kernel writes it.  `segments` and `files`
    are in the order of their addresses.  `needed` is the size in bytes that the file must have to
    be complete.
    """

    descriptor: int
    size: int
    needed: int
    machine: Machine
    threads: tuple[Thread, ...] = ()
    info: SignalInfo | None = None
    command: str = ''
    pid: int = 0
    uid: int | None = None
    segments: tuple[Segment, ...] = ()
    files: tuple[MappedFile, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether the end of the file is missing: the disk was full, or a limit was reached."""
        return self.size < self.needed

    @property
    def signal(self) -> str:
        """The signal that ended the process, '' if it is not known."""
        if self.info:
            return self.info.signal
        return self.threads[0].signal if self.threads else ''

    def segment_at(self, address: int) -> Segment | None:
        """Return the segment in which an address lies, None if nothing was mapped there."""
        before = bisect_right(self.segments, address, key=lambda segment: segment.start) - 1
        if before >= 0 and address < self.segments[before].end:
            return self.segments[before]
        return None

    def file_at(self, address: int) -> MappedFile | None:
        """Return the mapped file in which an address lies."""
        before = bisect_right(self.files, address, key=lambda mapped: mapped.start) - 1
        if before >= 0 and address < self.files[before].end:
            return self.files[before]
        return None

    def memory(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes at an address: fewer, or none, where they were not dumped."""
        segment = self.segment_at(address)
        if segment is None:
            return b''
        skipped = address - segment.start
        left = min(size, segment.dumped - skipped)
        return _bytes(self.descriptor, segment.offset + skipped, left)


def code_name(signal: str, code: int) -> str:
    """Return the name of a `si_code`, such as "SEGV_MAPERR"; "code 77" if it is unknown."""
    own = _CODES.get(signal, [])
    if 1 <= code <= len(own):
        return own[code - 1]
    return _ANY_CODE.get(code, f'code {code}')


def signal_info(siginfo: bytes) -> SignalInfo | None:
    """Read a `siginfo`; None if it is too short.  See sigaction(2)."""
    if len(siginfo) < 32:
        return None
    number, _, code = struct.unpack_from('<iii', siginfo)
    signal = signal_name(number)
    found = SignalInfo(signal, code_name(signal, code))
    if found.code in SENT:
        sender, uid = struct.unpack_from('<II', siginfo, 16)
        return SignalInfo(signal, found.code, None, sender, uid)
    if signal in _CODES and signal != 'SIGSYS' and found.is_fault and found.code != 'SI_KERNEL':
        (address,) = struct.unpack_from('<Q', siginfo, 16)
        return SignalInfo(signal, found.code, address)
    return found


def read(descriptor: int) -> Core:
    """Read the core file that is open as `descriptor`, which must stay open for `Core.memory`.

    Raises NotACoreFile, or OSError if the file cannot be read.
    """
    size = os.fstat(descriptor).st_size
    header = _bytes(descriptor, 0, _ELF_HEADER.size)
    if len(header) < _ELF_HEADER.size or not header.startswith(_IDENTIFICATION):
        raise NotACoreFile('It is not an ELF file of 64 bits, little-endian')
    _, kind, number, _, _, at, sections, _, _, entry, count, _, _, _ = _ELF_HEADER.unpack(header)
    if kind != _CORE_TYPE:
        raise NotACoreFile('It is an ELF file, but not a core file')
    machine = MACHINES.get(number)
    if machine is None:
        raise NotACoreFile(f'It is of another kind of CPU (ELF machine {number})')
    if entry != _SEGMENT.size:
        raise NotACoreFile('Its program headers have an unknown size')
    if count == _MANY_SEGMENTS:
        info = _bytes(descriptor, sections + _SECTION_INFO, 4)
        count = int.from_bytes(info, 'little')
    notes: list[tuple[int, int]] = []
    segments: list[Segment] = []
    needed = 0
    table = _bytes(descriptor, at, min(count, MOST_SEGMENTS) * _SEGMENT.size)
    for kind, flags, offset, start, _, dumped, length, _ in _SEGMENT.iter_unpack(
        table[: len(table) // _SEGMENT.size * _SEGMENT.size]
    ):
        needed = max(needed, offset + dumped)
        if kind == _NOTE:
            notes.append((offset, dumped))
        elif kind == _LOAD:
            letters = ''.join(
                letter if flags & bit else '-' for letter, bit in (('r', 4), ('w', 2), ('x', 1))
            )
            segments.append(Segment(start, start + length, letters, offset, dumped))
    segments.sort(key=lambda segment: segment.start)
    found = _Notes(descriptor, machine)
    for offset, length in notes[:1]:  # the kernel writes one
        found.read(offset, length)
    return Core(
        descriptor=descriptor,
        size=size,
        needed=needed,
        machine=machine,
        threads=tuple(found.threads),
        info=found.info,
        command=found.command,
        pid=found.pid,
        uid=found.uid,
        segments=tuple(segments),
        files=tuple(sorted(found.files, key=lambda mapped: mapped.start)),
    )


class _Notes:
    """What the notes of a core file tell."""

    def __init__(self, descriptor: int, machine: Machine) -> None:
        self.threads: list[Thread] = []
        self.info: SignalInfo | None = None
        self.command = ''
        self.pid = 0
        self.uid: int | None = None
        self.files: list[MappedFile] = []
        self._descriptor = descriptor
        self._machine = machine

    def read(self, offset: int, length: int) -> None:
        """Read the notes in this part of the file.  Notes of unknown types are skipped."""
        end = offset + length
        for _ in range(MOST_NOTES):
            header = _bytes(self._descriptor, offset, _NOTE_HEADER.size)
            if offset >= end or len(header) < _NOTE_HEADER.size:
                return
            name_size, size, kind = _NOTE_HEADER.unpack(header)
            start = offset + _NOTE_HEADER.size + _aligned(name_size)
            offset = start + _aligned(size)
            reader = {
                _PRSTATUS: self._thread,
                _PRPSINFO: self._process,
                _FILE: self._mapped,
                _SIGINFO: self._signal,
            }.get(kind)
            if reader and size <= LONGEST_NOTE:
                reader(_bytes(self._descriptor, start, size))

    def _thread(self, status: bytes) -> None:
        names = self._machine.registers
        if len(status) < _REGISTERS_AT + 8 * len(names) or len(self.threads) >= MOST_THREADS:
            return
        (signal,) = struct.unpack_from('<h', status, 12)
        (native_id,) = struct.unpack_from('<I', status, 32)
        values = struct.unpack_from(f'<{len(names)}Q', status, _REGISTERS_AT)
        registers = dict(zip(names, values, strict=True))
        self.threads.append(Thread(native_id, signal_name(signal) if signal > 0 else '', registers))

    def _process(self, info: bytes) -> None:
        if len(info) < _PSINFO.size:
            return
        _, _, self.uid, _, self.pid, *_, name, _ = _PSINFO.unpack_from(info)
        self.command = name.partition(b'\0')[0].decode('utf-8', 'replace')

    def _signal(self, siginfo: bytes) -> None:
        self.info = self.info or signal_info(siginfo)

    def _mapped(self, table: bytes) -> None:
        self.files += mapped_files(table)


def mapped_files(table: bytes) -> Iterator[MappedFile]:
    """Yield what a note NT_FILE lists: a count, a page size, the addresses, and then the names.

    The offset there is in pages.
    """
    if len(table) < 16:
        return
    count, page = struct.unpack_from('<QQ', table)
    names_at = 16 + count * _MAPPED.size
    if names_at > len(table):
        return
    names = table[names_at:].split(b'\0')
    addresses = _MAPPED.iter_unpack(table[16:names_at])
    for (start, end, offset), name in zip(addresses, names, strict=False):
        yield MappedFile(start, end, offset * page, os.fsdecode(name))


def _aligned(size: int) -> int:
    return size + (-size % 4)


def _bytes(descriptor: int, offset: int, size: int) -> bytes:
    """Return up to `size` bytes at `offset`: fewer, or none, if the file is shorter."""
    if size <= 0 or not 0 <= offset < 1 << 62:
        return b''
    return os.pread(descriptor, size, offset)
