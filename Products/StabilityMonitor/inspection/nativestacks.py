"""Native stacks of a living process: C and Python frames of all threads, taken by pystack or
py-spy.

The tool stops the process while it reads: pystack 100 to 240 ms, py-spy 25 to 35 ms, measured with
8 threads.  A process that is stopped cannot read the output of the tool, nor end it.  So a warden,
which is a program of its own, runs the tool, ends it when its time is over, and makes sure that the
process goes on.
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
#: The warden gets this many seconds more.
_GRACE = 5.0
#: prctl(PR_SET_PTRACER): names the process that may trace this one, see prctl(2).
_SET_PTRACER = 0x59616D61
_WARDEN = os.path.join(os.path.dirname(__file__), 'toolwarden.py')
#: Name and arguments, the better tool first.  `--native-all`: also threads that Python does not
#: know.
_TOOLS = {
    'pystack': ('remote', 'PID', '--native-all'),
    'py-spy': ('dump', '--native', '--pid', 'PID'),
}
#: {kernel.yama.ptrace_scope: who may attach}; None: this kernel has no Yama.
_MAY = {
    None: 'root, or the user that the process runs as',
    '0': 'root, or the user that the process runs as',
    '1': 'root; for others only the button in the Control Panel, which the process itself admits',
    '2': 'root',
    '3': 'nobody, until the machine is started with another value',
}
#: What tools say when the kernel does not let them attach.
_DENIED = re.compile('not permitted|permission denied|ptrace|EPERM', re.IGNORECASE)
#: Of all NativeStacks in a process, one is under way at a time.
_TURNS: Turns = {}


def find_tools(
    executable: str = sys.executable, path: str | None = None
) -> dict[str, tuple[str, ...]]:
    """{name: the command that starts it} of the tools that are beside the executable, on PATH, or
    importable.  {} on other systems than Linux.
    """
    if sys.platform != 'linux':
        return {}
    if path is None:
        path = os.environ.get('PATH', '')
    folders = os.pathsep.join((os.path.dirname(executable), path))
    found = {}
    for name in _TOOLS:
        command = _started(name, executable, folders)
        if command:
            found[name] = command
    return found


def _started(name: str, executable: str, folders: str) -> tuple[str, ...] | None:
    program = shutil.which(name, path=folders)
    if program:
        return (program,)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError, TypeError):  # what stands there is odd
        return None
    if spec is None or not spec.origin:
        return None
    folder = os.path.dirname(os.path.dirname(spec.origin))
    return ('/usr/bin/env', f'PYTHONPATH={folder}', executable, '-m', name)


def _command(started: tuple[str, ...], name: str, pid: int) -> list[str]:
    return [*started, *(str(pid) if word == 'PID' else word for word in _TOOLS[name])]


def command_lines(pid: int, executable: str = '') -> list[tuple[str, str]]:
    """[(title, exact shell line)] for a person; `executable` is the Python of that process.  See
    `what_is_needed`.
    """
    gdb = ['gdb', '-p', str(pid), '-batch']
    gdb += ['-ex', 'set pagination off', '-ex', 'thread apply all bt']
    if executable:
        gdb.append(executable)
    lines = [('gdb: C frames of all threads', shlex.join(gdb))]
    here = find_tools()
    for name in _TOOLS:
        title = f'{name}: C and Python frames'
        if name not in here:
            title += f' (first: {shlex.quote(executable or "python3")} -m pip install {name})'
        lines.append((title, shlex.join(_command(here.get(name, (name,)), name, pid))))
    return lines


def what_is_needed(pid: int, proc: str = '/proc') -> str:
    """Who may attach to that process on this machine, in a sentence or two."""
    scope = ptrace_scope(proc)
    who = _MAY.get(scope, 'root')
    user = re.search(r'^Uid:\s+(\d+)', _read(f'{proc}/{pid}/status'), re.MULTILINE)
    with contextlib.suppress(OSError):
        if user and int(user[1]) != os.stat(f'{proc}/{pid}').st_uid == 0:
            who = 'root, for the process has changed its user'
    return (
        f'Who may attach: {who} (kernel.yama.ptrace_scope is {scope or "not there"}). In a '
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
    """Takes the stacks of process `pid` (this one or another) in a thread of its own.

    In a process, only one does so at a time.  `result` is the output of the tool, at most `most`
    bytes, also where `error` is set; `error` is a sentence with the next step, or ''.
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
            first='not begun',
            not_started='The native stacks were not taken: {}. Try again later.',
            failed='The native stacks were not taken: {}. Use the command lines.',
            refused='Native stacks are being taken already. Wait until that is over.',
            turns=_TURNS,
            is_logged=False,  # the command would say it twice
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
        """The progress, and how long it takes already."""
        doing = self.progress
        if doing is None:
            return 'over' if self.ended else 'not begun'
        took = time.monotonic() - self._began
        return f'{doing}, {took:.0f} s of at most {self.longest:.0f} s'

    def _take(self) -> tuple[str, str]:
        self._began = time.monotonic()
        said = ''
        error = (
            'There is no pystack here. Install it into this Python (pip install pystack), or use '
            'the command lines.'
        )
        for name, started in self.tools.items():
            said, error, another_may_know = self._ask(name, _command(started, name, self.pid))
            if not another_may_know:
                break
        return said, error

    def _ask(self, name: str, command: list[str]) -> tuple[str, str, bool]:
        """Run a tool: (its output, error, whether another tool may be tried)."""
        self.tell(f'{name} reads process {self.pid}')
        guarded = python_command(
            _interpreter(), _WARDEN, self.pid, self.longest, self.most, *command
        )
        with ChildProcess(guarded, _environment(), listens=True) as child:
            with self._admitted(child.pid):
                child.write(b'go\n')
                answer, _ = child.read(time.monotonic() + self.longest + _GRACE)
            child.end(_GRACE)  # without standard input, a warden ends its tool
        head, _, output = answer.partition(b'\n')
        said = output.decode('utf-8', 'replace')
        outcome = {'ended': 'lost', 'code': None}  # the warden was killed
        if head:
            outcome = json.loads(head)
        return (said, *self._judged(name, outcome, said))

    @contextlib.contextmanager
    def _admitted(self, child: int) -> Iterator[None]:
        """Where Yama demands it, allow the child and its own children to trace this process."""
        if self.pid != os.getpid() or ptrace_scope(self.proc) != '1':
            yield
            return
        self._prctl(_SET_PTRACER, child)
        try:
            yield
        finally:
            self._prctl(_SET_PTRACER, 0)

    def _judged(self, name: str, outcome: dict[str, Any], said: str) -> tuple[str, bool]:
        if outcome['ended'] == 'time':
            return (
                f'{name} was ended after {self.longest:.0f} s, and process {self.pid} goes on. Try '
                'again, or use the command line of gdb.',
                False,
            )
        if outcome['ended'] != 'itself':
            return f'The child that watches {name} was ended. Try again.', False
        if outcome['code'] == 0 and parse(said):
            return '', False
        if outcome['code'] not in (0, 127) and _DENIED.search(said):
            return (
                f'{name} may not attach to process {self.pid}, unless another debugger just has. '
                + what_is_needed(self.pid, self.proc),
                True,
            )
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else 'nothing'
        return (
            f'{name} ended with code {outcome["code"]} and no threads; the last it said: '
            f'{last[:300]}. Use the command line of gdb.',
            True,
        )


def _interpreter() -> str:
    own = sys.executable or ''
    if 'python' in os.path.basename(own):
        return own
    # A server embeds Python, and `sys.executable` is that server.
    return os.path.join(sys.exec_prefix, 'bin', 'python3')


def _environment() -> dict[str, str]:
    """The environment of a tool: plain output, no traceback of its own, no debug symbols from the
    network.
    """
    kept = {name: value for name, value in os.environ.items() if name != 'DEBUGINFOD_URLS'}
    return kept | {
        'NO_COLOR': '1',
        'RUST_BACKTRACE': '0',
        'PYTHONIOENCODING': 'utf-8:backslashreplace',
    }


#: The first line of a thread, as pystack and as py-spy write it.
_HEADS = (
    re.compile(
        r'Traceback for thread (?P<id>\d+)(?: \((?P<name>.*)\))? (?P<status>\[[^]]*\] )?\(most '
        r'recent'
    ),
    re.compile(r'Thread (?P<id>\d+) \((?P<status>[^)]*)\)(?:: "(?P<name>.*)")?$'),
)
#: A line with a frame, as pystack and as py-spy write it.
_FRAMES = (
    re.compile(
        r'\s+\((?P<kind>C|Python)\) File "(?P<file>.*)", line (?P<line>-?\d+), in '
        r'(?P<function>.*?)(?: \((?P<library>[^()]*)\))?$'
    ),
    re.compile(
        r'    (?P<kind>)(?P<function>\S.*) \((?P<file>.*?)(?P<library>)(?::(?P<line>\d+))?\)$'
    ),
)


def parse(text: str) -> list[dict[str, Any]]:
    """[{native_id, name, holds_gil, frames: [{file, line, function, native, library}]}], frames
    innermost first.

    Lines that are not understood are left out.  What is not known is None (`line`) or ''.
    """
    threads: list[dict[str, Any]] = []
    number = 0
    for line in text.splitlines():
        head = _HEADS[0].match(line) or _HEADS[1].match(line)
        if head:
            number = _HEADS.index(head.re)
            threads.append(_thread(head))
            continue
        found = _FRAMES[number].match(line) if threads else None
        if found:
            frames = threads[-1]['frames']
            # pystack tells the innermost frame last, py-spy tells it first.
            frames.insert(len(frames) if number else 0, _frame(found))
    return threads


def _thread(head: re.Match[str]) -> dict[str, Any]:
    return {
        'native_id': int(head['id']),
        'name': head['name'] or '',
        'frames': [],
        'holds_gil': bool(re.search(r'Has the GIL|\+gil', head['status'] or '')),
    }


def _frame(found: re.Match[str]) -> dict[str, Any]:
    file = found['file']
    line = int(found['line'] or 0)
    if found['kind']:  # only pystack tells it
        native = found['kind'] == 'C'
    else:
        native = not file.endswith('.py') and not file.startswith('<')
    library = found['library']
    if not library:
        library = file if native and not line else ''
    return {
        'file': '' if file in ('???', library) else file,
        'line': line or None,
        'native': native,
        'function': found['function'].replace('???', ''),
        'library': library,
    }
