"""Starts a child program of this product: `python -I -S childstart.py PROGRAM WORDS ...`.

See `childprocess`.  It imports the standard library only.  It closes descriptors and resets signals
first, because the programs start children that would inherit them.
"""

from __future__ import annotations

import os
import platform
import sys

#: The number of the system call rt_sigaction.
_RT_SIGACTION = {'x86_64': 13, 'aarch64': 134, 'riscv64': 134}
#: Signals that glibc keeps for itself: its posix_spawn leaves them ignored, and its sigaction
#: refuses them.
_INTERNAL = (32, 33)


def reset_internal_signals() -> None:
    """Set signals 32 and 33 to their default action, as in a process that a shell starts."""
    is_64_bit = sys.maxsize > 1 << 32
    if sys.platform != 'linux' or not is_64_bit:
        return
    number = _RT_SIGACTION.get(platform.machine())
    if number is None:
        return
    try:
        import ctypes

        call = ctypes.CDLL(None).syscall
        action = bytes(64)  # all zeros: SIG_DFL, no flags
        for signal in _INTERNAL:
            call(number, signal, action, None, 8)  # 8: the size in bytes of a signal set
    except (ImportError, OSError, AttributeError, TypeError):
        pass


def close_inherited_descriptors() -> None:
    """Close all descriptors except the three standard ones."""
    try:
        inherited = [int(name) for name in os.listdir('/dev/fd')]
    except (OSError, ValueError):
        inherited = list(range(256))
    for descriptor in inherited:
        if descriptor > 2:
            try:
                os.close(descriptor)
            except OSError:  # it was the one that `os.listdir` used
                pass


def main() -> None:
    close_inherited_descriptors()
    os.chdir('/')  # so that the child keeps no file system from being unmounted
    reset_internal_signals()
    del sys.argv[0]
    path = sys.argv[0]
    with open(path, 'rb') as file:
        program = compile(file.read(), path, 'exec')
    names = {
        '__name__': '__main__',
        '__file__': path,
        '__builtins__': __builtins__,
    }
    exec(program, names)


if __name__ == '__main__':
    main()
