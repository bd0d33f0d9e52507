"""The warden: runs a tool that reads the stacks of a process, and ends it after a time limit.

    toolwarden.py PID SECONDS MOST MEMORY ADDRESSES COMMAND ...

`stacktools` starts it through `childstart`; it imports only the standard library.  It waits for
"go" on its standard input, runs COMMAND, and writes one line of JSON, {ended, code}, followed by at
most MOST bytes of the output of COMMAND.

PID is the process that the tool stops and that must go on afterwards; 0: the tool reads a file.
If MEMORY is not 0, the tool may have this many bytes of memory of its own, ADDRESSES bytes of
address space and SECONDS of CPU time, it leaves no core file, and it gives way to all others.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time


def main(
    pid: int,
    seconds: float,
    most: int,
    memory: int,
    addresses: int,
    command: list[str],
) -> None:
    parent = os.getppid()
    if not os.read(0, 3):
        return
    was_stopped = _is_stopped(pid)
    if memory:
        _limit(int(seconds) + 1, memory, addresses)
    try:
        tool = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _send({'ended': 'itself', 'code': 127}, str(error).encode())
        return
    until = time.monotonic() + seconds
    said, ended = _listen(tool, parent, until, most)
    with contextlib.suppress(OSError):
        os.killpg(tool.pid, signal.SIGKILL)
    code = tool.wait()
    # A tool that failed or was killed may leave the process stopped.
    has_failed = ended != 'itself' or code
    if pid and not was_stopped and (has_failed or _is_stopped(pid)):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)
    _send({'ended': ended, 'code': code}, said)


def _limit(seconds: int, memory: int, addresses: int) -> None:
    """Limit this process, and so its tool.  A limit that the system refuses is left out."""
    import resource

    for which, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, addresses),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):  # ValueError: above the hard limit
            resource.setrlimit(which, (most, most))
    with contextlib.suppress(OSError):
        os.nice(19)


def _listen(
    tool: subprocess.Popen[bytes],
    parent: int,
    until: float,
    most: int,
) -> tuple[bytearray, str]:
    """Return (output of the tool, why it ended: itself, time, or parent)."""
    assert tool.stdout is not None  # it is a pipe
    output = bytearray()
    open_ends = [0, tool.stdout.fileno()]
    while True:
        ready, _, _ = select.select(open_ends, [], [], 0.05)
        if 0 in ready or os.getppid() != parent:
            return output, 'parent'
        if ready:
            part = os.read(ready[0], 1 << 16)
            left = most - len(output)
            output += part[:left]
            if not part:  # the tool has closed its output, but may still be running
                open_ends = [0]
        elif tool.poll() is not None:
            return output, 'itself'
        if time.monotonic() > until:
            return output, 'time'


def _is_stopped(pid: int) -> bool:
    if not pid:
        return False
    try:
        with open(f'/proc/{pid}/stat', errors='replace') as file:
            _, _, fields = file.read().rpartition(')')
    except OSError:
        return False
    return fields.split()[:1] == ['T']


def _send(outcome: dict[str, object], output: bytes | bytearray) -> None:
    head = json.dumps(outcome).encode()
    with contextlib.suppress(OSError), open(1, 'wb') as answer:
        answer.write(head + b'\n' + output)


if __name__ == '__main__':
    process, limit, *numbers = sys.argv[1:6]
    output, memory, addresses = map(int, numbers)
    main(int(process), float(limit), output, memory, addresses, sys.argv[6:])
