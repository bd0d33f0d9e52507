"""The warden: runs a tool that reads the stacks of another process, listens to it, and ends it in
time.

    toolwarden.py PID SECONDS MOST COMMAND ...

Started by `nativestacks` through `childstart`; imports the standard library only.  It waits for
"go" on its standard input, runs COMMAND, and answers with a line of JSON {ended, code}, then at
most MOST bytes of what COMMAND said.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time


def _guard(pid: int, seconds: float, most: int, command: list[str]) -> None:
    parent = os.getppid()
    if not os.read(0, 3):
        return
    stood = _stands_still(pid)
    try:
        tool = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _say({'ended': 'itself', 'code': 127}, str(error).encode())
        return
    said, ended = _listen(tool, parent, time.monotonic() + seconds, most)
    with contextlib.suppress(OSError):
        os.killpg(tool.pid, signal.SIGKILL)
    code = tool.wait()
    with contextlib.suppress(OSError):
        if not stood and (ended != 'itself' or code or _stands_still(pid)):
            os.kill(pid, signal.SIGCONT)  # a tool that is killed may leave a SIGSTOP behind
    _say({'ended': ended, 'code': code}, said)


def _listen(
    tool: subprocess.Popen[bytes], parent: int, until: float, most: int
) -> tuple[bytearray, str]:
    """(what it said, why no more: itself, time, or parent)"""
    assert tool.stdout is not None  # it is a pipe
    said = bytearray()
    open_ends = [0, tool.stdout.fileno()]
    while True:
        ready = select.select(open_ends, [], [], 0.05)[0]
        if 0 in ready or os.getppid() != parent:
            return said, 'parent'
        if ready:
            part = os.read(ready[0], 1 << 16)
            said += part[: most - len(said)]
            open_ends = open_ends if part else [0]  # the tool may have closed it, and live
        elif tool.poll() is not None:
            return said, 'itself'
        if time.monotonic() > until:
            return said, 'time'


def _stands_still(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat', errors='replace') as file:
            return file.read().rpartition(')')[2].split()[:1] == ['T']
    except OSError:
        return False


def _say(outcome: dict[str, object], said: bytes | bytearray) -> None:
    with contextlib.suppress(OSError), open(1, 'wb') as answer:
        answer.write(json.dumps(outcome).encode() + b'\n' + said)


if __name__ == '__main__':
    _guard(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
