"""Thread-stack checks: the sizes that the system reports, and when there is a warning."""

import mmap
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.childprograms import run_python
from support.stackthreads import in_thread

from Products.StabilityMonitor.inspection.recursionexperiment import probe
from Products.StabilityMonitor.system import stacksizes

linux = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='needs pthread_getattr_np of Linux'
)


@linux
@pytest.mark.parametrize('size', [256 << 10, 1 << 20, 16 << 20])
def test_a_thread_finds_size_and_guard_of_its_own_stack(size):
    """In a new process, because glibc may reuse a stack of an earlier thread, up to four times as
    large.
    """
    code = (
        'import test_stacksizes as tests; '
        f'print(*tests.in_thread(tests.stacksizes.own_stack, {size}))'
    )
    done = run_python('-c', code, cwd=Path(__file__).parent, check=True)
    found, guard = map(int, done.stdout.split())
    assert size <= found <= size + (64 << 10)  # musl and glibc round differently
    assert 0 < guard <= 64 << 10


@linux
def test_the_main_thread_finds_the_size_of_its_stack():
    assert stacksizes.own_stack()[0] > 0


@linux
def test_the_default_is_what_new_threads_get():
    # glibc may reuse a larger stack of an earlier thread
    assert 0 < stacksizes.default_stack()[0] <= in_thread(stacksizes.own_stack)[0]
    before = threading.stack_size(2 << 20)
    try:
        assert stacksizes.default_stack()[0] == 2 << 20
    finally:
        threading.stack_size(before)


def test_without_the_c_functions_only_a_size_set_in_python_is_known():
    libc = object()
    assert stacksizes.own_stack(libc) is None
    assert stacksizes.default_stack(libc) is None
    before = threading.stack_size(2 << 20)
    try:
        assert stacksizes.default_stack(libc) == (2 << 20, 0)
    finally:
        threading.stack_size(before)


NEED = stacksizes.needed(1000)


@pytest.mark.parametrize(
    'size, limit, severity',
    [
        (8 << 20, 1000, 'ok'),
        (NEED, 1000, 'ok'),
        (NEED - 1, 1000, 'warning'),
        (NEED // 2 - 1, 1000, 'critical'),
        (128 << 10, 1000, 'critical'),  # musl
        (64 << 10, 1000, 'critical'),
    ],
)  # the HOWTO's FreeBSD
def test_the_severity_depends_on_the_stack_size(size, limit, severity):
    finding = stacksizes.check((size, 4096), limit)
    assert finding.severity.code == severity
    assert f'{size >> 10} KiB of stack' in finding.detail
    assert ('thread-stack-size' in str(finding.action)) == (severity != 'ok')


class FreeBSD:
    """The thread library of FreeBSD: attributes must be initialized before they are filled.

    Its stacks have 64 KiB, as in the HOWTO.
    """

    def __init__(self):
        self.made, self.refuses = [], False

    def pthread_attr_init(self, attributes):
        self.made.append(attributes._obj)
        return 0

    def pthread_attr_get_np(self, thread, attributes):
        assert thread.value == threading.get_ident() and self.made[-1] is attributes._obj
        return 22 if self.refuses else 0

    def pthread_attr_getstack(self, attributes, address, size):
        address._obj.value, size._obj.value = 0x7000_0000, 64 << 10

    def pthread_attr_getguardsize(self, attributes, guard):
        guard._obj.value = 4096

    def pthread_attr_destroy(self, attributes):
        self.made.remove(attributes._obj)


def macos():
    """The thread library of macOS, which reports the size of a stack and its upper end."""
    return SimpleNamespace(
        pthread_get_stackaddr_np=lambda thread: 0x7000_0000 + (512 << 10),
        pthread_get_stacksize_np=lambda thread: 512 << 10,
    )


def test_the_stack_is_found_with_the_functions_of_freebsd():
    libc = FreeBSD()
    assert stacksizes.own_place(libc) == (0x7000_0000, 64 << 10, 4096) and not libc.made
    assert stacksizes.check(stacksizes.own_stack(libc), 1000).severity.code == 'critical'
    libc.refuses = True
    assert stacksizes.own_place(libc) is None


def test_the_stack_is_found_with_the_functions_of_macos():
    assert stacksizes.own_place(macos()) == (0x7000_0000, 512 << 10, mmap.PAGESIZE)


MEASURED = [  # by the probe: version, recursion limit, bytes
    ((3, 11), 1000, 2_490_368),
    ((3, 11), 2000, 4_980_736),
    ((3, 11), 3000, 7_471_104),
    ((3, 11), 10000, 24_969_216),
    ((3, 12), 1000, 2_555_904),
    ((3, 12), 2000, 2_555_904),
    ((3, 12), 20000, 2_555_904),
    ((3, 13), 500, 2_621_440),
    ((3, 13), 1000, 5_177_344),
    ((3, 13), 1500, 7_733_248),
    ((3, 13), 2000, 10_289_152),
    ((3, 13), 2400, 12_386_304),
    ((3, 13), 3000, 12_910_592),
    ((3, 13), 20000, 12_910_592),
]


@pytest.mark.parametrize('version, limit, measured', MEASURED)
def test_the_needed_size_fits_the_measurements(version, limit, measured):
    assert measured <= stacksizes.needed(limit, version) <= 1.1 * measured


def test_python_3_14_needs_no_more_stack_with_a_higher_limit():
    assert stacksizes.needed(100_000, (3, 14)) == stacksizes.needed(1000, (3, 14)) < 8 << 20


@linux
@pytest.mark.parametrize('limit', [1000, 3000])
def test_the_needed_size_fits_a_measurement_of_this_python(limit):
    """Since Python 3.14, recursion raises RecursionError before the end of any stack.  There the
    needed size is only an upper limit.
    """
    result = probe(16 << 20, limit)
    assert not result.error and result.smallest <= stacksizes.needed(limit), result
    if sys.version_info < (3, 14):
        assert stacksizes.needed(limit) <= 1.1 * result.smallest


def test_an_unknown_stack_size_is_an_info():
    assert stacksizes.check(None).severity.code == 'info'


@pytest.mark.parametrize('limit', [1000, 30000, 10**6])
def test_the_advised_stack_size_is_enough(limit):
    """With the advised size there is no warning."""
    action = str(stacksizes.check((64 << 10, 0), limit).action)
    megabytes = int(action.partition('thread-stack-size ')[2].partition('MB')[0])
    assert stacksizes.check((megabytes << 20, 0), limit).severity.code == 'ok'


@linux
@pytest.mark.parametrize(
    'recursion', ['repr(Deep())', 'Deep().a', 'json.dumps(nested)', 'pickle.dumps(nested)']
)
def test_recursion_to_the_limit_survives_in_the_needed_size(recursion):
    """Recursion through C code to the limit ends with RecursionError, not with a crash."""
    code = f"""if True:
        import json, os, pickle, sys, threading
        from Products.StabilityMonitor.system import stacksizes as threadstacks
        class Deep:
            def __repr__(self):
                return repr([self])
            def __getattr__(self, name):
                return getattr(self, name + 'x')
        nested = []
        for _ in range(100000):
            nested = [nested]
        def run():
            try:
                {recursion}
            except RecursionError:
                print('survived', flush=True)
        needed = threadstacks.needed(sys.getrecursionlimit())
        threadstacks.raise_size(needed // 65536 * 65536 + 65536)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        os._exit(0)
    """
    done = run_python('-c', code)
    assert (done.returncode, done.stdout) == (0, 'survived\n')


def test_raise_size_sets_the_size_unless_it_is_0():
    before = threading.stack_size(3 << 20)
    try:
        stacksizes.raise_size(0)
        assert threading.stack_size(3 << 20) == 3 << 20
        stacksizes.raise_size(2 << 20)
        assert threading.stack_size(2 << 20) == 2 << 20
        with pytest.raises(ValueError):
            stacksizes.raise_size(1)
    finally:
        threading.stack_size(before)


def test_reading_sizes_does_not_change_the_size_of_new_stacks():
    """`threading.stack_size()` without an argument sets it to 0."""
    before = threading.stack_size(2 << 20)
    try:
        stacksizes.default_stack()
        stacksizes.default_stack(object())
        stacksizes.check(stacksizes.own_stack())
        assert threading.stack_size(2 << 20) == 2 << 20
    finally:
        threading.stack_size(before)
