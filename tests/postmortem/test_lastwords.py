"""The last words of C code are found in standard error, whatever else is there."""

import timeit

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.postmortem import lastwords

WORDS = [
    'free(): double free detected in tcache 2',
    'free(): invalid pointer',
    'free(): invalid next size (fast)',
    'malloc(): unsorted double linked list corrupted',
    'malloc(): mismatching next->prev_size (unsorted)',
    'malloc_consolidate(): unaligned fastbin chunk detected',
    'munmap_chunk(): invalid pointer',
    'realloc(): invalid next size',
    'double free or corruption (!prev)',
    'corrupted size vs. prev_size while consolidating',
    'corrupted double-linked list',
    '*** stack smashing detected ***: terminated',
    '*** buffer overflow detected ***: terminated',
    '*** bit out of range 0 - FD_SETSIZE on fd_set ***: terminated',
    "*** Error in `python': free(): invalid pointer: 0x00007f0000000001 ***",
    '*** buffer overflow detected ***: /usr/bin/python3 terminated',
    '*** glibc detected *** python: double free or corruption (!prev): 0x0000000001f ***',
    'Fatal error: glibc detected an invalid stdio handle',
    'ERROR:../lib.c:12:work: assertion failed: (ptr)',
    "Debug memory block at address p=0x7f0000000001: API 'o'",
    '==4711==WARNING: MemorySanitizer: use-of-uninitialized-value',
    'WARNING: ThreadSanitizer: data race (pid=4711)',
    'lib.c:7:3: runtime error: index 5 out of bounds for type "int [5]"',
    'thread caused non-unwinding panic. aborting.',
    'F1130 10:00:00.000001    4711 pool.cc:12] Check failed: size > 0',
    'F0000 00:00:1764500000.000001    4711 pool.cc:12] Check failed: size > 0',
    '[mutex.cc : 926] RAW: Check w->waitp->cond == nullptr failed',
    '(process:4711): GLib-ERROR **: 10:00:00.000: failed to allocate 8 bytes',
    'GLib-GObject-ERROR **: cannot register',
    'FATAL: exception not rethrown',
    '*** %n in writable segment detected ***',
    'libgomp: Thread creation failed: Resource temporarily unavailable',
    'Fatal glibc error: malloc assertion failure in sysmalloc: (old_top == initial_top (av))',
    'libgcc_s.so.1 must be installed for pthread_exit to work',
    'libgcc_s.so.1 must be installed for pthread_cancel to work',
    "python: malloc.c:2617: sysmalloc: Assertion `(old_top == initial_top (av))' failed.",
    'Assertion failed: ptr != NULL (lib.c: work: 12)',
    'Modules/gcmodule.c:446: visit_decref: Assertion "gc_get_refs(gc) > 0" failed',
    "terminate called after throwing an instance of 'std::bad_alloc'",
    'terminate called without an active exception',
    'terminate called recursively',
    'pure virtual method called',
    'libc++abi: terminating due to uncaught exception of type std::length_error: vector',
    '==4711==ERROR: AddressSanitizer: heap-use-after-free on address 0x60200000 at pc 0x1',
    'SUMMARY: AddressSanitizer: heap-use-after-free lib.c:7 in work',
    'AddressSanitizer:DEADLYSIGNAL',
    '==4711== Process terminating with default action of signal 11 (SIGSEGV)',
    'Scudo ERROR: invalid chunk state when deallocating address 0x200',
    "thread '<unnamed>' panicked at 'index out of bounds', src/lib.rs:5:9",
    "thread 'tokio-runtime-worker' has overflowed its stack",
    'fatal runtime error: stack overflow, aborting',
    'memory allocation of 5242880 bytes failed',
    'fatal error: unexpected signal during runtime execution',
    'LLVM ERROR: out of memory',
    'OMP: Error #15: Initializing libiomp5.so, but found libgomp.so already initialized.',
    'BLAS : Program is Terminated. Because you tried to allocate too many memory regions.',
    'python: symbol lookup error: /srv/env/_fast.so: undefined symbol: PyFloat_AsDouble_',
]


@pytest.mark.parametrize('words', WORDS)
def test_the_words_of_each_library_are_found(words):
    text = f'Serving on http://127.0.0.1:8080\n{words}\nAborted (core dumped)\n'
    assert lastwords.find(text.encode(), 4711) == (words,)


@pytest.mark.parametrize(
    'line',
    [
        '2026-11-30 10:00:00 ERROR [x] AssertionError: the assertion failed',
        'AssertionError: Assertion of the form failed',
        'ValueError: free() takes no arguments',
        'WARNING:root:malloc() is slow',
        '*** Starting up ***',
        'the thread panicked at noon',
        'Traceback (most recent call last):',
        '  File "/x.py", line 7, in terminate called',
        'Fatal Python error: Aborted',
        '127.0.0.1 - "GET /free() HTTP/1.1" 200',
        '==4712==ERROR: AddressSanitizer: SEGV on unknown address',  # of another process
    ],
)
def test_other_lines_are_not_last_words(line):
    assert lastwords.find(line.encode() + b'\n', 4711) == ()


def test_words_that_name_a_process_count_if_the_own_is_not_known():
    assert lastwords.find(b'==4712==ERROR: AddressSanitizer: SEGV on unknown address\n')


def test_the_words_of_malloc_are_found_behind_the_beginning_of_another_line():
    assert lastwords.find(b'INFO a linefree(): invalid pointer\n') == ('free(): invalid pointer',)


@pytest.mark.parametrize(
    'lines, words',
    [
        (
            "terminate called after throwing an instance of 'std::runtime_error'\n"
            '  what():  no such file\nmore\n',
            "terminate called after throwing an instance of 'std::runtime_error' "
            'what(): no such file',
        ),
        (
            "thread '<unnamed>' (4713) panicked at src/lib.rs:5:9:\nindex out of bounds\nnote: x\n",
            "thread '<unnamed>' (4713) panicked at src/lib.rs:5:9: index out of bounds",
        ),
    ],
)
def test_the_message_in_the_next_line_belongs_to_the_words(lines, words):
    assert lastwords.find(lines.encode()) == (words,)


def test_only_the_newest_words_are_kept_each_once():
    lines = [f'malloc(): invalid size {number}' for number in (1, 2, 3, 4, 5, 3)]
    found = lastwords.find('\n'.join(lines).encode())
    assert found == tuple(f'malloc(): invalid size {number}' for number in (2, 4, 5, 3))


def test_words_far_from_the_end_are_not_the_last():
    text = b'free(): invalid pointer\n' + b'a line of the log\n' * 4000
    assert len(text) > lastwords.LIMIT and lastwords.find(text) == ()


def test_a_long_line_is_cut():
    (words,) = lastwords.find(b'LLVM ERROR: ' + b'x' * 50_000)
    assert len(words) == 300


pieces = st.one_of(
    st.sampled_from([words.encode() for words in WORDS]),
    st.sampled_from([b'\n', b'\r\n', b'\0', b'\xff\xfe', b"thread '", b'panicked at ', b' ***']),
    st.binary(max_size=40),
)


@given(st.lists(pieces, max_size=40).map(b''.join), st.integers(0, 1 << 32))
@settings(max_examples=800, deadline=None)
def test_any_bytes_give_words_that_can_be_shown(data, pid):
    for words in lastwords.find(data, pid):
        assert words.isprintable() and words.strip()
        words.encode()


@pytest.mark.parametrize(
    'piece',
    [b'x', b'*** ', b"thread '", b': Assertion `', b'free(): ', b'(', b'\n', b"a'\n", b'==1'],
)
def test_the_time_is_linear_in_the_length(piece):
    """A text that is 32 times as long takes at most 12 times as long as 32 short ones.  Both take
    long enough that a busy machine slows both.
    """

    def seconds(size, times):
        text = (piece * size)[:size]
        return timeit.timeit(lambda: lastwords.find(text), number=times)

    whole = lastwords.LIMIT
    assert any(seconds(whole, 1) < 12 * seconds(whole // 32, 32) for _ in range(5))
