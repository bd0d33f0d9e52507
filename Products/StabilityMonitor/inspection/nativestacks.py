"""Native stacks of a living process: C and Python frames of all threads, read by pystack or py-spy.

The tool stops the process while it reads: pystack 100 to 240 ms, py-spy 25 to 35 ms, measured with
8 threads.  A stopped process cannot read the output of the tool, nor end it.  So a separate
program, the warden, runs the tool, ends it after a time limit, and makes sure that the process
continues.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping

from ..system import stacktools
from ..system.backgroundjob import BackgroundJob
from ..system.backgroundjob import Turns
from ..system.stacktools import GuardedTool
from ..system.stacktools import Limits
from ..system.stacktools import Outcome
from ..system.stacktools import parse

#: Seconds that a tool may take.
LONGEST = 30.0
#: Bytes of its output that are kept.
MOST = 2 << 20
#: prctl(PR_SET_PTRACER): names the process that may trace this one, see prctl(2).
_SET_PTRACER = 0x59616D61
#: Name and arguments, the better tool first.  `--native-all` includes threads that Python does not
#: know.
_TOOLS = {
    'pystack': ('remote', 'PID', '--native-all'),
    'py-spy': ('dump', '--native', '--pid', 'PID'),
}
#: {kernel.yama.ptrace_scope: users who may attach}; None: this kernel has no Yama.
_WHO_MAY_ATTACH = {
    None: 'root, or the user that the process runs as',
    '0': 'root, or the user that the process runs as',
    '1': 'root; other users only with the button in the Control Panel, where the process allows it',
    '2': 'root',
    '3': 'no user, until the machine is booted with another value',
}
#: Words of a tool that the kernel does not allow to attach.
_NOT_PERMITTED = re.compile('not permitted|permission denied|ptrace|EPERM', re.IGNORECASE)
#: In a process, only one NativeStacks runs at a time.
_TURNS: Turns = {}


def find_tools(
    executable: str = sys.executable, path: str | None = None
) -> dict[str, tuple[str, ...]]:
    """Return {name: command} of the tools for living processes, see `stacktools.find_tools`."""
    return stacktools.find_tools(_TOOLS, executable, path)


def _command(
    started: tuple[str, ...],
    name: str,
    pid: int,
) -> list[str]:
    words = list(started)
    for word in _TOOLS[name]:
        words.append(str(pid) if word == 'PID' else word)
    return words


def command_lines(pid: int, executable: str = '') -> list[tuple[str, str]]:
    """Return [(title, exact shell line)] for a person.

    `executable` is the Python of that process.  `what_is_needed` says who may run them.
    """
    gdb = ['gdb', '-p', str(pid), '-batch']
    gdb += ['-ex', 'set pagination off', '-ex', 'thread apply all bt']
    if executable:
        gdb.append(executable)
    lines = [('gdb: C frames of all threads', shlex.join(gdb))]
    python = shlex.quote(executable or 'python3')
    installed = find_tools()
    for name in _TOOLS:
        title = f'{name}: C and Python frames'
        started = installed.get(name)
        if started is None:
            title += f' (first: {python} -m pip install {name})'
            started = (name,)
        command = _command(started, name, pid)
        lines.append((title, shlex.join(command)))
    return lines


def what_is_needed(pid: int, proc: str = '/proc') -> str:
    """Return who may attach to that process on this machine, in one or two sentences."""
    scope = ptrace_scope(proc)
    who = _WHO_MAY_ATTACH.get(scope, 'root')
    status = _read(f'{proc}/{pid}/status')
    user = re.search(r'^Uid:\s+(\d+)', status, re.MULTILINE)
    with contextlib.suppress(OSError):
        # If a process has changed its user, its files in /proc belong to root.
        owner = os.stat(f'{proc}/{pid}').st_uid
        if user and owner == 0 and int(user[1]) != owner:
            who = 'root, because the process has changed its user'
    return (
        f'Who may attach: {who} (kernel.yama.ptrace_scope is {scope or "not available"}). In a '
        'container CAP_SYS_PTRACE is needed.'
    )


def ptrace_scope(proc: str = '/proc') -> str | None:
    return _read(f'{proc}/sys/kernel/yama/ptrace_scope').strip() or None


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding='utf-8', errors='replace') as file:
        return file.read()
    return ''


def _prctl(option: int, value: int) -> int:
    import ctypes

    answer: int = ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
    return answer


class NativeStacks(BackgroundJob[str, str]):
    """Reads the stacks of process `pid` (this one or another) in a background thread.

    In a process, only one runs at a time.  `result` is the output of the tool, at most `most`
    bytes, even if `error` is set; `error` is a sentence with the next step, or ''.
    """

    def __init__(
        self,
        pid: int,
        *,
        tools: Mapping[str, tuple[str, ...]] | None = None,
        seconds: float = LONGEST,
        most: int = MOST,
        proc: str = '/proc',
        prctl: Callable[[int, int], int] = _prctl,
    ):
        super().__init__(
            'native stacks',
            self._take,
            first='not started',
            not_started='The native stacks were not read: {}. Try again later.',
            failed='The native stacks were not read: {}. Use the command lines.',
            refused='Native stacks are being read already. Wait until that has finished.',
            turns=_TURNS,
            is_logged=False,  # else the command would print it twice
        )
        self.pid = pid
        self.longest = seconds
        self.most = most
        self.proc = proc
        self.tools = find_tools() if tools is None else tools
        self._began = time.monotonic()
        self._prctl = prctl

    @property
    def words(self) -> str:
        """The progress, and how long it has taken so far."""
        doing = self.progress
        if doing is None:
            return 'finished' if self.ended else 'not started'
        took = time.monotonic() - self._began
        return f'{doing}, {took:.0f} s of at most {self.longest:.0f} s'

    def _take(self) -> tuple[str, str]:
        self._began = time.monotonic()
        output = ''
        error = (
            'pystack is not installed. Install it into this Python (pip install pystack), or use '
            'the command lines.'
        )
        for name, started in self.tools.items():
            outcome = self._ask(name, _command(started, name, self.pid))
            output = outcome.output
            error = self._error(name, outcome)
            # Try the next tool only if this one failed by itself: if the warden ended it, no time
            # is left for another.
            if not error or outcome.ended != 'itself':
                break
        return output, error

    def _ask(
        self,
        name: str,
        command: list[str],
    ) -> Outcome:
        self.tell(f'{name} reads process {self.pid}')
        limits = Limits(self.longest, self.most)
        with GuardedTool(command, self.pid, limits) as tool:
            with self._allowed_to_trace(tool.warden):
                outcome = tool.run()
            tool.end()
        return outcome

    @contextlib.contextmanager
    def _allowed_to_trace(self, child: int) -> Iterator[None]:
        """If Yama requires it, allow the child and its children to trace this process."""
        if self.pid != os.getpid() or ptrace_scope(self.proc) != '1':
            yield
            return
        self._prctl(_SET_PTRACER, child)
        try:
            yield
        finally:
            self._prctl(_SET_PTRACER, 0)

    def _error(
        self,
        name: str,
        outcome: Outcome,
    ) -> str:
        """Return what went wrong, with the next step; '' if the tool has printed the stacks."""
        code, output = outcome.code, outcome.output
        if outcome.ended == 'time':
            return (
                f'{name} was ended after {self.longest:.0f} s; process {self.pid} is running '
                'again. Try again, or use the command line of gdb.'
            )
        if outcome.ended != 'itself':
            return f'The process that controls {name} was ended. Try again.'
        if code == 0 and parse(output):
            return ''
        if code not in (0, 127) and _NOT_PERMITTED.search(output):
            needed = what_is_needed(self.pid, self.proc)
            return (
                f'{name} may not attach to process {self.pid}, or another debugger is attached. '
                f'{needed}'
            )
        last = 'nothing'
        for line in output.splitlines():
            last = line.strip() or last
        return (
            f'{name} ended with exit status {code} and showed no threads; its last line: '
            f'{last[:300]}. Use the command line of gdb.'
        )
