"""The stack gauge: how large a thread's stack is, how deep it has ever been, and how much room is
left.

The kernel knows which pages of a stack were ever touched; the lowest one is the high-water mark.

Only a thread itself asks the C library where its stack lies: what `pthread_getattr_np` does with a
thread that has ended is undefined.  For other threads the kernel is asked.  Their ident is used as
a number only: it is the address of the thread's descriptor, which lies at the top of its stack
(glibc and musl).  A stack that is gone by now reads as unused; no pointer into it is followed.

Imports nothing but `stacksizes` and the records.  None and 0 mean "not known on this system".
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
#: Pages in one look at the kernel's table: the GIL is held for some microseconds.
_CHUNK = 2048
#: Pages in a look at what lies just below the mark.
_WINDOW = 16
#: The same in bytes.
_CHUNK_SIZE = _CHUNK * _PAGE
_WINDOW_SIZE = _WINDOW * _PAGE
_VECTORS = {pages: ctypes.c_char * pages for pages in (_CHUNK, _WINDOW)}
#: Bytes of an entry of /proc/self/pagemap, one for each page.
_ENTRY = 8
#: The highest byte of each of many entries (little-endian).
_HIGHEST_BYTES = slice(_ENTRY - 1, None, _ENTRY)
#: Tables for `bytes.translate`, by the highest byte of an entry.  A page was touched if it is
#: present or swapped, and is no guard page of `madvise`.
_IS_TOUCHED = bytes(bool(byte & 0xC0) and not byte & 0x04 for byte in range(256))
_IS_GUARD = bytes(bool(byte & 0x04) for byte in range(256))
_MAPPING = re.compile(
    r'(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) \S+ \S+ \S+ \S+ *(?P<stack>\[stack])?'
)
#: Shares of a stack: less room is a warning, or critical.
_LOW = 1 / 4
_CRITICAL = 1 / 20


@dataclass(frozen=True)
class Stack:
    """Where one thread's stack lies, in bytes.

    It grows from `top` down to `address`; below that is the guard.
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

    `granule` is how finely a mark is known, in bytes: transparent huge pages, where they are always
    on, round it up.
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

    # -- where a stack lies ------------------------------------------------------------------------

    def own(self) -> Stack | None:
        """The calling thread's stack."""
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
        """The main thread's stack; any thread may ask.

        An unlimited one ends at the mapping below it.
        """
        return _main(self._mappings())

    def of_thread(self, native_id: int, ident: int = 0) -> Stack | None:
        """The stack of a thread of this process; see `of_threads`."""
        found = self.of_threads({native_id: ident})
        return found.get(native_id)

    def of_threads(self, threads: dict[int, int]) -> dict[int, Stack]:
        """{native id: Stack} for {native id: ident, or 0 where Python does not know the thread}.

        A thread that has ended is left out, and so is one without an ident that is on a CPU right
        now.  No stack is taken to be larger than the default: one that was made larger shows less
        of its room.
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
        # A thread that has ended meanwhile may have left its place to another one.
        for native_id in list(found):
            if not (self._proc / f'self/task/{native_id}').exists():
                del found[native_id]
        return found

    def _below(self, ident: int, mappings: list[_Mapping]) -> Stack | None:
        """The stack on whose last page the thread's descriptor is."""
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
        """The stack of default size that begins at the start of the mapping or above a guard page.

        None if the stack pointer does not lie in it.
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
        """The guard pages between two addresses, lowest first.

        Those that glibc 2.42 makes with `madvise` are no mappings of their own, so that the stacks
        of several threads can be one mapping.  () where there is none, or where the kernel does not
        tell (before Linux 6.15).
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
        """The stack pointer; 0 for a thread that is on a CPU ("running"), or gone."""
        fields = _text(self._proc / f'self/task/{native_id}/syscall').split()
        if len(fields) <= 2:
            return 0
        pointer, _ = fields[-2:]
        return int(pointer, 16)

    def _mappings(self) -> Iterator[_Mapping]:
        """One by one: there are hundreds, and memory that was taken once is not given back."""
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

    # -- how deep it was ---------------------------------------------------------------------------

    def used(self, stack: Stack) -> int:
        """The high-water mark in bytes, from a look at all pages of the stack."""
        top = stack.top
        lowest = self._scan(stack.address, top)
        if lowest is None:  # the main thread's is mapped only as far as it has grown
            mapping = _mapping_of(top - 1, self._mappings())
            if mapping:
                mapped = max(stack.address, mapping.start)
                lowest = self._scan(mapped, top)
        if lowest is None:
            return 0
        lowest = self._swapped(stack.address, lowest)
        return top - lowest

    def rise(self, stack: Stack, known: int) -> int:
        """The high-water mark, `known` from before, at the cost of a look at 16 pages below it.

        All pages are looked at only when one of those was touched.  A single C function that jumps
        over 64 KiB without touching them is seen later, by `used`.
        """
        mark = _page_of(stack.top - known)
        first = max(stack.address, mark - _WINDOW_SIZE)
        for low in range(first, mark, _PAGE):  # one round, but at the end of what is mapped
            found = self._lowest(low, mark)
            if found is None:
                continue
            if found == mark:
                return known
            return max(known, self.used(stack))
        return known

    def _scan(self, low: int, high: int) -> int | None:
        """The lowest page of a range that is in memory; `high` if none is.

        None if not all of the range is mapped.
        """
        for start in range(low, high, _CHUNK_SIZE):
            end = min(start + _CHUNK_SIZE, high)
            found = self._lowest(start, end)
            if found != end:
                return found
        return high

    def _lowest(self, low: int, high: int) -> int | None:
        """As `_scan`, of at most a chunk."""
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
        """The lowest page between that was touched and is swapped out; `high` if there is none."""
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
        """(address, the highest byte of the entry of each page from there on), chunk by chunk."""
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
    """The C function `mincore`.

    PyDLL keeps the GIL: to release it and wait for it would cost more than the call.
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
    """The kernel lets it grow to the limit in force now, whatever that was at the start."""
    floor = 0  # the end of the mapping below
    for here in mappings:
        if not here.is_main_stack:
            floor = here.end
            continue
        import resource

        address = floor
        limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
        if limit != resource.RLIM_INFINITY:
            lowest = max(floor, here.end - limit)
            address = _page_of(lowest + _PAGE - 1)
        return Stack(address, here.end - address)
    return None


def _page_of(address: int) -> int:
    """Where the page begins that holds this address."""
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
    """Bytes of the largest transparent huge page that memory gets without asking; 0 for none."""
    folder = sysfs / 'kernel/mm/transparent_hugepage'
    always = '[always]' in _text(folder / 'enabled')
    largest = 0
    whole = _text(folder / 'hpage_pmd_size').strip()
    if always and whole.isdigit():
        largest = int(whole)
    # From Linux 6.8 on, each size has a choice of its own.
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
    """The answer to "has this thread room left on its stack?".

    With a coarse `granule` only what is sure counts.
    """
    if not size or not used:
        return Finding(
            'stack-headroom',
            INFO,
            f'How deep the stack of {name} was is not known.',
            source='stack gauge',
        )
    surely_used = max(_PAGE, used - granule + _PAGE)
    left = size - surely_used
    at_most = ' at most (the kernel rounds up to huge pages)' if granule > _PAGE else ''
    fact = f'{name} has used {used >> 10} KiB of its {size >> 10} KiB of stack{at_most}.'
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
        f'The stack of {name} was nearly full: a little deeper, and the process dies.',
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
