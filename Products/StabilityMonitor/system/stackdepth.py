"""The stack gauge: the size of a thread's stack, its high-water mark, and how much room is left.

The kernel knows which pages of a stack were ever touched; the lowest one is the high-water mark.

Only a thread itself may ask the C library where its stack is: `pthread_getattr_np` is undefined for
a thread that has ended.  For other threads the gauge asks the kernel.  It uses their ident only as
a number: the ident is the address of the thread's descriptor, which is at the top of its stack
(glibc and musl).  A stack that no longer exists reads as unused; no pointer into it is followed.

Imports only `stacksizes` and the records.  None and 0 mean "not known on this system".
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import WARNING
from . import stacksizes
from .stacksizes import Library

_PAGE = mmap.PAGESIZE
#: Pages in one call to the kernel, so that the GIL is held for a few microseconds only.
_CHUNK = 2048
#: Pages that `rise` reads just below the mark.
_WINDOW = 16
#: Sizes of a chunk and of the window in bytes.
_CHUNK_SIZE = _CHUNK * _PAGE
_WINDOW_SIZE = _WINDOW * _PAGE
_VECTORS = {pages: ctypes.c_char * pages for pages in (_CHUNK, _WINDOW)}
#: Bytes of an entry of /proc/self/pagemap, one for each page.
_ENTRY = 8
#: Slice with the highest byte of each entry (entries are little-endian).
_HIGHEST_BYTES = slice(_ENTRY - 1, None, _ENTRY)
#: Tables for `bytes.translate`: highest byte of an entry to 0 or 1.  A page was touched if it is
#: present or swapped, and is not a guard page made with `madvise`.
_IS_TOUCHED = bytes(bool(byte & 0xC0) and not byte & 0x04 for byte in range(256))
_IS_GUARD = bytes(bool(byte & 0x04) for byte in range(256))
_MAPPING = re.compile(
    r'(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) \S+ \S+ \S+ \S+ *(?P<stack>\[stack])?'
)
#: Shares of a stack: if less room than this is left, that is a warning, or critical.
_LOW = 1 / 4
_CRITICAL = 1 / 20


@dataclass(frozen=True)
class Stack:
    """Address and size in bytes of one thread's stack.

    It grows from `top` down to `address`.  The guard is below `address`.
    """

    address: int
    size: int
    guard: int = 0

    @property
    def top(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class _Mapping:
    start: int
    end: int
    is_main_stack: bool


class StackGauge:
    """Measures the stacks of this process.

    `granule` is the precision of a high-water mark in bytes: the page size, or more where
    transparent huge pages are always on, because the kernel then maps a whole huge page.
    """

    def __init__(
        self,
        proc: Path = Path('/proc'),
        sysfs: Path = Path('/sys'),
        libc: Library = None,
    ) -> None:
        self._proc = proc
        self._libc = libc
        self._mincore = _mincore(libc)
        default = stacksizes.default_stack(libc)
        self._default = default[0] if default else 0
        self.granule = max(_PAGE, huge_page(sysfs))

    # -- where a stack is --------------------------------------------------------------------------

    def own(self) -> Stack | None:
        """Return the calling thread's stack."""
        if threading.get_native_id() == os.getpid():
            return self.main()
        place = stacksizes.own_place(self._libc)
        if place is None:
            return None
        return Stack(
            place.address,
            place.size,
            place.guard,
        )

    def main(self) -> Stack | None:
        """Return the main thread's stack; any thread may call this.

        A stack without a size limit ends at the next mapping below it.
        """
        return _main(self._mappings())

    def of_thread(self, native_id: int, ident: int = 0) -> Stack | None:
        """Return the stack of a thread of this process; see `of_threads`."""
        found = self.of_threads({native_id: ident})
        return found.get(native_id)

    def of_threads(self, threads: dict[int, int]) -> dict[int, Stack]:
        """Return {native id: Stack} for {native id: ident, or 0 for a thread unknown to Python}.

        A thread that has ended is left out.  So is a thread without an ident that is on a CPU right
        now.  No stack is assumed to be larger than the default size: if one is larger, only a part
        of its room is reported.
        """
        mappings = list(self._mappings())
        found = {}
        for native_id, ident in threads.items():
            if native_id == os.getpid():
                stack = _main(mappings)
            elif ident:
                stack = self._below(ident, mappings)
            else:
                stack = self._around(self._stack_pointer(native_id), mappings)
            if stack:
                found[native_id] = stack
        # A thread may have ended meanwhile, and another thread may have got its memory.
        for native_id in list(found):
            if not (self._proc / f'self/task/{native_id}').exists():
                del found[native_id]
        return found

    def _below(self, ident: int, mappings: list[_Mapping]) -> Stack | None:
        """Return the stack whose uppermost page has the thread's descriptor."""
        mapping = _mapping_of(ident, mappings)
        if mapping is None:
            return None
        top = _page_of(ident) + _PAGE
        address = mapping.start
        if self._default:
            address = max(address, top - self._default)
        guards = self._guards(address, top)
        if guards:
            address = guards[-1] + _PAGE
        return Stack(address, top - address)

    def _around(self, pointer: int, mappings: list[_Mapping]) -> Stack | None:
        """Return the stack of default size around a stack pointer; None if there is none.

        It begins at the start of the mapping, or above a guard page.
        """
        mapping = _mapping_of(pointer, mappings)
        if mapping is None:
            return None
        address = mapping.start
        end = mapping.end
        low = max(address, _page_of(pointer - self._default - _PAGE))
        high = min(end, _page_of(pointer + self._default))
        for guard in self._guards(low, high):
            if guard > pointer:
                end = guard
                break
            address = guard + _PAGE
        if self._default:
            end = min(end, address + self._default)
        if pointer >= end:
            return None
        return Stack(address, end - address)

    def _guards(self, low: int, high: int) -> tuple[int, ...]:
        """Return the guard pages between two addresses, lowest first.

        glibc 2.42 makes guard pages with `madvise`.  They are not separate mappings, so the stacks
        of several threads can be in one mapping.  () if there is none, or if the kernel does not
        report them (before Linux 6.15).
        """
        guards = []
        try:
            for start, entries in self._pagemap(low, high):
                marks = entries.translate(_IS_GUARD)
                index = marks.find(1)
                while index >= 0:
                    guards.append(start + index * _PAGE)
                    index = marks.find(1, index + 1)
        except (OSError, OverflowError):
            pass
        return tuple(guards)

    def _stack_pointer(self, native_id: int) -> int:
        """Return the stack pointer; 0 for a thread that is on a CPU ("running") or has ended."""
        fields = _text(self._proc / f'self/task/{native_id}/syscall').split()
        if len(fields) <= 2:
            return 0
        pointer, _ = fields[-2:]
        return int(pointer, 16)

    def _mappings(self) -> Iterator[_Mapping]:
        """Yield the mappings of this process.

        One by one, because there are hundreds, and memory for a list would not be given back.
        """
        try:
            with open(self._proc / 'self/maps', errors='replace') as file:
                for line in file:
                    found = _MAPPING.match(line)
                    if found:
                        yield _Mapping(
                            start=int(found['start'], 16),
                            end=int(found['end'], 16),
                            is_main_stack=bool(found['stack']),
                        )
        except OSError:
            return

    # -- the high-water mark -----------------------------------------------------------------------

    def used(self, stack: Stack) -> int:
        """Return the high-water mark in bytes; this reads the state of all pages of the stack.

        0 if the lowest page is in memory: something has read the whole stack.  The kernel maps a
        page that is only read, and pystack reads all of a stack when it takes native stacks.  A
        thread that uses its last page dies with the next one, so it is hardly ever seen there.
        """
        top = stack.top
        lowest = self._scan(stack.address, top)
        if lowest is None:  # the main thread's stack is mapped only as far as it has grown
            mapping = _mapping_of(top - 1, self._mappings())
            if mapping:
                mapped = max(stack.address, mapping.start)
                lowest = self._scan(mapped, top)
        if lowest is None:
            return 0
        lowest = self._swapped(stack.address, lowest)
        if lowest == stack.address and self.granule == _PAGE:
            return 0
        return top - lowest

    def rise(self, stack: Stack, known: int) -> int:
        """Return the high-water mark in bytes, given the mark `known` so far; cheaper than `used`.

        It reads the state of the 16 pages below the known mark, and of all pages only if one of
        those was touched.  If a single C function skips 64 KiB without touching them, only `used`
        sees it.
        """
        mark = _page_of(stack.top - known)
        first = max(stack.address, mark - _WINDOW_SIZE)
        for low in range(
            first, mark, _PAGE
        ):  # usually one round; more at the end of the mapped memory
            found = self._lowest(low, mark)
            if found is None:
                continue
            if found == mark:
                return known
            return max(known, self.used(stack))
        return known

    def _scan(self, low: int, high: int) -> int | None:
        """Return the lowest page of a range that is in memory; `high` if none is.

        None if a part of the range is not mapped.
        """
        for start in range(low, high, _CHUNK_SIZE):
            end = min(start + _CHUNK_SIZE, high)
            found = self._lowest(start, end)
            if found != end:
                return found
        return high

    def _lowest(self, low: int, high: int) -> int | None:
        """Like `_scan`, for a range of at most _CHUNK pages."""
        if self._mincore is None:
            return None
        size = high - low
        pages = _WINDOW if size <= _WINDOW_SIZE else _CHUNK
        vector = _VECTORS[pages]()
        refused = self._mincore(low, size, vector)
        if refused:
            return None
        index = vector.raw.find(1)
        if index < 0:
            return high
        return low + index * _PAGE

    def _swapped(self, low: int, high: int) -> int:
        """Return the lowest page of a range that was touched, even if swapped out; else `high`."""
        try:
            for start, entries in self._pagemap(low, high):
                marks = entries.translate(_IS_TOUCHED)
                index = marks.find(1)
                if index >= 0:
                    return start + index * _PAGE
        except (OSError, OverflowError):
            pass
        return high

    def _pagemap(self, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Yield chunks: (address of the first page, the highest byte of the entry of each page)."""
        path = self._proc / 'self/pagemap'
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start in range(low, high, _CHUNK_SIZE):
                left = (high - start) // _PAGE
                entries = os.pread(
                    descriptor,
                    min(_CHUNK, left) * _ENTRY,
                    start // _PAGE * _ENTRY,
                )
                yield start, entries[_HIGHEST_BYTES]
        finally:
            os.close(descriptor)


def _mincore(libc: Library) -> Callable[[int, int, ctypes.Array[ctypes.c_char]], int] | None:
    """Return the C function `mincore`; None if there is none.

    PyDLL keeps the GIL: releasing it and waiting for it again would cost more than the call.
    """
    try:
        library = libc or ctypes.PyDLL(None)
        function = library.mincore
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (
        ctypes.c_void_p,  # the first byte of a page
        ctypes.c_size_t,  # bytes
        ctypes.c_void_p,  # a byte for each page, which the kernel fills
    )
    return function


def _main(mappings: Iterable[_Mapping]) -> Stack | None:
    """Return the main thread's stack.  It may grow to the limit that is in force now."""
    floor = 0  # the end of the mapping below
    for mapping in mappings:
        if not mapping.is_main_stack:
            floor = mapping.end
            continue
        import resource

        address = floor
        limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
        if limit != resource.RLIM_INFINITY:
            lowest = max(floor, mapping.end - limit)
            address = _page_of(lowest + _PAGE - 1)
        return Stack(address, mapping.end - address)
    return None


def _page_of(address: int) -> int:
    """Return the start of the page that contains this address."""
    return address & -_PAGE


def _mapping_of(address: int, mappings: Iterable[_Mapping]) -> _Mapping | None:
    for mapping in mappings:
        if mapping.start <= address < mapping.end:
            return mapping
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors='replace')
    except OSError:
        return ''


def huge_page(sysfs: Path = Path('/sys')) -> int:
    """Return the bytes of the largest transparent huge page that is always on; 0 if none is."""
    folder = sysfs / 'kernel/mm/transparent_hugepage'
    always = '[always]' in _text(folder / 'enabled')
    largest = 0
    whole = _text(folder / 'hpage_pmd_size').strip()
    if always and whole.isdigit():
        largest = int(whole)
    # Since Linux 6.8, each page size has its own setting.
    for kind in folder.glob('hugepages-*kB'):
        choice = _text(kind / 'enabled')
        is_on = '[always]' in choice
        if '[inherit]' in choice:
            is_on = always
        if is_on:
            name = kind.name.removesuffix('kB')
            kilobytes = int(name.removeprefix('hugepages-'))
            largest = max(largest, kilobytes << 10)
    return largest


def headroom(
    size: int,
    used: int,
    name: str,
    granule: int = _PAGE,
    main: bool = False,
) -> Finding:
    """Return the finding for "does this thread have room left on its stack?".

    With a coarse `granule`, only the part of `used` that is certain counts.
    """
    if not size or not used:
        return Finding(
            'stack-headroom',
            INFO,
            f'The high-water mark of the stack of {name} is not known.',
            source='stack gauge',
        )
    surely_used = max(_PAGE, used - granule + _PAGE)
    left = size - surely_used
    fact = f'{name} has used {used >> 10} KiB of its {size >> 10} KiB of stack.'
    if granule > _PAGE:
        fact = (
            f'{name} has used at most {used >> 10} KiB of its {size >> 10} KiB of stack; the '
            'kernel rounds up to huge pages.'
        )
    if left >= size * _LOW:
        return Finding(
            'stack-headroom',
            OK,
            'The stacks of threads have room left.',
            fact,
            source='stack gauge',
        )
    return Finding(
        'stack-headroom',
        CRITICAL if left < size * _CRITICAL else WARNING,
        f'The stack of {name} was nearly full: slightly deeper calls can kill the process.',
        fact,
        _advice(size, main),
        'stack gauge',
    )


def _advice(size: int, main: bool) -> Action:
    megabytes = max(8, -(-2 * size >> 20))
    if main:
        return Action(
            'Start Zope with a larger stack: "ulimit -s {kibibytes}" in its start script, or '
            '"LimitSTACK={megabytes}M" in its systemd unit.',
            kibibytes=megabytes << 10,
            megabytes=megabytes,
        )
    return Action(
        'Write "thread-stack-size {megabytes}MB" into `<product-config stabilitymonitor>` of '
        'zope.conf and restart.',
        megabytes=megabytes,
    )
