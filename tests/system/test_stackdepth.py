"""The stack gauge: threads that nearly fill their stack, memory touched page by page, and threads
that have ended.
"""

import ctypes
import json
import mmap
import os
import re
import sys
import threading
from pathlib import Path

import pytest
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import run_python
from support.descriptors import held
from support.stackthreads import in_thread

from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.system import stackdepth
from Products.StabilityMonitor.system.stackdepth import Stack
from Products.StabilityMonitor.system.stackdepth import StackGauge
from Products.StabilityMonitor.system.stackdepth import headroom

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='the gauge reads files of Linux'
)


def program(name, *arguments):
    """Run a program in tests/programs, which must succeed.  Return its JSON output."""
    done = run_python(PROGRAMS / name, *arguments, timeout=120)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    return json.loads(done.stdout)


class Region:
    """Memory like that of a stack: mapped, and untouched until a test touches a page."""

    def __init__(self, pages):
        self.memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        holder = ctypes.c_char.from_buffer(self.memory)
        self.stack = Stack(ctypes.addressof(holder), pages * PAGE)

    def touch(self, page):
        """Touch the page with this number, counted from the top of the stack: 1 is the first."""
        self.memory[self.stack.size - page * PAGE] = 1


# -- where a stack is ------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [256 << 10, 1 << 20, 64 << 20])
def test_a_thread_finds_its_own_stack(size):
    """In a new process, because glibc may reuse a stack of an earlier thread, up to four times as
    large.
    """
    code = (
        'import test_stackdepth as tests; gauge = tests.StackGauge();'
        f'stack, inside = tests.in_thread(lambda: (gauge.own(), tests.pointer()), {size});'
        'print(stack.address, stack.size, stack.guard, inside)'
    )
    done = run_python('-c', code, cwd=Path(__file__).parent, check=True)
    *place, inside = map(int, done.stdout.split())
    stack = Stack(*place)
    assert size <= stack.size <= size + (64 << 10) and stack.guard > 0
    assert stack.address < inside < stack.top == stack.address + stack.size


def pointer():
    return int(Path('/proc/thread-self/syscall').read_text().split()[-2], 16)


def while_waiting(gauge, question, size=0, with_ident=True):
    """Start a thread that waits, and call `question(native_id, ident)`.

    Return (the stack that the thread finds itself, the answer).
    """
    seen, over, results = threading.Event(), threading.Event(), []

    def wait():
        results.append(gauge.own())
        seen.set()
        over.wait()

    before = threading.stack_size(size)
    try:
        thread = threading.Thread(target=wait)
        thread.start()
    finally:
        threading.stack_size(before)
    seen.wait()
    until(lambda: ') S ' in Path(f'/proc/self/task/{thread.native_id}/stat').read_text(), 'sleep')
    answer = question(thread.native_id, thread.ident if with_ident else 0)
    over.set()
    thread.join()
    return results[0], answer


@pytest.mark.parametrize('with_ident', [True, False])
def test_the_stack_of_another_thread_is_the_one_that_it_finds_itself(with_ident):
    gauge = StackGauge()
    own, seen = while_waiting(gauge, gauge.of_thread, with_ident=with_ident)
    assert (seen.address, seen.top) == (own.address, own.top)


def test_a_stack_smaller_than_the_default_is_found_by_the_ident():
    gauge = StackGauge()
    own, seen = while_waiting(gauge, gauge.of_thread, 320 << 10)
    assert (seen.address, seen.top) == (own.address, own.top)


def test_of_a_stack_larger_than_the_default_only_a_part_is_reported():
    gauge = StackGauge()
    own, seen = while_waiting(gauge, gauge.of_thread, 64 << 20)
    assert seen.top == own.top and own.address < seen.address
    own, (seen, used) = while_waiting(
        gauge, lambda *ids: (gauge.of_thread(*ids), gauge.used(gauge.of_thread(*ids))), 64 << 20
    )
    assert 0 < used < seen.size  # the mark is correct nevertheless


def test_any_thread_finds_the_stack_of_the_main_thread():
    gauge, main = StackGauge(), threading.main_thread()
    stack = in_thread(lambda: gauge.of_thread(main.native_id, main.ident))
    assert stack == gauge.main()
    if threading.current_thread() is main:
        assert stack == gauge.own() and stack.address < pointer() < stack.top


def test_the_unlimited_main_stack_ends_at_the_mapping_below():
    resource = pytest.importorskip('resource')
    code = (
        'import resource as r\n'
        'from Products.StabilityMonitor.system.stackdepth import StackGauge\n'
        'r.setrlimit(r.RLIMIT_STACK, (r.RLIM_INFINITY, r.RLIM_INFINITY))\n'
        'gauge = StackGauge(); stack = gauge.own()\n'
        'print(stack.size, gauge.used(stack), gauge.rise(stack, 0))'
    )
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip('this user may not have an unlimited stack')
    done = run_python('-c', code)
    size, used, risen = map(int, done.stdout.split())
    assert size > 1 << 30 and 0 < used <= risen < 8 << 20


def test_a_thread_that_has_ended_has_no_stack():
    gauge = StackGauge()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    ids = thread.native_id, thread.ident
    thread.join()
    until(
        lambda: not Path(f'/proc/self/task/{ids[0]}').exists(), 'the end of a thread'
    )  # the kernel removes it later than Python
    assert gauge.of_thread(*ids) is None and gauge.of_thread(ids[0]) is None


def recorded(tmp_path, syscall, maps):
    (tmp_path / 'self/task/77').mkdir(parents=True)
    (tmp_path / 'self/task/77/syscall').write_text(syscall)
    (tmp_path / 'self/maps').write_text(maps)
    return StackGauge(tmp_path)


MAPS = (
    '10000000-10800000 rw-p 00000000 00:00 0 \n7ffd00000000-7ffd00021000 rw-p 00000000 00:00 '
    '0          [stack]\n'
)


@pytest.mark.parametrize(
    'syscall, found',
    [
        ('0 0x3 0x0 0x0 0x0 0x0 0x0 0x107ff810 0x401000', True),
        ('-1 0x107ff810 0x401000\n', True),
        ('running', False),
        ('', False),
        ('0 0x0 0x0 0x0 0x0 0x0 0x0 0x20000000 0x0', False),
    ],
)
def test_a_stack_is_found_by_the_stack_pointer_of_a_waiting_thread(tmp_path, syscall, found):
    assert (recorded(tmp_path, syscall, MAPS).of_thread(77) == Stack(0x10000000, 0x800000)) == found


@pytest.mark.parametrize('ident', [0, 1, 2**64 - 1, 0x107FF6C0])
def test_without_files_in_proc_no_stack_is_known(tmp_path, ident):
    gauge = StackGauge(tmp_path)
    assert gauge.main() is None
    assert gauge.of_threads({77: ident, os.getpid(): ident}) == {}


def test_without_the_c_functions_nothing_is_known():
    gauge = StackGauge(Path('/nonexistent'), Path('/nonexistent'), libc=object())
    assert in_thread(gauge.own) is None and gauge.own() is None
    assert gauge.used(Stack(PAGE, 8 * PAGE)) == 0
    assert gauge.rise(Stack(PAGE, 8 * PAGE), 2 * PAGE) == 2 * PAGE


# -- the high-water mark ---------------------------------------------------------------------------


@pytest.mark.parametrize('pages', [8, 100, 2048, 2049, 5000])
def test_the_lowest_touched_page_is_the_mark(pages):
    gauge, region = StackGauge(), Region(pages)
    assert gauge.used(region.stack) == 0
    ends_of_chunks = {pages - 2048, pages - 2047} if pages > 2048 else set()
    for page in sorted({1, 2, 5, pages // 2, pages - 1} | ends_of_chunks - {0}):
        region.touch(page)
        assert gauge.used(region.stack) == page * PAGE
    region.touch(pages)
    assert gauge.used(region.stack) == 0, 'it was read as a whole'


def test_a_rise_is_seen_from_the_pages_below_the_mark():
    gauge, region = StackGauge(), Region(1000)
    known = 0
    for page in (
        1,
        3,
        3 + 16,
        35,
        36,
        50,
        66,
    ):  # each is at most a window (16 pages) below the last one
        region.touch(page)
        known = gauge.rise(region.stack, known)
        assert known == page * PAGE == gauge.rise(region.stack, known)
    region.touch(200)
    region.touch(67)  # one touched page in the window makes it read all pages
    assert gauge.rise(region.stack, known) == 200 * PAGE


def test_a_jump_over_the_window_is_seen_by_used_only():
    gauge, region = StackGauge(), Region(1000)
    region.touch(1)
    region.touch(18)
    assert gauge.rise(region.stack, PAGE) == PAGE
    assert gauge.used(region.stack) == 18 * PAGE


def test_the_known_mark_never_sinks():
    gauge, region = StackGauge(), Region(100)
    region.touch(3)
    assert gauge.rise(region.stack, 90 * PAGE) == 90 * PAGE
    assert gauge.rise(region.stack, 100 * PAGE) == 100 * PAGE
    region.memory.madvise(mmap.MADV_DONTNEED)
    assert gauge.rise(region.stack, 3 * PAGE) == 3 * PAGE and gauge.used(region.stack) == 0


def test_the_known_mark_may_be_inside_a_page():
    gauge, region = StackGauge(), Region(100)
    region.touch(3)
    assert gauge.rise(region.stack, 3 * PAGE - 100) == 3 * PAGE - 100
    region.touch(4)
    assert gauge.rise(region.stack, 3 * PAGE - 100) == 4 * PAGE


def test_unmapped_memory_reads_as_unused():
    """No pointer is followed, so addresses that no process has do no harm."""
    gauge = StackGauge()
    for stack in (
        Stack(PAGE, 100 * PAGE),
        Stack(2**63, 100 * PAGE),
        Stack(2**64 - 200 * PAGE, 100 * PAGE),
    ):
        assert gauge.used(stack) == 0
        assert gauge.rise(stack, 5 * PAGE) == 5 * PAGE


def pagemap(tmp_path, region, pages):
    """Write a pagemap for a region, from {page from the top: highest byte of its entry}.

    Return a gauge that reads it.
    """
    (tmp_path / 'self').mkdir(exist_ok=True)
    with open(tmp_path / 'self/pagemap', 'wb') as file:
        for page, byte in pages.items():
            file.seek((region.stack.top // PAGE - page) * 8)
            file.write(bytes(7) + bytes([byte]))
    return StackGauge(tmp_path)


def test_a_stack_that_was_read_as_a_whole_is_not_taken_for_a_full_one():
    """pystack reads all of a stack, and the kernel then maps all of its pages."""
    gauge = StackGauge()

    def question(*ids):
        stack = gauge.of_thread(*ids)
        before = gauge.used(stack)
        ctypes.string_at(stack.address, stack.size)
        return stack, before, gauge.used(stack), gauge.rise(stack, before)

    _, (stack, before, read, after) = while_waiting(gauge, question, 1 << 20)
    assert 0 < before < stack.size and read == 0 and after == before


@pytest.mark.parametrize(
    'byte, page',
    [(0x40, 4000), (0x80, 4000), (0x00, 2), (0x04 | 0x40, 2), (0x01, 2)],
    ids=['swapped', 'present', 'never touched', 'guard page', 'soft dirty'],
)
def test_a_page_that_was_swapped_out_counts(tmp_path, byte, page):
    region = Region(5000)
    region.touch(2)
    assert pagemap(tmp_path, region, {4000: byte, 1: 0x81}).used(region.stack) == page * PAGE


def test_the_pagemap_of_the_kernel_agrees_with_mincore():
    """Without swap, pagemap and mincore report the same pages as touched."""
    region = Region(5000)
    for page in (1, 7, 4321):
        region.touch(page)
        entries = os.pread(
            fd := os.open('/proc/self/pagemap', os.O_RDONLY),
            5000 * 8,
            region.stack.address // PAGE * 8,
        )
        os.close(fd)
        assert entries[7::8].translate(stackdepth._IS_TOUCHED).find(1) == 5000 - page
        assert StackGauge().used(region.stack) == page * PAGE


# -- real recursions -------------------------------------------------------------------------------


@pytest.mark.parametrize('where', ['thread', 'main'])
@pytest.mark.parametrize(
    'size, keep, severity',
    [(1 << 20, 44 << 10, 'critical'), (256 << 10, 48 << 10, 'warning'), (2 << 20, 1 << 20, 'ok')],
)
def test_a_recursion_that_stops_near_the_end_of_the_stack_is_measured(where, size, keep, severity):
    seen = program('gauge_deep.py', where, size, keep)
    assert size <= seen['size'] <= size + PAGE and seen['before'] < size // 2
    assert seen['truth'] > size - keep - 4 * PAGE
    for mark in ('own', 'known', 'again', 'other'):
        assert seen['truth'] <= seen[mark] <= min(seen['truth'] + 4 * PAGE, seen['size'])
    assert seen['other_size'] == seen['size'] and seen['severity'] == severity
    assert seen['truth'] - 7 * PAGE < seen['first'] < seen['known']


def test_recursion_in_c_code_raises_the_mark():
    """json.dumps of nested lists: each level takes the same stack, and the mark never sinks."""
    gauge = StackGauge()

    def measure():
        stack, marks = gauge.own(), []
        for depth in (100, 400, 800, 100):
            nested = []
            for _ in range(depth):
                nested = [nested]
            json.dumps(nested)
            marks.append(gauge.rise(stack, marks[-1] if marks else 0))
        assert marks[-1] == gauge.used(stack)
        return marks

    first, second, third, last = in_thread(measure, 2 << 20)
    assert first < second < third == last
    assert 0.8 < (third - second) / (second - first) * 300 / 400 < 1.25


def test_huge_pages_round_the_mark_up_by_no_more_than_the_granule():
    """Request huge pages for a stack.  If the kernel gives none, the mark is exact."""
    gauge = StackGauge()

    def measure():
        stack = gauge.own()
        truth = gauge.used(stack)
        middle = stack.address + stack.size // 2 & -HUGE
        library = ctypes.PyDLL(None, use_errno=True)
        advised = library.madvise(ctypes.c_void_p(middle - 4 * HUGE), ctypes.c_size_t(4 * HUGE), 14)
        ctypes.memset(middle - 8, 1, 8)
        return advised, truth, gauge.used(stack), stack.top - middle

    advised, truth, used, depth = in_thread(measure, 64 << 20)
    if advised:
        pytest.skip('this kernel was built without transparent huge pages')
    assert truth < depth and depth + PAGE <= used <= depth + HUGE


@pytest.mark.parametrize(
    'files, size',
    [
        ({}, 0),
        ({'enabled': 'always [madvise] never', 'hpage_pmd_size': '2097152'}, 0),
        ({'enabled': '[always] madvise never\n', 'hpage_pmd_size': '2097152\n'}, HUGE),
        ({'enabled': '[always] madvise never', 'hpage_pmd_size': ''}, 0),
        (
            {'enabled': '[never]', 'hugepages-64kB/enabled': '[always] inherit madvise never'},
            64 << 10,
        ),
        (
            {'enabled': '[always]', 'hugepages-64kB/enabled': 'always [inherit] madvise never'},
            64 << 10,
        ),
        ({'enabled': '[madvise]', 'hugepages-64kB/enabled': 'always [inherit] madvise never'}, 0),
    ],
)
def test_the_granule_is_the_largest_huge_page_that_is_always_on(tmp_path, files, size):
    folder = tmp_path / 'kernel/mm/transparent_hugepage'
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert stackdepth.huge_page(tmp_path) == size
    assert StackGauge(sysfs=tmp_path).granule == max(size, PAGE)


# -- threads that come and go ----------------------------------------------------------------------


def test_stacks_can_be_read_while_thousands_of_threads_end():
    seen = program('gauge_churn.py', 3000)
    assert seen['lives'] == 3000 and seen['readings'] > 30 and seen['strange'] == []


def test_reading_leaves_no_descriptor_open():
    gauge, region = StackGauge(), Region(100)
    before = held()
    for _ in range(10):
        gauge.used(region.stack)
        gauge.of_threads({os.getpid(): 0})
    until(lambda: not held() - before)


# -- findings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'size, used, severity',
    [
        (8 << 20, 12 << 10, 'ok'),
        (8 << 20, 6 << 20, 'ok'),
        (8 << 20, (6 << 20) + PAGE, 'warning'),
        (1 << 20, (1 << 20) * 19 // 20 & -PAGE, 'warning'),
        (1 << 20, ((1 << 20) * 19 // 20 & -PAGE) + PAGE, 'critical'),
        (1 << 20, 1 << 20, 'critical'),
        (0, 0, 'info'),
        (8 << 20, 0, 'info'),
    ],
)
def test_the_severity_depends_on_the_room_that_is_left(size, used, severity):
    finding = headroom(size, used, 'Thread 4')
    assert finding.severity.code == severity and finding.id == 'stack-headroom'
    assert ('thread-stack-size' in str(finding.action)) == (severity in ('warning', 'critical'))
    assert 'Thread 4' in finding.title + finding.detail


def test_a_coarse_mark_is_judged_by_its_certain_part():
    finding = headroom(8 << 20, 7 << 20, 'Thread 4', granule=HUGE)
    assert finding.severity.code == 'ok' and 'at most' in finding.detail
    assert headroom(16 << 20, 16 << 20, 'Thread 4', granule=HUGE).severity.code == 'warning'
    assert 'at most' not in headroom(8 << 20, 7 << 20, 'Thread 4').detail


@pytest.mark.parametrize('size', [64 << 10, 1 << 20, 8 << 20, (9 << 20) + 5, 256 << 20])
def test_the_advised_stack_size_is_a_valid_option_and_is_enough(size):
    text = re.search(r'"thread-stack-size (\w+)"', str(headroom(size, size, 'Thread 4').action))[1]
    advised = options.bytecount(text)
    assert headroom(advised, size, 'Thread 4').severity.code == 'ok' and in_thread(
        lambda: True, advised
    )


def test_the_advice_for_the_main_thread_is_ulimit_or_limitstack():
    action = str(headroom(8 << 20, 8 << 20, 'MainThread', main=True).action)
    assert (
        'ulimit -s 16384' in action
        and 'LimitSTACK=16M' in action
        and 'thread-stack-size' not in action
    )
