"""Reads what identifies an ELF program or shared object, and the address of one of its symbols.

    elf = read('/lib/x86_64-linux-gnu/libc.so.6')
    elf.soname                                   'libc.so.6'
    elf.build_id                                 '93ac61b46b25...'
    elf.bias(offset=0x28000, start=0x7f...000)   what to add to an address of the file
    symbol_address(path, '__abort_msg')          0x1d2a88, an address of the file

Only 64-bit little-endian files are read, others count as not known.  Nothing in a file is trusted:
each read is bounded and stays in the file, and a file that does not fit is not known.  It is never
mapped, because a file that is cut short while it is mapped kills the process (SIGBUS).

Sources: elf(5), the System V ABI, and for DT_GNU_HASH `do_lookup_x` in glibc's elf/dl-lookup.c.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

_MAGIC = b'\x7fELF\x02\x01\x01'  # 64 bits, little-endian, version 1
_HEADER = struct.Struct('<16sHHIQQQIHHHHHH')
_SEGMENT = struct.Struct('<IIQQQQQQ')
_ENTRY = struct.Struct('<qQ')
_SYMBOL = struct.Struct('<IBBHQQ')
_HASH_HEADER = struct.Struct('<IIII')
_WORD = struct.Struct('<I')
_NOTE = struct.Struct('<III')

_PROGRAM, _SHARED = 2, 3  # e_type; programs that may lie anywhere (PIE) are of type 3, too
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE = 1, 2, 4
_NT_GNU_BUILD_ID = 3
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_SONAME = 4, 5, 6, 14
_DT_GNU_HASH = 0x6FFFFEF5

#: Header, segments and notes are usually among so many first bytes of a file.
_FIRST = 4 << 10
_MOST_SEGMENTS = 128
_MOST_NOTES = 64 << 10
_MOST_DYNAMIC = 64 << 10
_LONGEST_NAME = 256
#: At most so many symbols share a bucket of a hash table.
_LONGEST_CHAIN = 1024


@dataclass(frozen=True)
class Segment:
    """A part of the file that is loaded.  All values are in bytes; `address` is one of the file."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    is_executable: bool


@dataclass(frozen=True)
class ElfFile:
    """What identifies an ELF file; '' where it has none.

    `is_fixed`: a program that is always at the addresses of its file.  `build_id` is in hex digits.
    """

    soname: str = ''
    build_id: str = ''
    is_fixed: bool = False
    segments: tuple[Segment, ...] = ()

    def bias(self, offset: int, start: int) -> int | None:
        """Return what to add to an address of the file to get one of the process.

        A process has mapped the bytes from `offset` on at the address `start`.  None: no segment
        has these bytes.
        """
        for segment in self.segments:
            # A segment is mapped in whole pages, so the mapping may begin before it.
            if segment.offset - (segment.offset % _page()) <= offset:
                if offset < segment.offset + segment.file_size:
                    return start - (segment.address + offset - segment.offset)
        return None


def read(path: str | bytes) -> ElfFile | None:
    """Return what identifies the ELF file at `path`; None if it is not one or cannot be read."""
    with _Reader(path) as file:
        headers = _headers(file)
        if headers is None:
            return None
        kind, segments = headers
        loads = _loads(segments)
        dynamic = _dynamic(file, segments)
        return ElfFile(
            soname=_soname(file, loads, dynamic),
            build_id=_build_id(file, segments),
            is_fixed=kind == _PROGRAM,
            segments=loads,
        )


def symbol_address(path: str | bytes, name: str) -> int | None:
    """Return the address of a dynamic symbol that the file defines, None if it is not known.

    It is an address of the file; add `ElfFile.bias` to get one of a process.
    """
    with _Reader(path) as file:
        headers = _headers(file)
        if headers is None:
            return None
        _, segments = headers
        table = _SymbolTable(file, _loads(segments), _dynamic(file, segments))
        return table.address(name.encode())


class _Reader:
    """Reads pieces of a regular file.  What cannot be read is b''."""

    def __init__(self, path: str | bytes) -> None:
        self._first = b''
        self._descriptor = -1
        try:
            # O_NONBLOCK: opening a FIFO must not wait.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                self._close()
        except (OSError, ValueError):
            self._close()
        self._first = self._read(0, _FIRST)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def piece(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer at the end of the file."""
        if offset + size <= len(self._first):
            return self._first[offset : offset + size]
        return self._read(offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        if self._descriptor < 0:
            return b''
        try:
            return os.pread(self._descriptor, size, offset)
        except (OSError, OverflowError):
            return b''

    def unpacked(self, form: struct.Struct, offset: int) -> tuple[int, ...] | None:
        """Return the numbers at `offset`; None beyond the end of the file."""
        content = self.piece(offset, form.size)
        return form.unpack(content) if len(content) == form.size else None


@dataclass(frozen=True)
class _Header:
    """One program header.  `size` is that in the file, in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    size: int
    memory_size: int


def _headers(file: _Reader) -> tuple[int, list[_Header]] | None:
    """Return the type of the file and its program headers; None if it is no such file."""
    content = file.piece(0, _HEADER.size)
    if len(content) < _HEADER.size or not content.startswith(_MAGIC):
        return None
    header = _HEADER.unpack(content)
    kind, start, size, count = header[1], header[5], header[9], header[10]
    if kind not in (_PROGRAM, _SHARED) or size != _SEGMENT.size or count > _MOST_SEGMENTS:
        return None
    table = file.piece(start, size * count)
    whole = len(table) - len(table) % size
    segments = []
    for one in _SEGMENT.iter_unpack(table[:whole]):
        type, flags, offset, address, _, in_file, in_memory, _ = one
        segments.append(_Header(type, flags, offset, address, in_file, in_memory))
    return kind, segments


def _loads(segments: list[_Header]) -> tuple[Segment, ...]:
    return tuple(
        Segment(one.address, one.offset, one.size, one.memory_size, bool(one.flags & 1))
        for one in segments
        if one.type == _PT_LOAD
    )


def _dynamic(file: _Reader, segments: list[_Header]) -> dict[int, int]:
    """Return {tag: value} of the dynamic section."""
    found: dict[int, int] = {}
    for segment in segments:
        if segment.type != _PT_DYNAMIC:
            continue
        content = file.piece(segment.offset, min(segment.size, _MOST_DYNAMIC))
        whole = len(content) - len(content) % _ENTRY.size
        for tag, value in _ENTRY.iter_unpack(content[:whole]):
            if tag == 0:
                break
            found.setdefault(tag, value)
    return found


def _offset_of(loads: tuple[Segment, ...], address: int | None) -> int | None:
    """Return where in the file the content of an address is."""
    if address is None:
        return None
    for load in loads:
        if load.address <= address < load.address + load.file_size:
            return load.offset + address - load.address
    return None


def _text(file: _Reader, offset: int) -> bytes:
    """Return the text at `offset`, which a NUL ends; b'' if it has no end near by."""
    text, nul, _ = file.piece(offset, _LONGEST_NAME).partition(b'\0')
    return text if nul else b''


def _soname(file: _Reader, loads: tuple[Segment, ...], dynamic: dict[int, int]) -> str:
    strings = _offset_of(loads, dynamic.get(_DT_STRTAB))
    if strings is None or _DT_SONAME not in dynamic:
        return ''
    return _text(file, strings + dynamic[_DT_SONAME]).decode('utf-8', 'replace')


def _build_id(file: _Reader, segments: list[_Header]) -> str:
    for segment in segments:
        if segment.type == _PT_NOTE:
            notes = file.piece(segment.offset, min(segment.size, _MOST_NOTES))
            found = _build_id_in(notes)
            if found:
                return found
    return ''


def _build_id_in(notes: bytes) -> str:
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, type = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        value_at = name_at + _padded(name_size)
        at = value_at + _padded(size)
        if type == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b'GNU\0':
            value = notes[value_at : value_at + size]
            return value.hex() if len(value) == size <= 64 else ''
    return ''


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _page() -> int:
    return os.sysconf('SC_PAGE_SIZE')


class _SymbolTable:
    """Finds a dynamic symbol by the hash table of the file, as the dynamic linker does."""

    def __init__(self, file: _Reader, loads: tuple[Segment, ...], dynamic: dict[int, int]) -> None:
        self._file = file
        self._symbols = _offset_of(loads, dynamic.get(_DT_SYMTAB))
        self._strings = _offset_of(loads, dynamic.get(_DT_STRTAB))
        self._gnu_hash = _offset_of(loads, dynamic.get(_DT_GNU_HASH))
        self._hash = _offset_of(loads, dynamic.get(_DT_HASH))

    def address(self, name: bytes) -> int | None:
        candidates: list[int] = []
        if self._gnu_hash is not None:
            candidates = self._by_gnu_hash(name, self._gnu_hash)
        elif self._hash is not None:
            candidates = self._by_hash(name, self._hash)
        for index in candidates:
            found = self._if_named(index, name)
            if found is not None:
                return found
        return None

    def _if_named(self, index: int, name: bytes) -> int | None:
        """Return the address of the symbol with this index, if it has that name."""
        if self._symbols is None or self._strings is None:
            return None
        symbol = self._file.unpacked(_SYMBOL, self._symbols + index * _SYMBOL.size)
        if symbol is None:
            return None
        name_at, _, _, section, address, _ = symbol
        is_defined = section != 0
        if is_defined and _text(self._file, self._strings + name_at) == name:
            return address
        return None

    def _by_gnu_hash(self, name: bytes, start: int) -> list[int]:
        """Return the indexes of the symbols with the hash of this name."""
        header = self._file.unpacked(_HASH_HEADER, start)
        if header is None or not header[0]:
            return []
        buckets, first, bloom_words, _ = header
        buckets_at = start + _HASH_HEADER.size + bloom_words * 8
        hashed = _gnu_hash(name)
        bucket = self._file.unpacked(_WORD, buckets_at + hashed % buckets * 4)
        if bucket is None or bucket[0] < first:
            return []
        chain_at = buckets_at + (buckets + bucket[0] - first) * 4
        chain = self._file.piece(chain_at, _LONGEST_CHAIN * 4)
        found = []
        for place in range(len(chain) // 4):
            (word,) = _WORD.unpack_from(chain, place * 4)
            if word | 1 == hashed | 1:
                found.append(bucket[0] + place)
            if word & 1:  # the last one of this bucket
                break
        return found

    def _by_hash(self, name: bytes, start: int) -> list[int]:
        """Return the indexes of the symbols in the bucket of this name, in the older table."""
        counts = self._file.unpacked(struct.Struct('<II'), start)
        if counts is None or not counts[0]:
            return []
        buckets, _ = counts
        bucket = self._file.unpacked(_WORD, start + 8 + _sysv_hash(name) % buckets * 4)
        found: list[int] = []
        while bucket and bucket[0] and len(found) < _LONGEST_CHAIN:
            found.append(bucket[0])
            bucket = self._file.unpacked(_WORD, start + 8 + (buckets + bucket[0]) * 4)
        return found


def _gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _sysv_hash(name: bytes) -> int:
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
