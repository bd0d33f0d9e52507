"""Finds the last words of C code in the end of standard error: why it ended the process.

Bytes in, values out.  There is no I/O.  Whatever the bytes are, no exception is raised, and the
time is linear in their number.

C code that gives up writes a line to descriptor 2 and then aborts or exits.  Only the words of
libraries are known here, as they are in their sources: glibc (malloc.c, fortify_fail.c, assert.c,
pthread_cancel's libgcc_s), libstdc++ and libc++, the sanitizers, the run-time libraries of Rust and
of Go, and a few libraries whose words people reported.  The file may be shared with other
processes, and each program can print such words.  So they are evidence, and never a proof.
"""

from __future__ import annotations

import re

from .faultlines import read_text

#: At most this many bytes at the end of the text are searched: a report of a sanitizer is shorter.
LIMIT = 64 << 10
#: At most this many words are returned, those that were written last.
_MOST = 4
#: At most this many bytes of a line are read.
_LENGTH = 300
_LINES = re.compile(rb'[^\r\n\0]+')

#: How the words look.  Each row is searched in one line.
_PATTERNS = (
    # glibc's malloc: "free(): double free detected in tcache 2".  Another thread may have written
    # the beginning of the line, so only the end is anchored.
    rb'(?:free|malloc|realloc|calloc|memalign|munmap_chunk|mremap_chunk|malloc_consolidate'
    rb'|tcache_thread_shutdown|unlink_chunk|int_mallinfo|__malloc_info)'
    rb'\(\): [a-z][\w ,.!<>()/=-]*$',
    rb'(?:double free or corruption|corrupted size vs\. prev_size|corrupted double-linked list'
    rb'|invalid fastbin entry|malloc_check_get_size: memory corruption'
    rb'|break adjusted to free malloc space)[\w ,.()!-]*$',
    # glibc's checks, for example "*** stack smashing detected ***: terminated"
    rb'^\*\*\* .{1,120} \*\*\*: .*terminated$',
    rb'^\*\*\* .{1,120} detected \*\*\*$',
    rb'^\*\*\* (?:Error in |glibc detected \*\*\*)',
    # its pthread_exit, when C++ code has caught the unwinding of a daemon thread
    rb'^FATAL: exception not rethrown',
    rb'^Fatal (?:glibc error: |error: glibc detected )',
    rb'^The futex facility returned an unexpected error code',
    rb'^cannot allocate (?:TLS data structures|memory for thread-local data)',
    rb'^Inconsistency detected by ld\.so: ',
    rb'^\S+: (?:symbol lookup|relocation) error: ',
    rb'^lib\w+\.so\.\d+ must be installed for pthread_(?:exit|cancel) to work',
    # assert() of glibc, of musl and of other systems; CPython's own
    rb'^\S.*: Assertion [`\'"].*[\'"] failed\.?$',
    rb'^Assertion failed: ',
    rb'^\S+:\d+: \w+: Assertion .* failed',
    rb'^ERROR:\S+:\d+:\w+: assertion failed',
    rb'^Debug memory block at address p=',
    # C++
    rb'^terminate called ',
    rb'^(?:pure virtual method called|libc\+\+abi(?:\.dylib)?: |deleted virtual method called)',
    # sanitizers, valgrind and hardened allocators
    rb'^==\d+== ?(?:ERROR|WARNING|FATAL): \w+Sanitizer: ',
    rb'^WARNING: ThreadSanitizer: ',
    rb'^\S+:\d+:\d+: runtime error: ',
    rb'^\w+Sanitizer:(?:DEADLYSIGNAL|CHECK failed)',
    rb'^SUMMARY: \w+Sanitizer: ',
    rb'^==\d+== Process terminating with ',
    rb'^Scudo ERROR: ',
    rb'^\*\*\* GWP-ASan detected ',
    rb'^(?:mimalloc: (?:assertion|error)|<jemalloc>: )',
    rb'Attempt to free invalid pointer 0x[0-9a-f]+',
    # Rust
    rb"^thread '[^']*' (?:\(\d+\) )?panicked at ",
    rb"^thread '[^']*' (?:\(\d+\) )?has overflowed its stack",
    rb'^fatal runtime error: ',
    rb'^thread (?:panicked while |caused non-unwinding panic)',
    rb'^memory allocation of \d+ bytes failed',
    # Go
    rb'^fatal error: \w.*$',
    rb'^panic: ',
    # libraries
    rb'^F\d{4} \d\d:\d\d:\d{2,10}\.\d+ ',  # glog and Abseil, also before its set-up
    rb'^\[[\w.]+ : \d+\] RAW: ',
    rb'^(?:\(\S+:\d+\): )?[\w-]+-ERROR \*\*: ',  # GLib
    rb'^# Fatal error in ',
    rb'^LLVM ERROR: ',
    rb'^OMP: Error #\d+: ',
    rb'^(?:Intel MKL|INTEL MKL) (?:FATAL )?ERROR: ',
    rb'^(?:BLAS|OpenBLAS) : Program is Terminated',
    rb'^libgomp: ',
    rb'OpenSSL internal error',
    rb'^\[libprotobuf FATAL ',
)
_WORDS = re.compile(b'|'.join(b'(?:%s)' % pattern for pattern in _PATTERNS))
#: The process that a sanitizer or valgrind names: "==4711==ERROR".
_PROCESS = re.compile(rb'^==(\d{1,10})==')
#: Words whose message is in the next line, and how that line begins.
_GO_ON = (
    (re.compile(rb"^thread '.* panicked at [^'\"]*:$"), b''),
    (re.compile(rb'^terminate called after '), b'  what(): '),
)


def find(data: bytes, pid: int = 0) -> tuple[str, ...]:
    """Return the last words in the end of standard error, in their order.

    Words that name another process than `pid` are left out; 0: all count.
    """
    found: list[bytes] = []
    message: bytes | None = None  # how the next line begins if it goes on
    for match in _LINES.finditer(data[-LIMIT:]):
        line = match[0][:_LENGTH]
        if message is not None and line.startswith(message):
            found[-1] += b' ' + b' '.join(line.split())
            message = None
            continue
        message = None
        here = _WORDS.search(line)
        if here and not _is_of_another(line, pid):
            words = line[here.start() :]
            found.append(words)
            message = _message_after(words)
    texts = [read_text(words.strip()) for words in reversed(found)]
    newest_first = list(dict.fromkeys(texts))[:_MOST]
    return tuple(reversed(newest_first))


def _message_after(words: bytes) -> bytes | None:
    for pattern, beginning in _GO_ON:
        if pattern.search(words):
            return beginning
    return None


def _is_of_another(line: bytes, pid: int) -> bool:
    named = _PROCESS.match(line)
    if not named or not pid:
        return False
    return int(named[1]) != pid
