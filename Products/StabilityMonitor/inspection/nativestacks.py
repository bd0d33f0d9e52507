"""Native stacks of a living process: C and Python frames of all threads, read by pystack or py-spy.

The tool stops the process while it reads: pystack 100 to 240 ms, py-spy 25 to 35 ms, measured with
8 threads.  A stopped process cannot read the output of the tool, nor end it.  So a separate
program, the warden, runs the tool, ends it after a time limit, and makes sure that the process
continues.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from ..system.backgroundjob import BackgroundJob
from ..system.backgroundjob import Turns
from ..system.childprocess import ChildProcess
from ..system.childprocess import python_command

#: Seconds that a tool may take.
LONGEST = 30.0
#: Bytes of its output that are kept.
MOST = 2 << 20
#: Additional seconds for the warden.
_GRACE = 5.0
#: prctl(PR_SET_PTRACER): names the process that may trace this one, see prctl(2).
_SET_PTRACER = 0x59616D61
_WARDEN = os.path.join(os.path.dirname(__file__), 'toolwarden.py')
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
    executable: str = sys.executable,
    path: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return {name: command} of the tools that are next to the executable, on PATH, or importable.

    {} on other systems than Linux.
    """
    if sys.platform != 'linux':
        return {}
    if path is None:
        path = os.environ.get('PATH', '')
    folders = os.pathsep.join((os.path.dirname(executable), path))
    found: dict[str, tuple[str, ...]] = {}
    for name in _TOOLS:
        program = shutil.which(name, path=folders)
        if program:
            found[name] = (program,)
            continue
        folder = _import_folder(name)
        if folder:
            found[name] = (
                '/usr/bin/env',
                f'PYTHONPATH={folder}',
                executable,
                '-m',
                name,
            )
    return found


def _import_folder(name: str) -> str:
    """The folder on sys.path that holds a package; '' if it cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (
        ImportError,
        AttributeError,
        ValueError,
        TypeError,
    ):  # the module of that name is damaged or unusual
        return ''
    if spec is None or not spec.origin:
        return ''
    package = os.path.dirname(spec.origin)
    return os.path.dirname(package)


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
            outcome, output = self._ask(name, _command(started, name, self.pid))
            error = self._error(name, outcome, output)
            # Try the next tool only if this one failed by itself: if the warden ended it, no time
            # is left for another.
            if not error or outcome['ended'] != 'itself':
                break
        return output, error

    def _ask(
        self,
        name: str,
        command: list[str],
    ) -> tuple[dict[str, Any], str]:
        """Run a tool and return ({ended, code}, its output).

        `ended` says why it ended: itself, time, parent (the parent of the warden has ended), or
        lost (the warden was killed).
        """
        self.tell(f'{name} reads process {self.pid}')
        interpreter = sys.executable or ''
        if 'python' not in os.path.basename(interpreter):
            # This server embeds Python, so `sys.executable` is the server.
            interpreter = os.path.join(sys.exec_prefix, 'bin', 'python3')
        guarded = python_command(
            interpreter,
            _WARDEN,
            self.pid,
            self.longest,
            self.most,
            *command,
        )
        with ChildProcess(guarded, _environment(), listens=True) as child:
            with self._allowed_to_trace(child.pid):
                child.write(b'go\n')
                until = time.monotonic() + self.longest + _GRACE
                answer, _ = child.read(until)
            child.end(_GRACE)  # the warden ends its tool when its standard input is closed
        head, _, output = answer.partition(b'\n')
        outcome = {'ended': 'lost', 'code': None}
        if head:
            outcome = json.loads(head)
        return outcome, output.decode('utf-8', 'replace')

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
        outcome: dict[str, Any],
        output: str,
    ) -> str:
        """Return what went wrong, with the next step; '' if the tool has printed the stacks."""
        code = outcome['code']
        if outcome['ended'] == 'time':
            return (
                f'{name} was ended after {self.longest:.0f} s; process {self.pid} is running '
                'again. Try again, or use the command line of gdb.'
            )
        if outcome['ended'] != 'itself':
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


def _environment() -> dict[str, str]:
    """The environment of a tool: plain output, no backtrace of the tool, no download of symbols."""
    environment = dict(os.environ)
    environment.pop('DEBUGINFOD_URLS', None)
    environment['NO_COLOR'] = '1'
    environment['RUST_BACKTRACE'] = '0'
    environment['PYTHONIOENCODING'] = 'utf-8:backslashreplace'
    return environment


#: The first line of a thread and the line of a frame, in the output of each tool.
_PYSTACK_HEAD = re.compile(
    r'Traceback for thread (?P<id>\d+)'
    r'(?: \((?P<name>.*)\))? '
    r'(?P<status>\[[^]]*\] )?'
    r'\(most recent'
)
_PYSTACK_FRAME = re.compile(
    r'\s+\((?P<kind>C|Python)\) '
    r'File "(?P<file>.*)", line (?P<line>-?\d+), '
    r'in (?P<function>.*?)'
    r'(?: \((?P<library>[^()]*)\))?$'
)
_PY_SPY_HEAD = re.compile(
    r'Thread (?P<id>\d+) '
    r'\((?P<status>[^)]*)\)'
    r'(?:: "(?P<name>.*)")?$'
)
_PY_SPY_FRAME = re.compile(
    r'    (?P<kind>)(?P<function>\S.*) '
    r'\((?P<file>.*?)(?P<library>)'
    r'(?::(?P<line>\d+))?\)$'
)


def parse(text: str) -> list[dict[str, Any]]:
    """Read the output of a tool.

    Returns [{native_id, name, holds_gil, frames: [{file, line, function, native, library}]}],
    innermost frame first.  Unknown lines are skipped.  What is not known is None (`line`) or ''.
    """
    threads: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    is_pystack = True
    for line in text.splitlines():
        head = _PYSTACK_HEAD.match(line) or _PY_SPY_HEAD.match(line)
        if head:
            is_pystack = head.re is _PYSTACK_HEAD
            frames = []
            status = head['status'] or ''
            holds_gil = 'Has the GIL' in status or '+gil' in status
            threads.append(
                {
                    'native_id': int(head['id']),
                    'name': head['name'] or '',
                    'frames': frames,
                    'holds_gil': holds_gil,
                }
            )
        elif not threads:
            continue
        elif is_pystack:
            found = _PYSTACK_FRAME.match(line)
            if found:
                frames.insert(0, _frame(found))  # pystack prints the innermost frame last
        else:
            found = _PY_SPY_FRAME.match(line)
            if found:
                frames.append(_frame(found))
    return threads


def _frame(found: re.Match[str]) -> dict[str, Any]:
    file = found['file']
    line = int(found['line'] or 0)
    if found['kind']:  # only pystack prints the kind
        native = found['kind'] == 'C'
    else:
        native = not file.endswith('.py') and not file.startswith('<')
    library = found['library'] or ''
    if native and not line and not library:
        library = file  # py-spy prints the library if it does not know the source file
    if file in ('???', library):
        file = ''
    return {
        'file': file,
        'line': line or None,
        'native': native,
        'function': found['function'].replace('???', ''),
        'library': library,
    }
