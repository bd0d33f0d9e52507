"""Pages that end the process, each in its own way, and pages that hang.  The kit publishes them
(`zopekit.publish`).

What must happen in the main thread happens in the Python handler of SIGWINCH.
"""

import ctypes
import os
import signal
import sys
import threading
import time

_libc = ctypes.CDLL(None)
_forever = threading.Event()
_in_main_thread = []


def _run_in_main_thread(*_):
    while _in_main_thread:
        _in_main_thread.pop()()


signal.signal(signal.SIGWINCH, _run_in_main_thread)


def _main(function):
    _in_main_thread.append(function)
    os.kill(os.getpid(), signal.SIGWINCH)
    _forever.wait()


def _read_null():
    ctypes.string_at(0)


def _raise():
    raise RuntimeError('out of luck')


# -- crashes ---------------------------------------------------------------------------------------


def segfault(self):
    _read_null()


def segfault_in_main(self):
    _main(_read_null)


def segfault_in_native_thread(self):
    """strlen(NULL) in a thread that Python knows nothing of."""
    thread = ctypes.c_ulong()
    _libc.pthread_create(
        ctypes.byref(thread), None, ctypes.cast(_libc.strlen, ctypes.c_void_p), None
    )
    _forever.wait()


def segfault_among_many(self):
    """More than 100 threads younger than this one: the dump leaves it out."""
    for _ in range(120):
        threading.Thread(target=_forever.wait, daemon=True).start()
    _read_null()


def raise_signal(self, number):
    signal.raise_signal(int(number))
    _forever.wait()


def abort(self):
    os.abort()


def double_free(self):
    _libc.malloc.restype = ctypes.c_void_p
    block = ctypes.c_void_p(_libc.malloc(64))
    _libc.free(block)
    _libc.free(block)


def fatal_error(self):
    ctypes.pythonapi.Py_FatalError(b'the drill for fatal errors')


def overflow_stack(self):
    """Python to C to Python, until the stack of this thread is used up."""
    sys.setrecursionlimit(1 << 30)
    _deeper(self)


def overflow_stack_in_main(self):
    sys.setrecursionlimit(1 << 30)
    _main(lambda: _deeper(self))


class _Wide(ctypes.Structure):
    _fields_ = [('rest', ctypes.c_char * (48 << 10))]


def _deeper(x):
    """From Python 3.14 on, a call raises RecursionError within 32 KiB of the end of the stack.  An
    argument that is passed by value and larger than that takes the rest in one step.
    """
    try:
        return max([x], key=_deeper)
    except RecursionError:
        return _libc.getpid(_Wide())


# -- ends without a word ---------------------------------------------------------------------------


def leave(self):
    os._exit(5)


def exit_in_c(self):
    _libc.exit(6)


def eat_memory(self):
    eaten = []
    while True:
        eaten.append(b'x' * (8 << 20))


def eat_memory_later(self, sign):
    """In a thread that serves nobody, as soon as that file is there."""

    def eat():
        while not os.path.exists(sign):
            time.sleep(0.02)
        eat_memory(None)

    threading.Thread(target=eat, daemon=True).start()
    return 'it waits for the sign'


# -- the main thread -------------------------------------------------------------------------------


def raise_in_main(self):
    _main(_raise)


def leave_main(self):
    _main(sys.exit)


# -- waiting ---------------------------------------------------------------------------------------


def wait(self):
    _forever.wait()


def hold_gil(self):
    """A PyDLL keeps the GIL while it calls."""
    ctypes.PyDLL(None).sleep(600)


def fork_and_die(self, number):
    """A forked child dies by a signal; its parent lives on.  The answer is the child's status."""
    child = os.fork()
    if not child:
        signal.raise_signal(int(number))
        os._exit(1)
    return str(os.waitpid(child, 0)[1])


def fork_in_main(self):
    """A child of the main thread has a fatal error; the answer is its status."""
    answer = []
    done = threading.Event()

    def fork():
        child = os.fork()
        if not child:
            fatal_error(self)
        answer.append(os.waitpid(child, 0)[1])
        done.set()

    _in_main_thread.append(fork)
    os.kill(os.getpid(), signal.SIGWINCH)
    done.wait()
    return str(answer[0])


def clock(self):
    return repr(time.time())
