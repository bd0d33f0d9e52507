"""Pages that end the process or hang, each in its own way; `zopekit.publish` publishes them.

What must happen in the main thread happens in a Python handler of SIGWINCH.
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
    """Call strlen(NULL) in a thread that Python does not know."""
    thread = ctypes.c_ulong()
    _libc.pthread_create(
        ctypes.byref(thread), None, ctypes.cast(_libc.strlen, ctypes.c_void_p), None
    )
    _forever.wait()


def segfault_among_many(self):
    """Start more than 100 newer threads, so that the dump leaves out this one, and crash."""
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
    """Recurse from Python to C to Python until the stack of this thread is used up."""
    sys.setrecursionlimit(1 << 30)
    _deeper(self)


def overflow_stack_in_main(self):
    sys.setrecursionlimit(1 << 30)
    _main(lambda: _deeper(self))


class _Wide(ctypes.Structure):
    _fields_ = [('rest', ctypes.c_char * (48 << 10))]


def _deeper(x):
    """Recurse, and use the last 32 KiB of the stack too, where a call raises RecursionError from
    Python 3.14 on.

    An argument of 48 KiB that is passed by value uses them in one step.
    """
    try:
        return max([x], key=_deeper)
    except RecursionError:
        return _libc.getpid(_Wide())


# -- the clock -------------------------------------------------------------------------------------


def set_clock(self, seconds):
    """Set the clock of this process forward; C code and the kernel keep theirs."""
    real, ahead = time.time, float(seconds)
    time.time = lambda: real() + ahead


# -- ends without a trace --------------------------------------------------------------------------


def leave(self, status=5):
    os._exit(int(status))


def restart_in_place(self):
    """Replace this process by the same program, which keeps the pid and the start time."""
    os.execv(sys.executable, sys.orig_argv)


def exit_in_c(self):
    _libc.exit(6)


def eat_memory(self):
    eaten = []
    while True:
        eaten.append(b'x' * (8 << 20))


def eat_memory_later(self, sign):
    """Use up memory in a thread that serves no request, as soon as the file `sign` exists."""

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
    """Sleep in a call of a PyDLL, which holds the GIL."""
    ctypes.PyDLL(None).sleep(600)


def fork_and_die(self, number):
    """Fork a child that dies of a signal; the parent lives on and returns the status of the
    child.
    """
    child = os.fork()
    if not child:
        signal.raise_signal(int(number))
        os._exit(1)
    return str(os.waitpid(child, 0)[1])


def fork_in_main(self):
    """Fork a child in the main thread that has a fatal error, and return its status."""
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
